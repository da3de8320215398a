"""A small Transformer in JAX, by Flax NNX.

It has the shape of Keras's example "English-to-Spanish translation with a sequence-to-sequence
Transformer": one layer on each side, a norm after each residual sum, learned positions. It differs
in four things: there is no dropout; characters are one-hot; heads share the units; keys have no
bias, since softmax cancels it. The loss, the optimizer and the steps are those of jax_model.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from backends.jax_model import (  # noqa: F401
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


class Seq2Seq(nnx.Module):
    """The decoder attends to what it has read, and to the encoder's outputs;
    the dense layer gives logits."""

    def __init__(
        self,
        num_encoder_tokens,
        num_decoder_tokens,
        latent_dim,
        num_heads,
        num_hidden,
        max_length,
        *,
        rngs=None,
    ):
        # The precision that `prepare` chose, in place of float32,
        # which Flax's layers have otherwise.
        options = {"param_dtype": jnp.result_type(float), "rngs": rngs or nnx.Rngs(0)}
        self.max_length = max_length
        self.encoder = Embedding(num_encoder_tokens, max_length, latent_dim, **options)
        self.encoder_attention = Attention(latent_dim, num_heads, **options)
        self.encoder_feed_forward = FeedForward(latent_dim, num_hidden, **options)
        self.decoder = Embedding(num_decoder_tokens, max_length, latent_dim, **options)
        self.decoder_attention = Attention(latent_dim, num_heads, **options)
        self.cross_attention = Attention(latent_dim, num_heads, **options)
        self.decoder_feed_forward = FeedForward(latent_dim, num_hidden, **options)
        self.dense = nnx.Linear(latent_dim, num_decoder_tokens, **options)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states before the first character: the encoder's keys and values (N, T_enc, H), and
        which of them are real, a mask (N, T_enc) of ones and zeros; the decoder's keys and values
        (N, L, H), and the position (N,) of the next ones, all zeros."""
        slots, time_steps = jnp.arange(self.max_length), jnp.arange(encoder_input_data.shape[1])
        mask = jnp.ones_like(encoder_input_data[..., 0])
        if encoder_lengths is not None:
            mask = mask * (time_steps < encoder_lengths[:, None])
        # Characters beyond the last position share it.
        places = time_steps.clip(max=self.max_length - 1)[:, None]  # (T_enc, 1)
        placed = (slots == places).astype(mask.dtype)  # (T_enc, L), one-hot
        embedded = self.encoder(encoder_input_data, placed)  # (N, T_enc, H)
        keys, values = self.encoder_attention.keys_and_values(embedded)
        attended = self.encoder_attention(embedded, keys, values, mask[:, None] > 0)
        keys, values = self.cross_attention.keys_and_values(self.encoder_feed_forward(attended))
        empty = jnp.zeros((len(keys), self.max_length, keys.shape[-1]), keys.dtype)
        return keys, values, mask, empty, empty, empty[:, 0, 0]

    def decode(
        self, decoder_input_data, encoder_keys, encoder_values, encoder_mask, keys, values, position
    ):
        """Logits (N, T_dec, V_dec) and the next states; the encoder's are unchanged."""
        slots, time_steps = jnp.arange(self.max_length), decoder_input_data.shape[1]
        places = (position[:, None] + jnp.arange(time_steps))[..., None]  # (N, T_dec, 1)
        written = (slots == places).astype(keys.dtype)  # (N, T_dec, L), one-hot
        embedded = self.decoder(decoder_input_data, written)  # (N, T_dec, H)
        new_keys, new_values = self.decoder_attention.keys_and_values(embedded)
        keys = keys + written.mT @ new_keys  # (N, L, H)
        values = values + written.mT @ new_values
        reached = slots <= places  # (N, T_dec, L)
        attended = self.decoder_attention(embedded, keys, values, reached)  # (N, T_dec, H)
        real = encoder_mask[:, None] > 0  # (N, 1, T_enc)
        attended = self.cross_attention(attended, encoder_keys, encoder_values, real)
        logits = self.dense(self.decoder_feed_forward(attended))
        position = position + time_steps
        return logits, encoder_keys, encoder_values, encoder_mask, keys, values, position

    def __call__(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
        """Logits (N, T_dec, V_dec) and the encoder's states."""
        states = self.encode(encoder_input_data, encoder_lengths)
        logits, *_ = self.decode(decoder_input_data, *states)
        return logits, *states

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        # Called on the classes, since a tree of gradients
        # has the model's attributes and not its methods.
        return {
            **Embedding.named_weights(self.encoder, "encoder"),
            **Attention.named_weights(self.encoder_attention, "encoder/attention"),
            **FeedForward.named_weights(self.encoder_feed_forward, "encoder/feed_forward"),
            **Embedding.named_weights(self.decoder, "decoder"),
            **Attention.named_weights(self.decoder_attention, "decoder/attention"),
            **Attention.named_weights(self.cross_attention, "decoder/cross_attention"),
            **FeedForward.named_weights(self.decoder_feed_forward, "decoder/feed_forward"),
            "dense/kernel": self.dense.kernel,
            "dense/bias": self.dense.bias,
        }


class Embedding(nnx.Module):
    """The sum of a vector for each character and one for its position,
    both given as one-hot rows."""

    def __init__(self, num_tokens, max_length, units, **options):
        self.characters = nnx.Linear(num_tokens, units, use_bias=False, **options)
        self.positions = nnx.Linear(max_length, units, use_bias=False, **options)

    def __call__(self, characters, positions):
        return self.characters(characters) + self.positions(positions)

    def named_weights(self, name):
        return {
            f"{name}/characters/kernel": self.characters.kernel,
            f"{name}/positions/kernel": self.positions.kernel,
        }


class FeedForward(nnx.Module):
    """Two dense layers, with ReLU between them,
    whose result is added to the inputs and normalized."""

    def __init__(self, units, num_hidden, **options):
        self.hidden = nnx.Linear(units, num_hidden, **options)
        self.projection = nnx.Linear(num_hidden, units, **options)
        self.norm = nnx.LayerNorm(units, epsilon=EPSILON, **options)

    def __call__(self, inputs):
        return self.norm(inputs + self.projection(jax.nn.relu(self.hidden(inputs))))

    def named_weights(self, name):
        return {
            f"{name}/hidden/kernel": self.hidden.kernel,
            f"{name}/hidden/bias": self.hidden.bias,
            f"{name}/projection/kernel": self.projection.kernel,
            f"{name}/projection/bias": self.projection.bias,
            f"{name}/norm/gamma": self.norm.scale,
            f"{name}/norm/beta": self.norm.bias,
        }


class Attention(nnx.Module):
    """Scaled dot-product attention by several heads,
    whose result is added to the inputs and normalized."""

    def __init__(self, units, num_heads, **options):
        self.num_heads = num_heads
        self.query = nnx.Linear(units, units, **options)
        self.key = nnx.Linear(units, units, use_bias=False, **options)
        self.value = nnx.Linear(units, units, **options)
        self.projection = nnx.Linear(units, units, **options)
        self.norm = nnx.LayerNorm(units, epsilon=EPSILON, **options)

    def keys_and_values(self, attended):
        """The keys and values (N, S, H) of what is attended to."""
        return self.key(attended), self.value(attended)

    def split(self, tensor):
        """Each head's share of a tensor (N, T, H): (N, heads, T, H / heads)."""
        return tensor.reshape(*tensor.shape[:2], self.num_heads, -1).swapaxes(1, 2)

    def __call__(self, inputs, keys, values, mask):
        """Attend from inputs (N, T, H) to keys and values (N, S, H) where the mask, bool and
        broadcastable to (N, T, S), is true."""
        queries, keys, values = map(self.split, (self.query(inputs), keys, values))
        # Usually: jax.nn.dot_product_attention, which computes in float32 whatever it is given.
        scores = queries @ keys.swapaxes(2, 3) / queries.shape[-1] ** 0.5  # (N, heads, T, S)
        shares = jax.nn.softmax(jnp.where(mask[:, None], scores, -jnp.inf), -1)  # (N, heads, T, S)
        contexts = shares @ values  # (N, heads, T, H / heads)
        return self.norm(inputs + self.projection(contexts.swapaxes(1, 2).reshape(inputs.shape)))

    def named_weights(self, name):
        return {
            f"{name}/query/kernel": self.query.kernel,
            f"{name}/query/bias": self.query.bias,
            f"{name}/key/kernel": self.key.kernel,
            f"{name}/value/kernel": self.value.kernel,
            f"{name}/value/bias": self.value.bias,
            f"{name}/projection/kernel": self.projection.kernel,
            f"{name}/projection/bias": self.projection.bias,
            f"{name}/norm/gamma": self.norm.scale,
            f"{name}/norm/beta": self.norm.bias,
        }
