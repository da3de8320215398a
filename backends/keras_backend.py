"""The model in Keras 3 on TensorFlow.

Variants: `jit` has its LSTMs' loops, and the decoding of a single sentence, compiled by XLA; `fast` also looks rows
up in training and in the encoder, where the others multiply one-hot rows.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, final

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray
from tensorflow.python.util._pywrap_util_port import IsMklEnabled
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XEvent, XPlane, XSpace

from backends.keras_fast import FastSeq2Seq
from backends.keras_files import read_keras
from common.errors import CannotBeginError
from common.evidence import covered, kept_or_flushed, median_seconds, part_of, random_operands, smallest_normals
from common.interface import REPORT_EVERY, Backend, Forward, Kernel, Metrics, Part, Profiled, Report, unreported
from common.machine import cores
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState, check_state

# Path and kind of an operator in a host's trace; all other events enclose operators.
OPERATOR = re.compile(r"(?P<path>[^:\s]+):(?P<kind>_*[A-Z]\w*)")
SCOPE = re.compile(r"(?:^|/)(?P<scope>while|rm_sprop)(_\d+)?/")  # of a path: a loop's body, or the optimizer
# The part of a step that a kernel belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "optimizer": r"^rm_sprop/",
    # The last two are rows looked up in a product's place, and their gradient.
    "products": r"MatMul(V\d)?$|^xla/dot|gemm|^GatherV2$|^UnsortedSegmentSum$",
    "data": r"^Iterator|Dataset|MemcpyHtoD",
    "gates": r"^(while/|xla/)|^_?[A-Z]\w*$",
}


def seq2seq(
    num_encoder_tokens: int,
    num_decoder_tokens: int,
    latent_dim: int,
    activation: str | None = None,
    masked: bool = False,
) -> keras.Model:
    """The encoder's states start the decoder; the dense layer gives logits, or what `activation` makes of them.

    A masked one has a third input, (N, T_enc), that is true where the encoder has something to read.
    """
    encoder_inputs = keras.Input((None, num_encoder_tokens))
    decoder_inputs = keras.Input((None, num_decoder_tokens))
    encoder = layers.LSTM(latent_dim, return_state=True, name="encoder")
    decoder = layers.LSTM(latent_dim, return_sequences=True, return_state=True, name="decoder")
    dense = layers.Dense(num_decoder_tokens, activation=activation, name="dense")
    masks = [keras.Input((None,), dtype="bool")] if masked else []
    _, state_h, state_c = encoder(encoder_inputs, mask=masks[0] if masked else None)  # (N, H) each
    decoder_outputs, _, _ = decoder(decoder_inputs, initial_state=[state_h, state_c])  # (N, T_dec, H)
    logits = dense(decoder_outputs)  # (N, T_dec, V_dec)
    return keras.Model([encoder_inputs, decoder_inputs, *masks], [logits, state_h, state_c])


def require_device(device: str) -> None:
    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise CannotBeginError("keras sees no GPU here; use --device cpu")


def profile(backend: Backend, batches: Batches) -> Profiled:
    """See Backend.profile."""
    backend.train(batches, unreported)  # what the first steps alone do is not profiled
    with TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            trained = backend.train(batches, unreported)
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = XSpace.FromString(file.read_bytes())
    calls: Counter[str] = Counter()
    picoseconds: Counter[str] = Counter()
    spans: list[tuple[int, int]] = []  # of operators, some of which run side by side
    for plane in space.planes:
        for line in plane.lines:
            named = [(kernel_name(plane, event), event) for event in line.events]
            enclosing: list[tuple[int, str]] = []  # where they end, and their names
            for name, event in sorted(named, key=lambda pair: (pair[1].offset_ps, -pair[1].duration_ps)):
                if name is None:
                    continue
                while enclosing and enclosing[-1][0] <= event.offset_ps:
                    enclosing.pop()
                if enclosing:
                    picoseconds[enclosing[-1][1]] -= event.duration_ps
                enclosing.append((event.offset_ps + event.duration_ps, name))
                began = 1000 * line.timestamp_ns + event.offset_ps
                spans.append((began, began + event.duration_ps))
                calls[name] += 1
                picoseconds[name] += event.duration_ps
    kernels = [Kernel(name, calls[name], picoseconds[name] / 1e12, part_of(name, PARTS)) for name in calls]
    return Profiled.of(kernels, trained.seconds, covered(spans) / 1e12)


def kernel_name(plane: XPlane, event: XEvent) -> str | None:
    """An operator's kind, with "while/" before it in the body of a loop and "rm_sprop/" in the optimizer; what XLA
    compiled, with "xla/" before it; a device's kernel. None for what only encloses these."""
    name = plane.event_metadata[event.metadata_id].name
    if "/device:" in plane.name:
        return name
    if any(plane.stat_metadata[stat.metadata_id].name == "hlo_op" for stat in event.stats):
        return f"xla/{name.rstrip('0123456789._')}"
    operator = OPERATOR.fullmatch(name)
    if operator is None:
        return None
    scope = SCOPE.search(operator["path"])
    return f"{scope['scope']}/{operator['kind']}" if scope else operator["kind"]


