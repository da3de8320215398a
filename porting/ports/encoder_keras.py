"""The Transformer encoder in Keras, ported from torch:
`python SCRIPT RECORD [OPTIMIZER]` records it."""

import sys
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers
from shared import BETA_2, DECAY, EPSILON, FAST, LONGEST, MOMENTUM, RATE, RHO, TAGS, WORDS, batches

from rosetta_record import Record

CARRIED = Path("encoder.h5")  # the weights of the torch side


class Summed:
    """An optimizer that is given one gradient for each word,
    were it in the batch more than once."""

    def apply(self, gradients: list, weights: list | None = None) -> None:
        super().apply([tf.convert_to_tensor(gradient) for gradient in gradients], weights)


class AsTorch(Summed):
    """Adam with epsilon where torch has it: added to the root after its bias is corrected."""

    def update_step(self, gradient: tf.Tensor, weight: keras.Variable, rate: tf.Tensor) -> None:
        epsilon = self.epsilon
        self.epsilon = (
            epsilon * (1 - self.beta_2 ** tf.cast(self.iterations + 1, gradient.dtype)) ** 0.5
        )
        super().update_step(gradient, weight, rate)
        self.epsilon = epsilon


class SGD(Summed, keras.optimizers.SGD): ...


class Adam(AsTorch, keras.optimizers.Adam): ...


class AdamW(AsTorch, keras.optimizers.AdamW): ...


class RMSprop(Summed, keras.optimizers.RMSprop):
    """RMSprop with epsilon where torch has it: added to the root, and not within it."""

    def update_step(self, gradient: tf.Tensor, weight: keras.Variable, rate: tf.Tensor) -> None:
        mean_square = self._velocities[self._get_variable_index(weight)]
        mean_square.assign(self.rho * mean_square + (1 - self.rho) * gradient**2)
        weight.assign_sub(rate * gradient / (tf.sqrt(mean_square) + self.epsilon))


OPTIMIZERS = {
    "sgd": lambda weights: SGD(FAST, MOMENTUM),
    "adam": lambda weights: Adam(RATE, MOMENTUM, BETA_2, EPSILON),
    "adamw": lambda weights: AdamW(RATE, DECAY, MOMENTUM, BETA_2, EPSILON),
    "rmsprop": lambda weights: RMSprop(RATE, RHO, epsilon=EPSILON),
}


def exact_gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU with its constant in the precision of x;
    in float64 TensorFlow's own has it in float32."""
    return 0.5 * x * (1 + tf.math.erf(x / tf.sqrt(tf.constant(2, x.dtype))))


class Block(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, key_dim=4)
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.wide = layers.Dense(16)
        self.narrow = layers.Dense(8)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)

    def call(self, x: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        x = self.norm1(x + self.attention(x, x, attention_mask=real[:, None]))
        return self.norm2(x + self.narrow(exact_gelu(self.wide(x))))


class Encoder(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.words = layers.Embedding(WORDS, 8)
        self.positions = layers.Embedding(LONGEST, 8)
        self.blocks = [Block(), Block()]
        self.tags = layers.Dense(TAGS)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        x = self.words(ids) + self.positions(tf.range(LONGEST))
        for block in self.blocks:
            x = block(x, ids != 0)
        return self.tags(x)


def loss_of(model: Encoder, batch: dict) -> tuple:
    logits = model(batch["ids"])
    losses = keras.losses.sparse_categorical_crossentropy(batch["tags"], logits, from_logits=True)
    real = tf.cast(batch["ids"] != 0, losses.dtype)
    return tf.reduce_sum(losses * real) / tf.reduce_sum(real), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(1)
    model = Encoder()
    model(batches()[0]["ids"])  # which makes the weights
    if CARRIED.exists():
        model.load_weights(CARRIED)
    Record(folder).training(model, batches(), loss_of, OPTIMIZERS[optimizer])
