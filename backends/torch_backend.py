"""The model in PyTorch. Its variants are explained in torch_compile.py and torch_bfloat16.py."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.evidence.torch import TorchEvidence
from backends.native.torch import read_torch
from backends.process.environment import flush_denormals
from backends.torch_beam import beam_search
from backends.torch_bfloat16 import in_bfloat16
from backends.torch_compile import compiled_decode
from backends.torch_group import join, shared
from backends.torch_masked_lstm import states_at_lengths
from backends.torch_rmsprop import RMSprop
from common.decoding import ids_of_steps
from common.errors import CannotBeginError
from common.interface import Backend, Forward, Metrics, Report, timed_steps, unreported
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState, check_state


class Seq2Seq(nn.Module):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(num_encoder_tokens, latent_dim, batch_first=True)
        self.decoder = nn.LSTM(num_decoder_tokens, latent_dim, batch_first=True)
        self.dense = nn.Linear(latent_dim, num_decoder_tokens)

    def encode(self, encoder_input_data: Tensor, encoder_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The states (1, N, H) after the last step, or after each row's own length."""
        if encoder_lengths is not None:
            return states_at_lengths(self.encoder, encoder_input_data, encoder_lengths)
        return self.encoder(encoder_input_data)[1]

    def forward(
        self, encoder_input_data: Tensor, decoder_input_data: Tensor, encoder_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        state_h, state_c = self.encode(encoder_input_data, encoder_lengths)  # (1, N, H) each
        decoder_outputs, _ = self.decoder(decoder_input_data, (state_h, state_c))  # (N, T_dec, H)
        logits = self.dense(decoder_outputs)  # (N, T_dec, V_dec)
        return logits, state_h[0], state_c[0]


@final
class TorchBackend(Backend):
    def build(self) -> None:
        if self.device == "gpu" and not torch.cuda.is_available():
            raise CannotBeginError("torch sees no GPU here; use --device cpu")
        config = self.config
        if flush_denormals():
            torch.set_flush_denormal(True)  # now, since each new thread takes this setting over
        self.torch_device = torch.device("cuda" if self.device == "gpu" else "cpu")
        self.dtype = getattr(torch, config.dtype)
        self.product_dtype = torch.bfloat16 if self.variant == "bfloat16" else self.dtype
        self.model = Seq2Seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
        self.model.to(self.torch_device, self.dtype)
        # Keras's LSTM has one bias. The second one stays zero: with both trained, their sum would step twice as far.
        for lstm in (self.model.encoder, self.model.decoder):
            nn.init.zeros_(lstm.bias_hh_l0).requires_grad_(False)
        # Canonical name -> parameter, and whether it is the transpose of the canonical layout, which is Keras's.
        encoder, decoder, dense = self.model.encoder, self.model.decoder, self.model.dense
        self.parameters = {
            "encoder/kernel": (encoder.weight_ih_l0, True),
            "encoder/recurrent_kernel": (encoder.weight_hh_l0, True),
            "encoder/bias": (encoder.bias_ih_l0, False),
            "decoder/kernel": (decoder.weight_ih_l0, True),
            "decoder/recurrent_kernel": (decoder.weight_hh_l0, True),
            "decoder/bias": (decoder.bias_ih_l0, False),
            "dense/kernel": (dense.weight, True),
            "dense/bias": (dense.bias, False),
        }
        self.group = join()
        self.network = shared(self.model, self.group)
        self.mean_squares: Arrays = {}  # that the optimizer begins with; zeros where there are none
        if self.variant == "bfloat16":
            methods = self._run, self.translate, self.beam_search
            self._run, self.translate, self.beam_search = in_bfloat16(methods, config.dtype, self.device)
        elif self.variant == "compile":
            self._decode = compiled_decode(self.model, config, otherwise=self._decode)

    @torch.no_grad()
    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        for name, (parameter, transposed) in self.parameters.items():
            parameter.copy_(self._tensor(state.weights[name], transposed))
        self.mean_squares = state.mean_squares
        self.__dict__.pop("_optimizer", None)  # so that the next use makes one with these mean squares

    def dump(self) -> ModelState:
        weights, mean_squares = {}, {}
        for name, (parameter, transposed) in self.parameters.items():
            weights[name] = _array(parameter, transposed)
            mean_squares[name] = _array(self._optimizer.state[parameter]["square_avg"], transposed)
        return ModelState(weights, mean_squares)

    @cached_property
    def _optimizer(self) -> RMSprop:
        """Made when first needed: translating needs none, and torch spends a second importing its compiler for it."""
        train, trained = self.train_config, [parameter for parameter, _ in self.parameters.values()]
        optimizer = RMSprop(trained, lr=train.learning_rate, alpha=train.rho, eps=train.epsilon)
        for name, mean_square in self.mean_squares.items():
            parameter, transposed = self.parameters[name]
            optimizer.state[parameter]["square_avg"].copy_(self._tensor(mean_square, transposed))
        return optimizer

    def save_native(self, folder: Path) -> list[str]:
        torch.save(self.model.state_dict(), folder / "model.pt")
        torch.save(self._optimizer.state_dict(), folder / "optimizer.pt")
        return ["model.pt", "optimizer.pt"]

    def read_native(self, paths: Sequence[Path], latent_dim: int | None) -> ModelState:
        return read_torch(paths, self.config, latent_dim)

    @torch.inference_mode()
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
        self.model.zero_grad()
        loss.backward()
        gradients = {name: _array(p.grad, transposed) for name, (p, transposed) in self.parameters.items()}
        return loss.item(), gradients

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's loss, and (3,) for Metrics.of: summed loss, correct positions, correct real positions."""
        logits, _, _ = self._run(batch)
        weights = self._tensor(batch.target_weights)  # (N, T_dec)
        # Written out, since Keras's own cross-entropy may clip small probabilities, and Paddle's clips far logits.
        log_probabilities = F.log_softmax(logits, -1)  # (N, T_dec, V_dec)
        cross_entropy = -(self._tensor(batch.decoder_target_data) * log_probabilities).sum(-1)  # (N, T_dec)
        loss_sum = (weights * cross_entropy).sum()
        correct = (logits.argmax(-1) == self._ids(batch.decoder_target_ids)) * weights
        counts = torch.stack([loss_sum, correct.sum(), (correct * self._tensor(batch.real_positions)).sum()])
        return loss_sum / batch.loss_positions, counts.detach()  # counts get no gradient

    def train(self, batches: Batches, report: Report) -> Metrics:
        self.model.train()
        _ = self._optimizer  # makes it now, so that the first step's time does not include that
        return timed_steps(self._train_step, batches, _stacked, report, self.group)

    def _train_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, counts = self._loss(batch)
        self.model.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss, counts

    @torch.inference_mode()
    def evaluate(self, batches: Batches) -> Metrics:
        self.model.eval()
        return timed_steps(self._loss, batches, _stacked, unreported, self.group)

    @torch.inference_mode()
    def translate(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int
    ) -> NDArray[np.integer]:
        self.model.eval()
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        return self._decode(state_h, state_c, max_length)

    @torch.inference_mode()
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
        encoder_input_data, lengths = one_hot_rows.to(self.dtype), self._lengths(encoder_lengths)
        state_h, state_c = self.model.encode(encoder_input_data, lengths)  # (1, N, H) each
        return state_h[0], state_c[0]

    def _decoder_step(self) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """A function from the last characters (N,) and the states (N, H) to logits (N, V_dec) and the next states."""
        decoder, dense = self.model.decoder, self.model.dense
        # A one-hot row times the kernel is a row of it, so a step looks rows up. They have the bias added beforehand.
        kernel = (decoder.weight_ih_l0.T + decoder.bias_ih_l0).contiguous()  # (V_dec, 4H)
        recurrent_kernel = decoder.weight_hh_l0.T.contiguous()  # (H, 4H)
        # Converted once: in bfloat16 autocast keeps what it converts for parameters only, so not for these two.
        kernel, recurrent_kernel = kernel.to(self.product_dtype), recurrent_kernel.to(self.product_dtype)

        def step(sampled: Tensor, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # addmm adds the product of the second and the third to the first.
            gates = torch.addmm(kernel.index_select(0, sampled), state_h, recurrent_kernel)  # (N, 4H)
            i, f, g, o = gates.chunk(4, dim=1)  # (N, H) each: input, forget, candidate, output
            # addcmul does so element by element; sigmoid_ and tanh_ write in place.
            state_c = torch.addcmul(f.sigmoid_() * state_c, i.sigmoid_(), g.tanh_())  # (N, H)
            state_h = o.sigmoid_() * state_c.tanh()  # (N, H)
            return dense(state_h), state_h, state_c

        return step

    def _decode(self, state_h: Tensor, state_c: Tensor, max_length: int) -> NDArray[np.integer]:
        """Greedy decoding from states (N, H): ids (N, L). A row that has ended is left out of the further steps."""
        step, stop_token, num_rows = self._decoder_step(), self.config.stop_token, len(state_h)
        rows = np.arange(num_rows)  # those that have not ended, n of N
        sampled = torch.full((num_rows,), self.config.start_token, device=self.torch_device)  # (n,)
        steps = []  # of each step its rows and the ids of their characters
        while len(steps) < max_length and len(rows):
            logits, state_h, state_c = step(sampled, state_h, state_c)  # (n, V_dec), (n, H), (n, H)
            sampled = logits.argmax(-1)  # (n,)
            characters = sampled.cpu().numpy()  # (n,)
            steps.append((rows, characters))
            goes_on = characters != stop_token  # (n,)
            if np.count_nonzero(goes_on) < len(rows):
                rows, kept = rows[goes_on], self._ids(np.flatnonzero(goes_on))
                sampled, state_h, state_c = sampled[kept], state_h[kept], state_c[kept]
        return ids_of_steps(steps, num_rows, stop_token)

    def evidence(self) -> TorchEvidence:
        return TorchEvidence(self)

    def _tensor(self, array: NDArray[np.floating], transposed: bool = False) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.T if transposed else array)).to(self.torch_device)

    def _ids(self, ids: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(ids.astype(np.int64)).to(self.torch_device)

    def _lengths(self, encoder_lengths: NDArray[np.integer]) -> Tensor | None:
        """The lengths if padding is masked; None if padding counts, since the encoder then reads it to its end."""
        return self._ids(encoder_lengths) if self.config.padding == "mask" else None


def _array(tensor: Tensor, transposed: bool = False) -> NDArray[Any]:
    array = tensor.numpy(force=True)  # from any device, and without its gradient
    return np.array(array.T if transposed else array, order="C")


def _stacked(counts: list[Tensor]) -> NDArray[Any]:
    return _array(torch.stack(counts))
