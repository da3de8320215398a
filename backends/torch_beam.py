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

    `step` is a step of the decoder: characters and states to logits and the next states, of R = N * beam rows.
    """
    num_rows, place, dtype = len(states[0]), states[0].device, getattr(torch, config.dtype)
    state_h, state_c = (state.repeat_interleave(beam, 0) for state in states)  # (R, H) each
    # All beams of a sentence begin alike, so at first only one of them may count.
    scores = torch.full((num_rows, beam), -math.inf, dtype=dtype, device=place)
    scores[:, 0] = 0.0
    # A beam that has ended goes on with the stop token, which costs it nothing.
    only_stop = torch.full((config.num_decoder_tokens,), -math.inf, dtype=dtype, device=place)
    only_stop[config.stop_token] = 0.0
    first_rows = torch.arange(num_rows, device=place)[:, None] * beam  # (N, 1), of each sentence's first beam
    sampled = torch.full((num_rows * beam,), config.start_token, device=place)  # (R,)
    ended = torch.zeros(num_rows * beam, dtype=torch.bool, device=place)  # (R,)
    ids = sampled.new_zeros(num_rows * beam, 0)  # (R, L)
    while ids.shape[1] < max_length and not ended.all():
        logits, state_h, state_c = step(sampled, state_h, state_c)  # (R, V_dec), (R, H), (R, H)
        log_probabilities = torch.where(ended[:, None], only_stop, F.log_softmax(logits, -1))
        sums = scores.view(-1, 1) + log_probabilities  # (R, V_dec)
        scores, best = sums.view(num_rows, -1).topk(beam)  # (N, beam) each
        rows = (first_rows + best // config.num_decoder_tokens).view(-1)  # (R,), whose continuations are the best
        sampled = (best % config.num_decoder_tokens).view(-1)  # (R,)
        state_h, state_c = state_h[rows], state_c[rows]
        ids = torch.cat([ids[rows], sampled[:, None]], 1)
        ended = ended[rows] | (sampled == config.stop_token)
    return ids.view(num_rows, beam, -1), scores
