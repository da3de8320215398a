"""A small Transformer in NumPy, with its backward pass written by hand.

It has the shape of Keras's example "English-to-Spanish translation with a sequence-to-sequence
Transformer": one layer on each side, a norm after each residual sum, learned positions. It differs
in four things: there is no dropout; characters are one-hot; heads share the units; keys have no
bias, since softmax cancels it. The loss, the optimizer and the steps are those of numpy_model.py.
"""

import numpy as np

from backends import numpy_model
from backends.numpy_model import (  # noqa: F401
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


class Seq2Seq:
    """The decoder attends to what it has read, and to the encoder's outputs;
    the dense layer gives logits."""

    def __init__(
        self, num_encoder_tokens, num_decoder_tokens, latent_dim, num_heads, num_hidden, max_length
    ):
        self.slots, self.layers = np.arange(max_length), {}  # layers by name
        self.encoder = Embedding(self.layers, "encoder", num_encoder_tokens, max_length, latent_dim)
        self.encoder_attention = Attention(self.layers, "encoder/attention", latent_dim, num_heads)
        self.encoder_feed_forward = FeedForward(
            self.layers, "encoder/feed_forward", latent_dim, num_hidden
        )
        self.decoder = Embedding(self.layers, "decoder", num_decoder_tokens, max_length, latent_dim)
        self.decoder_attention = Attention(self.layers, "decoder/attention", latent_dim, num_heads)
        self.cross_attention = Attention(
            self.layers, "decoder/cross_attention", latent_dim, num_heads
        )
        self.decoder_feed_forward = FeedForward(
            self.layers, "decoder/feed_forward", latent_dim, num_hidden
        )
        self.dense = self.layers["dense"] = Dense(latent_dim, num_decoder_tokens)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states before the first character: the encoder's keys and values (N, T_enc, H), and
        which of them are real, a mask (N, T_enc) of ones and zeros; the decoder's keys and values
        (N, L, H), and the position (N,) of the next ones, all zeros."""
        num_rows, time_steps, _ = encoder_input_data.shape
        lengths = np.full(num_rows, time_steps) if encoder_lengths is None else encoder_lengths
        mask = (np.arange(time_steps) < lengths[:, None]).astype(encoder_input_data.dtype)
        # Characters beyond the last position share it.
        places = np.minimum(np.arange(time_steps), self.slots[-1])[:, None]  # (T_enc, 1)
        placed = (self.slots == places).astype(mask.dtype)  # (T_enc, L), one-hot
        embedded = self.encoder(encoder_input_data, placed)  # (N, T_enc, H)
        keys, values = self.encoder_attention.keys_and_values(embedded)
        attended = self.encoder_attention(embedded, keys, values, mask[:, None] > 0)
        keys, values = self.cross_attention.keys_and_values(self.encoder_feed_forward(attended))
        empty = np.zeros((num_rows, len(self.slots), keys.shape[-1]), keys.dtype)
        return keys, values, mask, empty, empty, empty[:, 0, 0]

    def decode(
        self, decoder_input_data, encoder_keys, encoder_values, encoder_mask, keys, values, position
    ):
        """Logits (N, T_dec, V_dec) and the next states; the encoder's are unchanged."""
        time_steps = decoder_input_data.shape[1]
        places = (position[:, None] + np.arange(time_steps))[..., None]  # (N, T_dec, 1)
        self.written = (self.slots == places).astype(keys.dtype)  # (N, T_dec, L), one-hot
        embedded = self.decoder(decoder_input_data, self.written)  # (N, T_dec, H)
        new_keys, new_values = self.decoder_attention.keys_and_values(embedded)
        keys = keys + self.written.swapaxes(1, 2) @ new_keys  # (N, L, H)
        values = values + self.written.swapaxes(1, 2) @ new_values
        reached = self.slots <= places  # (N, T_dec, L)
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

    def backward(self, d_logits):
        """The gradient of each weight by its name, for the batch of the last call.

        They are computed from the loss's derivatives by the logits (N, T_dec, V_dec).
        """
        d_attended = self.decoder_feed_forward.backward(self.dense.backward(d_logits))
        d_attended, d_encoder_keys, d_encoder_values = self.cross_attention.backward(d_attended)
        d_embedded, d_keys, d_values = self.decoder_attention.backward(d_attended)
        d_new = self.written @ d_keys, self.written @ d_values  # (N, T_dec, H) each
        self.decoder.backward(d_embedded + self.decoder_attention.keys_and_values_backward(*d_new))
        d_outputs = self.cross_attention.keys_and_values_backward(d_encoder_keys, d_encoder_values)
        d_embedded, *d_new = self.encoder_attention.backward(
            self.encoder_feed_forward.backward(d_outputs)
        )
        self.encoder.backward(d_embedded + self.encoder_attention.keys_and_values_backward(*d_new))
        return {
            f"{name}/{kind}": layer.gradients[kind]
            for name, layer in self.layers.items()
            for kind in layer.weights
        }

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        return {
            f"{name}/{kind}": weight
            for name, layer in self.layers.items()
            for kind, weight in layer.weights.items()
        }


class Dense:
    """A product with a kernel, and a bias. Like all layers it keeps what its backward pass needs,
    and its weights' gradients. The pass takes the derivatives of the loss by the outputs and
    returns those by the inputs."""

    def __init__(self, num_inputs, num_outputs, bias=True):
        limit = (6 / (num_inputs + num_outputs)) ** 0.5  # Glorot's
        kernel = np.random.default_rng(0).uniform(-limit, limit, (num_inputs, num_outputs))
        self.weights = {"kernel": kernel.astype(numpy_model.precision)}
        if bias:
            self.weights["bias"] = np.zeros(num_outputs, numpy_model.precision)

    def __call__(self, inputs):
        self.inputs = inputs
        return inputs @ self.weights["kernel"] + self.weights.get("bias", 0)

    def backward(self, d_outputs):
        kernel = np.tensordot(self.inputs, d_outputs, axes=([0, 1], [0, 1]))
        self.gradients = {"kernel": kernel, "bias": d_outputs.sum((0, 1))}
        return d_outputs @ self.weights["kernel"].T


class Norm:
    """Layer normalization."""

    def __init__(self, units):
        self.weights = {
            "gamma": np.ones(units, numpy_model.precision),
            "beta": np.zeros(units, numpy_model.precision),
        }

    def __call__(self, inputs):
        centered = inputs - inputs.mean(-1, keepdims=True)
        self.deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + EPSILON)
        self.normalized = centered / self.deviation
        return self.normalized * self.weights["gamma"] + self.weights["beta"]

    def backward(self, d_outputs):
        self.gradients = {
            "gamma": (d_outputs * self.normalized).sum((0, 1)),
            "beta": d_outputs.sum((0, 1)),
        }
        d_normalized = d_outputs * self.weights["gamma"]
        along = (d_normalized * self.normalized).mean(-1, keepdims=True)
        across = d_normalized.mean(-1, keepdims=True)
        return (d_normalized - across - self.normalized * along) / self.deviation


