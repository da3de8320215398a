"""The model in PyTorch."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.interface import Backend, BeamSearch, Forward, Metrics, Report, flush_denormals, timed_steps
from common.tensors import Array, Batch, Batches, BatchTensors, Ids, one_hot
from common.weights import Arrays, ModelState, check_state

DEVICES = {"cpu": torch.device("cpu"), "gpu": torch.device("cuda")}


class Seq2Seq(nn.Module):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(num_encoder_tokens, latent_dim, batch_first=True)
        self.decoder = nn.LSTM(num_decoder_tokens, latent_dim, batch_first=True)
        self.dense = nn.Linear(latent_dim, num_decoder_tokens)

    def encode(self, encoder_input_data: Tensor, encoder_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The states (N, H) after the last step, or after each row's own length."""
        if encoder_lengths is not None:
            from backends.torch_masked_lstm import states_at_lengths  # which only masked padding needs

            return states_at_lengths(self.encoder, encoder_input_data, encoder_lengths)
        _, (state_h, state_c) = self.encoder(encoder_input_data)  # (1, N, H) each
        return state_h[0], state_c[0]

    def forward(
        self, encoder_input_data: Tensor, decoder_input_data: Tensor, encoder_lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        state_h, state_c = self.encode(encoder_input_data, encoder_lengths)  # (N, H) each
        decoder_outputs, _ = self.decoder(decoder_input_data, (state_h[None], state_c[None]))  # (N, T_dec, H)
        logits = self.dense(decoder_outputs)  # (N, T_dec, V_dec)
        return logits, state_h, state_c


class TorchBackend(Backend):
    framework = "torch"
    profiled_by = "backends.profiling.torch:TorchProfiling"
    writer = "backends.native.torch:write_torch"
    reader = "backends.native.torch:read_torch"

    def sees_gpu(self) -> bool:
        return torch.cuda.is_available()

    def build(self) -> None:
        config = self.config
        self.torch_device = DEVICES[self.device]
        torch.set_flush_denormal(flush_denormals())  # before any thread starts, since each takes this setting over
        self.model = Seq2Seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
        self.model.to(self.torch_device, getattr(torch, config.dtype))
        encoder, decoder, dense = self.model.encoder, self.model.decoder, self.model.dense
        # Keras's LSTM has one bias. The second one stays zero: with both trained, their sum would step twice as far.
        for lstm in (encoder, decoder):
            nn.init.zeros_(lstm.bias_hh_l0).requires_grad_(False)
        self.parameters = {
            "encoder/kernel": encoder.weight_ih_l0,
            "encoder/recurrent_kernel": encoder.weight_hh_l0,
            "encoder/bias": encoder.bias_ih_l0,
            "decoder/kernel": decoder.weight_ih_l0,
            "decoder/recurrent_kernel": decoder.weight_hh_l0,
            "decoder/bias": decoder.bias_ih_l0,
            "dense/kernel": dense.weight,
            "dense/bias": dense.bias,
        }
        self.slots = {name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()}

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """Made when first needed: translating needs none, and torch spends a second importing its compiler for it."""
        from backends.torch_rmsprop import RMSprop  # which only training needs

        train = self.train_config
        trained = list(self.parameters.values())
        return RMSprop(trained, self.slots.values(), lr=train.learning_rate, alpha=train.rho, eps=train.epsilon)

    @torch.no_grad()
    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        for name, parameter in self.parameters.items():
            parameter.copy_(self._tensor(layout(name, state.weights[name])))
            self.slots[name].copy_(self._tensor(layout(name, state.mean_squares[name])))

    def dump(self) -> ModelState:
        weights = {name: layout(name, self._array(parameter)) for name, parameter in self.parameters.items()}
        mean_squares = {name: layout(name, self._array(slot)) for name, slot in self.slots.items()}
        return ModelState(weights, mean_squares)

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Forward:
        self.model.eval()  # as training=False in Keras
        logits, state_h, state_c = self._run(self._tensors(batch))
        return Forward(self._array(F.softmax(logits, -1)), self._array(state_h), self._array(state_c))

    def _run(self, batch: BatchTensors) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        lengths = self._lengths(batch.encoder_lengths)
        return self.model(batch.encoder_input_data, batch.decoder_input_data, lengths)

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        self.model.train()  # as training=True in Keras
        loss, _, gradients = self._gradients(self._tensors(batch))
        named = zip(self.parameters, gradients, strict=True)
        return float(loss), {name: layout(name, self._array(gradient)) for name, gradient in named}

    def _gradients(self, batch: BatchTensors) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What `_loss` gives, and the loss's gradients by the parameters."""
        loss, counts = self._loss(batch)
        self.model.zero_grad()
        loss.backward()
        return loss, counts, [parameter.grad for parameter in self.parameters.values()]

    def _loss(self, batch: BatchTensors) -> tuple[Tensor, Tensor]:
        """The batch's loss, and (3,) for Metrics.of: summed loss, correct positions, correct real positions."""
        logits, _, _ = self._run(batch)
        # Written out, since Keras's own cross-entropy may clip small probabilities, and Paddle's clips far logits.
        log_probabilities = F.log_softmax(logits, -1)  # (N, T_dec, V_dec)
        cross_entropy = -torch.sum(batch.decoder_target_data * log_probabilities, -1)  # (N, T_dec)
        loss_sum = torch.sum(batch.target_weights * cross_entropy)
        right = torch.argmax(logits, -1) == batch.decoder_target_ids  # (N, T_dec)
        correct = right * batch.target_weights  # (N, T_dec)
        counts = torch.stack([loss_sum, torch.sum(correct), torch.sum(correct * batch.real_positions)])
        return loss_sum / batch.loss_positions, counts.detach()  # counts get no gradient

    def train(self, batches: Batches, report: Report) -> Metrics:
        self.model.train()
        _ = self.optimizer  # makes it now, so that the first step's time does not include that
        return timed_steps(lambda batch: self._train_step(self._tensors(batch)), batches, self._stacked, report)

    def _train_step(self, batch: BatchTensors) -> tuple[Tensor, Tensor]:
        loss, counts, _ = self._gradients(batch)
        self.optimizer.step()
        return loss, counts

    @torch.inference_mode()
    def evaluate(self, batches: Batches) -> Metrics:
        self.model.eval()
        return timed_steps(lambda batch: self._loss(self._tensors(batch)), batches, self._stacked)

    @torch.inference_mode()
    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        self.model.eval()
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        return self._decode(state_h, state_c, max_length)

    @torch.inference_mode()
    def beam_search(self, encoder_ids: Ids, encoder_lengths: Ids, search: BeamSearch) -> None:
        self.model.eval()
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        step = self._decoder_step()
        while not search.ended:
            rows, sampled = self._ids(search.rows), self._ids(search.sampled)  # (R,) each
            logits, state_h, state_c = step(sampled, state_h[rows], state_c[rows])  # (R, V_dec), (R, H), (R, H)
            search.extend(self._array(logits))

    def _encode(self, encoder_ids: Ids, encoder_lengths: Ids) -> tuple[Tensor, Tensor]:
        """The encoder's states (N, H)."""
        encoder_input_data = self._tensor(one_hot(encoder_ids, self.config.num_encoder_tokens, self.config.dtype))
        return self.model.encode(encoder_input_data, self._lengths(self._ids(encoder_lengths)))

    def _decoder_step(self) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """A function from the last characters (N,) and the states (N, H) to logits (N, V_dec) and the next states."""
        dense, (kernel, recurrent_kernel) = self.model.dense, self._kernels()

        def step(sampled: Tensor, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # addmm adds the product of the second and the third to the first.
            gates = torch.addmm(kernel.index_select(0, sampled), state_h, recurrent_kernel)  # (N, 4H)
            i, f, g, o = gates.chunk(4, dim=1)  # (N, H) each: input, forget, candidate, output
            # addcmul does so element by element; sigmoid_ and tanh_ write in place. The plain lines, as they stand in
            # the other lessons, take a tenth longer for one row.
            state_c = torch.addcmul(f.sigmoid_() * state_c, i.sigmoid_(), g.tanh_())  # (N, H)
            state_h = o.sigmoid_() * state_c.tanh()  # (N, H)
            return dense(state_h), state_h, state_c

        return step

    def _kernels(self) -> tuple[Tensor, Tensor]:
        """The decoder's kernel (V_dec, 4H), with the bias added to its rows, and its recurrent kernel (H, 4H).

        The product of a one-hot row and the kernel is a row of the kernel, so decoding looks rows up.
        """
        decoder = self.model.decoder
        return (decoder.weight_ih_l0.T + decoder.bias_ih_l0).contiguous(), decoder.weight_hh_l0.T.contiguous()

    def _decode(self, state_h: Tensor, state_c: Tensor, max_length: int) -> Ids:
        """Greedy decoding from states (N, H): ids (N, L). A row that has ended is left out of the further steps."""
        step, num_rows, stop_token = self._decoder_step(), len(state_h), self.config.stop_token
        ids, length = np.full((num_rows, max_length), stop_token), 0
        rows = np.arange(num_rows)  # those that have not ended, n of N
        sampled = self._ids(np.full(num_rows, self.config.start_token))  # (n,)
        while length < max_length and len(rows):
            logits, state_h, state_c = step(sampled, state_h, state_c)  # (n, V_dec), (n, H), (n, H)
            sampled = logits.argmax(-1)  # (n,)
            ids[rows, length] = characters = sampled.numpy(force=True)  # (n,)
            length += 1
            goes_on = characters != stop_token  # (n,)
            if np.count_nonzero(goes_on) < len(rows):
                rows, kept = rows[goes_on], self._ids(np.flatnonzero(goes_on))
                sampled, state_h, state_c = sampled[kept], state_h[kept], state_c[kept]
        return ids[:, :length]

    def _tensors(self, batch: Batch) -> BatchTensors:
        return batch.tensors(self._tensor, self._ids)

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self.torch_device)

    def _ids(self, ids: Ids) -> Tensor:
        return torch.from_numpy(ids.astype(np.int64)).to(self.torch_device)

    def _array(self, tensor: Tensor) -> Array:
        return np.array(tensor.numpy(force=True))  # from any device, and without its gradient

    def _stacked(self, counts: list[Tensor]) -> Array:
        return self._array(torch.stack(counts))


def layout(name: str, array: Array) -> Array:
    """A weight in torch's layout, given in the canonical one, which is Keras's, or the other way round."""
    return np.ascontiguousarray(array.T)
