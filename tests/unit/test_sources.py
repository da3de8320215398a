"""A typed sentence beside a run's training pairs: its spelling there,
and whether its translation is a guess."""

from pathlib import Path
from unittest.mock import patch

import pytest

from common.run import RunDirectory
from common.sources import Sources
from tests.support.small_run import create

PAIRS = [
    ("I love you.", "Je t'aime."),
    ("I love Tom!", "J'aime Tom !"),
    ("I love my dog.", "J'aime mon chien."),
    ("Where is Tom?", "Où est Tom\u202f?"),
    ("Where is the dog?", "Où est le chien ?"),
    ("Stop now!", "Arrête maintenant !"),
    ("Stop it!", "Arrête Tom, arrête !"),
    ("Go on.", "Va."),
    ("It's on.", "C'est en marche."),
    ("I am Tom.", "Je suis Tom."),
    ("I'm Tom.", "Je suis Tom."),
    ("I am here.", "Je suis ici."),
]
SOURCES = Sources(PAIRS)
WRITTEN = {
    "i love you": "I love you.",
    "i love tom": "I love Tom!",
    "where is tom": "Where is Tom?",
    "where are you": "Where are you?",
    "stop now": "Stop now!",
    "tom’s dog": "Tom's dog.",
    "I LOVE tom  ,  my dog !!": "I love Tom, my dog!",
    " Where is\u00a0the DOG\u202f? ": "Where is the dog?",
    "its my “dog”…": 'It\'s my "dog".',
}
AS_THEY_ARE = [*(source for source, _ in PAIRS), "What (", "\udce9", "", "  "]


def test_what_is_typed_carelessly_is_read_as_training_writes_it() -> None:
    for typed, written in (WRITTEN | dict(zip(AS_THEY_ARE, AS_THEY_ARE, strict=True))).items():
        assert SOURCES.as_written(typed) == written
    # Which has no such habits.
    for training in ([], ["where is it", "i go !!", "Paris’  streets", "Dont"]):
        sources = Sources([(source, "") for source in training])
        for text in ("i love you", "Tom’s  dog", "go on !!", "Dont", "tom"):
            assert sources.as_written(text) == text
    assert Sources([]).doubt("An umbrella!", "") == ""


@pytest.mark.parametrize(
    ("text", "translation", "doubt"),
    [
        ("Where is the dog?", "Où est le chien ?", ""),
        ("Where is the dog.", "Où est le chien !", ""),
        ("", "", ""),
        (" ", "", ""),
        ("I love cats and Eve.", "J'aime Tom !", "training had no 'cats', 'and' and 'Eve'"),
        (
            "I love you. I love you.",
            "Je t'aime.",
            "training had no sentence of more than 17 characters, and this one has 23",
        ),
        ("I love you.", "", "the model ended the sentence at once"),
        ("I love Tom!", "Je t'aime.", "training had \"J'aime Tom !\" for 'I love Tom!'"),
        ("Where is my dog?", "Où est Tom ?", "training had this translation for 'Where is Tom?'"),
        # Words that training exchanged, in sentences with the same translation,
        # make no other sentence.
        ("I'm here.", "Je suis ici.", ""),
        ("Is on.", "C'est en marche.", 'training had this translation for "It\'s on."'),
        # New translations, of words that stood beside each other in training or not.
        ("Stop Tom!", "Arrête Tom !", ""),
        ("Go now.", "Va Tom.", "training had no translation with 'va tom'"),
        ("Go now.", "Zut.", "training had no translation with 'zut'"),
    ],
)
def test_a_translation_is_a_guess_unless_training_had_it(
    text: str, translation: str, doubt: str
) -> None:
    assert SOURCES.doubt(text, translation) == (doubt and f"{doubt}; the translation is a guess")


def test_a_corpus_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    assert any(Sources.of_run(run).examples.values())
    with (
        patch("common.sources.MOST_BYTES_OF_PAIRS", 10),
        patch.object(RunDirectory, "pairs") as read,
    ):
        assert not Sources.of_run(run).examples
    read.assert_not_called()
