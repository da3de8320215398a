"""`keras:jit` and `keras:fast`: the LSTMs' loop over time compiled by XLA, and its gradient written by hand.

On a CPU the gradient of Keras's own loop adds up the gradients of the kernels inside the loop, with a product for
each time step. Here a backward step holds one product and a few multiplications, and each kernel's gradient is one
product over all steps. Given ids in place of one-hot rows, it looks up rows of the kernel: the same mathematics.
"""

from collections.abc import Callable, Mapping
from typing import final

import keras
import tensorflow as tf
from keras import layers
from tensorflow import Tensor

from backends.interface import HAND_WRITTEN
from backends.lesson_backend import KerasBackend
from common.tensors import Ids

# Encoder lengths (N,) of a batch of any size.
LENGTHS = tf.TensorSpec((None,), "int64")


class KerasJit(KerasBackend):
    """Training by compiled loops; and decoding as one graph, with a cell that looks rows of the kernel up."""

    own_settings: Mapping[str, bool] = {"one_hot_products": True, "jit_compiled_loops": True}
    decoder = HAND_WRITTEN

    def make_model(self, *sizes: int) -> "XlaSeq2Seq":
        return XlaSeq2Seq(super().make_model(*sizes))

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        sources = self._tensor(encoder_ids), self._tensor(encoder_lengths)
        if len(encoder_ids) > 1:
            return self.lesson.to_array(self._translate(*sources, max_length))
        length, ids = self._translate_one(*sources, max_length)
        return self.lesson.to_array(ids)[:, : int(length)]  # a slice of a tensor takes a tenth of the whole decoding

    def _encode(self, encoder_ids: Tensor, encoder_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's states (N, H)."""
        encoder_input_data = tf.one_hot(encoder_ids, self.config.num_encoder_tokens, dtype=self.config.dtype)
        return self.model.encode(encoder_input_data, self._lengths(encoder_lengths))

    @tf.function(input_signature=[tf.TensorSpec((None, None), "int64"), LENGTHS, tf.TensorSpec((), "int32")])
    def _translate(self, encoder_ids: Tensor, encoder_lengths: Tensor, max_length: Tensor) -> Tensor:
        """Ids (N, L). A row that has ended is left out of the further steps."""
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        step, num_rows, stop_token = self.model.cell(), tf.shape(state_h)[0], self.config.stop_token
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

    @tf.function(jit_compile=True)
    def _translate_one(self, encoder_ids: Tensor, encoder_lengths: Tensor, max_length: int) -> tuple[Tensor, Tensor]:
        """The number of decoded characters, and ids (1, max_length), whose shape XLA must know beforehand."""
        config, step = self.config, self.model.cell()
        ids = tf.TensorArray("int32", size=max_length, element_shape=(None,))

        def condition(length, sampled, *_):
            return (length < max_length) & (sampled[0] != config.stop_token)

        def body(length, sampled, state_h, state_c, ids):
            logits, state_h, state_c = step(sampled, state_h, state_c)  # (1, V_dec), (1, H), (1, H)
            sampled = tf.argmax(logits, axis=-1, output_type="int32")  # (1,)
            return length + 1, sampled, state_h, state_c, ids.write(length, sampled)

        state_h, state_c = self._encode(encoder_ids, encoder_lengths)  # (1, H) each
        first = 0, tf.fill(tf.shape(state_h)[:1], config.start_token), state_h, state_c, ids
        length, *_, ids = tf.while_loop(condition, body, first)
        return length, tf.transpose(ids.stack())


@final
class KerasFast(KerasJit):
    """Reads ids where the others read one-hot rows."""

    own_settings: Mapping[str, bool] = {"one_hot_products": False, "jit_compiled_loops": True}
    read_as: Mapping[str, str] = {"encoder_input_data": "encoder_ids", "decoder_input_data": "decoder_input_ids"}

    def _encode(self, encoder_ids: Tensor, encoder_lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.encode(encoder_ids, self._lengths(encoder_lengths))


class XlaSeq2Seq:
    """Computes what the lesson's Seq2Seq does, with its weights, from ids (N, T) or one-hot rows (N, T, V)."""

    def __init__(self, model: keras.Model) -> None:
        self.encoder, self.decoder, self.dense = model.encoder, model.decoder, model.dense

    def encode(self, encoder_inputs: Tensor, encoder_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The states (N, H) after the last step, or after each row's own length."""
        zeros = tf.zeros((tf.shape(encoder_inputs)[0], self.encoder.units), self.encoder.compute_dtype)
        _, state_h, state_c = run(self.encoder, encoder_inputs, zeros, zeros, encoder_lengths)
        return state_h, state_c

    def decode(self, decoder_inputs: Tensor, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the next states (N, H)."""
        outputs, state_h, state_c = run(self.decoder, decoder_inputs, state_h, state_c, None)  # (T_dec, N, H)
        return tf.transpose(self.dense(outputs), (1, 0, 2)), state_h, state_c

    def __call__(
        self, encoder_inputs: Tensor, decoder_inputs: Tensor, encoder_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        state_h, state_c = self.encode(encoder_inputs, encoder_lengths)  # (N, H) each
        logits, _, _ = self.decode(decoder_inputs, state_h, state_c)
        return logits, state_h, state_c

    def cell(self) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        """A function from the last characters (N,) and the states (N, H) to logits (N, V_dec) and the next states.

        The product of a one-hot row and the kernel is a row of the kernel, so it looks rows up.
        """
        kernel = self.decoder.cell.kernel + self.decoder.cell.bias  # (V_dec, 4H)
        recurrent_kernel = tf.convert_to_tensor(self.decoder.cell.recurrent_kernel)  # (H, 4H)

        def step(sampled: Tensor, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            gates = tf.gather(kernel, sampled) + tf.matmul(state_h, recurrent_kernel)  # (N, 4H)
            i, f, g, o = tf.split(gates, 4, axis=1)  # (N, H) each: input, forget, candidate, output
            state_c = tf.sigmoid(f) * state_c + tf.sigmoid(i) * tf.tanh(g)  # (N, H)
            state_h = tf.sigmoid(o) * tf.tanh(state_c)  # (N, H)
            return self.dense(state_h), state_h, state_c

        return step


def run(
    lstm: layers.LSTM, inputs: Tensor, state_h: Tensor, state_c: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a layer from the given states: outputs (T, N, H), and the states (N, H) after each row's own length."""
    cell, num_steps = lstm.cell, tf.shape(inputs)[1]
    kernel, recurrent_kernel, bias = map(tf.convert_to_tensor, (cell.kernel, cell.recurrent_kernel, cell.bias))
    # one_hot @ kernel selects a row, so the bias is added to the rows beforehand.
    rows = kernel + bias  # (V, 4H)
    if len(inputs.shape) == 2:
        gates = rows_of(rows, tf.transpose(inputs))  # (T, N, 4H)
    else:
        gates = tf.tensordot(tf.transpose(inputs, (1, 0, 2)), rows, 1)
    # Shaped as the states, not as the inputs: a graph that was traced for one row and several widths knows the number
    # of the states' rows, and the loop needs that of all its variables.
    lengths = tf.fill(tf.shape(state_h)[:1], num_steps) if lengths is None else tf.cast(lengths, tf.int32)
    return recurrence(gates, recurrent_kernel, state_h, state_c, lengths)


@tf.custom_gradient
def rows_of(kernel: Tensor, ids: Tensor):
    """kernel[ids] with a dense gradient. With a sparse one the optimizer would leave out the other rows."""

    def gradient(rows_grad: Tensor) -> tuple[Tensor, None]:
        return tf.math.unsorted_segment_sum(rows_grad, ids, tf.shape(kernel)[0]), None

    return tf.gather(kernel, ids), gradient


@tf.custom_gradient
def recurrence(gates: Tensor, recurrent_kernel: Tensor, state_h: Tensor, state_c: Tensor, lengths: Tensor):
    """An LSTM's loop over time, given what the inputs add to the gates.

    gates (T, N, 4H), recurrent_kernel (H, 4H), states (N, H), lengths (N,): outputs (T, N, H), states at the lengths.
    """
    # Without stop_gradient the tape would watch forward_loop, which would then be compiled with all that a gradient
    # of its own would need.
    arguments = map(tf.stop_gradient, (gates, recurrent_kernel, state_h, state_c))
    gates, outputs, cells, *last = forward_loop(*arguments, lengths)

    def gradient(outputs_grad: Tensor, *last_grads: Tensor) -> tuple[Tensor | None, ...]:
        outputs_before = tf.concat([state_h[None], outputs[:-1]], axis=0)
        cells_before = tf.concat([state_c[None], cells[:-1]], axis=0)
        gates_grad, *state_grads = backward_loop(
            gates, cells_before, cells, recurrent_kernel, lengths, outputs_grad, *last_grads
        )
        all_outputs, all_grads = (tf.reshape(steps, (-1, steps.shape[-1])) for steps in (outputs_before, gates_grad))
        return gates_grad, tf.matmul(all_outputs, all_grads, transpose_a=True), *state_grads, None

    return (outputs, *last), gradient


@tf.function(jit_compile=True, reduce_retracing=True)
def forward_loop(
    inputs: Tensor, recurrent_kernel: Tensor, state_h: Tensor, state_c: Tensor, lengths: Tensor
) -> tuple[Tensor, ...]:
    """The gates after activation, the output and the cell state of every step, and the states at the lengths."""
    num_steps = tf.shape(inputs)[0]
    steps = [
        tf.TensorArray(inputs.dtype, num_steps, element_shape=like.shape[-2:]) for like in (inputs, state_h, state_c)
    ]

    def step(t, state_h, state_c, last_h, last_c, all_gates, outputs, cells):
        i, f, g, o = tf.split(inputs[t] + tf.matmul(state_h, recurrent_kernel), 4, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        state_c = f * state_c + i * g
        state_h = o * tf.tanh(state_c)
        ends = (t == lengths - 1)[:, None]
        last_h, last_c = tf.where(ends, state_h, last_h), tf.where(ends, state_c, last_c)
        gates = tf.concat([i, f, g, o], axis=1)
        steps = all_gates.write(t, gates), outputs.write(t, state_h), cells.write(t, state_c)
        return t + 1, state_h, state_c, last_h, last_c, *steps

    first = 0, state_h, state_c, state_h, state_c, *steps
    _, _, _, last_h, last_c, *steps = tf.while_loop(lambda t, *_: t < num_steps, step, first)
    return *(array.stack() for array in steps), last_h, last_c


@tf.function(jit_compile=True, reduce_retracing=True)
def backward_loop(
    gates: Tensor,
    cells_before: Tensor,
    cells: Tensor,
    recurrent_kernel: Tensor,
    lengths: Tensor,
    outputs_grad: Tensor,
    last_h_grad: Tensor,
    last_c_grad: Tensor,
) -> tuple[Tensor, ...]:
    """The gradients of every step's gates before activation (T, N, 4H), and of the two initial states (N, H).

    The gates (T, N, 4H) that it takes are those after activation.
    """
    num_steps, zeros = tf.shape(gates)[0], tf.zeros_like(last_h_grad)
    transposed = tf.transpose(recurrent_kernel)  # once, since a product that transposes takes a fifth longer
    all_gates_grad = tf.TensorArray(gates.dtype, num_steps, element_shape=gates.shape[1:])

    def step(t, state_h_grad, state_c_grad, all_gates_grad):
        i, f, g, o = tf.split(gates[t], 4, axis=1)
        tanh_c = tf.tanh(cells[t])
        ends = (t == lengths - 1)[:, None]
        state_h_grad += outputs_grad[t] + tf.where(ends, last_h_grad, zeros)
        state_c_grad += state_h_grad * o * (1 - tanh_c * tanh_c) + tf.where(ends, last_c_grad, zeros)
        i_grad, f_grad = state_c_grad * g * i * (1 - i), state_c_grad * cells_before[t] * f * (1 - f)
        g_grad, o_grad = state_c_grad * i * (1 - g * g), state_h_grad * tanh_c * o * (1 - o)
        gates_grad = tf.concat([i_grad, f_grad, g_grad, o_grad], axis=1)
        previous_h_grad = tf.matmul(gates_grad, transposed)
        return t - 1, previous_h_grad, state_c_grad * f, all_gates_grad.write(t, gates_grad)

    first = num_steps - 1, zeros, zeros, all_gates_grad
    _, state_h_grad, state_c_grad, all_gates_grad = tf.while_loop(lambda t, *_: t >= 0, step, first)
    return all_gates_grad.stack(), state_h_grad, state_c_grad