def matrix_product(backend: Backend, m: int, k: int, n: int, seconds: float) -> float:
    """See Backend.matrix_product. Each product is a call of a compiled function from Python."""
    left, right = map(tf.convert_to_tensor, random_operands(m, k, n, backend.config.dtype))
    compiled = tf.function(tf.matmul)

    def product() -> None:
        result = compiled(left, right)
        if backend.device == "gpu":
            float(result[0, 0])

    return 2 * m * k * n / median_seconds(product, seconds)


def describe(parameter: keras.Variable) -> dict[str, Any]:
    """See Backend.describe; TensorFlow's getter knows only what was set in Python, so the environment's number,
    which its thread pool was made with, stands in."""
    intra_op = tf.config.threading.get_intra_op_parallelism_threads()
    inter_op = tf.config.threading.get_inter_op_parallelism_threads()
    threads = intra_op or int(os.environ.get("TF_NUM_INTRAOP_THREADS", cores()))
    # Compiled, since that is how training runs.
    halves = tf.function(lambda numbers: numbers * 0.5)(smallest_normals(parameter.dtype))
    return {
        "version": f"{keras.__version__}, tf {tf.__version__}",
        "device": parameter.value.device.rpartition("device:")[-1],
        "threads": threads,
        "precision": parameter.dtype,
        "settings": {
            "intra_op_threads": threads,
            "inter_op_threads": inter_op or int(os.environ.get("TF_NUM_INTEROP_THREADS", cores())),
            "onednn": IsMklEnabled(),
            "xla_autoclustering": tf.config.optimizer.get_jit() or "off",
            "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
            "denormals": kept_or_flushed(_array(halves)),
        },
    }


