"""Beam search in NumPy, all sentences and their beams at once."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from common.config import ModelConfig

Array = NDArray[np.floating]
Ids = NDArray[np.integer]


def beam_search(
    step: Callable[[Ids, Array, Array], tuple[Array, Array, Array]],
    states: tuple[Array, Array],
    config: ModelConfig,
    max_length: int,
    beam: int,
) -> tuple[Ids, Array]:
    """From the encoder's states (N, H) to ids (N, beam, L) and scores (N, beam), as Backend.beam_search gives them.

    `step` is a step of the decoder, from characters and states to log-probabilities and the next states. It is given
    R = N * beam rows: all beams of the first sentence, then those of the second, and so on.
    """
    num_rows = len(states[0])
    state_h, state_c = (state.repeat(beam, axis=0) for state in states)  # (R, H) each
    # All beams of a sentence begin alike, so in the first step only one of them may be continued.
    scores = np.full((num_rows, beam), -np.inf, state_h.dtype)  # (N, beam)
    scores[:, 0] = 0.0
    # A beam that has ended goes on with the stop token, which costs it nothing.
    only_stop = np.full(config.num_decoder_tokens, -np.inf, state_h.dtype)  # (V_dec,)
    only_stop[config.stop_token] = 0.0
    first_rows = np.arange(num_rows)[:, None] * beam  # (N, 1), row of a sentence's first beam
    sampled = np.full(num_rows * beam, config.start_token)  # (R,)
    ended = np.zeros(num_rows * beam, bool)  # (R,)
    ids = np.zeros((num_rows * beam, 0), np.int64)  # (R, L)
    while ids.shape[1] < max_length and not ended.all():
        log_probabilities, state_h, state_c = step(sampled, state_h, state_c)  # (R, V_dec), (R, H), (R, H)
        # The score of each continuation. Those of a sentence's beams stand in one row, from which the best are taken.
        sums = scores.reshape(-1, 1) + np.where(ended[:, None], only_stop, log_probabilities)  # (R, V_dec)
        sums = sums.reshape(num_rows, -1)  # (N, beam * V_dec)
        best = np.argsort(-sums, axis=1, kind="stable")[:, :beam]  # (N, beam)
        scores = np.take_along_axis(sums, best, axis=1)  # (N, beam)
        rows = (first_rows + best // config.num_decoder_tokens).ravel()  # (R,), the rows that are continued
        sampled = (best % config.num_decoder_tokens).ravel()  # (R,)
        state_h, state_c = state_h[rows], state_c[rows]  # (R, H) each
        ids = np.concatenate([ids[rows], sampled[:, None]], axis=1)  # (R, L)
        ended = ended[rows] | (sampled == config.stop_token)
    return ids.reshape(num_rows, beam, -1), scores
