"""The model in PaddlePaddle."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, final

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray
from paddle import Tensor, nn
from paddle.profiler import Profiler, ProfilerTarget

from backends.paddle_files import read_paddle
from common.decoding import put_out
from common.errors import CannotBeginError
from common.evidence import kept_or_flushed, median_seconds, part_of, random_operands, smallest_normals
from common.interface import REPORT_EVERY, Backend, Forward, Kernel, Metrics, Part, Profiled, Report, unreported
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState, check_state

# The part of a step that a kernel belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "LSTM": r"^rnn(_grad)? kernel launch",
    "products": r"^matmul(_grad)? kernel launch|gemm",
    "optimizer": r"^rmsprop|^Optimization Step",
    "data": r"^memcpy|^MEMCPY",
    "gates": r" kernel launch$",
    "Python": r"GradNode|[Bb]ackward$|^(ProfileStep|LSTM|Seq2Seq|Linear)| (dygraph|infer_meta|node_|pybind_)",
}


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
        state_h, state_c = self.encode(encoder_input_data, encoder_lengths)
        decoder_outputs, _ = self.decoder(decoder_input_data, (state_h, state_c))  # (N, T_dec, H)
        logits = self.dense(decoder_outputs)  # (N, T_dec, V_dec)
        return logits, state_h[0], state_c[0]


@final
class PaddleBackend(Backend):
    def build(self) -> None:
        if self.device == "gpu" and not (paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
            raise CannotBeginError("paddle sees no GPU here; use --device cpu")
        config, train = self.config, self.train_config
        paddle.set_device(self.device)
        paddle.set_default_dtype(config.dtype)
        self.model = Seq2Seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
        # Keras has one bias an LSTM. The second one stays zero: trained, it would double the bias's step. It is
        # left out of the optimizer's list alone, since without it Paddle 3.3 crashes in the forward pass, and with
        # it frozen fails in the backward pass (upstream 58158, 70231).
        for lstm in (self.model.encoder, self.model.decoder):
            nn.initializer.Constant(0.0)(lstm.bias_hh_l0)
        # Canonical name -> parameter, and whether the canonical layout is its transpose.
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
        trained = [parameter for parameter, _ in self.parameters.values()]
        self.optimizer = paddle.optimizer.RMSProp(
            train.learning_rate, rho=train.rho, epsilon=train.epsilon, parameters=trained
        )

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        slots = {}
        for name, (parameter, transposed) in self.parameters.items():
            weight, slot = state.weights[name], state.mean_squares[name]
            parameter.set_value(self._tensor(weight.T if transposed else weight))
            slots[f"{parameter.name}_mean_square_0"] = self._tensor(slot.T if transposed else slot)
            # RMSProp keeps two more accumulators, which without momentum and centering have no effect.
            for unused in ("momentum", "mean_grad"):
                slots[f"{parameter.name}_{unused}_0"] = paddle.zeros_like(parameter)
        self.optimizer.set_state_dict(slots)

    def dump(self) -> ModelState:
        weights, slots = {}, {}
        state = self.optimizer.state_dict()
        for name, (parameter, transposed) in self.parameters.items():
            weights[name] = _array(parameter, transposed)
            slots[name] = _array(state[f"{parameter.name}_mean_square_0"], transposed)
        return ModelState(weights, slots)

    def save_native(self, folder: Path) -> list[str]:
        paddle.save(self.model.state_dict(), str(folder / "model.pdparams"))
        paddle.save(self.optimizer.state_dict(), str(folder / "model.pdopt"))
        return ["model.pdparams", "model.pdopt"]

    def load_native(self, paths: Sequence[Path]) -> None:
        self.load(read_paddle(paths, self.config))

    @paddle.no_grad()
    def forward(self, batch: Batch) -> Forward:
        self.model.eval()
        logits, state_h, state_c = self._run(batch)
        return Forward(_array(F.softmax(logits, -1)), _array(state_h), _array(state_c))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        self.model.train()
        loss, _ = self._loss(batch)
        self.model.clear_gradients()  # the second biases' too, which the optimizer does not know
        loss.backward()
        gradients = {name: _array(p.grad, transposed) for name, (p, transposed) in self.parameters.items()}
        return loss.item(), gradients

    def train(self, batches: Batches, report: Report) -> Metrics:
        self.model.train()
        counts, stamps = [], [perf_counter()]
        for step, batch in enumerate(batches, 1):
            loss, batch_counts = self._loss(batch)
            self.model.clear_gradients()
            loss.backward()
            self.optimizer.step()
            counts.append(batch_counts)
            if step % REPORT_EVERY == 0:
                report(step, loss.item())
            stamps.append(perf_counter())
        return Metrics.of(_array(paddle.stack(counts)), batches, [*stamps, perf_counter()])

    @paddle.no_grad()
    def evaluate(self, batches: Batches) -> Metrics:
        self.model.eval()
        counts, stamps = [], [perf_counter()]
        for batch in batches:
            counts.append(self._loss(batch)[1])
            stamps.append(perf_counter())
        return Metrics.of(_array(paddle.stack(counts)), batches, [*stamps, perf_counter()])

    @paddle.no_grad()
    def translate(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int
    ) -> NDArray[np.integer]:
        self.model.eval()
        encoder_input_data = self._one_hot(self._ids(encoder_ids), self.config.num_encoder_tokens)
        states = self.model.encode(encoder_input_data, self._lengths(encoder_lengths))
        state_h, state_c = (state[0] for state in states)
        return self._decode(state_h, state_c, max_length)

    def profile(self, batches: Batches) -> Profiled:
        self.train(batches, unreported)  # what the first steps alone do is not profiled
        targets = [ProfilerTarget.CPU, *([ProfilerTarget.GPU] if self.device == "gpu" else [])]
        # Told nothing, it leaves a trace in the working directory.
        with Profiler(targets=targets, on_trace_ready=lambda profiler: None) as profiler:
            trained = self.train(batches, unreported)
        calls: Counter[str] = Counter()
        nanoseconds: Counter[str] = Counter()
        for thread in profiler.profiler_result.get_data().values():
            events = list(thread.children_node)
            while events:
                event = events.pop()
                # Only what runs on the host has something within it, or starts something on a device.
                children = getattr(event, "children_node", [])
                events += [*children, *getattr(event, "runtime_node", []), *getattr(event, "device_node", [])]
                calls[event.name] += 1
                within = sum(child.end_ns - child.start_ns for child in children)
                nanoseconds[event.name] += event.end_ns - event.start_ns - within
        kernels = [Kernel(name, calls[name], nanoseconds[name] / 1e9, part_of(name, PARTS)) for name in calls]
        return Profiled.of(kernels, trained.seconds)

    @paddle.no_grad()
    def matrix_product(self, m: int, k: int, n: int, seconds: float) -> float:
        left, right = map(self._tensor, random_operands(m, k, n, self.config.dtype))

        def product() -> None:
            left @ right
            if self.device == "gpu":
                paddle.device.synchronize()

        return 2 * m * k * n / median_seconds(product, seconds)

    def describe(self) -> dict[str, Any]:
        from threadpoolctl import threadpool_info

        flags = paddle.get_flags(["FLAGS_paddle_num_threads", "FLAGS_use_mkldnn"])
        pools = {f"{pool['prefix']}_threads": pool["num_threads"] for pool in threadpool_info()}
        return {
            "version": paddle.__version__,
            "device": str(paddle.get_device()),
            "threads": flags["FLAGS_paddle_num_threads"],
            "precision": str(self.model.dense.weight.dtype).removeprefix("paddle."),
            "settings": {
                **flags,
                **{name: count for name, count in pools.items() if name.endswith("omp_threads")},
                "mkl": paddle.version.mkl(),
                # Read by MKL, which does not tell what it makes of it.
                "MKL_DEBUG_CPU_TYPE": os.environ.get("MKL_DEBUG_CPU_TYPE", "not set"),
                "cuda": paddle.is_compiled_with_cuda(),
                "denormals": kept_or_flushed(_array(self._tensor(smallest_normals(self.config.dtype)) * 0.5)),
            },
        }

    def _decode(self, state_h: Tensor, state_c: Tensor, max_length: int) -> NDArray[np.integer]:
        """The greedy loop from states (N, H), without the rows that have ended: ids (N, L)."""
        decoder, dense, stop_token = self.model.decoder, self.model.dense, self.config.stop_token
        kernel = decoder.weight_ih_l0.T + decoder.bias_ih_l0  # of which a one-hot row would take a row
        recurrent_kernel = decoder.weight_hh_l0.T.contiguous()
        num_rows = len(state_h)
        rows = np.arange(num_rows)
        sampled = paddle.full((num_rows,), self.config.start_token, "int64")
        steps = []
        while len(steps) < max_length and len(rows):
            gates = paddle.addmm(F.embedding(sampled, kernel), state_h, recurrent_kernel)
            i, f, g, o = gates.split(4, axis=1)
            state_c = F.sigmoid(f) * state_c + F.sigmoid(i) * paddle.tanh(g)
            state_h = F.sigmoid(o) * paddle.tanh(state_c)
            # Half the time of `dense` for one row.
            sampled = paddle.addmm(dense.bias, state_h, dense.weight).argmax(-1)
            characters = sampled.numpy()
            steps.append((rows, characters))
            going_on = characters != stop_token
            if np.count_nonzero(going_on) < len(rows):  # go on without the rows that have ended
                rows, left = rows[going_on], self._ids(np.flatnonzero(going_on))
                sampled, state_h, state_c = (of.index_select(left) for of in (sampled, state_h, state_c))
        return put_out(steps, num_rows, stop_token)

    def _run(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and encoder states."""
        encoder_input_data = self._tensor(batch.encoder_input_data)
        decoder_input_data = self._tensor(batch.decoder_input_data)
        return self.model(encoder_input_data, decoder_input_data, self._lengths(batch.encoder_lengths))

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss that is trained on, and what Metrics counts: summed loss, right positions, right real ones."""
        logits, _, _ = self._run(batch)
        weights = self._tensor(batch.target_weights)
        # Written out, since the frameworks' own cross-entropies clip in different places; so does F.log_softmax here,
        # and paddle.logsumexp takes three times as long as these.
        logits_below = logits - logits.detach().max(-1, keepdim=True)
        log_probabilities = logits_below - logits_below.exp().sum(-1, keepdim=True).log()
        cross_entropy = -(self._tensor(batch.decoder_target_data) * log_probabilities).sum(-1)
        loss_sum = (weights * cross_entropy).sum()
        right = (logits.argmax(-1) == self._ids(batch.decoder_target_ids)).astype(weights.dtype) * weights
        counts = paddle.stack([loss_sum, right.sum(), (right * self._tensor(batch.real_positions)).sum()])
        return loss_sum / batch.loss_positions, counts.detach()

    def _tensor(self, array: NDArray[np.floating]) -> Tensor:
        return paddle.to_tensor(np.ascontiguousarray(array))

    def _lengths(self, encoder_lengths: NDArray[np.integer]) -> Tensor | None:
        """For the encoder, where padding is masked."""
        return self._ids(encoder_lengths) if self.config.padding == "mask" else None

    def _ids(self, ids: NDArray[np.integer]) -> Tensor:
        return paddle.to_tensor(ids.astype(np.int64))

    def _one_hot(self, ids: Tensor, num_tokens: int) -> Tensor:
        return F.one_hot(ids, num_tokens).astype(self.config.dtype)


def _array(tensor: Tensor, transposed: bool = False) -> NDArray[Any]:
    array = tensor.numpy()
    return np.array(array.T if transposed else array, order="C")
