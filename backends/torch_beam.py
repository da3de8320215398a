"""Beam search in PyTorch, all sentences and their beams at once."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from common.config import ModelConfig


def beam_search(
    step: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    states: tuple[Tensor, Tensor],
    config: ModelConfig,
    max_length: int,
    beam: int,
) -> tuple[Tensor, Tensor]:
    """From the encoder's states (N, H) to ids (N, beam, L) and scores (N, beam), as Backend.beam_search gives them.

    `step` is a step of the decoder, from characters and states to logits and the next states. It is given
    R = N * beam rows: all beams of the first sentence, then those of the second, and so on.
    """
    num_rows, device, dtype = len(states[0]), states[0].device, getattr(torch, config.dtype)
    state_h, state_c = (state.repeat_interleave(beam, 0) for state in states)  # (R, H) each
    # All beams of a sentence begin alike, so in the first step only one of them may be continued.
    scores = torch.full((num_rows, beam), -math.inf, dtype=dtype, device=device)  # (N, beam)
    scores[:, 0] = 0.0
    # A beam that has ended goes on with the stop token, which costs it nothing.
    only_stop = torch.full((config.num_decoder_tokens,), -math.inf, dtype=dtype, device=device)  # (V_dec,)
    only_stop[config.stop_token] = 0.0
    first_rows = torch.arange(num_rows, device=device)[:, None] * beam  # (N, 1), row of a sentence's first beam
    sampled = torch.full((num_rows * beam,), config.start_token, device=device)  # (R,)
    ended = torch.zeros(num_rows * beam, dtype=torch.bool, device=device)  # (R,)
    ids = sampled.new_zeros(num_rows * beam, 0)  # (R, L)
    while ids.shape[1] < max_length and not ended.all():
        logits, state_h, state_c = step(sampled, state_h, state_c)  # (R, V_dec), (R, H), (R, H)
        log_probabilities = torch.where(ended[:, None], only_stop, F.log_softmax(logits, -1))  # (R, V_dec)
        # The score of each continuation. Those of a sentence's beams stand in one row, from which the best are taken.
        sums = scores.view(-1, 1) + log_probabilities  # (R, V_dec)
        scores, best = sums.view(num_rows, -1).topk(beam)  # (N, beam) each
        rows = (first_rows + best // config.num_decoder_tokens).view(-1)  # (R,), the rows that are continued
        sampled = (best % config.num_decoder_tokens).view(-1)  # (R,)
        state_h, state_c = state_h[rows], state_c[rows]  # (R, H) each
        ids = torch.cat([ids[rows], sampled[:, None]], 1)  # (R, L)
        ended = ended[rows] | (sampled == config.stop_token)
    return ids.view(num_rows, beam, -1), scores
