"""The model in Keras 3 on TensorFlow.

Make a Seq2Seq and an RMSprop, give `train_step` a Batch at a time, and decode by `start` and
`step`. Before all this, `prepare` may choose a precision and a device. Keras takes another engine
where KERAS_BACKEND names one.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from tensorflow import Tensor


class Seq2Seq(keras.Model):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim):
        # TensorFlow orders a graph by its operators' names. With Keras's choice,
        # "seq2_seq", a step takes 8 % longer.
        super().__init__(name="encoder_decoder")
        self.encoder = layers.LSTM(latent_dim, return_state=True)
        self.decoder = layers.LSTM(latent_dim, return_sequences=True, return_state=True)
        self.dense = layers.Dense(num_decoder_tokens)
        # Otherwise the first batch would make their weights.
        self.encoder.build((None, None, num_encoder_tokens))
        self.decoder.build((None, None, num_decoder_tokens))
        self.dense.build((None, None, latent_dim))
        self.built = True  # else Keras neither saves nor loads the weights

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after the last step,
        or after each row's own length where lengths (N,) are given."""
        mask = None  # or (N, T_enc), true up to each row's length
        if encoder_lengths is not None:
            mask = tf.sequence_mask(encoder_lengths, tf.shape(encoder_input_data)[1])
        _, state_h, state_c = self.encoder(encoder_input_data, mask=mask)  # (N, H) each
        return state_h, state_c

    def decode(self, decoder_input_data, state_h, state_c):
        """Logits (N, T_dec, V_dec) and the next states (N, H)."""
        outputs, state_h, state_c = self.decoder(
            decoder_input_data, initial_state=[state_h, state_c]
        )
        return self.dense(outputs), state_h, state_c

    def call(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        states = self.encode(encoder_input_data, encoder_lengths)
        logits, *_ = self.decode(decoder_input_data, *states)
        return logits, *states

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        return {
            "encoder/kernel": self.encoder.cell.kernel,
            "encoder/recurrent_kernel": self.encoder.cell.recurrent_kernel,
            "encoder/bias": self.encoder.cell.bias,
            "decoder/kernel": self.decoder.cell.kernel,
            "decoder/recurrent_kernel": self.decoder.cell.recurrent_kernel,
            "decoder/bias": self.decoder.cell.bias,
            "dense/kernel": self.dense.kernel,
            "dense/bias": self.dense.bias,
        }


class Batch(NamedTuple):
    """N sentence pairs by `to_tensor`, padded to T_enc and T_dec characters
    with the space's one-hot.

    encoder_input_data  (N, T_enc, V_enc), one-hot
    decoder_input_data  (N, T_dec, V_dec), one-hot; begins with the tab
    decoder_target_data (N, T_dec, V_dec), one-hot; one step ahead, ends with the newline
    decoder_target_ids  (N, T_dec), int64
    target_weights      (N, T_dec), weight of each position in the loss: 1, or 0 on masked padding
    real_positions      (N, T_dec), 1 up to and with the target's end, 0 on padding
    loss_positions      (), divisor of the summed loss, usually the sum of target_weights
    encoder_lengths     (N,), int64, from 1 to T_enc; None where padding counts
    """

    encoder_input_data: Tensor
    decoder_input_data: Tensor
    decoder_target_data: Tensor
    decoder_target_ids: Tensor
    target_weights: Tensor
    real_positions: Tensor
    loss_positions: Tensor
    encoder_lengths: Tensor | None = None


def has_gpu():
    """True if the framework sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def prepare(dtype="float32", device="cpu"):
    """Make models of this precision, "float32" or "float64", from now on.
    TensorFlow takes the GPU that it sees."""
    keras.config.set_floatx(dtype)
    # Or the precision of the first layer in this process would stay.
    keras.config.set_dtype_policy(dtype)


def layout(name, array):
    """A weight in Keras's layout."""
    return array


def loss_of(logits, batch):
    """The loss, and its counts (3,): summed cross-entropy, right positions,
    right positions that are no padding."""
    targets = batch.decoder_target_data
    cross_entropy = ops.categorical_crossentropy(targets, logits, from_logits=True)  # (N, T_dec)
    loss_sum = ops.sum(batch.target_weights * cross_entropy)
    right = ops.equal(ops.argmax(logits, -1), batch.decoder_target_ids)  # (N, T_dec)
    right = ops.cast(right, logits.dtype) * batch.target_weights  # (N, T_dec)
    counts = ops.stack([loss_sum, ops.sum(right), ops.sum(right * batch.real_positions)])
    return loss_sum / batch.loss_positions, counts


class RMSprop(keras.optimizers.RMSprop):
    """Keras's RMSprop, which has epsilon inside the root."""

    def __init__(self, model, learning_rate=1e-3, rho=0.9, epsilon=1e-7):
        super().__init__(learning_rate, rho, epsilon=epsilon)
        # Usually the first step makes its variables. These can be set before it.
        self.build(list(model.named_weights().values()))

    @property
    def mean_squares(self):
        # After the count of steps and the learning rate; Keras calls them velocities.
        return self.variables[2:]


def gradients(model, batch):
    """The loss, its counts (3,), and the gradient of each weight by its name."""
    weights = {name: weight.value for name, weight in model.named_weights().items()}
    with tf.GradientTape() as tape:
        logits, *_ = model(
            batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths
        )
        loss, counts = loss_of(logits, batch)
    return loss, counts, tape.gradient(loss, weights)


@tf.function(reduce_retracing=True)  # makes one graph, which serves batches of any size
def train_step(model, optimizer, batch):
    """The loss and its counts (3,) before the step."""
    loss, counts, by_name = gradients(model, batch)
    optimizer.apply(by_name.values())  # in the order of named_weights
    return loss, counts


@tf.function(reduce_retracing=True)
def evaluate_step(model, batch):
    """The loss and its counts (3,)."""
    logits, *_ = model(batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths)
    return loss_of(logits, batch)


def forward(model, batch):
    """Probabilities (N, T_dec, V_dec) and the encoder's states."""
    logits, *states = model(
        batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths
    )
    return ops.softmax(logits, -1), *states


@tf.function(reduce_retracing=True)
def start(model, encoder_input_data, encoder_lengths=None):
    """The states from which decoding starts; with lengths if the model was trained with them."""
    return model.encode(encoder_input_data, encoder_lengths)


@tf.function(reduce_retracing=True)
def step(model, decoder_input_data, *states):
    """One character (N, V_dec) further: logits (N, V_dec) and the next states."""
    logits, *states = model.decode(decoder_input_data[:, None], *states)
    return logits[:, 0], *states


def take(state, rows):
    """The rows of a state that `rows` (R,) name, in their order."""
    return tf.gather(state, rows)


def assign(weight, array):
    """Set a weight in place, to an array of this framework's layout and the model's precision."""
    weight.assign(array)


def to_tensor(array):
    """The array's numbers on the device, in its own precision: the model's, or int64."""
    return tf.convert_to_tensor(array)


def to_array(tensor):
    """A copy of the tensor's numbers, from any device."""
    return np.array(tensor)
