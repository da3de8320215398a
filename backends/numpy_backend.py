"""The model in NumPy, with its backward pass written by hand.

In float64 it is the referee, with which every framework is compared. It also trains and translates where no framework
is installed. Read it to see what the other three leave to their framework.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from backends.evidence.numpy import NumpyEvidence
from backends.numpy_beam import beam_search
from common.errors import CannotBeginError
from common.interface import Backend, Forward, Metrics, Report, timed_steps, unreported
from common.tensors import Batch, Batches, one_hot
from common.weights import Arrays, ModelState, check_state, initial_state

Array = NDArray[np.floating]

NO_FORMAT = "numpy has no format of its own; name keras, torch or paddle (numpy can open any run)"


@final
class NumpyBackend(Backend):
    def build(self) -> None:
        if self.device != "cpu":
            raise CannotBeginError("numpy computes on no GPU; use --device cpu")
        state = initial_state(self.config, seed=0)
        self.weights, self.mean_squares = state.weights, state.mean_squares

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        self.weights = {name: weight.copy() for name, weight in state.weights.items()}
        self.mean_squares = {name: slot.copy() for name, slot in state.mean_squares.items()}

    def dump(self) -> ModelState:
        weights = {name: weight.copy() for name, weight in self.weights.items()}
        return ModelState(weights, {name: slot.copy() for name, slot in self.mean_squares.items()})

    def save_native(self, folder: Path) -> list[str]:
        raise CannotBeginError(NO_FORMAT)

    def read_native(self, paths: Sequence[Path], latent_dim: int | None) -> ModelState:
        raise CannotBeginError(NO_FORMAT)

    def forward(self, batch: Batch) -> Forward:
        encoder, _, logits = self._model(
            batch.encoder_input_data, batch.decoder_input_data, self._lengths(batch.encoder_lengths)
        )
        return Forward(np.exp(log_softmax(logits)), encoder.state_h, encoder.state_c)

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        loss, _, gradients = self._loss_and_gradients(batch)
        return loss, gradients

    def train(self, batches: Batches, report: Report) -> Metrics:
        return timed_steps(self._train_step, batches, np.array, report, self.group)

    def _train_step(self, batch: Batch) -> tuple[float, list[float]]:
        loss, counts, gradients = self._loss_and_gradients(batch)
        self._rmsprop(gradients)
        return loss, counts

    def evaluate(self, batches: Batches) -> Metrics:
        return timed_steps(lambda batch: self._loss(batch)[:2], batches, np.array, unreported, self.group)

    def translate(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int
    ) -> NDArray[np.integer]:
        step = self._decoder_step()
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        sampled = np.full(len(encoder_ids), self.config.start_token)  # (N,)
        ended = np.zeros(len(encoder_ids), bool)
        ids: list[NDArray[np.integer]] = []
        while len(ids) < max_length and not ended.all():
            logits, state_h, state_c = step(sampled, state_h, state_c)  # (N, V_dec), (N, H), (N, H)
            sampled = np.where(ended, self.config.stop_token, logits.argmax(-1))
            ended |= sampled == self.config.stop_token
            ids.append(sampled)
        return np.stack(ids, axis=1)

    def beam_search(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int, beam: int
    ) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        step = self._decoder_step()

        def log_step(sampled: NDArray[np.integer], state_h: Array, state_c: Array) -> tuple[Array, Array, Array]:
            logits, state_h, state_c = step(sampled, state_h, state_c)
            return log_softmax(logits), state_h, state_c

        states = self._encode(encoder_ids, encoder_lengths)
        return beam_search(log_step, states, self.config, max_length, beam)

    def _encode(self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer]) -> tuple[Array, Array]:
        """The encoder's states (N, H)."""
        encoder_input_data = one_hot(encoder_ids, self.config.num_encoder_tokens, self.config.dtype)
        encoder = self._encoder(encoder_input_data, self._lengths(encoder_lengths))
        return encoder.state_h, encoder.state_c

    def _decoder_step(self) -> Callable[[NDArray[np.integer], Array, Array], tuple[Array, Array, Array]]:
        """A function of the last characters (N,) and the states (N, H): logits (N, V_dec) and the next states."""

        def step(sampled: NDArray[np.integer], state_h: Array, state_c: Array) -> tuple[Array, Array, Array]:
            decoder_input_data = one_hot(sampled[:, None], self.config.num_decoder_tokens, self.config.dtype)
            decoder = Lstm(decoder_input_data, (state_h, state_c), *self._lstm("decoder"))  # a sequence of one step
            return self._dense(decoder.state_h), decoder.state_h, decoder.state_c

        return step

    def evidence(self) -> NumpyEvidence:
        return NumpyEvidence(self)

    def _zeros(self, num_rows: int) -> tuple[Array, Array]:
        """The states (N, H) with which the encoder starts."""
        zeros = np.zeros((num_rows, self.config.latent_dim), self.config.dtype)
        return zeros, zeros

    def _lstm(self, name: str) -> tuple[Array, Array, Array]:
        """Kernel, recurrent kernel and bias of the "encoder" or the "decoder"."""
        kinds = ("kernel", "recurrent_kernel", "bias")
        kernel, recurrent_kernel, bias = (self.weights[f"{name}/{kind}"] for kind in kinds)
        return kernel, recurrent_kernel, bias

    def _dense(self, decoder_outputs: Array) -> Array:
        return decoder_outputs @ self.weights["dense/kernel"] + self.weights["dense/bias"]

    def _lengths(self, encoder_lengths: NDArray[np.integer]) -> NDArray[np.integer] | None:
        """The encoder's lengths where padding is masked; where padding counts, it takes none."""
        return encoder_lengths if self.config.padding == "mask" else None

    def _encoder(self, encoder_input_data: Array, lengths: NDArray[np.integer] | None) -> "Lstm":
        return Lstm(encoder_input_data, self._zeros(len(encoder_input_data)), *self._lstm("encoder"), lengths)

    def _model(
        self, encoder_input_data: Array, decoder_input_data: Array, lengths: NDArray[np.integer] | None = None
    ) -> tuple["Lstm", "Lstm", Array]:
        encoder = self._encoder(encoder_input_data, lengths)
        decoder = Lstm(decoder_input_data, (encoder.state_h, encoder.state_c), *self._lstm("decoder"))
        return encoder, decoder, self._dense(decoder.outputs)  # logits (N, T_dec, V_dec)

    def _loss(self, batch: Batch) -> tuple[float, list[float], tuple["Lstm", "Lstm", Array]]:
        """The loss that is trained on, what Metrics counts, and what the backward pass needs."""
        lengths = self._lengths(batch.encoder_lengths)
        encoder, decoder, logits = self._model(batch.encoder_input_data, batch.decoder_input_data, lengths)
        cross_entropy = -(batch.decoder_target_data * log_softmax(logits)).sum(-1)  # (N, T_dec)
        loss_sum = (batch.target_weights * cross_entropy).sum()
        right = (logits.argmax(-1) == batch.decoder_target_ids) * batch.target_weights
        counts = [loss_sum, right.sum(), (right * batch.real_positions).sum()]
        return float(loss_sum / batch.loss_positions), counts, (encoder, decoder, logits)

    def _loss_and_gradients(self, batch: Batch) -> tuple[float, list[float], Arrays]:
        loss, counts, (encoder, decoder, logits) = self._loss(batch)
        # The derivative of cross-entropy and softmax together is the probability minus the target.
        d_logits = np.exp(log_softmax(logits)) - batch.decoder_target_data
        d_logits *= (batch.target_weights / batch.loss_positions)[..., None]  # (N, T_dec, V_dec)
        d_outputs = d_logits @ self.weights["dense/kernel"].T  # (N, T_dec, H)
        d_decoder, d_state_h, d_state_c = decoder.backward(d_outputs, None, None)
        d_encoder, _, _ = encoder.backward(None, d_state_h, d_state_c)
        gradients = {f"encoder/{kind}": gradient for kind, gradient in d_encoder.items()}
        gradients |= {f"decoder/{kind}": gradient for kind, gradient in d_decoder.items()}
        gradients["dense/kernel"] = np.tensordot(decoder.outputs, d_logits, axes=([0, 1], [0, 1]))
        gradients["dense/bias"] = d_logits.sum((0, 1))
        return loss, counts, gradients

    def _rmsprop(self, gradients: Arrays) -> None:
        rho, epsilon = self.train_config.rho, self.train_config.epsilon
        for name, gradient in gradients.items():
            mean_square = self.mean_squares[name]
            mean_square *= rho
            mean_square += (1 - rho) * gradient**2
            self.weights[name] -= self.train_config.learning_rate * gradient / np.sqrt(mean_square + epsilon)


