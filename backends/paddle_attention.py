"""The model with attention in PaddlePaddle.

The decoder's outputs attend to the encoder's (Luong 2015: global, dot product, unscaled), and the
dense layer reads outputs and contexts together. All else is that of paddle_model.py.
"""

import paddle
import paddle.nn.functional as F
from paddle import nn

from backends.paddle_model import (  # noqa: F401
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


class Seq2Seq(nn.Layer):
    """The encoder's states start the decoder, whose outputs attend to the encoder's;
    the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim):
        super().__init__()
        # Of the second bias, see paddle_model.py.
        zeros = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.encoder = nn.LSTM(num_encoder_tokens, latent_dim, bias_hh_attr=zeros)
        self.decoder = nn.LSTM(num_decoder_tokens, latent_dim, bias_hh_attr=zeros)
        self.dense = nn.Linear(2 * latent_dim, num_decoder_tokens)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after the last step, or after each row's own length where lengths (N,)
        are given; the outputs (N, T_enc, H), zero behind each length; and their mask (N, T_enc),
        one up to each length."""
        outputs, (state_h, state_c) = self.encoder(
            encoder_input_data, sequence_length=encoder_lengths
        )
        mask = paddle.ones_like(encoder_input_data[..., 0])
        if encoder_lengths is not None:
            mask = F.sequence_mask(
                encoder_lengths, encoder_input_data.shape[1], dtype=outputs.dtype
            )
        return state_h[0], state_c[0], outputs * mask[..., None], mask

    def decode(self, decoder_input_data, state_h, state_c, encoder_outputs, encoder_mask):
        """Logits (N, T_dec, V_dec) and the next states,
        of which the encoder's outputs and mask stay."""
        outputs, (state_h, state_c) = self.decoder(
            decoder_input_data, (state_h[None], state_c[None])
        )
        # It takes heads in the third axis, here one, and a mask for each head.
        heads = outputs[:, :, None], encoder_outputs[:, :, None], encoder_outputs[:, :, None]
        contexts = F.scaled_dot_product_attention(
            *heads, encoder_mask[:, None, None] > 0, scale=1.0
        )[:, :, 0]
        logits = self.dense(paddle.concat([outputs, contexts], -1))
        return logits, state_h[0], state_c[0], encoder_outputs, encoder_mask

    def forward(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
        """Logits (N, T_dec, V_dec) and the encoder's states."""
        states = self.encode(encoder_input_data, encoder_lengths)
        logits, *_ = self.decode(decoder_input_data, *states)
        return logits, *states

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        return {
            "encoder/kernel": self.encoder.weight_ih_l0,
            "encoder/recurrent_kernel": self.encoder.weight_hh_l0,
            "encoder/bias": self.encoder.bias_ih_l0,
            "decoder/kernel": self.decoder.weight_ih_l0,
            "decoder/recurrent_kernel": self.decoder.weight_hh_l0,
            "decoder/bias": self.decoder.bias_ih_l0,
            "dense/kernel": self.dense.weight,
            "dense/bias": self.dense.bias,
        }
