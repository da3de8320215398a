"""What a run's training tells of a sentence that is typed: how it would be written, and whether it is a guess."""

from common.sources import Sources

TRAINING = [
    "I love you.",
    "I love Tom!",
    "I love my dog.",
    "Where is Tom?",
    "Where is the dog?",
    "Stop now!",
    "Go on.",
    "It's on.",
]
SOURCES = Sources(TRAINING)


def test_what_is_typed_carelessly_is_read_as_training_writes_it() -> None:
    for typed, read in {
        "i love you": "I love you.",
        "i love tom": "I love Tom!",
        "where is tom": "Where is Tom?",
        "where are you": "Where are you?",
        "stop now": "Stop now!",
        "tom’s dog": "Tom's dog.",
        "I LOVE tom  ,  my dog !!": "I love Tom, my dog!",
        " Where is\u00a0the DOG\u202f? ": "Where is the dog?",
        "its my “dog”…": 'It\'s my "dog".',
        "  ": "  ",
        "": "",
        "e\u0301te": "\u00c9te.",
    }.items():
        assert SOURCES.as_written(typed) == read
    for text in [*TRAINING, "What (", "\udce9"]:
        assert SOURCES.as_written(text) == text


def test_habits_that_training_had_not_are_left_alone() -> None:
    for training in ([], ["where is it", "i go !!", "Paris’  streets", "Dont"]):
        sources = Sources(training)
        for text in ("i love you", "Tom’s  dog", "go on !!", "Dont", "tom"):
            assert sources.as_written(text) == text
    assert Sources([]).doubt("An umbrella!") == ""


def test_a_guess_is_told_by_words_length_and_groups_that_training_never_had() -> None:
    for text in [*TRAINING, "Where is the dog?", "Stop!", "", " "]:
        assert SOURCES.doubt(text) == ""
    guess = "the translation is a guess"
    assert SOURCES.doubt("I love cats and Eve.") == f"training had no 'cats', 'and' and 'Eve'; {guess}"
    long = "I love you. I love you."
    assert SOURCES.doubt(long) == f"training had no sentence of more than 17 characters, and this one has 23; {guess}"
    assert SOURCES.doubt("dog my on now Go") == f"training had no sentence like it; {guess}"
