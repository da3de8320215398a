"""An LSTM tagger in Keras, which is to be ported to Paddle:
`python SCRIPT RECORD [OPTIMIZER]` records it."""

import sys

import keras
import tensorflow as tf
from shared import BETA_2, DECAY, EPSILON, FAST, MOMENTUM, RATE, RHO, TAGS, WORDS, batches

from rosetta_record import Record


class Summed:
    """An optimizer that is given one gradient for each word,
    were it in the batch more than once."""

    def apply(self, gradients: list, weights: list | None = None) -> None:
        super().apply([tf.convert_to_tensor(gradient) for gradient in gradients], weights)


class SGD(Summed, keras.optimizers.SGD): ...


class Adam(Summed, keras.optimizers.Adam): ...


class AdamW(Summed, keras.optimizers.AdamW): ...


class RMSprop(Summed, keras.optimizers.RMSprop): ...


OPTIMIZERS = {
    "sgd": lambda weights: SGD(FAST, MOMENTUM),
    "adam": lambda weights: Adam(RATE, MOMENTUM, BETA_2, EPSILON),
    "adamw": lambda weights: AdamW(RATE, DECAY, MOMENTUM, BETA_2, EPSILON),
    "rmsprop": lambda weights: RMSprop(RATE, RHO, epsilon=EPSILON),
}


def tagger() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int64"),
            keras.layers.Embedding(WORDS, 8, name="embedding"),
            keras.layers.Bidirectional(keras.layers.LSTM(8, return_sequences=True), name="lower"),
            keras.layers.Bidirectional(keras.layers.LSTM(8, return_sequences=True), name="upper"),
            keras.layers.Dense(TAGS, name="tags"),
        ],
        name="tagger",
    )


def loss_of(model: keras.Model, batch: dict) -> tuple:
    logits = model(batch["ids"])
    losses = keras.losses.sparse_categorical_crossentropy(batch["tags"], logits, from_logits=True)
    real = tf.cast(batch["ids"] != 0, losses.dtype)
    return tf.reduce_sum(losses * real) / tf.reduce_sum(real), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(1)
    Record(folder).training(tagger(), batches(), loss_of, OPTIMIZERS[optimizer])
