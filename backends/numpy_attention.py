"""The model with attention in NumPy, with its backward pass written by hand.

The decoder's outputs attend to the encoder's (Luong 2015: global, dot product, unscaled), and the
dense layer reads outputs and contexts together. All else is that of numpy_model.py.
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


class Seq2Seq(numpy_model.Seq2Seq):
    """The encoder's states start the decoder, whose outputs attend to the encoder's;
    the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim):
        super().__init__(num_encoder_tokens, num_decoder_tokens, latent_dim)
        shape = 2 * latent_dim, num_decoder_tokens  # outputs and contexts
        limit = (6 / sum(shape)) ** 0.5  # Glorot's
        kernel = np.random.default_rng(1).uniform(-limit, limit, shape)
        self.weights["dense/kernel"] = kernel.astype(numpy_model.precision)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after each row's length, or after the last step where lengths (N,) are
        not given; the outputs (N, T_enc, H), zero behind each length; and which of them are real, a
        mask (N, T_enc) of ones and zeros."""
        state_h, state_c = super().encode(encoder_input_data, encoder_lengths)
        mask = self.encoder.running[..., 0].T.astype(state_h.dtype)
        return state_h, state_c, self.encoder.outputs * mask[..., None], mask

    def decode(self, decoder_input_data, state_h, state_c, encoder_outputs, encoder_mask):
        """Logits (N, T_dec, V_dec) and the next states,
        of which the encoder's outputs and mask stay."""
        self.decoder = self.lstm("decoder", decoder_input_data, (state_h, state_c))
        self.attention = Attention(self.decoder.outputs, encoder_outputs, encoder_mask)
        logits = self.dense(np.concatenate([self.decoder.outputs, self.attention.contexts], -1))
        return logits, self.decoder.state_h, self.decoder.state_c, encoder_outputs, encoder_mask

    def backward(self, d_logits):
        """The gradient of each weight by its name, for the batch of the last call.

        They are computed from the loss's derivatives by the logits (N, T_dec, V_dec).
        """
        # (N, T_dec, 2H)
        attended = np.concatenate([self.decoder.outputs, self.attention.contexts], -1)
        # (N, T_dec, H) each
        d_outputs, d_contexts = np.split(d_logits @ self.weights["dense/kernel"].T, 2, -1)
        d_queries, d_encoder_outputs = self.attention.backward(d_contexts)
        d_decoder, d_state_h, d_state_c = self.decoder.backward(d_outputs + d_queries, None, None)
        d_encoder, _, _ = self.encoder.backward(d_encoder_outputs, d_state_h, d_state_c)
        by_name = {f"encoder/{kind}": gradient for kind, gradient in d_encoder.items()}
        by_name |= {f"decoder/{kind}": gradient for kind, gradient in d_decoder.items()}
        by_name["dense/kernel"] = np.tensordot(attended, d_logits, axes=([0, 1], [0, 1]))
        by_name["dense/bias"] = d_logits.sum((0, 1))
        return by_name


class Attention:
    """Dot-product attention that keeps what its backward pass needs.

    It takes queries (N, T_dec, H), values (N, T_enc, H), which are the keys, too, and a mask
    (N, T_enc), zero on values that are not attended to. It then has contexts (N, T_dec, H).
    """

    def __init__(self, queries, values, mask):
        self.queries, self.values = queries, values
        # (N, T_dec, T_enc)
        scores = np.where(mask[:, None] > 0, queries @ values.swapaxes(1, 2), -np.inf)
        # (N, T_dec, T_enc), zero where the mask is
        self.weights = np.exp(numpy_model.log_softmax(scores))
        self.contexts = self.weights @ values

    def backward(self, d_contexts):
        """The derivatives of the loss by the queries and by the values,
        from those by the contexts."""
        d_weights = d_contexts @ self.values.swapaxes(1, 2)
        d_scores = self.weights * (d_weights - (self.weights * d_weights).sum(-1, keepdims=True))
        d_values = self.weights.swapaxes(1, 2) @ d_contexts + d_scores.swapaxes(1, 2) @ self.queries
        return d_scores @ self.values, d_values
