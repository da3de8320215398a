"""The model with attention in PyTorch.

The decoder's outputs attend to the encoder's (Luong 2015: global, dot product, unscaled), and the
dense layer reads outputs and contexts together. All else is that of torch_model.py.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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


class Seq2Seq(nn.Module):
    """The encoder's states start the decoder, whose outputs attend to the encoder's;
    the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim):
        super().__init__()
        self.encoder = nn.LSTM(num_encoder_tokens, latent_dim, batch_first=True)
        self.decoder = nn.LSTM(num_decoder_tokens, latent_dim, batch_first=True)
        self.dense = nn.Linear(2 * latent_dim, num_decoder_tokens)
        # Keras's LSTM has one bias. The second one stays zero: with both trained,
        # their sum would step twice as far.
        for lstm in (self.encoder, self.decoder):
            nn.init.zeros_(lstm.bias_hh_l0).requires_grad_(False)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after the last step, or after each row's own length where lengths (N,)
        are given; the outputs (N, T_enc, H), zero behind each length; and their mask (N, T_enc),
        one up to each length."""
        mask = torch.ones_like(encoder_input_data[..., 0])
        if encoder_lengths is None:
            # (N, T_enc, H), (1, N, H) each
            outputs, (state_h, state_c) = self.encoder(encoder_input_data)
        else:
            time_steps = encoder_input_data.shape[1]
            packed = pack_padded_sequence(
                encoder_input_data, encoder_lengths.cpu(), batch_first=True, enforce_sorted=False
            )
            outputs, (state_h, state_c) = self.encoder(packed)
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=time_steps)
            mask = mask * (torch.arange(time_steps, device=mask.device) < encoder_lengths[:, None])
        return state_h[0], state_c[0], outputs, mask

    def decode(self, decoder_input_data, state_h, state_c, encoder_outputs, encoder_mask):
        """Logits (N, T_dec, V_dec) and the next states,
        of which the encoder's outputs and mask stay."""
        outputs, (state_h, state_c) = self.decoder(
            decoder_input_data, (state_h[None], state_c[None])
        )
        attended = encoder_mask[:, None] > 0  # (N, 1, T_enc)
        contexts = F.scaled_dot_product_attention(
            outputs, encoder_outputs, encoder_outputs, attended, scale=1.0
        )
        logits = self.dense(torch.cat([outputs, contexts], -1))
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
