"""Beam search: the same as an exhaustive search where one is possible, and alike in all backends."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from backends.process import in_child
from common.config import ModelConfig, TrainConfig
from common.weights import ModelState, initial_state
from tests import child
from tests.conftest import FRAMEWORKS, StartBackend, batch_of, model

TINY = ModelConfig(5, 4, start_token=0, stop_token=1, latent_dim=8, dtype="float64")
MAX_LENGTH = 4
# Numbers of sentences and their widths. A graph that was traced for the first must take the others.
SIZES = [(1, 11), (1, 14), (12, 14), (1, 9)]


def sharpened(state: ModelState) -> ModelState:
    """Weights that prefer some characters clearly, so that no two translations are nearly as probable."""
    return ModelState({name: 6 * weight for name, weight in state.weights.items()}, state.mean_squares)


def ignored(**event: Any) -> None:
    pass


def test_a_beam_that_holds_everything_finds_what_an_exhaustive_search_finds() -> None:
    """The search is one for all backends; this is the referee's, which needs no process."""
    backend, tokens, stop = NumpyBackend(TINY, TrainConfig()), range(TINY.num_decoder_tokens), TINY.stop_token
    backend.load(sharpened(initial_state(TINY, seed=5)))
    ids, lengths = np.random.default_rng(3).integers(0, 5, (3, 6)), np.array([6, 4, 5])
    texts = set()
    for text in product(tokens, repeat=MAX_LENGTH):
        end = text.index(stop) + 1 if stop in text else MAX_LENGTH
        texts.add((*text[:end], *[stop] * (MAX_LENGTH - end)))
    beam = TINY.num_decoder_tokens**MAX_LENGTH
    sources = {"encoder_ids": ids, "encoder_lengths": lengths, "max_length": MAX_LENGTH}
    found = in_child.search(backend, ignored, **sources, beam=beam)
    for row in range(len(ids)):
        scores = child.log_probabilities(
            backend,
            ignored,
            encoder_ids=ids[row : row + 1],
            encoder_lengths=lengths[row : row + 1],
            texts=[list(text) for text in texts],
        )
        expected = sorted(zip(scores, texts, strict=True), reverse=True)
        finite = np.isfinite(found.scores[row])
        assert finite.sum() == len(expected)
        assert [tuple(text) for text in found.ids[row][finite]] == [text for _, text in expected]
        np.testing.assert_allclose(found.scores[row][finite], [score for score, _ in expected], rtol=1e-10)


# The other variants have nothing of their own here.
@pytest.mark.parametrize("name", [*FRAMEWORKS, "keras:example"])
def test_every_backend_finds_the_referees_sentences_and_scores(name: str, backend_of: StartBackend) -> None:
    config, process = model("float64"), backend_of(name, "float64")
    state = sharpened(initial_state(config, seed=2))
    referee = NumpyBackend(config, TrainConfig())
    referee.load(state)
    process.call(child.load, state=state)
    longest = 4 if name == "keras:example" else 30  # it decodes a character in 40 ms
    for num_rows, width in SIZES:
        batch = batch_of(num_rows, "float64")
        encoder_ids = np.asarray(batch.encoder_ids)[:, :width]
        lengths = np.minimum(batch.encoder_lengths, width)
        sources = {"encoder_ids": encoder_ids, "encoder_lengths": lengths, "max_length": longest}
        found = process.call(in_child.search, **sources, beam=4)
        expected = in_child.search(referee, ignored, **sources, beam=4)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-9)
    narrow = process.call(in_child.search, **sources, beam=1)
    np.testing.assert_array_equal(narrow.ids[:, 0], process.call(in_child.translate, **sources))
