"""The model in Keras 3 on TensorFlow."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from tensorflow import Tensor

from common.interface import Backend, BeamSearch, Forward, Metrics, Report, timed_steps
from common.tensors import Array, Batch, Batches, BatchTensors, Ids
from common.weights import Arrays, ModelState, check_state

# Of a graph that takes encoder_ids (N, T_enc), encoder_lengths (N,) and max_length, and serves batches of any size.
SOURCES = [tf.TensorSpec((None, None), "int32"), tf.TensorSpec((None,), "int32")]
SOURCES_AND_LENGTH = [*SOURCES, tf.TensorSpec((), "int32")]


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

    def encode(self, encoder_input_data: Tensor, encoder_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The states (N, H) after the last step, or after each row's own length."""
        mask = None  # or (N, T_enc), true up to each row's length
        if encoder_lengths is not None:
            mask = tf.sequence_mask(encoder_lengths, tf.shape(encoder_input_data)[1])
        _, state_h, state_c = self.encoder(encoder_input_data, mask=mask)  # (N, H) each
        return state_h, state_c

    def call(
        self, encoder_input_data: Tensor, decoder_input_data: Tensor, encoder_lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        state_h, state_c = self.encode(encoder_input_data, encoder_lengths)  # (N, H) each
        decoder_outputs, _, _ = self.decoder(decoder_input_data, initial_state=[state_h, state_c])  # (N, T_dec, H)
        logits = self.dense(decoder_outputs)  # (N, T_dec, V_dec)
        return logits, state_h, state_c


class KerasBackend(Backend):
    framework = "keras"
    profiled_by = "backends.profiling.keras:KerasProfiling"
    writer = "backends.native.keras:write_keras"
    reader = "backends.native.keras:read_keras"

    def sees_gpu(self) -> bool:
        return bool(tf.config.list_physical_devices("GPU"))

    def build(self) -> None:
        config = self.config
        keras.config.set_floatx(config.dtype)
        self.model = Seq2Seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
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
        train = self.train_config
        trained = list(self.parameters.values())
        self.optimizer = keras.optimizers.RMSprop(train.learning_rate, train.rho, epsilon=train.epsilon)
        self.optimizer.build(trained)
        # After the count of steps and the learning rate stand the mean squares, which Keras calls velocities.
        self.slots = dict(zip(self.parameters, self.optimizer.variables[2:], strict=True))

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        for name, parameter in self.parameters.items():
            parameter.assign(state.weights[name])
            self.slots[name].assign(state.mean_squares[name])

    def dump(self) -> ModelState:
        weights = {name: layout(name, self._array(parameter)) for name, parameter in self.parameters.items()}
        mean_squares = {name: layout(name, self._array(slot)) for name, slot in self.slots.items()}
        return ModelState(weights, mean_squares)

    def forward(self, batch: Batch) -> Forward:
        logits, state_h, state_c = self._run(self._tensors(batch))
        return Forward(self._array(ops.softmax(logits, -1)), self._array(state_h), self._array(state_c))

    def _run(self, batch: BatchTensors) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        lengths = self._lengths(batch.encoder_lengths)
        return self.model(batch.encoder_input_data, batch.decoder_input_data, lengths)

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        loss, _, gradients = self._gradients(self._tensors(batch))
        named = zip(self.parameters, gradients, strict=True)
        return float(loss), {name: layout(name, self._array(gradient)) for name, gradient in named}

    def _gradients(self, batch: BatchTensors) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What `_loss` gives, and the loss's gradients by the parameters."""
        with tf.GradientTape() as tape:
            loss, counts = self._loss(batch)
        return loss, counts, tape.gradient(loss, [parameter.value for parameter in self.parameters.values()])

    def _loss(self, batch: BatchTensors) -> tuple[Tensor, Tensor]:
        """The batch's loss, and (3,) for Metrics.of: summed loss, correct positions, correct real positions."""
        logits, _, _ = self._run(batch)
        # Written out, since Keras's own cross-entropy may clip small probabilities, and Paddle's clips far logits.
        log_probabilities = ops.log_softmax(logits, -1)  # (N, T_dec, V_dec)
        cross_entropy = -ops.sum(batch.decoder_target_data * log_probabilities, -1)  # (N, T_dec)
        loss_sum = ops.sum(batch.target_weights * cross_entropy)
        right = ops.argmax(logits, -1) == batch.decoder_target_ids  # (N, T_dec)
        correct = ops.cast(right, self.config.dtype) * batch.target_weights  # (N, T_dec)
        counts = ops.stack([loss_sum, ops.sum(correct), ops.sum(correct * batch.real_positions)])
        return loss_sum / batch.loss_positions, counts

    def train(self, batches: Batches, report: Report) -> Metrics:
        return timed_steps(lambda batch: self._train_step(self._tensors(batch)), batches, self._stacked, report)

    @tf.function(reduce_retracing=True)  # compiled as a graph, of which one serves batches of any size
    def _train_step(self, batch: BatchTensors) -> tuple[Tensor, Tensor]:
        loss, counts, gradients = self._gradients(batch)
        self.optimizer.apply(gradients, list(self.parameters.values()))
        return loss, counts

    def evaluate(self, batches: Batches) -> Metrics:
        return timed_steps(lambda batch: self._evaluate_step(self._tensors(batch)), batches, self._stacked)

    @tf.function(reduce_retracing=True)
    def _evaluate_step(self, batch: BatchTensors) -> tuple[Tensor, Tensor]:
        return self._loss(batch)

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        return self._array(self._translate(self._ids(encoder_ids), self._ids(encoder_lengths), max_length))

    @tf.function(input_signature=SOURCES_AND_LENGTH)
    def _translate(self, encoder_ids: Tensor, encoder_lengths: Tensor, max_length: Tensor) -> Tensor:
        """What `translate` does, as one graph."""
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        return self._decode(state_h, state_c, max_length)

    def beam_search(self, encoder_ids: Ids, encoder_lengths: Ids, search: BeamSearch) -> None:
        state_h, state_c = self._encode(self._ids(encoder_ids), self._ids(encoder_lengths))
        while not search.ended:
            rows, sampled = self._ids(search.rows), self._ids(search.sampled)  # (R,) each
            logits, state_h, state_c = self._step(rows, sampled, state_h, state_c)  # (R, V_dec), (R, H), (R, H)
            search.extend(self._array(logits))

    @tf.function(reduce_retracing=True)
    def _step(self, rows: Tensor, sampled: Tensor, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._decoder_step()(sampled, tf.gather(state_h, rows), tf.gather(state_c, rows))

    @tf.function(input_signature=SOURCES)
    def _encode(self, encoder_ids: Tensor, encoder_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's states (N, H)."""
        encoder_input_data = tf.one_hot(encoder_ids, self.config.num_encoder_tokens, dtype=self.config.dtype)
        return self.model.encode(encoder_input_data, self._lengths(encoder_lengths))

    def _decoder_step(self) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """A function from the last characters (N,) and the states (N, H) to logits (N, V_dec) and the next states."""
        dense, (kernel, recurrent_kernel) = self.model.dense, self._kernels()

        def step(sampled: Tensor, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            gates = tf.gather(kernel, sampled) + tf.matmul(state_h, recurrent_kernel)  # (N, 4H)
            i, f, g, o = tf.split(gates, 4, axis=1)  # (N, H) each: input, forget, candidate, output
            state_c = tf.sigmoid(f) * state_c + tf.sigmoid(i) * tf.tanh(g)  # (N, H)
            state_h = tf.sigmoid(o) * tf.tanh(state_c)  # (N, H)
            return dense(state_h), state_h, state_c

        return step

    def _kernels(self) -> tuple[Tensor, Tensor]:
        """The decoder's kernel (V_dec, 4H), with the bias added to its rows, and its recurrent kernel (H, 4H).

        The product of a one-hot row and the kernel is a row of the kernel, so decoding looks rows up.
        """
        cell = self.model.decoder.cell
        return cell.kernel + cell.bias, tf.convert_to_tensor(cell.recurrent_kernel)

    def _decode(self, state_h: Tensor, state_c: Tensor, max_length: Tensor) -> Tensor:
        """Greedy decoding from states (N, H): ids (N, L). A row that has ended is left out of the further steps."""
        step, num_rows, stop_token = self._decoder_step(), tf.shape(state_h)[0], self.config.stop_token
        ids, length = tf.TensorArray("int32", size=0, dynamic_size=True, element_shape=(None,)), 0  # L times (N,)
        rows = tf.range(num_rows)  # those that have not ended, n of N
        sampled = tf.fill([num_rows], self.config.start_token)  # (n,)
        while length < max_length and tf.size(rows) > 0:
            logits, state_h, state_c = step(sampled, state_h, state_c)  # (n, V_dec), (n, H), (n, H)
            sampled = tf.argmax(logits, -1, output_type="int32")  # (n,)
            characters = tf.tensor_scatter_nd_update(tf.fill([num_rows], stop_token), rows[:, None], sampled)  # (N,)
            ids = ids.write(length, characters)
            length += 1
            kept = tf.where(sampled != stop_token)[:, 0]
            if tf.size(kept) < tf.size(rows):
                rows, sampled = tf.gather(rows, kept), tf.gather(sampled, kept)
                state_h, state_c = tf.gather(state_h, kept), tf.gather(state_c, kept)
        return tf.transpose(ids.stack())

    def _tensors(self, batch: Batch) -> BatchTensors:
        return batch.tensors(self._tensor, self._ids)

    def _tensor(self, array: Array) -> Tensor:
        return tf.convert_to_tensor(array)

    def _ids(self, ids: Ids) -> Tensor:
        return tf.convert_to_tensor(ids.astype(np.int32))

    def _array(self, tensor: Tensor) -> Array:
        return np.array(tensor)

    def _stacked(self, counts: list[Tensor]) -> Array:
        return self._array(ops.stack(counts))


def layout(name: str, array: Array) -> Array:
    """A weight in Keras's layout, which is the canonical one."""
    return array
