"""The model in PaddlePaddle."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import Tensor, nn

from backends.evidence.paddle import PaddleEvidence
from backends.native.paddle import read_paddle
from backends.paddle_beam import beam_search
from backends.paddle_group import join, shared
from common.decoding import ids_of_steps
from common.errors import CannotBeginError
from common.interface import Backend, Forward, Metrics, Report, timed_steps, unreported
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState, check_state


class Seq2Seq(nn.Layer):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(num_encoder_tokens, latent_dim)
        self.decoder = nn.LSTM(num_decoder_tokens, latent_dim)
        self.dense = nn.Linear(latent_dim, num_decoder_tokens)

    def encode(self, encoder_input_data: Tensor, encoder_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The states (1, N, H) after the last step, or after each row's own length."""
        return self.encoder(encoder_input_data, sequence_length=encoder_lengths)[1]

    def forward(
        self, encoder_input_data: Tensor, decoder_input_data: Tensor, encoder_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        state_h, state_c = self.encode(encoder_input_data, encoder_lengths)  # (1, N, H) each
        decoder_outputs, _ = self.decoder(decoder_input_data, (state_h, state_c))  # (N, T_dec, H)
        logits = self.dense(decoder_outputs)  # (N, T_dec, V_dec)
        return logits, state_h[0], state_c[0]


@final
class PaddleBackend(Backend):
    def build(self) -> None:
        if self.device == "gpu" and not (paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
            raise CannotBeginError("paddle sees no GPU here; use --device cpu")
        config = self.config
        paddle.set_device(self.device)
        paddle.set_default_dtype(config.dtype)
        self.model = Seq2Seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
        # Keras's LSTM has one bias. The second one stays zero: with both trained, their sum would step twice as far.
        # So the optimizer is not given it. An LSTM without it crashes Paddle 3.3 in the forward pass, and where it is
        # frozen, the backward pass fails (upstream 58158, 70231).
        for lstm in (self.model.encoder, self.model.decoder):
            nn.initializer.Constant(0.0)(lstm.bias_hh_l0)
        # Canonical name -> parameter, and whether it is the transpose of the canonical layout, which is Keras's.
        encoder, decoder, dense = self.model.encoder, self.model.decoder, self.model.dense
        self.parameters = {
            "encoder/kernel": (encoder.weight_ih_l0, True),
            "encoder/recurrent_kernel": (encoder.weight_hh_l0, True),
            "encoder/bias": (encoder.bias_ih_l0, False),
            "decoder/kernel": (decoder.weight_ih_l0, True),
            "decoder/recurrent_kernel": (decoder.weight_hh_l0, True),
            "decoder/bias": (decoder.bias_ih_l0, False),
            "dense/kernel": (dense.weight, False),
            "dense/bias": (dense.bias, False),
        }
        self.group = join()
        self.network = shared(self.model, self.group)
        train, trained = self.train_config, [parameter for parameter, _ in self.parameters.values()]
        self._optimizer = paddle.optimizer.RMSProp(train.learning_rate, train.rho, train.epsilon, parameters=trained)

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        optimizer_state = {}
        for name, (parameter, transposed) in self.parameters.items():
            parameter.set_value(self._tensor(state.weights[name], transposed))
            optimizer_state[f"{parameter.name}_mean_square_0"] = self._tensor(state.mean_squares[name], transposed)
            # RMSProp wants two more for each, which have no effect without momentum and centering.
            for unused in ("momentum", "mean_grad"):
                optimizer_state[f"{parameter.name}_{unused}_0"] = paddle.zeros_like(parameter)
        self._optimizer.set_state_dict(optimizer_state)

    def dump(self) -> ModelState:
        weights, mean_squares = {}, {}
        optimizer_state = self._optimizer.state_dict()
        for name, (parameter, transposed) in self.parameters.items():
            weights[name] = _array(parameter, transposed)
            mean_squares[name] = _array(optimizer_state[f"{parameter.name}_mean_square_0"], transposed)
        return ModelState(weights, mean_squares)

    def save_native(self, folder: Path) -> list[str]:
        paddle.save(self.model.state_dict(), str(folder / "model.pdparams"))
        paddle.save(self._optimizer.state_dict(), str(folder / "model.pdopt"))
        return ["model.pdparams", "model.pdopt"]

    def read_native(self, paths: Sequence[Path], latent_dim: int | None) -> ModelState:
        return read_paddle(paths, self.config, latent_dim)

    @paddle.no_grad()
    def forward(self, batch: Batch) -> Forward:
        self.model.eval()  # as training=False in Keras
        logits, state_h, state_c = self._run(batch)
        return Forward(_array(F.softmax(logits, -1)), _array(state_h), _array(state_c))

    def _run(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        encoder_input_data = self._tensor(batch.encoder_input_data)  # (N, T_enc, V_enc)
        decoder_input_data = self._tensor(batch.decoder_input_data)  # (N, T_dec, V_dec)
        return self.network(encoder_input_data, decoder_input_data, self._lengths(batch.encoder_lengths))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        self.model.train()  # as training=True in Keras
        loss, _ = self._loss(batch)
        self.model.clear_gradients()  # and not the optimizer's alone, which does not know the second biases
        loss.backward()
        gradients = {name: _array(p.grad, transposed) for name, (p, transposed) in self.parameters.items()}
        return loss.item(), gradients

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's loss, and (3,) for Metrics.of: summed loss, correct positions, correct real positions."""
        logits, _, _ = self._run(batch)
        weights = self._tensor(batch.target_weights)  # (N, T_dec)
        # Written out, since Keras's own cross-entropy may clip small probabilities, and Paddle's clips far logits.
        # Paddle's log_softmax clips as well, and its logsumexp takes three times as long as these two lines.
        logits_below = logits - logits.detach().max(-1, keepdim=True)  # (N, T_dec, V_dec)
        log_probabilities = logits_below - logits_below.exp().sum(-1, keepdim=True).log()  # (N, T_dec, V_dec)
        cross_entropy = -(self._tensor(batch.decoder_target_data) * log_probabilities).sum(-1)  # (N, T_dec)
        loss_sum = (weights * cross_entropy).sum()
        correct = (logits.argmax(-1) == self._ids(batch.decoder_target_ids)).astype(weights.dtype) * weights
        counts = paddle.stack([loss_sum, correct.sum(), (correct * self._tensor(batch.real_positions)).sum()])
        return loss_sum / batch.loss_positions, counts.detach()  # counts get no gradient

    def train(self, batches: Batches, report: Report) -> Metrics:
        self.model.train()
        return timed_steps(self._train_step, batches, _stacked, report, self.group)

    def _train_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, counts = self._loss(batch)
        self.model.clear_gradients()
        loss.backward()
        self._optimizer.step()
        return loss, counts

    @paddle.no_grad()
    def evaluate(self, batches: Batches) -> Metrics:
        self.model.eval()
        return timed_steps(self._loss, batches, _stacked, unreported, self.group)

    @paddle.no_grad()
    def translate(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int
    ) -> NDArray[np.integer]:
        self.model.eval()
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        return self._decode(state_h, state_c, max_length)

    @paddle.no_grad()
    def beam_search(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int, beam: int
    ) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        self.model.eval()
        states = self._encode(encoder_ids, encoder_lengths)
        ids, scores = beam_search(self._decoder_step(), states, self.config, max_length, beam)
        return _array(ids), _array(scores)

    def _encode(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer]
    ) -> tuple[Tensor, Tensor]:
        """The encoder's states (N, H)."""
        one_hot_rows = F.one_hot(self._ids(encoder_ids), self.config.num_encoder_tokens)  # (N, T_enc, V_enc)
        encoder_input_data, lengths = one_hot_rows.astype(self.config.dtype), self._lengths(encoder_lengths)
        state_h, state_c = self.model.encode(encoder_input_data, lengths)  # (1, N, H) each
        return state_h[0], state_c[0]

    def _decoder_step(self) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """A function from the last characters (N,) and the states (N, H) to logits (N, V_dec) and the next states."""
        decoder, dense = self.model.decoder, self.model.dense
        # A one-hot row times the kernel is a row of it, so a step looks rows up. They have the bias added beforehand.
        kernel = (decoder.weight_ih_l0.T + decoder.bias_ih_l0).contiguous()  # (V_dec, 4H)
        recurrent_kernel = decoder.weight_hh_l0.T.contiguous()  # (H, 4H)

        def step(sampled: Tensor, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # addmm adds the product of the second and the third to the first.
            gates = paddle.addmm(F.embedding(sampled, kernel), state_h, recurrent_kernel)  # (N, 4H)
            i, f, g, o = gates.split(4, axis=1)  # (N, H) each: input, forget, candidate, output
            state_c = F.sigmoid(f) * state_c + F.sigmoid(i) * paddle.tanh(g)  # (N, H)
            state_h = F.sigmoid(o) * paddle.tanh(state_c)  # (N, H)
            # What `dense(state_h)` gives; for one row it takes half the time.
            return paddle.addmm(dense.bias, state_h, dense.weight), state_h, state_c

        return step

    def _decode(self, state_h: Tensor, state_c: Tensor, max_length: int) -> NDArray[np.integer]:
        """Greedy decoding from states (N, H): ids (N, L). A row that has ended is left out of the further steps."""
        step, stop_token, num_rows = self._decoder_step(), self.config.stop_token, len(state_h)
        rows = np.arange(num_rows)  # those that have not ended, n of N
        sampled = paddle.full((num_rows,), self.config.start_token, "int64")  # (n,)
        steps = []  # of each step its rows and the ids of their characters
        while len(steps) < max_length and len(rows):
            logits, state_h, state_c = step(sampled, state_h, state_c)  # (n, V_dec), (n, H), (n, H)
            sampled = logits.argmax(-1)  # (n,)
            characters = sampled.numpy()  # (n,)
            steps.append((rows, characters))
            goes_on = characters != stop_token  # (n,)
            if np.count_nonzero(goes_on) < len(rows):
                rows, kept = rows[goes_on], self._ids(np.flatnonzero(goes_on))
                sampled, state_h, state_c = (tensor.index_select(kept) for tensor in (sampled, state_h, state_c))
        return ids_of_steps(steps, num_rows, stop_token)

    def evidence(self) -> PaddleEvidence:
        return PaddleEvidence(self)

    def _tensor(self, array: NDArray[np.floating], transposed: bool = False) -> Tensor:
        return paddle.to_tensor(np.ascontiguousarray(array.T if transposed else array))

    def _ids(self, ids: NDArray[np.integer]) -> Tensor:
        return paddle.to_tensor(ids.astype(np.int64))

    def _lengths(self, encoder_lengths: NDArray[np.integer]) -> Tensor | None:
        """The lengths if padding is masked; None if padding counts, since the encoder then reads it to its end."""
        return self._ids(encoder_lengths) if self.config.padding == "mask" else None


def _array(tensor: Tensor, transposed: bool = False) -> NDArray[Any]:
    array = tensor.numpy()
    return np.array(array.T if transposed else array, order="C")


def _stacked(counts: list[Tensor]) -> NDArray[Any]:
    return _array(paddle.stack(counts))
