"""Beam search: the same as an exhaustive search where one is possible.
tests/frameworks/test_parity.py has all backends."""

from itertools import product
from typing import Any

import numpy as np

from backends import numpy_model
from backends.interface import Backend, Characters
from backends.process import translate_in_child
from backends.process.translate_in_child import Answer
from common.settings import ModelConfig, TrainConfig
from common.tensors import CharVocabulary
from common.weights import ModelState, initial_state

ENCODER, DECODER = CharVocabulary([" abcd"]), CharVocabulary(["\t\n a"])
TINY = ModelConfig(5, 4, start_token=0, stop_token=1, latent_dim=8, dtype="float64")
MAX_LENGTH = 4  # of a translation that an exhaustive search finds


def sharpened(state: ModelState) -> ModelState:
    """Weights that prefer some characters clearly,
    so that no two translations are nearly as probable."""
    return ModelState(
        {name: 6 * weight for name, weight in state.weights.items()}, state.mean_squares
    )


def ignored(**event: Any) -> None:
    pass


def columns(answers: list[Answer]) -> tuple[list[list[str]], list[list[float | None]]]:
    """The translations of each answer, and their scores."""
    both = (
        [[getattr(c, name) for c in answer.candidates] for answer in answers]
        for name in ("translation", "score")
    )
    translations, scores = both
    return translations, scores


def test_a_beam_of_full_width_equals_an_exhaustive_search() -> None:
    """The search is one for all backends; this is the reference's, which needs no process."""
    backend, stop = Backend(numpy_model, TINY, TrainConfig()), TINY.stop_token
    backend.load(sharpened(initial_state(TINY, seed=5)))
    sources = ["abcdab", "dbca", "cabad"]
    every = np.array(list(product(range(TINY.num_decoder_tokens), repeat=MAX_LENGTH)))
    ended = np.logical_or.accumulate(every == stop, axis=1)
    # (T, L), filled up after the stop token
    texts = np.unique(np.where(ended, stop, every), axis=0)
    # Up to the stop token.
    counted = np.arange(MAX_LENGTH) <= np.sum(texts != stop, axis=1)[:, None]
    backend.characters = Characters(ENCODER, DECODER, 6, MAX_LENGTH)
    answers = translate_in_child.translate_texts(backend, ignored, texts=sources, beam=len(every))
    ids, lengths = ENCODER.encode(sources, 6)
    for row, (translations, given) in enumerate(zip(*columns(answers), strict=True)):
        repeated = (
            ids[row : row + 1].repeat(len(texts), 0),
            lengths[row : row + 1].repeat(len(texts)),
        )
        probabilities = translate_in_child.probabilities(backend, *repeated, texts)
        chosen = np.take_along_axis(probabilities, texts[..., None], axis=2)[..., 0]  # (T, L)
        scores = np.sum(np.log(chosen) * counted, axis=1)
        best = np.argsort(-scores)
        assert translations == [DECODER.text_of(text) for text in texts[best]]
        np.testing.assert_allclose(given, scores[best], rtol=1e-10)
