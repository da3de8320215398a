"""Greedy decoding and beam search, which ask a backend for the decoder's steps.

Until a search has `ended`, the backend runs the decoder's step from the states at `rows` and the
characters `sampled`, and gives `extend` the logits.
"""

import numpy as np

from common.settings import ModelConfig
from common.tensors import Array, Ids


class GreedySearch:
    """The most probable character after each beginning of a translation, for each of N sentences.

    Ended rows are decoded on, unread. As soon as a quarter of the rows have ended, that many leave.
    So all batches of one size go through the same numbers of rows, and a framework that compiles a
    graph for each number compiles 20 for 512 sentences.
    """

    def __init__(self, num_rows: int, config: ModelConfig, max_length: int) -> None:
        self.stop_token, self.length = config.stop_token, 0
        self.rows: Ids | None = None  # (R,), the rows of the states that go on; None: all of them
        self.sampled = np.full(num_rows, config.start_token)  # (R,), the last character of each row
        self.going = np.ones(num_rows, bool)  # (R,), whether the stop token was not sampled yet
        self.sentences = np.arange(num_rows)  # (R,), the sentence of each row
        self.characters = np.full((num_rows, max_length), config.stop_token)  # (N, max_length)

    @property
    def ended(self) -> bool:
        return self.length == self.characters.shape[1] or not self.going.any()

    @property
    def ids(self) -> Ids:
        """The translations (N, L), filled up with the stop token."""
        return self.characters[:, : self.length]

    def extend(self, logits: Array) -> None:
        """Go on with the most probable characters, given the logits (R, V_dec) of the step."""
        self.sampled = logits.argmax(-1)
        self.characters[self.sentences[self.going], self.length] = self.sampled[self.going]
        self.length += 1
        self.going &= self.sampled != self.stop_token
        self.rows, fewer = None, 3 * len(self.going) // 4
        if np.count_nonzero(self.going) <= fewer:
            # Those that go on come first.
            self.rows = np.argsort(~self.going, kind="stable")[:fewer]
            kept = (array[self.rows] for array in (self.sampled, self.going, self.sentences))
            self.sampled, self.going, self.sentences = kept


class BeamSearch:
    """The `beam` most probable beginnings of a translation
    that were found so far for each of N sentences.

    They stand in R = N * beam rows: all beams of the first sentence,
    then those of the second, and so on.
    """

    def __init__(self, num_rows: int, config: ModelConfig, max_length: int, beam: int) -> None:
        self.stop_token, self.max_length = config.stop_token, max_length
        # (R,), the rows of the states from which each beam goes on
        self.rows = np.arange(num_rows).repeat(beam)
        # (R,), the last character of each beam
        self.sampled = np.full(num_rows * beam, config.start_token)
        self.finished = np.zeros(num_rows * beam, bool)  # (R,), whether the stop token was sampled
        self.characters = np.zeros((num_rows * beam, 0), np.int64)  # (R, L)
        # All beams of a sentence begin alike,
        # so in the first step only one of them may be continued.
        # (N, beam), the log of each beam's probability
        self.scores = np.full((num_rows, beam), -np.inf)
        self.scores[:, 0] = 0.0

    @property
    def ended(self) -> bool:
        return self.characters.shape[1] == self.max_length or bool(self.finished.all())

    @property
    def ids(self) -> Ids:
        """The translations (N, beam, L), the best first, filled up with the stop token."""
        return self.characters.reshape(*self.scores.shape, -1)

    def extend(self, logits: Array) -> None:
        """Go on with the best continuations of each sentence's beams,
        given the logits (R, V_dec) of the step."""
        (num_rows, beam), num_tokens = self.scores.shape, logits.shape[1]
        log_probabilities = log_softmax(logits)  # (R, V_dec)
        # A beam that has finished goes on with the stop token, which costs it nothing.
        log_probabilities[self.finished] = -np.inf
        log_probabilities[self.finished, self.stop_token] = 0.0
        # The score of each continuation. Those of a sentence's beams stand in one row,
        # from which the best are taken.
        # (N, beam * V_dec)
        sums = (self.scores.reshape(-1, 1) + log_probabilities).reshape(num_rows, -1)
        best = np.argpartition(-sums, beam - 1)[:, :beam]  # (N, beam), in any order
        order = np.argsort(-np.take_along_axis(sums, best, axis=1), kind="stable")
        best = np.take_along_axis(best, order, axis=1)  # (N, beam), the best first
        self.scores = np.take_along_axis(sums, best, axis=1)
        # The beams that are continued.
        self.rows = (np.arange(num_rows)[:, None] * beam + best // num_tokens).ravel()
        self.sampled = (best % num_tokens).ravel()
        self.finished = self.finished[self.rows] | (self.sampled == self.stop_token)
        self.characters = np.concatenate(
            [self.characters[self.rows], self.sampled[:, None]], axis=1
        )


def log_softmax(logits: Array) -> Array:
    """The logarithm of softmax over the last axis. The largest logit is subtracted,
    so that nothing overflows."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
