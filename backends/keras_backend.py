"""The model in Keras 3 on TensorFlow.

Its variants are explained in keras_xla.py: `jit` has the LSTMs' loops over time and the decoding of a single sentence
compiled by XLA. `fast` does so, too, and its LSTMs read ids: they look up rows of their kernels, where the others
multiply one-hot rows by the kernels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from backends.evidence.keras import KerasEvidence
from backends.keras_beam import beam_search
from backends.keras_group import join, shared
from backends.keras_xla import XlaSeq2Seq, compiled_decode
from backends.native.keras import read_keras
from backends.native.keras_writer import write_keras
from common.errors import CannotBeginError
from common.interface import Backend, Forward, Metrics, Report, timed_steps, unreported
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState, check_state


class Seq2Seq(keras.Model):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int) -> None:
        # By the name that Keras would give it, a step takes 8 % longer: see name-orders-the-graph in the register.
        super().__init__(name="encoder_decoder")
        self.encoder = layers.LSTM(latent_dim, return_state=True)
        self.decoder = layers.LSTM(latent_dim, return_sequences=True, return_state=True)
        self.dense = layers.Dense(num_decoder_tokens)
        # Otherwise the first batch would make their weights.
        self.encoder.build((None, None, num_encoder_tokens))
        self.decoder.build((None, None, num_decoder_tokens))
        self.dense.build((None, None, latent_dim))

    def encode(self, encoder_input_data: tf.Tensor, encoder_lengths: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """The states (N, H) after the last step, or after each row's own length."""
        mask = None  # or (N, T_enc), true up to each row's length
        if encoder_lengths is not None:
            mask = tf.sequence_mask(encoder_lengths, tf.shape(encoder_input_data)[1])
        _, state_h, state_c = self.encoder(encoder_input_data, mask=mask)
        return state_h, state_c

    def call(
        self, encoder_input_data: tf.Tensor, decoder_input_data: tf.Tensor, encoder_lengths: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        state_h, state_c = self.encode(encoder_input_data, encoder_lengths)  # (N, H) each
        decoder_outputs, _, _ = self.decoder(decoder_input_data, initial_state=[state_h, state_c])  # (N, T_dec, H)
        logits = self.dense(decoder_outputs)  # (N, T_dec, V_dec)
        return logits, state_h, state_c


class BatchTensors(NamedTuple):
    """A batch as a compiled function takes it."""

    encoder_inputs: tf.Tensor  # one-hot rows (N, T_enc, V_enc), or ids (N, T_enc)
    encoder_lengths: tf.Tensor  # (N,)
    decoder_inputs: tf.Tensor  # one-hot rows (N, T_dec, V_dec), or ids (N, T_dec)
    decoder_target_data: tf.Tensor  # (N, T_dec, V_dec)
    decoder_target_ids: tf.Tensor  # (N, T_dec)
    target_weights: tf.Tensor  # (N, T_dec)
    loss_positions: tf.Tensor  # ()
    real_positions: tf.Tensor  # (N, T_dec)


@final
class KerasBackend(Backend):
    def build(self) -> None:
        if self.device == "gpu" and not tf.config.list_physical_devices("GPU"):
            raise CannotBeginError("keras sees no GPU here; use --device cpu")
        config = self.config
        self.group, strategy = join()
        keras.config.set_floatx(config.dtype)
        with strategy.scope():
            self.model = Seq2Seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
        # Keras's own layout is the canonical one.
        encoder, decoder, dense = self.model.encoder, self.model.decoder, self.model.dense
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
        # Made before any graph is traced, since a graph goes on with the variables that it was traced with.
        train, trained = self.train_config, list(self.parameters.values())
        with strategy.scope():
            self.optimizer = keras.optimizers.RMSprop(train.learning_rate, train.rho, epsilon=train.epsilon)
            self.optimizer.build(trained)
        # After the count of steps and the learning rate stand the mean squares, which Keras calls velocities.
        self.mean_squares = dict(zip(self.parameters, self.optimizer.variables[2:], strict=True))
        # Compiled as graphs; `reduce_retracing` has one graph serve batches of any size.
        self._train_step = tf.function(shared(self._train_step, strategy, self.group), reduce_retracing=True)
        self._evaluation_step = tf.function(self._loss, reduce_retracing=True)
        self._beam_search = tf.function(self._beam_search, reduce_retracing=True)
        self.reads_ids = self.variant == "fast"  # the other variants read one-hot rows
        ids, lengths, max_length = (tf.TensorSpec(shape, "int32") for shape in ((None, None), (None,), ()))
        one_hot_rows = tf.TensorSpec((None, None, config.num_encoder_tokens), config.dtype)
        signature = [ids if self.reads_ids else one_hot_rows, lengths, max_length]
        self._decode = tf.function(self._decode, input_signature=signature)
        if self.variant:
            self.model = XlaSeq2Seq(self.model)
            self._decode = compiled_decode(self._encode, self._decoder_step, config, otherwise=self._decode)

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        for name, parameter in self.parameters.items():
            parameter.assign(state.weights[name])
            self.mean_squares[name].assign(state.mean_squares[name])

    def dump(self) -> ModelState:
        weights, mean_squares = {}, {}
        for name, parameter in self.parameters.items():
            weights[name] = _array(parameter)
            mean_squares[name] = _array(self.mean_squares[name])
        return ModelState(weights, mean_squares)

    def save_native(self, folder: Path) -> list[str]:
        write_keras(folder / "model.keras", self.dump(), self.config, self.train_config)
        return ["model.keras"]

    def read_native(self, paths: Sequence[Path], latent_dim: int | None) -> ModelState:
        return read_keras(paths, self.config, latent_dim)

    def forward(self, batch: Batch) -> Forward:
        logits, state_h, state_c = self._run(self._tensors(batch))
        return Forward(_array(ops.softmax(logits)), _array(state_h), _array(state_c))

    def _run(self, batch: BatchTensors) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        return self.model(batch.encoder_inputs, batch.decoder_inputs, self._lengths(batch.encoder_lengths))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        with tf.GradientTape() as tape:
            loss, _ = self._loss(self._tensors(batch))
        gradients = tape.gradient(loss, [parameter.value for parameter in self.parameters.values()])
        return float(loss), {name: _array(g) for name, g in zip(self.parameters, gradients, strict=True)}

    def _loss(self, batch: BatchTensors) -> tuple[tf.Tensor, tf.Tensor]:
        """The batch's loss, and (3,) for Metrics.of: summed loss, correct positions, correct real positions."""
        logits, _, _ = self._run(batch)
        weights = batch.target_weights  # (N, T_dec)
        # Written out, since Keras's own cross-entropy may clip small probabilities, and Paddle's clips far logits.
        log_probabilities = ops.log_softmax(logits)  # (N, T_dec, V_dec)
        cross_entropy = -ops.sum(batch.decoder_target_data * log_probabilities, -1)  # (N, T_dec)
        loss_sum = ops.sum(weights * cross_entropy)
        correct = ops.cast(ops.argmax(logits, -1) == batch.decoder_target_ids, weights.dtype) * weights
        counts = ops.stack([loss_sum, ops.sum(correct), ops.sum(correct * batch.real_positions)])
        return loss_sum / batch.loss_positions, counts

    def train(self, batches: Batches, report: Report) -> Metrics:
        return timed_steps(
            lambda batch: self._train_step(self._tensors(batch)), batches, _stacked, report, self.group
        )

    def _train_step(self, batch: BatchTensors) -> tuple[tf.Tensor, tf.Tensor]:
        parameters = list(self.parameters.values())
        with tf.GradientTape() as tape:
            loss, counts = self._loss(batch)
        gradients = tape.gradient(loss, [parameter.value for parameter in parameters])
        self.optimizer.apply(gradients, parameters)
        return loss, counts

    def evaluate(self, batches: Batches) -> Metrics:
        return timed_steps(
            lambda batch: self._evaluation_step(self._tensors(batch)), batches, _stacked, unreported, self.group
        )

    def translate(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int
    ) -> NDArray[np.integer]:
        return _array(self._decode(*self._encoder_tensors(encoder_ids, encoder_lengths), max_length))

    def beam_search(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int, beam: int
    ) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        tensors = self._encoder_tensors(encoder_ids, encoder_lengths)
        ids, scores = self._beam_search(*tensors, tf.constant(max_length), beam)
        return _array(ids), _array(scores)

    def _beam_search(
        self, encoder_inputs: tf.Tensor, encoder_lengths: tf.Tensor, max_length: tf.Tensor, beam: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        states = self._encode(encoder_inputs, encoder_lengths)
        return beam_search(self._decoder_step(), states, self.config, max_length, beam)

    def _encode(self, encoder_inputs: tf.Tensor, encoder_lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoder's states (N, H)."""
        return self.model.encode(encoder_inputs, self._lengths(encoder_lengths))

    def _decoder_step(self) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """A function from the last characters (N,) and the states (N, H) to logits (N, V_dec) and the next states."""
        cell, dense = self.model.decoder.cell, self.model.dense
        # A one-hot row times the kernel is a row of it, so a step looks rows up. They have the bias added beforehand.
        kernel = cell.kernel + cell.bias  # (V_dec, 4H)

        def step(sampled, state_h, state_c):
            gates = tf.gather(kernel, sampled) + tf.matmul(state_h, cell.recurrent_kernel)  # (N, 4H)
            i, f, g, o = tf.split(gates, 4, axis=1)  # (N, H) each: input, forget, candidate, output
            state_c = tf.sigmoid(f) * state_c + tf.sigmoid(i) * tf.tanh(g)  # (N, H)
            state_h = tf.sigmoid(o) * tf.tanh(state_c)  # (N, H)
            return dense(state_h), state_h, state_c

        return step

    def _decode(self, encoder_inputs: tf.Tensor, encoder_lengths: tf.Tensor, max_length: tf.Tensor) -> tf.Tensor:
        """Greedy decoding as one graph: ids (N, L). A row that has ended is left out of the further steps."""
        state_h, state_c = self._encode(encoder_inputs, encoder_lengths)
        step, stop_token, num_rows = self._decoder_step(), self.config.stop_token, tf.shape(state_h)[0]
        ids = tf.TensorArray("int32", size=0, dynamic_size=True, element_shape=(None,))  # L times (N,)

        def condition(length, rows, *_):
            return (length < max_length) & (tf.size(rows) > 0)

        def body(length, rows, sampled, state_h, state_c, ids):
            logits, state_h, state_c = step(sampled, state_h, state_c)  # (n, V_dec), (n, H), (n, H)
            sampled = tf.argmax(logits, axis=-1, output_type="int32")  # (n,)
            characters = tf.tensor_scatter_nd_update(tf.fill([num_rows], stop_token), rows[:, None], sampled)  # (N,)
            ids = ids.write(length, characters)
            kept, of_rows = tf.where(sampled != stop_token)[:, 0], (rows, sampled, state_h, state_c)
            some_ended = tf.size(kept) < tf.size(rows)
            of_rows = tf.cond(some_ended, lambda: tuple(tf.gather(x, kept) for x in of_rows), lambda: of_rows)
            return length + 1, *of_rows, ids

        rows = tf.range(num_rows)  # those that have not ended, n of N
        sampled = tf.fill([num_rows], self.config.start_token)  # (n,)
        *_, ids = tf.while_loop(condition, body, (0, rows, sampled, state_h, state_c, ids))
        return tf.transpose(ids.stack())

    def evidence(self) -> KerasEvidence:
        own_settings = {"one_hot_products": not self.reads_ids, "jit_compiled_loops": bool(self.variant)}
        return KerasEvidence(self, own_settings)

    def _tensors(self, batch: Batch) -> BatchTensors:
        reads_ids = self.reads_ids
        return BatchTensors(
            self._ids(batch.encoder_ids) if reads_ids else self._tensor(batch.encoder_input_data),
            self._ids(batch.encoder_lengths),
            self._ids(batch.decoder_input_ids) if reads_ids else self._tensor(batch.decoder_input_data),
            self._tensor(batch.decoder_target_data),
            self._ids(batch.decoder_target_ids),
            self._tensor(batch.target_weights),
            tf.constant(batch.loss_positions, self.config.dtype),
            self._tensor(batch.real_positions),
        )

    def _encoder_tensors(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What the encoder reads, ids (N, T_enc) or one-hot rows (N, T_enc, V_enc), and the lengths (N,)."""
        ids, lengths = self._ids(encoder_ids), self._ids(encoder_lengths)
        if self.reads_ids:
            return ids, lengths
        return tf.one_hot(ids, self.config.num_encoder_tokens, dtype=self.config.dtype), lengths

    def _tensor(self, array: NDArray[np.floating]) -> tf.Tensor:
        return tf.convert_to_tensor(array)

    def _ids(self, ids: NDArray[np.integer]) -> tf.Tensor:
        return tf.convert_to_tensor(ids, "int32")

    def _lengths(self, encoder_lengths: tf.Tensor) -> tf.Tensor | None:
        """The lengths if padding is masked; None if padding counts, since the encoder then reads it to its end."""
        return encoder_lengths if self.config.padding == "mask" else None


def _array(tensor: tf.Tensor) -> NDArray[Any]:
    return np.array(tensor)


def _stacked(counts: list[tf.Tensor]) -> NDArray[Any]:
    return _array(ops.stack(counts))
