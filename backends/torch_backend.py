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
            torch.set_flush_denormal(True)  # now, since each new thread takes the switch over from this one
        self.place = torch.device("cuda" if self.device == "gpu" else "cpu")
        self.dtype = getattr(torch, config.dtype)
        self.product_dtype = torch.bfloat16 if self.variant == "bfloat16" else self.dtype
        self.model = Seq2Seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
        self.model.to(self.place, self.dtype)
        # Keras has one bias an LSTM. The second one stays zero: trained, it would double the bias's step.
        for lstm in (self.model.encoder, self.model.decoder):
            nn.init.zeros_(lstm.bias_hh_l0).requires_grad_(False)
        # Canonical name -> parameter, and whether the canonical layout is its transpose.
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
        self.mean_squares: Arrays = {}  # the slots that the optimizer begins with; zeros where there are none
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
        self.__dict__.pop("_optimizer", None)  # the next one begins with these slots

    def dump(self) -> ModelState:
        weights, slots = {}, {}
        for name, (parameter, transposed) in self.parameters.items():
            weights[name] = _array(parameter, transposed)
            slots[name] = _array(self._optimizer.state[parameter]["square_avg"], transposed)
        return ModelState(weights, slots)

    @cached_property
    def _optimizer(self) -> RMSprop:
        """Made when first needed: translating needs none, and for it torch imports its compiler, which takes a
        second."""
        train, trained = self.train_config, [parameter for parameter, _ in self.parameters.values()]
        optimizer = RMSprop(trained, lr=train.learning_rate, alpha=train.rho, eps=train.epsilon)
        for name, slot in self.mean_squares.items():
            parameter, transposed = self.parameters[name]
            optimizer.state[parameter]["square_avg"].copy_(self._tensor(slot, transposed))
        return optimizer

    def save_native(self, folder: Path) -> list[str]:
        torch.save(self.model.state_dict(), folder / "model.pt")
        torch.save(self._optimizer.state_dict(), folder / "optimizer.pt")
        return ["model.pt", "optimizer.pt"]

    def read_native(self, paths: Sequence[Path], latent_dim: int | None) -> ModelState:
        return read_torch(paths, self.config, latent_dim)

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Forward:
        self.model.eval()
        logits, state_h, state_c = self._run(batch)
        return Forward(_array(F.softmax(logits, -1)), _array(state_h), _array(state_c))

    def _run(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        encoder_input_data = self._tensor(batch.encoder_input_data)  # (N, T_enc, V_enc)
        decoder_input_data = self._tensor(batch.decoder_input_data)  # (N, T_dec, V_dec)
        return self.model(encoder_input_data, decoder_input_data, self._lengths(batch.encoder_lengths))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        self.model.train()
        loss, _ = self._loss(batch)
        self.model.zero_grad()
        loss.backward()
        gradients = {name: _array(p.grad, transposed) for name, (p, transposed) in self.parameters.items()}
        return loss.item(), gradients

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss that is trained on, and what Metrics counts: summed loss, right positions, right real ones."""
        logits, _, _ = self._run(batch)
        weights = self._tensor(batch.target_weights)  # (N, T_dec)
        # Written out, since the frameworks' own cross-entropies clip in different places.
        log_probabilities = F.log_softmax(logits, -1)  # (N, T_dec, V_dec)
        cross_entropy = -(self._tensor(batch.decoder_target_data) * log_probabilities).sum(-1)  # (N, T_dec)
        loss_sum = (weights * cross_entropy).sum()
        right = (logits.argmax(-1) == self._ids(batch.decoder_target_ids)) * weights
        counts = torch.stack([loss_sum, right.sum(), (right * self._tensor(batch.real_positions)).sum()])
        return loss_sum / batch.loss_positions, counts.detach()

    def train(self, batches: Batches, report: Report) -> Metrics:
        self.model.train()
        _ = self._optimizer  # is made before the first step, whose time it is not
        return timed_steps(self._train_step, batches, _stacked, report)

    def _train_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, counts = self._loss(batch)
        self.model.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss, counts

    @torch.inference_mode()
    def evaluate(self, batches: Batches) -> Metrics:
        self.model.eval()
        return timed_steps(self._loss, batches, _stacked, unreported)

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
        """A function of the last characters (N,) and the states (N, H): logits (N, V_dec) and the next states."""
        decoder, dense = self.model.decoder, self.model.dense
        # one_hot @ kernel selects a row, so the bias is added to the rows beforehand and a step looks its rows up.
        kernel = (decoder.weight_ih_l0.T + decoder.bias_ih_l0).contiguous()  # (V_dec, 4H)
        recurrent_kernel = decoder.weight_hh_l0.T.contiguous()  # (H, 4H)
        # In bfloat16 autocast caches casts of parameters only, so it would cast these two in each step.
        kernel, recurrent_kernel = kernel.to(self.product_dtype), recurrent_kernel.to(self.product_dtype)

        def step(sampled: Tensor, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            gates = torch.addmm(kernel.index_select(0, sampled), state_h, recurrent_kernel)  # (N, 4H)
            i, f, g, o = gates.chunk(4, dim=1)  # (N, H) each
            state_c = torch.addcmul(f.sigmoid_() * state_c, i.sigmoid_(), g.tanh_())  # (N, H)
            state_h = o.sigmoid_() * state_c.tanh()  # (N, H)
            return dense(state_h), state_h, state_c

        return step

    def _decode(self, state_h: Tensor, state_c: Tensor, max_length: int) -> NDArray[np.integer]:
        """Greedy decoding from states (N, H): ids (N, L). Rows that have ended are left out of the steps after it."""
        step, stop_token, num_rows = self._decoder_step(), self.config.stop_token, len(state_h)
        rows = np.arange(num_rows)  # those that have not ended, n of N
        sampled = torch.full((num_rows,), self.config.start_token, device=self.place)  # (n,)
        steps = []
        while len(steps) < max_length and len(rows):
            logits, state_h, state_c = step(sampled, state_h, state_c)  # (n, V_dec), (n, H), (n, H)
            sampled = logits.argmax(-1)  # (n,)
            characters = sampled.cpu().numpy()
            steps.append((rows, characters))
            going_on = characters != stop_token
            if np.count_nonzero(going_on) < len(rows):
                rows, left = rows[going_on], self._ids(np.flatnonzero(going_on))
                sampled, state_h, state_c = sampled[left], state_h[left], state_c[left]
        return ids_of_steps(steps, num_rows, stop_token)

    def evidence(self) -> TorchEvidence:
        return TorchEvidence(self)

    def _tensor(self, array: NDArray[np.floating], transposed: bool = False) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.T if transposed else array)).to(self.place)

    def _ids(self, ids: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(ids.astype(np.int64)).to(self.place)

    def _lengths(self, encoder_lengths: NDArray[np.integer]) -> Tensor | None:
        """The encoder's lengths where padding is masked; where padding counts, it takes none."""
        return self._ids(encoder_lengths) if self.config.padding == "mask" else None


def _array(tensor: Tensor, transposed: bool = False) -> NDArray[Any]:
    array = tensor.numpy(force=True)
    return np.array(array.T if transposed else array, order="C")


def _stacked(counts: list[Tensor]) -> NDArray[Any]:
    return _array(torch.stack(counts))
