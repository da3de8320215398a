"""A small Transformer in Keras 3 on TensorFlow.

It has the shape of Keras's example "English-to-Spanish translation with a sequence-to-sequence
Transformer": one layer on each side, a norm after each residual sum, learned positions. It differs
in four things: there is no dropout; characters are one-hot; heads share the units; keys have no
bias, since softmax cancels it. The loss, the optimizer and the steps are those of keras_model.py.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from backends.keras_model import (  # noqa: F401
    Batch,
    RMSprop,
    assign,
    evaluate_step,
    forward,
    gradients,
    has_gpu,
    layout,
    loss_of,
    prepare,
    start,
    step,
    take,
    to_array,
    to_tensor,
    train_step,
)

EPSILON = float(np.float32(1e-3))  # Keras's of a norm, rounded as Paddle rounds it


class Seq2Seq(keras.Model):
    """The decoder attends to what it has read, and to the encoder's outputs;
    the dense layer gives logits."""

    def __init__(
        self, num_encoder_tokens, num_decoder_tokens, latent_dim, num_heads, num_hidden, max_length
    ):
        super().__init__(name="encoder_decoder")
        self.max_length = max_length
        self.encoder = Embedding(num_encoder_tokens, max_length, latent_dim)
        self.encoder_attention = Attention(latent_dim, num_heads)
        self.encoder_feed_forward = FeedForward(latent_dim, num_hidden)
        self.decoder = Embedding(num_decoder_tokens, max_length, latent_dim)
        self.decoder_attention = Attention(latent_dim, num_heads)
        self.cross_attention = Attention(latent_dim, num_heads)
        self.decoder_feed_forward = FeedForward(latent_dim, num_hidden)
        self.dense = built(layers.Dense(num_decoder_tokens), latent_dim)
        self.built = True  # else Keras neither saves nor loads the weights

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states before the first character: the encoder's keys and values (N, T_enc, H), and
        which of them are real, a mask (N, T_enc) of ones and zeros; the decoder's keys and values
        (N, L, H), and the position (N,) of the next ones, all zeros."""
        slots, time_steps = tf.range(self.max_length), tf.range(tf.shape(encoder_input_data)[1])
        mask = tf.ones_like(encoder_input_data[..., 0])
        if encoder_lengths is not None:
            mask = mask * ops.cast(
                time_steps < ops.cast(encoder_lengths[:, None], "int32"), mask.dtype
            )
        # Characters beyond the last position share it.
        places = ops.minimum(time_steps, self.max_length - 1)[:, None]  # (T_enc, 1)
        placed = ops.cast(slots == places, mask.dtype)  # (T_enc, L), one-hot
        embedded = self.encoder(encoder_input_data, placed)  # (N, T_enc, H)
        keys, values = self.encoder_attention.keys_and_values(embedded)
        attended = self.encoder_attention(embedded, keys, values, mask[:, None] > 0)
        keys, values = self.cross_attention.keys_and_values(self.encoder_feed_forward(attended))
        empty = tf.zeros((tf.shape(keys)[0], self.max_length, keys.shape[-1]), keys.dtype)
        return keys, values, mask, empty, empty, empty[:, 0, 0]

    def decode(
        self, decoder_input_data, encoder_keys, encoder_values, encoder_mask, keys, values, position
    ):
        """Logits (N, T_dec, V_dec) and the next states; the encoder's are unchanged."""
        slots = tf.range(self.max_length, dtype=position.dtype)
        time_steps = ops.cast(tf.shape(decoder_input_data)[1], position.dtype)
        places = (position[:, None] + tf.range(time_steps))[..., None]  # (N, T_dec, 1)
        written = ops.cast(slots == places, keys.dtype)  # (N, T_dec, L), one-hot
        embedded = self.decoder(decoder_input_data, written)  # (N, T_dec, H)
        new_keys, new_values = self.decoder_attention.keys_and_values(embedded)
        keys = keys + tf.matmul(written, new_keys, transpose_a=True)  # (N, L, H)
        values = values + tf.matmul(written, new_values, transpose_a=True)
        reached = slots <= places  # (N, T_dec, L)
        attended = self.decoder_attention(embedded, keys, values, reached)  # (N, T_dec, H)
        real = encoder_mask[:, None] > 0  # (N, 1, T_enc)
        attended = self.cross_attention(attended, encoder_keys, encoder_values, real)
        logits = self.dense(self.decoder_feed_forward(attended))
        position = position + time_steps
        return logits, encoder_keys, encoder_values, encoder_mask, keys, values, position

    def call(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
        """Logits (N, T_dec, V_dec) and the encoder's states."""
        states = self.encode(encoder_input_data, encoder_lengths)
        logits, *_ = self.decode(decoder_input_data, *states)
        return logits, *states

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        return {
            **self.encoder.named_weights("encoder"),
            **self.encoder_attention.named_weights("encoder/attention"),
            **self.encoder_feed_forward.named_weights("encoder/feed_forward"),
            **self.decoder.named_weights("decoder"),
            **self.decoder_attention.named_weights("decoder/attention"),
            **self.cross_attention.named_weights("decoder/cross_attention"),
            **self.decoder_feed_forward.named_weights("decoder/feed_forward"),
            "dense/kernel": self.dense.kernel,
            "dense/bias": self.dense.bias,
        }


class Embedding(layers.Layer):
    """The sum of a vector for each character and one for its position,
    both given as one-hot rows."""

    def __init__(self, num_tokens, max_length, units):
        super().__init__()
        self.characters = built(layers.Dense(units, use_bias=False), num_tokens)
        self.positions = built(layers.Dense(units, use_bias=False), max_length)

    def call(self, characters, positions):
        return self.characters(characters) + self.positions(positions)

    def named_weights(self, name):
        return {
            f"{name}/characters/kernel": self.characters.kernel,
            f"{name}/positions/kernel": self.positions.kernel,
        }


class FeedForward(layers.Layer):
    """Two dense layers, with ReLU between them,
    whose result is added to the inputs and normalized."""

    def __init__(self, units, num_hidden):
        super().__init__()
        self.hidden = built(layers.Dense(num_hidden), units)
        self.projection = built(layers.Dense(units), num_hidden)
        self.norm = built(layers.LayerNormalization(epsilon=EPSILON), units)

    def call(self, inputs):
        return self.norm(inputs + self.projection(ops.relu(self.hidden(inputs))))

    def named_weights(self, name):
        return {
            f"{name}/hidden/kernel": self.hidden.kernel,
            f"{name}/hidden/bias": self.hidden.bias,
            f"{name}/projection/kernel": self.projection.kernel,
            f"{name}/projection/bias": self.projection.bias,
            f"{name}/norm/gamma": self.norm.gamma,
            f"{name}/norm/beta": self.norm.beta,
        }


class Attention(layers.Layer):
    """Scaled dot-product attention by several heads,
    whose result is added to the inputs and normalized."""

    # Usually: layers.MultiHeadAttention, which rounds its scale to float32 in float64, too, and
    # keeps no keys.

    def __init__(self, units, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.query = built(layers.Dense(units), units)
        self.key = built(layers.Dense(units, use_bias=False), units)
        self.value = built(layers.Dense(units), units)
        self.projection = built(layers.Dense(units), units)
        self.norm = built(layers.LayerNormalization(epsilon=EPSILON), units)

    def keys_and_values(self, attended):
        """The keys and values (N, S, H) of what is attended to."""
        return self.key(attended), self.value(attended)

    def split(self, tensor):
        """Each head's share of a tensor (N, T, H): (N, heads, T, H / heads)."""
        num_rows, time_steps, units = ops.shape(tensor)
        shape = (num_rows, time_steps, self.num_heads, units // self.num_heads)
        return ops.swapaxes(ops.reshape(tensor, shape), 1, 2)

    def call(self, inputs, keys, values, mask):
        """Attend from inputs (N, T, H) to keys and values (N, S, H) where the mask, bool and
        broadcastable to (N, T, S), is true."""
        queries, keys, values = map(self.split, (self.query(inputs), keys, values))
        scores = queries @ ops.swapaxes(keys, 2, 3) / queries.shape[-1] ** 0.5  # (N, heads, T, S)
        shares = ops.softmax(ops.where(mask[:, None], scores, -np.inf), -1)  # (N, heads, T, S)
        contexts = shares @ values  # (N, heads, T, H / heads)
        joined = ops.reshape(ops.swapaxes(contexts, 1, 2), ops.shape(inputs))
        return self.norm(inputs + self.projection(joined))

    def named_weights(self, name):
        return {
            f"{name}/query/kernel": self.query.kernel,
            f"{name}/query/bias": self.query.bias,
            f"{name}/key/kernel": self.key.kernel,
            f"{name}/value/kernel": self.value.kernel,
            f"{name}/value/bias": self.value.bias,
            f"{name}/projection/kernel": self.projection.kernel,
            f"{name}/projection/bias": self.projection.bias,
            f"{name}/norm/gamma": self.norm.gamma,
            f"{name}/norm/beta": self.norm.beta,
        }


def built(layer, num_inputs):
    """The layer, with the weights that the first batch would make otherwise."""
    layer.build((None, None, num_inputs))
    return layer
