"""The model in NumPy, with its backward pass written by hand.

In float64 it is the reference, with which every framework is compared. It also trains and
translates where no framework is installed. Read it to see what the others leave to their framework.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

precision = "float32"  # of models that are made; `prepare` sets it


class Lstm:
    """An LSTM layer that has run over a sequence and keeps what its backward pass needs.

    It takes inputs (N, T, V), two initial_states (N, H), kernel (V, 4H), recurrent_kernel (H, 4H)
    and bias (4H,), whose columns belong to the gates input, forget, candidate and output in this
    order. It then has outputs (N, T, H), and state_h and state_c (N, H). Where lengths (N,) are
    given, a row's states no longer change after its length.
    """

    def __init__(self, inputs, initial_states, kernel, recurrent_kernel, bias, lengths=None):
        num_rows, time_steps, _ = inputs.shape
        units = len(recurrent_kernel)
        self.inputs, self.recurrent_kernel = inputs, recurrent_kernel
        projected = inputs @ kernel + bias  # (N, T, 4H), all time steps in one product
        # Index t holds the state before step t, and the gates of step t.
        self.h = np.empty((time_steps + 1, num_rows, units), inputs.dtype)
        self.c = np.empty_like(self.h)
        # Input, forget, candidate and output, after activation.
        self.gates = np.empty((time_steps, num_rows, 4, units), inputs.dtype)
        self.h[0], self.c[0] = initial_states
        lengths = np.full(num_rows, time_steps) if lengths is None else lengths
        self.running = np.arange(time_steps)[:, None, None] < lengths[:, None]  # (T, N, 1)
        for t in range(time_steps):
            gates = self.gates[t]
            gates[:] = (projected[:, t] + self.h[t] @ recurrent_kernel).reshape(gates.shape)
            gates[:, :2] = sigmoid(gates[:, :2])
            gates[:, 2] = np.tanh(gates[:, 2])
            gates[:, 3] = sigmoid(gates[:, 3])
            i, f, candidate, o = (gates[:, k] for k in range(4))
            self.c[t + 1] = np.where(self.running[t], f * self.c[t] + i * candidate, self.c[t])
            self.h[t + 1] = np.where(self.running[t], o * np.tanh(self.c[t + 1]), self.h[t])
        self.outputs = self.h[1:].transpose(1, 0, 2)
        self.state_h, self.state_c = self.h[-1], self.c[-1]

    def backward(self, d_outputs, d_state_h, d_state_c):
        """The derivatives of the loss by the three weights, and by the two initial states.

        They are computed from its derivatives by the outputs and by the last states;
        None stands for zeros.
        """
        d_h = np.zeros_like(self.h[0]) if d_state_h is None else d_state_h
        d_c = np.zeros_like(self.c[0]) if d_state_c is None else d_state_c
        d_gates = np.empty_like(self.gates)  # derivatives by the gates before activation
        for t in reversed(range(len(self.gates))):
            i, f, candidate, o = (self.gates[t, :, k] for k in range(4))
            if d_outputs is not None:
                d_h = d_h + d_outputs[:, t]
            running, tanh_c = self.running[t], np.tanh(self.c[t + 1])
            d_new_c = d_c + d_h * o * (1 - tanh_c**2)
            d_gates[t, :, 0] = d_new_c * candidate * i * (1 - i)
            d_gates[t, :, 1] = d_new_c * self.c[t] * f * (1 - f)
            d_gates[t, :, 2] = d_new_c * i * (1 - candidate**2)
            d_gates[t, :, 3] = d_h * tanh_c * o * (1 - o)
            d_gates[t] *= running[..., None]
            d_h = np.where(running, d_gates[t].reshape(len(d_h), -1) @ self.recurrent_kernel.T, d_h)
            d_c = np.where(running, d_new_c * f, d_c)
        d_columns = d_gates.reshape(*d_gates.shape[:2], -1)  # (T, N, 4H)
        gradients = {
            "kernel": np.tensordot(self.inputs, d_columns, axes=([1, 0], [0, 1])),
            "recurrent_kernel": np.tensordot(self.h[:-1], d_columns, axes=([0, 1], [0, 1])),
            "bias": d_columns.sum((0, 1)),
        }
        return gradients, d_h, d_c


class Seq2Seq:
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim):
        rng = np.random.default_rng(0)

        def drawn(*shape):
            limit = (6 / sum(shape)) ** 0.5  # Glorot's
            return rng.uniform(-limit, limit, shape).astype(precision)

        self.weights = {}
        for name, num_tokens in (("encoder", num_encoder_tokens), ("decoder", num_decoder_tokens)):
            self.weights[f"{name}/kernel"] = drawn(num_tokens, 4 * latent_dim)
            self.weights[f"{name}/recurrent_kernel"] = drawn(latent_dim, 4 * latent_dim)
            self.weights[f"{name}/bias"] = np.zeros(4 * latent_dim, precision)
        self.weights["dense/kernel"] = drawn(latent_dim, num_decoder_tokens)
        self.weights["dense/bias"] = np.zeros(num_decoder_tokens, precision)

    def lstm(self, name, inputs, initial_states, lengths=None):
        """The "encoder" or the "decoder", run over inputs (N, T, V)."""
        kinds = ("kernel", "recurrent_kernel", "bias")
        return Lstm(
            inputs, initial_states, *(self.weights[f"{name}/{kind}"] for kind in kinds), lengths
        )

    def dense(self, outputs):
        return outputs @ self.weights["dense/kernel"] + self.weights["dense/bias"]

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after the last step,
        or after each row's own length where lengths (N,) are given."""
        kernel = self.weights["encoder/recurrent_kernel"]
        zeros = np.zeros((len(encoder_input_data), len(kernel)), kernel.dtype)
        self.encoder = self.lstm("encoder", encoder_input_data, (zeros, zeros), encoder_lengths)
        return self.encoder.state_h, self.encoder.state_c

    def decode(self, decoder_input_data, state_h, state_c):
        """Logits (N, T_dec, V_dec) and the next states (N, H)."""
        self.decoder = self.lstm("decoder", decoder_input_data, (state_h, state_c))
        return self.dense(self.decoder.outputs), self.decoder.state_h, self.decoder.state_c

    def __call__(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        states = self.encode(encoder_input_data, encoder_lengths)
        logits, *_ = self.decode(decoder_input_data, *states)
        return logits, *states

    def backward(self, d_logits):
        """The gradient of each weight by its name, for the batch of the last call.

        They are computed from the loss's derivatives by the logits (N, T_dec, V_dec).
        """
        d_outputs = d_logits @ self.weights["dense/kernel"].T  # (N, T_dec, H)
        d_decoder, d_state_h, d_state_c = self.decoder.backward(d_outputs, None, None)
        d_encoder, _, _ = self.encoder.backward(None, d_state_h, d_state_c)
        by_name = {f"encoder/{kind}": gradient for kind, gradient in d_encoder.items()}
        by_name |= {f"decoder/{kind}": gradient for kind, gradient in d_decoder.items()}
        by_name["dense/kernel"] = np.tensordot(
            self.decoder.outputs, d_logits, axes=([0, 1], [0, 1])
        )
        by_name["dense/bias"] = d_logits.sum((0, 1))
        return by_name

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        return self.weights


class Batch(NamedTuple):
    """N sentence pairs, padded to T_enc and T_dec characters with the space's one-hot.

    encoder_input_data  (N, T_enc, V_enc), one-hot
    decoder_input_data  (N, T_dec, V_dec), one-hot; begins with the tab
    decoder_target_data (N, T_dec, V_dec), one-hot; one step ahead, ends with the newline
    decoder_target_ids  (N, T_dec), int64
    target_weights      (N, T_dec), weight of each position in the loss: 1, or 0 on masked padding
    real_positions      (N, T_dec), 1 up to and with the target's end, 0 on padding
    loss_positions      (), divisor of the summed loss, usually the sum of target_weights
    encoder_lengths     (N,), int64, from 1 to T_enc; None where padding counts
    """

    encoder_input_data: Array
    decoder_input_data: Array
    decoder_target_data: Array
    decoder_target_ids: Array
    target_weights: Array
    real_positions: Array
    loss_positions: Array
    encoder_lengths: Array | None = None


def has_gpu():
    """NumPy sees no GPU."""
    return False


def prepare(dtype="float32", device="cpu"):
    """Make models of this precision, "float32" or "float64", from now on. NumPy knows no device."""
    global precision
    precision = dtype


def layout(name, array):
    """A weight in Keras's layout."""
    return array


def log_softmax(logits):
    """The logarithm of softmax over the last axis. The largest logit is subtracted,
    so that nothing overflows."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def sigmoid(x):
    """The logistic function, written with tanh, which never overflows."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def loss_of(logits, batch):
    """The loss, and its counts (3,): summed cross-entropy, right positions,
    right positions that are no padding."""
    cross_entropy = -(batch.decoder_target_data * log_softmax(logits)).sum(-1)  # (N, T_dec)
    loss_sum = (batch.target_weights * cross_entropy).sum()
    right = (logits.argmax(-1) == batch.decoder_target_ids) * batch.target_weights  # (N, T_dec)
    counts = np.stack([loss_sum, right.sum(), (right * batch.real_positions).sum()])
    return loss_sum / batch.loss_positions, counts


class RMSprop:
    """Keras's RMSprop: epsilon stands inside the root."""

    def __init__(self, model, learning_rate=1e-3, rho=0.9, epsilon=1e-7):
        self.weights = model.named_weights()
        self.mean_squares = [np.zeros_like(weight) for weight in self.weights.values()]
        self.learning_rate, self.rho, self.epsilon = learning_rate, rho, epsilon

    def step(self, gradients):
        for (name, weight), mean_square in zip(
            self.weights.items(), self.mean_squares, strict=True
        ):
            mean_square *= self.rho
            mean_square += (1 - self.rho) * gradients[name] ** 2
            weight -= self.learning_rate * gradients[name] / np.sqrt(mean_square + self.epsilon)


def gradients(model, batch):
    """The loss, its counts (3,), and the gradient of each weight by its name."""
    logits, *_ = model(batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths)
    loss, counts = loss_of(logits, batch)
    # The derivative of cross-entropy and softmax together is the probability minus the target.
    d_logits = np.exp(log_softmax(logits)) - batch.decoder_target_data
    d_logits *= (batch.target_weights / batch.loss_positions)[..., None]  # (N, T_dec, V_dec)
    return loss, counts, model.backward(d_logits)


def train_step(model, optimizer, batch):
    """The loss and its counts (3,) before the step."""
    loss, counts, by_name = gradients(model, batch)
    optimizer.step(by_name)
    return loss, counts


def evaluate_step(model, batch):
    """The loss and its counts (3,)."""
    logits, *_ = model(batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths)
    return loss_of(logits, batch)


def forward(model, batch):
    """Probabilities (N, T_dec, V_dec) and the encoder's states."""
    logits, *states = model(
        batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths
    )
    return np.exp(log_softmax(logits)), *states


def start(model, encoder_input_data, encoder_lengths=None):
    """The states from which decoding starts; with lengths if the model was trained with them."""
    return model.encode(encoder_input_data, encoder_lengths)


def step(model, decoder_input_data, *states):
    """One character (N, V_dec) further: logits (N, V_dec) and the next states."""
    logits, *states = model.decode(decoder_input_data[:, None], *states)
    return logits[:, 0], *states


def take(state, rows):
    """The rows of a state that `rows` (R,) name, in their order."""
    return state[rows]


def assign(weight, array):
    """Set a weight in place."""
    weight[...] = array


def to_tensor(array):
    """The array itself."""
    return array


def to_array(tensor):
    """A copy of the array."""
    return np.array(tensor)
