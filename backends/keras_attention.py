"""The model with attention in Keras 3 on TensorFlow.

The decoder's outputs attend to the encoder's (Luong 2015: global, dot product, unscaled), and the
dense layer reads outputs and contexts together. All else is that of keras_model.py.
"""

import keras
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


class Seq2Seq(keras.Model):
    """The encoder's states start the decoder, whose outputs attend to the encoder's;
    the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim):
        super().__init__(name="encoder_decoder")
        self.encoder = layers.LSTM(latent_dim, return_sequences=True, return_state=True)
        self.decoder = layers.LSTM(latent_dim, return_sequences=True, return_state=True)
        self.attention = layers.Attention()
        self.dense = layers.Dense(num_decoder_tokens)
        # Otherwise the first batch would make their weights.
        self.encoder.build((None, None, num_encoder_tokens))
        self.decoder.build((None, None, num_decoder_tokens))
        self.dense.build((None, None, 2 * latent_dim))
        self.built = True  # else Keras neither saves nor loads the weights

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after the last step, or after each row's own length where lengths (N,)
        are given; the outputs (N, T_enc, H), zero behind each length; and their mask (N, T_enc),
        one up to each length."""
        # (N, T_enc), true up to each row's length
        mask = tf.ones_like(encoder_input_data[..., 0], bool)
        if encoder_lengths is not None:
            mask = tf.sequence_mask(encoder_lengths, tf.shape(encoder_input_data)[1])
        # (N, T_enc, H), (N, H) each
        outputs, state_h, state_c = self.encoder(encoder_input_data, mask=mask)
        mask = ops.cast(mask, outputs.dtype)
        return state_h, state_c, outputs * mask[..., None], mask

    def decode(self, decoder_input_data, state_h, state_c, encoder_outputs, encoder_mask):
        """Logits (N, T_dec, V_dec) and the next states,
        of which the encoder's outputs and mask stay."""
        outputs, state_h, state_c = self.decoder(
            decoder_input_data, initial_state=[state_h, state_c]
        )
        # (N, T_dec, H)
        contexts = self.attention([outputs, encoder_outputs], mask=[None, encoder_mask > 0])
        logits = self.dense(ops.concatenate([outputs, contexts], -1))
        return logits, state_h, state_c, encoder_outputs, encoder_mask

    def call(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
        """Logits (N, T_dec, V_dec) and the encoder's states."""
        states = self.encode(encoder_input_data, encoder_lengths)
        logits, *_ = self.decode(decoder_input_data, *states)
        return logits, *states

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        return {
            "encoder/kernel": self.encoder.cell.kernel,
            "encoder/recurrent_kernel": self.encoder.cell.recurrent_kernel,
            "encoder/bias": self.encoder.cell.bias,
            "decoder/kernel": self.decoder.cell.kernel,
            "decoder/recurrent_kernel": self.decoder.cell.recurrent_kernel,
            "decoder/bias": self.decoder.cell.bias,
            "dense/kernel": self.dense.kernel,
            "dense/bias": self.dense.bias,
        }
