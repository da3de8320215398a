"""The states of an `nn.LSTM` at each row's own length, computed by oneDNN's fused LSTM.

PyTorch's usual way, `pack_padded_sequence`, leaves the fused LSTM for a loop that is half as fast. Here padding is
one more character of the alphabet, whose kernel row closes the input gate and opens the forget gate for good: from a
sentence's end on, its cell state stays what it is.
"""

import torch
from torch import Tensor, nn

HOLD = 1e4  # added to a gate's input, it makes the gate 0 or 1 to the last bit, with a gradient of zero


def states_at_lengths(lstm: nn.LSTM, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """From one-hot inputs (N, T, V) and lengths (N,), the states (1, N, H) after each row's last character."""
    num_rows, num_steps, _ = inputs.shape
    rows, steps = (torch.arange(size, device=inputs.device) for size in (num_rows, num_steps))
    padding = (steps >= lengths[:, None])[:, :, None].to(inputs.dtype)  # (N, T, 1)
    characters = torch.cat([inputs * (1 - padding), padding], dim=2)  # (N, T, V + 1)
    holding = lstm.weight_ih_l0.new_zeros(4, lstm.hidden_size)
    holding[0], holding[1] = -HOLD, HOLD  # the input gate and the forget gate
    kernel = torch.cat([lstm.weight_ih_l0, holding.view(-1, 1)], dim=1)  # (4H, V + 1)
    weights = [kernel, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0]
    zeros = inputs.new_zeros(1, num_rows, lstm.hidden_size)
    outputs, _, state_c = torch.lstm(
        characters, (zeros, zeros), weights, True, 1, 0.0, lstm.training, False, True
    )  # with biases, one layer, no dropout, one direction, batch first
    return outputs[rows, lengths - 1][None], state_c
