"""Beam search: the same as an exhaustive search where one is possible. tests/test_backends.py has all backends."""

from itertools import product
from typing import Any

import numpy as np

from backends.lesson_backend import NumpyBackend
from backends.process import in_child
from common.config import ModelConfig, TrainConfig
from common.tensors import Batch
from common.weights import ModelState, initial_state

TINY = ModelConfig(5, 4, start_token=0, stop_token=1, latent_dim=8, dtype="float64")
MAX_LENGTH = 4  # of a translation that an exhaustive search finds


def sharpened(state: ModelState) -> ModelState:
    """Weights that prefer some characters clearly, so that no two translations are nearly as probable."""
    return ModelState({name: 6 * weight for name, weight in state.weights.items()}, state.mean_squares)


def ignored(**event: Any) -> None:
    pass


def test_a_beam_that_holds_everything_finds_what_an_exhaustive_search_finds() -> None:
    """The search is one for all backends; this is the referee's, which needs no process."""
    backend, stop = NumpyBackend(TINY, TrainConfig()), TINY.stop_token
    backend.load(sharpened(initial_state(TINY, seed=5)))
    ids, lengths = np.random.default_rng(3).integers(0, 5, (3, 6)), np.array([6, 4, 5])
    every = np.array(list(product(range(TINY.num_decoder_tokens), repeat=MAX_LENGTH)))
    ended = np.logical_or.accumulate(every == stop, axis=1)
    texts = np.unique(np.where(ended, stop, every), axis=0)  # (T, L), filled up after the stop token
    counted = np.arange(MAX_LENGTH) <= np.sum(texts != stop, axis=1)[:, None]  # up to the stop token
    sources = {"encoder_ids": ids, "encoder_lengths": lengths, "max_length": MAX_LENGTH}
    found = in_child.search(backend, ignored, **sources, beam=len(every))
    decoder_ids = np.insert(texts, 0, TINY.start_token, axis=1)
    for row in range(len(ids)):
        repeated = ids[row : row + 1].repeat(len(texts), 0), lengths[row : row + 1].repeat(len(texts))
        probabilities = backend.forward(Batch.of_ids(TINY, *repeated, decoder_ids)).probabilities[:, :MAX_LENGTH]
        chosen = np.take_along_axis(probabilities, texts[..., None], axis=2)[..., 0]  # (T, L)
        scores = np.sum(np.log(chosen) * counted, axis=1)
        best = np.argsort(-scores)
        finite = np.isfinite(found.scores[row])
        assert finite.sum() == len(texts)
        np.testing.assert_array_equal(found.ids[row][finite], texts[best])
        np.testing.assert_allclose(found.scores[row][finite], scores[best], rtol=1e-10)