class Embedding:
    """The sum of a vector for each character and one for its position,
    both given as one-hot rows."""

    def __init__(self, layers, name, num_tokens, max_length, units):
        self.characters = layers[f"{name}/characters"] = Dense(num_tokens, units, bias=False)
        self.positions = layers[f"{name}/positions"] = Dense(max_length, units, bias=False)

    def __call__(self, characters, positions):
        positions = np.broadcast_to(positions, (*characters.shape[:2], positions.shape[-1]))
        return self.characters(characters) + self.positions(positions.astype(characters.dtype))

    def backward(self, d_outputs):
        self.characters.backward(d_outputs)
        self.positions.backward(d_outputs)


class FeedForward:
    """Two dense layers, with ReLU between them,
    whose result is added to the inputs and normalized."""

    def __init__(self, layers, name, units, num_hidden):
        self.hidden = layers[f"{name}/hidden"] = Dense(units, num_hidden)
        self.projection = layers[f"{name}/projection"] = Dense(num_hidden, units)
        self.norm = layers[f"{name}/norm"] = Norm(units)

    def __call__(self, inputs):
        return self.norm(inputs + self.projection(np.maximum(self.hidden(inputs), 0)))

    def backward(self, d_outputs):
        d_sums = self.norm.backward(d_outputs)
        d_hidden = self.projection.backward(d_sums) * (self.projection.inputs > 0)
        return d_sums + self.hidden.backward(d_hidden)


class Attention:
    """Scaled dot-product attention by several heads,
    whose result is added to the inputs and normalized."""

    def __init__(self, layers, name, units, num_heads):
        self.num_heads = num_heads
        self.query = layers[f"{name}/query"] = Dense(units, units)
        self.key = layers[f"{name}/key"] = Dense(units, units, bias=False)
        self.value = layers[f"{name}/value"] = Dense(units, units)
        self.projection = layers[f"{name}/projection"] = Dense(units, units)
        self.norm = layers[f"{name}/norm"] = Norm(units)

    def keys_and_values(self, attended):
        """The keys and values (N, S, H) of what is attended to."""
        return self.key(attended), self.value(attended)

    def keys_and_values_backward(self, d_keys, d_values):
        return self.key.backward(d_keys) + self.value.backward(d_values)

    def split(self, tensor):
        """Each head's share of a tensor (N, T, H): (N, heads, T, H / heads)."""
        return tensor.reshape(*tensor.shape[:2], self.num_heads, -1).swapaxes(1, 2)

    def join(self, heads):
        """The tensor (N, T, H) of the heads' shares (N, heads, T, H / heads)."""
        return heads.swapaxes(1, 2).reshape(len(heads), heads.shape[2], -1)

    def __call__(self, inputs, keys, values, mask):
        """Attend from inputs (N, T, H) to keys and values (N, S, H) where the mask, bool and
        broadcastable to (N, T, S), is true."""
        self.queries, self.keys, self.values = map(self.split, (self.query(inputs), keys, values))
        # (N, heads, T, S)
        scores = self.queries @ self.keys.swapaxes(2, 3) / self.queries.shape[-1] ** 0.5
        scores = np.where(mask[:, None], scores, -np.inf)
        self.shares = np.exp(numpy_model.log_softmax(scores))  # zero where the mask is false
        return self.norm(inputs + self.projection(self.join(self.shares @ self.values)))

    def backward(self, d_outputs):
        """The derivatives by the inputs, the keys and the values."""
        d_sums = self.norm.backward(d_outputs)
        d_contexts = self.split(self.projection.backward(d_sums))
        d_shares = d_contexts @ self.values.swapaxes(2, 3)
        d_scores = self.shares * (d_shares - (self.shares * d_shares).sum(-1, keepdims=True))
        d_scores /= self.queries.shape[-1] ** 0.5
        d_inputs = d_sums + self.query.backward(self.join(d_scores @ self.keys))
        d_keys = self.join(d_scores.swapaxes(2, 3) @ self.queries)
        return d_inputs, d_keys, self.join(self.shares.swapaxes(2, 3) @ d_contexts)
