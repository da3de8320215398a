"""`torch:masked`: where padding is masked, the encoder's states at each row's own length by oneDNN's fused LSTM.

With PyTorch's usual way, `pack_padded_sequence`, torch runs a loop that is half as fast in place of the fused LSTM.
Here padding is one more character of the alphabet. Its weights close the input gate and open the forget gate
completely, so from a sentence's end on its cell state does not change. The output gate is left as it is, so state_h
is the output at the sentence's last character.
"""

from typing import final

import torch
from torch import Tensor, nn

from backends.lesson_backend import TorchBackend
from backends.lessons.torch_lesson import Seq2Seq

HOLD = 1e4  # subtracted from a gate's input, it makes the gate exactly 0; added, exactly 1; no gradient is left


def states_at_lengths(lstm: nn.LSTM, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """From one-hot inputs (N, T, V) and lengths (N,), the states (N, H) after each row's last character."""
    num_rows, num_steps, _ = inputs.shape
    rows, steps = (torch.arange(size, device=inputs.device) for size in (num_rows, num_steps))  # (N,), (T,)
    padding = (steps >= lengths[:, None])[:, :, None].to(inputs.dtype)  # (N, T, 1)
    characters = torch.cat([inputs * (1 - padding), padding], dim=2)  # (N, T, V + 1)
    holding = lstm.weight_ih_l0.new_zeros(4, lstm.hidden_size)  # (4, H), the weights of padding
    holding[0], holding[1] = -HOLD, HOLD  # the input gate and the forget gate
    kernel = torch.cat([lstm.weight_ih_l0, holding.view(-1, 1)], dim=1)  # (4H, V + 1)
    weights = [kernel, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0]
    zeros = inputs.new_zeros(1, num_rows, lstm.hidden_size)  # (1, N, H), the states before the first step
    # True, 1, 0.0, … stand for: with biases, one layer, no dropout, training or not, one direction, batch first.
    outputs, _, state_c = torch.lstm(characters, (zeros, zeros), weights, True, 1, 0.0, lstm.training, False, True)
    return outputs[rows, lengths - 1], state_c[0]  # (N, H) each


class MaskedSeq2Seq(Seq2Seq):
    def encode(self, encoder_input_data: Tensor, encoder_lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if encoder_lengths is None:
            return super().encode(encoder_input_data)
        return states_at_lengths(self.encoder, encoder_input_data, encoder_lengths)


@final
class TorchMasked(TorchBackend):
    def make_model(self, *sizes: int) -> MaskedSeq2Seq:
        return MaskedSeq2Seq(*sizes)
