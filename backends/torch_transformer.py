"""A small Transformer in PyTorch.

It has the shape of Keras's example "English-to-Spanish translation with a sequence-to-sequence
Transformer": one layer on each side, a norm after each residual sum, learned positions. It differs
in four things: there is no dropout; characters are one-hot; heads share the units; keys have no
bias, since softmax cancels it. The loss, the optimizer and the steps are those of torch_model.py.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from backends.torch_model import (  # noqa: F401
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


class Seq2Seq(nn.Module):
    """The decoder attends to what it has read, and to the encoder's outputs;
    the dense layer gives logits."""

    # Usually: nn.Transformer, which keeps no keys and values between steps, and has the weights of
    # queries, keys and values in one tensor, whose parts have no gradient of their own.

    def __init__(
        self, num_encoder_tokens, num_decoder_tokens, latent_dim, num_heads, num_hidden, max_length
    ):
        super().__init__()
        self.register_buffer("slots", torch.arange(max_length), persistent=False)
        self.encoder = Embedding(num_encoder_tokens, max_length, latent_dim)
        self.encoder_attention = Attention(latent_dim, num_heads)
        self.encoder_feed_forward = FeedForward(latent_dim, num_hidden)
        self.decoder = Embedding(num_decoder_tokens, max_length, latent_dim)
        self.decoder_attention = Attention(latent_dim, num_heads)
        self.cross_attention = Attention(latent_dim, num_heads)
        self.decoder_feed_forward = FeedForward(latent_dim, num_hidden)
        self.dense = nn.Linear(latent_dim, num_decoder_tokens)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states before the first character: the encoder's keys and values (N, T_enc, H), and
        which of them are real, a mask (N, T_enc) of ones and zeros; the decoder's keys and values
        (N, L, H), and the position (N,) of the next ones, all zeros."""
        time_steps = torch.arange(encoder_input_data.shape[1], device=self.slots.device)
        mask = torch.ones_like(encoder_input_data[..., 0])
        if encoder_lengths is not None:
            mask = mask * (time_steps < encoder_lengths[:, None])
        # Characters beyond the last position share it.
        places = time_steps.clamp(max=len(self.slots) - 1)[:, None]  # (T_enc, 1)
        placed = (self.slots == places).to(mask.dtype)  # (T_enc, L), one-hot
        embedded = self.encoder(encoder_input_data, placed)  # (N, T_enc, H)
        keys, values = self.encoder_attention.keys_and_values(embedded)
        attended = self.encoder_attention(embedded, keys, values, mask[:, None] > 0)
        keys, values = self.cross_attention.keys_and_values(self.encoder_feed_forward(attended))
        empty = keys.new_zeros(len(keys), len(self.slots), keys.shape[-1])
        return keys, values, mask, empty, empty, empty[:, 0, 0]

    def decode(
        self, decoder_input_data, encoder_keys, encoder_values, encoder_mask, keys, values, position
    ):
        """Logits (N, T_dec, V_dec) and the next states; the encoder's are unchanged."""
        time_steps = decoder_input_data.shape[1]
        steps = torch.arange(time_steps, device=position.device)
        places = (position[:, None] + steps)[..., None]  # (N, T_dec, 1)
        written = (self.slots == places).to(keys.dtype)  # (N, T_dec, L), one-hot
        embedded = self.decoder(decoder_input_data, written)  # (N, T_dec, H)
        new_keys, new_values = self.decoder_attention.keys_and_values(embedded)
        keys = keys + written.mT @ new_keys  # (N, L, H)
        values = values + written.mT @ new_values
        reached = self.slots <= places  # (N, T_dec, L)
        attended = self.decoder_attention(embedded, keys, values, reached)  # (N, T_dec, H)
        real = encoder_mask[:, None] > 0  # (N, 1, T_enc)
        attended = self.cross_attention(attended, encoder_keys, encoder_values, real)
        logits = self.dense(self.decoder_feed_forward(attended))
        position = position + time_steps
        return logits, encoder_keys, encoder_values, encoder_mask, keys, values, position

    def forward(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
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
            "dense/kernel": self.dense.weight,
            "dense/bias": self.dense.bias,
        }


class Embedding(nn.Module):
    """The sum of a vector for each character and one for its position,
    both given as one-hot rows."""

    def __init__(self, num_tokens, max_length, units):
        super().__init__()
        self.characters = nn.Linear(num_tokens, units, bias=False)
        self.positions = nn.Linear(max_length, units, bias=False)

    def forward(self, characters, positions):
        return self.characters(characters) + self.positions(positions)

    def named_weights(self, name):
        return {
            f"{name}/characters/kernel": self.characters.weight,
            f"{name}/positions/kernel": self.positions.weight,
        }


class FeedForward(nn.Module):
    """Two dense layers, with ReLU between them,
    whose result is added to the inputs and normalized."""

    def __init__(self, units, num_hidden):
        super().__init__()
        self.hidden = nn.Linear(units, num_hidden)
        self.projection = nn.Linear(num_hidden, units)
        self.norm = nn.LayerNorm(units, EPSILON)

    def forward(self, inputs):
        return self.norm(inputs + self.projection(F.relu(self.hidden(inputs))))

    def named_weights(self, name):
        return {
            f"{name}/hidden/kernel": self.hidden.weight,
            f"{name}/hidden/bias": self.hidden.bias,
            f"{name}/projection/kernel": self.projection.weight,
            f"{name}/projection/bias": self.projection.bias,
            f"{name}/norm/gamma": self.norm.weight,
            f"{name}/norm/beta": self.norm.bias,
        }


class Attention(nn.Module):
    """Scaled dot-product attention by several heads,
    whose result is added to the inputs and normalized."""

    def __init__(self, units, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(units, units)
        self.key = nn.Linear(units, units, bias=False)
        self.value = nn.Linear(units, units)
        self.projection = nn.Linear(units, units)
        self.norm = nn.LayerNorm(units, EPSILON)

    def keys_and_values(self, attended):
        """The keys and values (N, S, H) of what is attended to."""
        return self.key(attended), self.value(attended)

    def split(self, tensor):
        """Each head's share of a tensor (N, T, H): (N, heads, T, H / heads)."""
        return tensor.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, inputs, keys, values, mask):
        """Attend from inputs (N, T, H) to keys and values (N, S, H) where the mask, bool and
        broadcastable to (N, T, S), is true."""
        heads = map(self.split, (self.query(inputs), keys, values))
        contexts = F.scaled_dot_product_attention(*heads, mask[:, None])  # (N, heads, T, H / heads)
        return self.norm(inputs + self.projection(contexts.transpose(1, 2).flatten(2)))

    def named_weights(self, name):
        return {
            f"{name}/query/kernel": self.query.weight,
            f"{name}/query/bias": self.query.bias,
            f"{name}/key/kernel": self.key.weight,
            f"{name}/value/kernel": self.value.weight,
            f"{name}/value/bias": self.value.bias,
            f"{name}/projection/kernel": self.projection.weight,
            f"{name}/projection/bias": self.projection.bias,
            f"{name}/norm/gamma": self.norm.weight,
            f"{name}/norm/beta": self.norm.bias,
        }
