"""Translations: how sure the model is of them."""

import math
from collections.abc import Iterator

import pytest

from backends.process.runtime import Runtime
from backends.translator import Translator, open_translator
from common.errors import UnknownCharactersError
from common.run_directory import BUNDLED_RUN, RunDirectory


@pytest.fixture(scope="module")
def translator() -> Iterator[Translator]:
    """The bundled run, in NumPy."""
    run = RunDirectory.open(BUNDLED_RUN)
    with open_translator(run, "numpy", "last", None, Runtime(threads=1)) as opened:
        yield opened


TEXTS = ["Look at the skirt!", "", "I'm tired.", "It is red and it is old and it is red and it is old."]


def test_each_character_and_the_end_have_their_most_probable_ones(translator) -> None:
    detailed = translator.with_choices(TEXTS, best=4)
    assert [one.translation for one in detailed] == translator(TEXTS)
    assert detailed[1].choices == []
    for one in (detailed[0], *detailed[2:]):
        assert "".join(choices[0].character for choices in one.choices) == f"{one.translation}\n"
        for choices in one.choices:
            probabilities = [choice.probability for choice in choices]
            assert probabilities == sorted(probabilities, reverse=True)
            assert len({choice.character for choice in choices}) == 4
            assert 0 < sum(probabilities) < 1 + 1e-6
    sure = [math.prod(choices[0].probability for choices in one.choices) for one in detailed]
    assert sure[0] > 0.3 > sure[3], "a sentence like the trained ones is surer than one that is too long"


def test_unknown_characters_are_refused_or_dropped_with_choices_too(translator) -> None:
    with pytest.raises(UnknownCharactersError):
        translator.with_choices(["\u4e2d"])
    assert translator.with_choices(["I'm \u4e2dtired."], "drop") == translator.with_choices(["I'm tired."])
