"""The model with attention in JAX, by Flax NNX.

The decoder's outputs attend to the encoder's (Luong 2015: global, dot product, unscaled), and the
dense layer reads outputs and contexts together. All else is that of jax_model.py.
"""

import jax
import jax.numpy as jnp
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


class Seq2Seq(nnx.Module):
    """The encoder's states start the decoder, whose outputs attend to the encoder's;
    the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim, *, rngs=None):
        options = {"param_dtype": jnp.result_type(float), "rngs": rngs or nnx.Rngs(0)}
        self.encoder = nnx.RNN(
            nnx.OptimizedLSTMCell(num_encoder_tokens, latent_dim, **options), return_carry=True
        )
        self.decoder = nnx.RNN(
            nnx.OptimizedLSTMCell(num_decoder_tokens, latent_dim, **options), return_carry=True
        )
        self.dense = nnx.Linear(2 * latent_dim, num_decoder_tokens, **options)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after the last step, or after each row's own length where lengths (N,)
        are given; the outputs (N, T_enc, H), zero behind each length; and their mask (N, T_enc),
        one up to each length."""
        (state_c, state_h), outputs = self.encoder(encoder_input_data, seq_lengths=encoder_lengths)
        mask = jnp.ones(outputs.shape[:2], outputs.dtype)
        if encoder_lengths is not None:
            mask = mask * (jnp.arange(outputs.shape[1]) < encoder_lengths[:, None])
        return state_h, state_c, outputs * mask[..., None], mask

    def decode(self, decoder_input_data, state_h, state_c, encoder_outputs, encoder_mask):
        """Logits (N, T_dec, V_dec) and the next states,
        of which the encoder's outputs and mask stay."""
        (state_c, state_h), outputs = self.decoder(
            decoder_input_data, initial_carry=(state_c, state_h)
        )
        # Usually: jax.nn.dot_product_attention, which computes in float32 whatever it is given.
        scores = outputs @ encoder_outputs.swapaxes(1, 2)  # (N, T_dec, T_enc)
        shares = jax.nn.softmax(jnp.where(encoder_mask[:, None] > 0, scores, -jnp.inf), -1)
        contexts = shares @ encoder_outputs
        logits = self.dense(jnp.concatenate([outputs, contexts], -1))
        return logits, state_h, state_c, encoder_outputs, encoder_mask

    def __call__(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
        """Logits (N, T_dec, V_dec) and the encoder's states."""
        states = self.encode(encoder_input_data, encoder_lengths)
        logits, *_ = self.decode(decoder_input_data, *states)
        return logits, *states

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        return {
            "encoder/kernel": self.encoder.cell.dense_i.kernel,
            "encoder/recurrent_kernel": self.encoder.cell.dense_h.kernel,
            "encoder/bias": self.encoder.cell.dense_h.bias,
            "decoder/kernel": self.decoder.cell.dense_i.kernel,
            "decoder/recurrent_kernel": self.decoder.cell.dense_h.kernel,
            "decoder/bias": self.decoder.cell.dense_h.bias,
            "dense/kernel": self.dense.kernel,
            "dense/bias": self.dense.bias,
        }
