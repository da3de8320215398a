"""Beam search in PaddlePaddle, all sentences and their beams at once."""

import math
from collections.abc import Callable

import paddle
import paddle.nn.functional as F
from paddle import Tensor

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
    num_rows = len(states[0])
    state_h, state_c = (state.repeat_interleave(beam, 0) for state in states)  # (R, H) each
    # All beams of a sentence begin alike, so in the first step only one of them may be continued.
    scores = paddle.full((num_rows, beam), -math.inf)  # (N, beam)
    scores[:, 0] = 0.0
    # A beam that has ended goes on with the stop token, which costs it nothing.
    only_stop = paddle.full((config.num_decoder_tokens,), -math.inf)  # (V_dec,)
    only_stop[config.stop_token] = 0.0
    first_rows = paddle.arange(num_rows)[:, None] * beam  # (N, 1), row of a sentence's first beam
    sampled = paddle.full((num_rows * beam,), config.start_token, "int64")  # (R,)
    ended = paddle.zeros([num_rows * beam], "bool")  # (R,)
    ids = paddle.zeros([num_rows * beam, 0], "int64")  # (R, L)
    while ids.shape[1] < max_length and not ended.all():
        logits, state_h, state_c = step(sampled, state_h, state_c)  # (R, V_dec), (R, H), (R, H)
        log_probabilities = paddle.where(ended[:, None], only_stop, F.log_softmax(logits, -1))  # (R, V_dec)
        # The score of each continuation. Those of a sentence's beams stand in one row, from which the best are taken.
        sums = scores.reshape([-1, 1]) + log_probabilities  # (R, V_dec)
        scores, best = sums.reshape([num_rows, -1]).topk(beam)  # (N, beam) each
        rows = (first_rows + best // config.num_decoder_tokens).flatten()  # (R,), the rows that are continued
        sampled = (best % config.num_decoder_tokens).flatten()  # (R,)
        state_h, state_c = state_h[rows], state_c[rows]  # (R, H) each
        ids = paddle.concat([ids[rows], sampled[:, None]], 1)  # (R, L)
        ended = ended[rows] | (sampled == config.stop_token)
    return ids.reshape([num_rows, beam, -1]), scores
