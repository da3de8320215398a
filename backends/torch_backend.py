"""The model in PyTorch.

Variants: `compile` has the decoding of a single sentence compiled, which is all that gains by it; `bfloat16` has
autocast run matrix products and LSTMs in it, while weights, optimizer and loss stay float32.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from backends.environment import flush_denormals
from backends.torch_compile import compiled_greedy_loop
from backends.torch_files import read_torch
from common.decoding import put_out
from common.errors import CannotBeginError
from common.evidence import kept_or_flushed, median_seconds, part_of, random_operands, smallest_normals
from common.interface import REPORT_EVERY, Backend, Forward, Kernel, Metrics, Part, Profiled, Report, unreported
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState, check_state

HOLD = 1e4  # added to a gate's input, it makes of it 0 or 1 to the last bit, with no gradient

# The part of a step that a kernel belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "LSTM": r"(?i)mkldnnrnn|mkldnn_rnn|_cudnn_rnn",
    "optimizer": r"^Optimizer|aten::(sqrt_|mul_|addcmul_|addcdiv_)$",  # its sum with epsilon is among the gates
    "products": r"aten::(mm|addmm|bmm)$|gemm",
    "data": r"aten::_to_copy$|^Memcpy",
    "gates": r"^aten::",
    "Python": r"^autograd::|^torch::autograd::|Backward\d$|^detach$",
}


class Seq2Seq(nn.Module):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(num_encoder_tokens, latent_dim, batch_first=True)
        self.decoder = nn.LSTM(num_decoder_tokens, latent_dim, batch_first=True)
        self.dense = nn.Linear(latent_dim, num_decoder_tokens)

    def encode(self, encoder_input_data: Tensor, encoder_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The states (1, N, H) after the last step, or after each row's own length."""
        if encoder_lengths is None:
            return self.encoder(encoder_input_data)[1]
        # Packed rows would leave oneDNN's LSTM for a loop half as fast. So padding is a character of its own here,
        # which shuts the input gate and opens the forget gate for good: behind a sentence's end its cell stays.
        num_rows, num_steps, _ = encoder_input_data.shape
        steps = torch.arange(num_steps, device=encoder_input_data.device)
        padding = (steps >= encoder_lengths[:, None])[:, :, None].to(encoder_input_data.dtype)
        characters = torch.cat([encoder_input_data * (1 - padding), padding], dim=2)
        lstm, zeros = self.encoder, encoder_input_data.new_zeros(1, num_rows, self.encoder.hidden_size)
        holding = zeros.new_zeros(4, lstm.hidden_size)
        holding[0], holding[1] = -HOLD, HOLD
        kernel = torch.cat([lstm.weight_ih_l0, holding.view(-1, 1)], dim=1)
        weights = [kernel, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0]
        outputs, _, state_c = torch.lstm(
            characters, (zeros, zeros), weights, True, 1, 0.0, self.training, False, True
        )  # with biases, one layer, no dropout, one direction, batch first
        rows = torch.arange(num_rows, device=encoder_input_data.device)
        return outputs[rows, encoder_lengths - 1][None], state_c

    def forward(
        self, encoder_input_data: Tensor, decoder_input_data: Tensor, encoder_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        state_h, state_c = self.encode(encoder_input_data, encoder_lengths)
        decoder_outputs, _ = self.decoder(decoder_input_data, (state_h, state_c))  # (N, T_dec, H)
        logits = self.dense(decoder_outputs)  # (N, T_dec, V_dec)
        return logits, state_h[0], state_c[0]


class RMSprop(torch.optim.RMSprop):
    """With epsilon inside the root, as Keras and Paddle have it; torch's own adds it outside."""

    def __init__(self, params: Any, lr: float, alpha: float, eps: float) -> None:
        super().__init__(params, lr=lr, alpha=alpha, eps=eps)
        for group in self.param_groups:
            for parameter in group["params"]:
                # torch's own counts steps, and reads that nowhere but in a file.
                self.state[parameter] = {"step": torch.zeros(()), "square_avg": torch.zeros_like(parameter)}

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient, square_avg = parameter.grad, self.state[parameter]["square_avg"]
                square_avg.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
                root = square_avg.add(group["eps"]).sqrt_()
                parameter.addcdiv_(gradient, root, value=-group["lr"])


@final
class TorchBackend(Backend):
    def build(self) -> None:
        if self.device == "gpu" and not torch.cuda.is_available():
            raise CannotBeginError("torch sees no GPU here; use --device cpu")
        if self.variant == "bfloat16":
            _require_bfloat16(self.config.dtype, self.device)
        if flush_denormals():
            # Before the first parallel operation: each thread has a switch of its own, which it takes over from the
            # thread that starts it.
            torch.set_flush_denormal(True)
        config = self.config
        self.place = torch.device("cuda" if self.device == "gpu" else "cpu")
        self.dtype = getattr(torch, config.dtype)
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
        if self.variant == "compile":
            self._greedy_loop = compiled_greedy_loop()
        self.mean_squares: Arrays = {}  # that the optimizer begins with; zeros where there are none

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        for name, (parameter, transposed) in self.parameters.items():
            weight = state.weights[name]
            with torch.no_grad():
                parameter.copy_(self._tensor(weight.T if transposed else weight))
        self.mean_squares = state.mean_squares
        self.__dict__.pop("_optimizer", None)  # the next one begins with these

    def dump(self) -> ModelState:
        weights, slots = {}, {}
        for name, (parameter, transposed) in self.parameters.items():
            weights[name] = _array(parameter, transposed)
            slots[name] = _array(self._optimizer.state[parameter]["square_avg"], transposed)
        return ModelState(weights, slots)

    def save_native(self, folder: Path) -> list[str]:
        torch.save(self.model.state_dict(), folder / "model.pt")
        torch.save(self._optimizer.state_dict(), folder / "optimizer.pt")
        return ["model.pt", "optimizer.pt"]

    def load_native(self, paths: Sequence[Path]) -> None:
        self.load(read_torch(paths, self.config))

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Forward:
        self.model.eval()
        logits, state_h, state_c = self._run(batch)
        return Forward(_array(logits.softmax(-1)), _array(state_h), _array(state_c))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        self.model.train()
        loss, _ = self._loss(batch)
        self.model.zero_grad()
        loss.backward()
        gradients = {name: _array(p.grad, transposed) for name, (p, transposed) in self.parameters.items()}
        return loss.item(), gradients

    def train(self, batches: Batches, report: Report) -> Metrics:
        self.model.train()
        optimizer = self._optimizer  # which the first time takes a second: not a step's
        counts, stamps = [], [perf_counter()]
        for step, batch in enumerate(batches, 1):
            loss, batch_counts = self._loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            counts.append(batch_counts)
            if step % REPORT_EVERY == 0:
                report(step, loss.item())
            stamps.append(perf_counter())
        return Metrics.of(_array(torch.stack(counts)), batches, [*stamps, perf_counter()])

    @torch.inference_mode()
    def evaluate(self, batches: Batches) -> Metrics:
        self.model.eval()
        counts, stamps = [], [perf_counter()]
        for batch in batches:
            counts.append(self._loss(batch)[1])
            stamps.append(perf_counter())
        return Metrics.of(_array(torch.stack(counts)), batches, [*stamps, perf_counter()])

    @torch.inference_mode()
    def translate(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int
    ) -> NDArray[np.integer]:
        self.model.eval()
        with self._autocast():
            encoder_input_data = self._one_hot(self._ids(encoder_ids), self.config.num_encoder_tokens)
            states = self.model.encode(encoder_input_data, self._lengths(encoder_lengths))
            state_h, state_c = (state[0] for state in states)
            if self.variant == "compile" and len(encoder_ids) == 1:
                return self._decode_one(state_h, state_c, max_length)
            return self._decode(state_h, state_c, max_length)

    def profile(self, batches: Batches) -> Profiled:
        self.train(batches, unreported)  # what the first steps alone do is not profiled
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device == "gpu" else [])]
        with profile(activities=activities) as profiler:
            trained = self.train(batches, unreported)
        kernels = []
        for event in profiler.key_averages():
            on_cpu = event.device_type == DeviceType.CPU
            microseconds = event.self_cpu_time_total if on_cpu else event.self_device_time_total
            kernels.append(Kernel(event.key, event.count, microseconds / 1e6, part_of(event.key, PARTS)))
        return Profiled.of(kernels, trained.seconds)

    @torch.inference_mode()
    def matrix_product(self, m: int, k: int, n: int, seconds: float) -> float:
        left, right = map(self._tensor, random_operands(m, k, n, self.config.dtype))

        def product() -> None:
            left @ right
            if self.device == "gpu":
                torch.cuda.synchronize()

        return 2 * m * k * n / median_seconds(product, seconds)

    def describe(self) -> dict[str, Any]:
        return {
            "version": str(torch.__version__),
            "device": str(self.model.dense.weight.device),
            "threads": torch.get_num_threads(),
            "precision": self._precision(),
            "settings": {
                "intra_op_threads": torch.get_num_threads(),
                "inter_op_threads": torch.get_num_interop_threads(),
                "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
                "float32_matmul_precision": torch.get_float32_matmul_precision(),
                "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
                "tf32_cudnn": torch.backends.cudnn.allow_tf32,
                "denormals": kept_or_flushed(_array(self._tensor(smallest_normals(self.config.dtype)) * 0.5)),
                "compiled_loop": self.variant == "compile",
            },
        }

    @cached_property
    def _optimizer(self) -> RMSprop:
        """Made when first needed: for it torch imports its compiler, a second that translating can do without."""
        train, trained = self.train_config, [parameter for parameter, _ in self.parameters.values()]
        optimizer = RMSprop(trained, lr=train.learning_rate, alpha=train.rho, eps=train.epsilon)
        for name, slot in self.mean_squares.items():
            parameter, transposed = self.parameters[name]
            optimizer.state[parameter]["square_avg"].copy_(self._tensor(slot.T if transposed else slot))
        return optimizer

    def _decode(self, state_h: Tensor, state_c: Tensor, max_length: int) -> NDArray[np.integer]:
        """The greedy loop from states (N, H), without the rows that have ended: ids (N, L)."""
        decoder, dense, stop_token = self.model.decoder, self.model.dense, self.config.stop_token
        # Of which a one-hot row would take a row; contiguous, since a sum has the strides of what is transposed.
        kernel = decoder.weight_ih_l0.T.contiguous() + decoder.bias_ih_l0
        recurrent_kernel = decoder.weight_hh_l0.T.contiguous()
        if self.variant == "bfloat16":  # autocast would round them in each step: it keeps parameters alone
            kernel, recurrent_kernel = kernel.bfloat16(), recurrent_kernel.bfloat16()
        num_rows = len(state_h)
        rows = np.arange(num_rows)
        sampled = torch.full((num_rows,), self.config.start_token, device=self.place)
        steps = []
        while len(steps) < max_length and len(rows):
            gates = torch.addmm(kernel.index_select(0, sampled), state_h, recurrent_kernel)
            i, f, g, o = gates.chunk(4, dim=1)
            state_c = torch.addcmul(f.sigmoid_() * state_c, i.sigmoid_(), g.tanh_())
            state_h = o.sigmoid_() * state_c.tanh()
            sampled = dense(state_h).argmax(-1)
            characters = sampled.cpu().numpy()
            steps.append((rows, characters))
            going_on = characters != stop_token
            if np.count_nonzero(going_on) < len(rows):  # go on without the rows that have ended
                rows, left = rows[going_on], self._ids(np.flatnonzero(going_on))
                sampled, state_h, state_c = (of[left] for of in (sampled, state_h, state_c))
        return put_out(steps, num_rows, stop_token)

    def _decode_one(self, state_h: Tensor, state_c: Tensor, max_length: int) -> NDArray[np.integer]:
        """The same from states (1, H), as one compiled loop."""
        decoder, dense, config = self.model.decoder, self.model.dense, self.config
        weights = decoder.weight_ih_l0, decoder.weight_hh_l0, decoder.bias_ih_l0
        length, ids = self._greedy_loop(
            state_h, state_c, weights, (dense.weight, dense.bias), config.start_token, config.stop_token, max_length
        )
        return _array(ids)[None, :length]

    def _run(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and encoder states, in the model's dtype whatever they were computed in."""
        encoder_input_data = self._tensor(batch.encoder_input_data)
        decoder_input_data = self._tensor(batch.decoder_input_data)
        with self._autocast():
            outputs = self.model(encoder_input_data, decoder_input_data, self._lengths(batch.encoder_lengths))
        logits, state_h, state_c = (output.to(self.dtype) for output in outputs)
        return logits, state_h, state_c

    def _autocast(self) -> torch.autocast:
        """Where the variant's products run in bfloat16. Entered anew in each step: it keeps the weights that it has
        rounded until it is left, and would train on with the first step's."""
        return torch.autocast(self.place.type, torch.bfloat16, enabled=self.variant == "bfloat16")

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss that is trained on, and what Metrics counts: summed loss, right positions, right real ones."""
        logits, _, _ = self._run(batch)
        weights = self._tensor(batch.target_weights)
        # Written out, since the frameworks' own cross-entropies clip in different places.
        cross_entropy = -(self._tensor(batch.decoder_target_data) * F.log_softmax(logits, -1)).sum(-1)
        loss_sum = (weights * cross_entropy).sum()
        right = (logits.argmax(-1) == self._ids(batch.decoder_target_ids)) * weights
        counts = torch.stack([loss_sum, right.sum(), (right * self._tensor(batch.real_positions)).sum()])
        return loss_sum / batch.loss_positions, counts.detach()

    @torch.inference_mode()
    def _precision(self) -> str:
        """What a product comes out in."""
        with self._autocast():
            product = self.model.dense.weight @ self.model.dense.weight.T
        return str(product.dtype).removeprefix("torch.")

    def _tensor(self, array: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.place)

    def _lengths(self, encoder_lengths: NDArray[np.integer]) -> Tensor | None:
        """For the encoder, where padding is masked."""
        return self._ids(encoder_lengths) if self.config.padding == "mask" else None

    def _ids(self, ids: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(ids.astype(np.int64)).to(self.place)

    def _one_hot(self, ids: Tensor, num_tokens: int) -> Tensor:
        return F.one_hot(ids, num_tokens).to(self.dtype)


def _require_bfloat16(dtype: str, device: str) -> None:
    """Raises CannotBeginError for weights other than float32, and where it would not be bfloat16."""
    if dtype != "float32":
        raise CannotBeginError(f"torch:bfloat16 has float32 weights; found dtype {dtype}, use --dtype float32")
    if device == "gpu":  # pytorch/pytorch 42385
        raise CannotBeginError(
            "torch:bfloat16 is for the CPU: on a GPU autocast has LSTMs in float16; use --device cpu, or torch"
        )


def _array(tensor: Tensor, transposed: bool = False) -> NDArray[Any]:
    array = tensor.numpy(force=True)
    return np.array(array.T if transposed else array, order="C")