class Lstm:
    """An LSTM layer that has run over a sequence and keeps what its backward pass needs.

    It takes inputs (N, T, V), two initial_states (N, H), kernel (V, 4H), recurrent_kernel (H, 4H) and bias (4H,),
    whose columns belong to the gates input, forget, candidate and output in this order. It then has outputs
    (N, T, H), and state_h and state_c (N, H). Where lengths (N,) are given, a row's states no longer change after its
    length.
    """

    def __init__(
        self,
        inputs: Array,
        initial_states: tuple[Array, Array],
        kernel: Array,
        recurrent_kernel: Array,
        bias: Array,
        lengths: NDArray[np.integer] | None = None,
    ) -> None:
        num_rows, time_steps, _ = inputs.shape
        units = len(recurrent_kernel)
        self.inputs, self.recurrent_kernel = inputs, recurrent_kernel
        projected = inputs @ kernel + bias  # (N, T, 4H), all time steps in one product
        # Index t holds the state before step t, and the gates of step t.
        self.h = np.empty((time_steps + 1, num_rows, units), inputs.dtype)
        self.c = np.empty_like(self.h)
        self.gates = np.empty((time_steps, num_rows, 4, units), inputs.dtype)  # i, f, c, o after activation
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

    def backward(
        self, d_outputs: Array | None, d_state_h: Array | None, d_state_c: Array | None
    ) -> tuple[Arrays, Array, Array]:
        """The derivatives of the loss by the three weights, and by the two initial states.

        They are computed from its derivatives by the outputs and by the last states; None stands for zeros.
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


def sigmoid(x: Array) -> Array:
    """The logistic function, written with tanh, which never overflows."""
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5)


def log_softmax(logits: Array) -> Array:
    """The logarithm of softmax over the last axis. The largest logit is subtracted, so that nothing overflows."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