@final
class KerasBackend(Backend):
    def build(self) -> None:
        require_device(self.device)
        config, train = self.config, self.train_config
        keras.config.set_floatx(config.dtype)
        sizes = config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim
        self.model = seq2seq(*sizes, masked=config.padding == "mask")
        # Keras's own layout is the canonical one.
        encoder, decoder, dense = (self.model.get_layer(name) for name in ("encoder", "decoder", "dense"))
        self.encoder, self.decoder, self.dense = encoder, decoder, dense
        self.parameters = {
            "encoder/kernel": encoder.cell.kernel,
            "encoder/recurrent_kernel": encoder.cell.recurrent_kernel,
            "encoder/bias": encoder.cell.bias,
            "decoder/kernel": decoder.cell.kernel,
            "decoder/recurrent_kernel": decoder.cell.recurrent_kernel,
            "decoder/bias": decoder.cell.bias,
            "dense/kernel": dense.kernel,
            "dense/bias": dense.bias,
        }
        if self.variant:
            self.fast = FastSeq2Seq(encoder, decoder, dense)
        trained = list(self.parameters.values())
        self.optimizer = keras.optimizers.RMSprop(train.learning_rate, rho=train.rho, epsilon=train.epsilon)
        self.optimizer.build(trained)
        self.velocities = dict(zip(self.parameters, self.optimizer.variables[2:], strict=True))
        self._train_step = tf.function(self._train_step, reduce_retracing=True)
        self._counts = tf.function(self._counts, reduce_retracing=True)
        ids, lengths = tf.TensorSpec((None, None), "int32"), tf.TensorSpec((None,), "int32")
        one_hot_rows = tf.TensorSpec((None, None, config.num_encoder_tokens), config.dtype)
        inputs = ids if self.variant == "fast" else one_hot_rows
        self._decode = tf.function(self._decode, input_signature=[inputs, lengths, tf.TensorSpec((), "int32")])
        self._decode_one = tf.function(self._decode_one, jit_compile=True)

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        for name, parameter in self.parameters.items():
            parameter.assign(state.weights[name])
            self.velocities[name].assign(state.mean_squares[name])

    def dump(self) -> ModelState:
        weights, slots = {}, {}
        for name, parameter in self.parameters.items():
            weights[name] = _array(parameter)
            slots[name] = _array(self.velocities[name])
        return ModelState(weights, slots)

    def save_native(self, folder: Path) -> list[str]:
        """The model as the example has it, from one-hot tensors to probabilities, compiled to go on with `fit`."""
        config, train = self.config, self.train_config
        whole = seq2seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim, "softmax")
        model = keras.Model(whole.inputs, whole.outputs[0])
        optimizer = keras.optimizers.RMSprop(train.learning_rate, rho=train.rho, epsilon=train.epsilon)
        model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
        optimizer.build(model.trainable_variables)
        # Both in the order of the layers, encoder, decoder, dense.
        for copy, parameter in zip(model.trainable_variables, self.parameters.values(), strict=True):
            copy.assign(parameter)
        for copy, velocity in zip(optimizer.variables[2:], self.velocities.values(), strict=True):
            copy.assign(velocity)
        model.save(folder / "model.keras")
        return ["model.keras"]

    def load_native(self, paths: Sequence[Path]) -> None:
        self.load(read_keras(paths, self.config))

    def forward(self, batch: Batch) -> Forward:
        encoder_inputs, encoder_lengths, decoder_inputs, *_ = self._tensors(batch)
        logits, state_h, state_c = self._run(encoder_inputs, encoder_lengths, decoder_inputs)
        return Forward(_array(ops.softmax(logits)), _array(state_h), _array(state_c))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        with tf.GradientTape() as tape:
            loss, _ = self._loss(*self._tensors(batch), training=True)
        gradients = tape.gradient(loss, [parameter.value for parameter in self.parameters.values()])
        return float(loss), {name: _array(g) for name, g in zip(self.parameters, gradients, strict=True)}

    def train(self, batches: Batches, report: Report) -> Metrics:
        counts, stamps = [], [perf_counter()]
        for step, batch in enumerate(batches, 1):
            loss, batch_counts = self._train_step(*self._tensors(batch))
            counts.append(batch_counts)
            if step % REPORT_EVERY == 0:
                report(step, float(loss))
            stamps.append(perf_counter())
        return Metrics.of(_array(ops.stack(counts)), batches, [*stamps, perf_counter()])

    def evaluate(self, batches: Batches) -> Metrics:
        counts, stamps = [], [perf_counter()]
        for batch in batches:
            counts.append(self._counts(*self._tensors(batch)))
            stamps.append(perf_counter())
        return Metrics.of(_array(ops.stack(counts)), batches, [*stamps, perf_counter()])

    def translate(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int
    ) -> NDArray[np.integer]:
        lengths = self._ids(encoder_lengths)
        encoder_inputs = self._ids(encoder_ids)
        if self.variant != "fast":
            encoder_inputs = self._one_hot(encoder_inputs, self.config.num_encoder_tokens)
        if self.variant and len(encoder_ids) == 1:
            length, ids = self._decode_one(encoder_inputs, lengths, max_length)
            return _array(ids)[:, : int(length)]
        return _array(self._decode(encoder_inputs, lengths, tf.constant(max_length)))

    def profile(self, batches: Batches) -> Profiled:
        return profile(self, batches)

    def matrix_product(self, m: int, k: int, n: int, seconds: float) -> float:
        return matrix_product(self, m, k, n, seconds)

    def describe(self) -> dict[str, Any]:
        facts = describe(self.dense.kernel)
        facts["settings"] |= {"one_hot_products": self.variant != "fast", "jit_compiled_loops": bool(self.variant)}
        return facts

    def _train_step(self, *tensors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parameters = list(self.parameters.values())
        with tf.GradientTape() as tape:
            loss, counts = self._loss(*tensors, training=True)
        gradients = tape.gradient(loss, [parameter.value for parameter in parameters])
        self.optimizer.apply(gradients, parameters)
        return loss, counts

    def _counts(self, *tensors: tf.Tensor) -> tf.Tensor:
        return self._loss(*tensors)[1]

    def _decode(self, encoder_inputs: tf.Tensor, encoder_lengths: tf.Tensor, max_length: tf.Tensor) -> tf.Tensor:
        """The greedy loop as one graph, without the rows that have ended: ids (N, L)."""
        state_h, state_c = self._encode(encoder_inputs, encoder_lengths)
        stop, num_rows, follow = self.config.stop_token, tf.shape(state_h)[0], self._follow()
        ids = tf.TensorArray("int32", size=0, dynamic_size=True, element_shape=(None,))

        def going_on(length, rows, *_):
            return (length < max_length) & (tf.size(rows) > 0)

        def step(length, rows, sampled, state_h, state_c, ids):
            sampled, state_h, state_c = follow(sampled, state_h, state_c)
            stopped = tf.fill([num_rows], stop)
            ids = ids.write(length, tf.tensor_scatter_nd_update(stopped, rows[:, None], sampled))
            all_rows = rows, sampled, state_h, state_c
            left = tf.where(sampled != stop)[:, 0]
            all_rows = tf.cond(
                tf.size(left) < tf.size(rows), lambda: tuple(tf.gather(of, left) for of in all_rows), lambda: all_rows
            )
            return length + 1, *all_rows, ids

        first = 0, tf.range(num_rows), tf.fill([num_rows], self.config.start_token), state_h, state_c, ids
        *_, ids = tf.while_loop(going_on, step, first)
        return tf.transpose(ids.stack())

    def _decode_one(
        self, encoder_inputs: tf.Tensor, encoder_lengths: tf.Tensor, max_length: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The same for one row in XLA, where shapes are fixed: the length, and ids (1, max_length)."""
        ids, follow = tf.TensorArray("int32", size=max_length, element_shape=(None,)), self._follow()

        def going_on(length, sampled, *_):
            return (length < max_length) & (sampled[0] != self.config.stop_token)

        def step(length, sampled, state_h, state_c, ids):
            sampled, state_h, state_c = follow(sampled, state_h, state_c)
            return length + 1, sampled, state_h, state_c, ids.write(length, sampled)

        state_h, state_c = self._encode(encoder_inputs, encoder_lengths)
        first = 0, tf.fill(tf.shape(state_h)[:1], self.config.start_token), state_h, state_c, ids
        length, *_, ids = tf.while_loop(going_on, step, first)
        return length, tf.transpose(ids.stack())

    def _follow(self) -> Callable[..., tuple[tf.Tensor, ...]]:
        """The decoder's step: from characters (N,) and states (N, H) the characters that follow, and the states."""
        cell = self.decoder.cell
        kernel = cell.kernel + cell.bias  # of which a one-hot row would take a row

        def follow(sampled, state_h, state_c):
            gates = tf.gather(kernel, sampled) + tf.matmul(state_h, cell.recurrent_kernel)
            i, f, g, o = tf.split(gates, 4, axis=1)
            state_c = tf.sigmoid(f) * state_c + tf.sigmoid(i) * tf.tanh(g)
            state_h = tf.sigmoid(o) * tf.tanh(state_c)
            return tf.argmax(self.dense(state_h), axis=-1, output_type="int32"), state_h, state_c

        return follow

    def _encode(self, encoder_inputs: tf.Tensor, encoder_lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoder's states (N, H)."""
        if self.variant:
            return self.fast.encode(encoder_inputs, self._lengths(encoder_lengths))
        masks = self._masks(encoder_inputs, encoder_lengths)
        _, state_h, state_c = self.encoder(encoder_inputs, mask=masks[0] if masks else None)
        return state_h, state_c

    def _run(
        self, encoder_inputs: tf.Tensor, encoder_lengths: tf.Tensor, decoder_inputs: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Logits and the encoder's states."""
        if self.variant:
            return self.fast(encoder_inputs, decoder_inputs, self._lengths(encoder_lengths))
        masks = self._masks(encoder_inputs, encoder_lengths)
        return self.model([encoder_inputs, decoder_inputs, *masks], training=training)

    def _loss(
        self,
        encoder_inputs: tf.Tensor,
        encoder_lengths: tf.Tensor,
        decoder_inputs: tf.Tensor,
        decoder_target_data: tf.Tensor,
        decoder_target_ids: tf.Tensor,
        weights: tf.Tensor,
        loss_positions: tf.Tensor,
        real_positions: tf.Tensor,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss that is trained on, and what Metrics counts: summed loss, right positions, right real ones."""
        logits, _, _ = self._run(encoder_inputs, encoder_lengths, decoder_inputs, training)
        # Written out, since the frameworks' own cross-entropies clip in different places.
        cross_entropy = -ops.sum(decoder_target_data * ops.log_softmax(logits), -1)
        loss_sum = ops.sum(weights * cross_entropy)
        right = ops.cast(ops.argmax(logits, -1) == decoder_target_ids, weights.dtype) * weights
        counts = ops.stack([loss_sum, ops.sum(right), ops.sum(right * real_positions)])
        return loss_sum / loss_positions, counts

    def _tensors(self, batch: Batch) -> tuple[tf.Tensor, ...]:
        """What `_loss` takes; a compiled function is given tensors, not a batch."""
        if self.variant == "fast":
            encoder_inputs, decoder_inputs = self._ids(batch.encoder_ids), self._ids(batch.decoder_input_ids)
        else:
            encoder_inputs = self._tensor(batch.encoder_input_data)
            decoder_inputs = self._tensor(batch.decoder_input_data)
        return (
            encoder_inputs,
            self._ids(batch.encoder_lengths),
            decoder_inputs,
            self._tensor(batch.decoder_target_data),
            self._ids(batch.decoder_target_ids),
            self._tensor(batch.target_weights),
            tf.constant(batch.loss_positions, self.config.dtype),
            self._tensor(batch.real_positions),
        )

    def _tensor(self, array: NDArray[np.floating]) -> tf.Tensor:
        return tf.convert_to_tensor(array)

    def _lengths(self, encoder_lengths: tf.Tensor) -> tf.Tensor | None:
        """For the encoder, where padding is masked."""
        return encoder_lengths if self.config.padding == "mask" else None

    def _masks(self, encoder_input_data: tf.Tensor, encoder_lengths: tf.Tensor) -> list[tf.Tensor]:
        """The same as Keras's layers have it: (N, T_enc), true up to each row's length."""
        lengths = self._lengths(encoder_lengths)
        return [] if lengths is None else [tf.sequence_mask(lengths, tf.shape(encoder_input_data)[1])]

    def _ids(self, ids: NDArray[np.integer]) -> tf.Tensor:
        return tf.convert_to_tensor(ids, "int32")

    def _one_hot(self, ids: tf.Tensor, num_tokens: int) -> tf.Tensor:
        return tf.one_hot(ids, num_tokens, dtype=self.config.dtype)


def _array(tensor: tf.Tensor) -> NDArray[Any]:
    return np.array(tensor)
