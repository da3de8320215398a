"""The model in NumPy, with its backward pass written by hand.

In float64 it is the referee, with which every framework is compared. It also trains and translates where no framework
is installed. Read it to see what the other three leave to their framework.
"""

import numpy as np

from common.interface import Backend, BeamSearch, Forward, Metrics, Report, log_softmax, timed_steps
from common.tensors import Array, Batch, Batches, Ids, one_hot
from common.weights import Arrays, ModelState, check_state, initial_state


class NumpyBackend(Backend):
    framework = "numpy"
    profiled_by = "backends.profiling.numpy:NumpyProfiling"

    def sees_gpu(self) -> bool:
        return False

    def build(self) -> None:
        state = initial_state(self.config, seed=0)
        self.parameters, self.slots = state.weights, state.mean_squares

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        self.parameters = {name: weight.copy() for name, weight in state.weights.items()}
        self.slots = {name: slot.copy() for name, slot in state.mean_squares.items()}

    def dump(self) -> ModelState:
        weights = {name: parameter.copy() for name, parameter in self.parameters.items()}
        mean_squares = {name: slot.copy() for name, slot in self.slots.items()}
        return ModelState(weights, mean_squares)

    def forward(self, batch: Batch) -> Forward:
        encoder, _, logits = self._run(batch)
        return Forward(np.exp(log_softmax(logits)), encoder.state_h, encoder.state_c)

    def _run(self, batch: Batch) -> tuple["Lstm", "Lstm", Array]:
        """Both LSTMs, and the logits (N, T_dec, V_dec)."""
        encoder = self._encoder(batch.encoder_input_data, batch.encoder_lengths)
        decoder = Lstm(batch.decoder_input_data, (encoder.state_h, encoder.state_c), *self._lstm("decoder"))
        return encoder, decoder, self._dense(decoder.outputs)

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        loss, _, gradients = self._gradients(batch)
        return loss, gradients

    def _gradients(self, batch: Batch) -> tuple[float, list[float], Arrays]:
        """The loss, the counts, and the loss's gradients by the parameters."""
        loss, counts, (encoder, decoder, logits) = self._loss(batch)
        # The derivative of cross-entropy and softmax together is the probability minus the target.
        d_logits = np.exp(log_softmax(logits)) - batch.decoder_target_data
        d_logits *= (batch.target_weights / batch.loss_positions)[..., None]  # (N, T_dec, V_dec)
        d_outputs = d_logits @ self.parameters["dense/kernel"].T  # (N, T_dec, H)
        d_decoder, d_state_h, d_state_c = decoder.backward(d_outputs, None, None)
        d_encoder, _, _ = encoder.backward(None, d_state_h, d_state_c)
        gradients = {f"encoder/{kind}": gradient for kind, gradient in d_encoder.items()}
        gradients |= {f"decoder/{kind}": gradient for kind, gradient in d_decoder.items()}
        gradients["dense/kernel"] = np.tensordot(decoder.outputs, d_logits, axes=([0, 1], [0, 1]))
        gradients["dense/bias"] = d_logits.sum((0, 1))
        return loss, counts, gradients

    def _loss(self, batch: Batch) -> tuple[float, list[float], tuple["Lstm", "Lstm", Array]]:
        """The loss that is trained on, what Metrics counts, and what the backward pass needs."""
        encoder, decoder, logits = self._run(batch)
        cross_entropy = -(batch.decoder_target_data * log_softmax(logits)).sum(-1)  # (N, T_dec)
        loss_sum = (batch.target_weights * cross_entropy).sum()
        correct = (logits.argmax(-1) == batch.decoder_target_ids) * batch.target_weights
        counts = [loss_sum, correct.sum(), (correct * batch.real_positions).sum()]
        return float(loss_sum / batch.loss_positions), counts, (encoder, decoder, logits)

    def train(self, batches: Batches, report: Report) -> Metrics:
        return timed_steps(self._train_step, batches, np.array, report)

    def _train_step(self, batch: Batch) -> tuple[float, list[float]]:
        loss, counts, gradients = self._gradients(batch)
        self._rmsprop(gradients)
        return loss, counts

    def _rmsprop(self, gradients: Arrays) -> None:
        train = self.train_config
        for name, gradient in gradients.items():
            mean_square = self.slots[name]
            mean_square *= train.rho
            mean_square += (1 - train.rho) * gradient**2
            self.parameters[name] -= train.learning_rate * gradient / np.sqrt(mean_square + train.epsilon)

    def evaluate(self, batches: Batches) -> Metrics:
        return timed_steps(lambda batch: self._loss(batch)[:2], batches, np.array)

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        return self._decode(state_h, state_c, max_length)

    def beam_search(self, encoder_ids: Ids, encoder_lengths: Ids, search: BeamSearch) -> None:
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        while not search.ended:
            rows = search.rows  # (R,)
            logits, state_h, state_c = self._step(search.sampled, state_h[rows], state_c[rows])
            search.extend(logits)

    def _encode(self, encoder_ids: Ids, encoder_lengths: Ids) -> tuple[Array, Array]:
        """The encoder's states (N, H)."""
        encoder_input_data = one_hot(encoder_ids, self.config.num_encoder_tokens, self.config.dtype)
        encoder = self._encoder(encoder_input_data, encoder_lengths)
        return encoder.state_h, encoder.state_c

    def _step(self, sampled: Ids, state_h: Array, state_c: Array) -> tuple[Array, Array, Array]:
        """From the last characters (N,) and the states (N, H) to logits (N, V_dec) and the next states."""
        decoder_input_data = one_hot(sampled[:, None], self.config.num_decoder_tokens, self.config.dtype)
        decoder = Lstm(decoder_input_data, (state_h, state_c), *self._lstm("decoder"))  # a sequence of one step
        return self._dense(decoder.state_h), decoder.state_h, decoder.state_c

    def _decode(self, state_h: Array, state_c: Array, max_length: int) -> Ids:
        """Greedy decoding from states (N, H): ids (N, L)."""
        num_rows, stop_token = len(state_h), self.config.stop_token
        ids, length = np.full((num_rows, max_length), stop_token), 0
        sampled, ended = np.full(num_rows, self.config.start_token), np.zeros(num_rows, bool)  # (N,) each
        while length < max_length and not ended.all():
            logits, state_h, state_c = self._step(sampled, state_h, state_c)  # (N, V_dec), (N, H), (N, H)
            ids[:, length] = sampled = np.where(ended, stop_token, logits.argmax(-1))
            length += 1
            ended |= sampled == stop_token
        return ids[:, :length]

    def _encoder(self, encoder_input_data: Array, encoder_lengths: Ids) -> "Lstm":
        zeros = np.zeros((len(encoder_input_data), self.config.latent_dim), self.config.dtype)
        return Lstm(encoder_input_data, (zeros, zeros), *self._lstm("encoder"), self._lengths(encoder_lengths))

    def _lstm(self, name: str) -> tuple[Array, Array, Array]:
        """Kernel, recurrent kernel and bias of the "encoder" or the "decoder"."""
        kinds = ("kernel", "recurrent_kernel", "bias")
        kernel, recurrent_kernel, bias = (self.parameters[f"{name}/{kind}"] for kind in kinds)
        return kernel, recurrent_kernel, bias

    def _dense(self, decoder_outputs: Array) -> Array:
        return decoder_outputs @ self.parameters["dense/kernel"] + self.parameters["dense/bias"]


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
        lengths: Ids | None = None,
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
