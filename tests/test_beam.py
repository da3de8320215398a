"""Beam search in every backend: the same as an exhaustive search where one is possible, and alike in all backends."""

from itertools import product

import numpy as np
import pytest

from backends.process.parent import Runtime
from common import decoding
from common.config import ModelConfig, TrainConfig
from common.weights import ModelState, initial_state
from tests import child
from tests.conftest import EXACT, batch_of, model

TINY = ModelConfig(5, 4, start_token=0, stop_token=1, latent_dim=8, dtype="float64")
MAX_LENGTH = 4


def sharpened(state: ModelState) -> ModelState:
    """Weights that prefer some characters clearly, so that no two translations are nearly as probable."""
    return ModelState({name: 6 * weight for name, weight in state.weights.items()}, state.mean_squares)


STATE = sharpened(initial_state(TINY, seed=5))


def exhaustive(process, ids, lengths, config: ModelConfig) -> list[tuple[float, tuple[int, ...]]]:
    """Every translation of at most MAX_LENGTH characters and the log of its probability, the best first."""
    tokens, stop = range(config.num_decoder_tokens), config.stop_token
    texts = set()
    for text in product(tokens, repeat=MAX_LENGTH):
        end = text.index(stop) + 1 if stop in text else MAX_LENGTH
        texts.add((*text[:end], *[stop] * (MAX_LENGTH - end)))
    scores = process.call(
        child.log_probabilities, encoder_ids=ids, encoder_lengths=lengths, texts=[list(text) for text in texts]
    )
    return sorted(zip(scores, texts, strict=True), reverse=True)


def of_other_sizes(process) -> list[decoding.Beams]:
    """A graph that was traced for the first sentence has to take longer ones, shorter ones, and more of them."""
    rng = np.random.default_rng(3)
    return [
        process.call(
            decoding.beam_search,
            encoder_ids=rng.integers(0, 5, (num_rows, width)).astype(np.int32),
            encoder_lengths=np.full(num_rows, width, np.int32),
            max_length=MAX_LENGTH,
            beam=3,
        )
        for num_rows, width in ((1, 6), (1, 9), (2, 9), (1, 7))
    ]


@pytest.fixture(scope="module")
def expected_of_other_sizes() -> list[decoding.Beams]:
    """The referee's."""
    with Runtime(threads=1).start("numpy", TINY, TrainConfig()) as process:
        process.call(child.load, state=STATE)
        return of_other_sizes(process)


@pytest.mark.parametrize("name", EXACT)
def test_a_beam_that_holds_everything_finds_what_an_exhaustive_search_finds(
    name: str, expected_of_other_sizes: list[decoding.Beams]
) -> None:
    """And sentences of other lengths are searched after it."""
    rng = np.random.default_rng(3)
    ids, lengths = rng.integers(0, 5, (3, 6)).astype(np.int32), np.array([6, 4, 5], np.int32)
    arguments = {"encoder_ids": ids, "encoder_lengths": lengths, "max_length": MAX_LENGTH}
    with Runtime(threads=1).start(name, TINY, TrainConfig()) as process:
        process.call(child.load, state=STATE)
        found = process.call(decoding.beam_search, **arguments, beam=TINY.num_decoder_tokens**MAX_LENGTH)
        for row in range(len(ids)):
            expected = exhaustive(process, ids[row : row + 1], lengths[row : row + 1], TINY)
            finite = np.isfinite(found.scores[row])
            assert finite.sum() == len(expected)
            assert [tuple(text) for text in found.ids[row][finite]] == [text for _, text in expected]
            np.testing.assert_allclose(found.scores[row][finite], [score for score, _ in expected], rtol=1e-10)
        narrow = process.call(decoding.beam_search, **arguments, beam=1)
        np.testing.assert_array_equal(narrow.ids[:, 0], process.call(decoding.translate, **arguments))
        for got, other in zip(of_other_sizes(process), expected_of_other_sizes, strict=True):
            np.testing.assert_array_equal(got.ids, other.ids)
            np.testing.assert_allclose(got.scores, other.scores, rtol=1e-9)


def test_all_backends_find_the_same_sentences_and_scores(backend_of) -> None:
    batch, config = batch_of(40, "float64"), model("float64")
    state = sharpened(initial_state(config, seed=2))
    found = {}
    for name in EXACT:
        if name == "keras:example":
            continue  # a character at a time; the test above holds it
        process = backend_of(name, "float64")
        process.call(child.load, state=state)
        found[name] = process.call(
            decoding.beam_search,
            encoder_ids=batch.encoder_ids,
            encoder_lengths=batch.encoder_lengths,
            max_length=30,
            beam=4,
        )
    for name, other in found.items():
        np.testing.assert_array_equal(other.ids, found["numpy"].ids, err_msg=name)
        np.testing.assert_allclose(other.scores, found["numpy"].scores, rtol=1e-9, err_msg=name)
