"""Characters to ids and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import CannotBeginError, UnknownCharactersError
from common.vocabulary import CharVocabulary

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_ids_are_the_ranks_of_the_sorted_characters() -> None:
    vocabulary = CharVocabulary.of(["ba", " é😀a"])
    assert vocabulary.characters == (" ", "a", "b", "é", "😀")
    assert vocabulary.id_of == {" ": 0, "a": 1, "b": 2, "é": 3, "😀": 4}
    assert len(vocabulary) == 5


def test_the_space_joins_a_vocabulary_that_lacks_it() -> None:
    assert CharVocabulary.of(["\t!", "Z"]).characters == ("\t", " ", "!", "Z")
    assert CharVocabulary("").characters == (" ",)


def test_short_texts_are_padded_with_the_space() -> None:
    vocabulary = CharVocabulary("\tab")  # the space is not the first here
    ids, lengths = vocabulary.encode(["ab", "", "b"], width=3)
    assert ids.tolist() == [[2, 3, 1], [1, 1, 1], [3, 1, 1]]
    assert lengths.tolist() == [2, 0, 1]


@pytest.mark.parametrize("size", [255, 256, 257, 65_536, 70_000])
def test_the_last_character_of_a_large_vocabulary_keeps_its_id(size: int) -> None:
    characters = [chr(0x10000 + i) for i in range(size - 1)]
    vocabulary = CharVocabulary(characters)
    ids, _ = vocabulary.encode([characters[-1] + characters[0]])
    assert ids.tolist() == [[size - 1, 1]]


@pytest.mark.parametrize("unknown", ["A", "é", "\U0001f600", "\0"])
def test_unknown_characters_are_named_with_the_first_row_that_has_them(unknown: str) -> None:
    vocabulary = CharVocabulary("abc\u00e8")
    with pytest.raises(UnknownCharactersError) as caught:
        vocabulary.encode(["abc", f"a{unknown}Z", "Q"])
    message = str(caught.value)
    assert caught.value.row == 1
    assert f"U+{ord(unknown):04X}" in message
    assert "U+005A" in message
    assert "U+0051" not in message
    assert "\n" not in message
    assert isinstance(caught.value, CannotBeginError)


@settings(derandomize=True, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8), st.integers(0, 30))
def test_what_is_encoded_is_decoded_again(texts: list[str], width: int) -> None:
    vocabulary = CharVocabulary.of(texts)
    ids, lengths = vocabulary.encode(texts, width)
    assert ids.shape == (len(texts), max(width, *map(len, texts)))
    assert [vocabulary.decode(row[:length]) for row, length in zip(ids, lengths, strict=True)] == texts
    for row, text in zip(ids, texts, strict=True):
        assert vocabulary.decode(row) == text.ljust(ids.shape[1])


@settings(derandomize=True, deadline=None)
@given(TEXT, TEXT)
def test_exactly_texts_of_known_characters_are_encoded(known: str, text: str) -> None:
    vocabulary = CharVocabulary(known)
    unknown = set(text) - set(known) - {" "}
    if unknown:
        with pytest.raises(UnknownCharactersError) as caught:
            vocabulary.encode(["", text])
        assert caught.value.row == 1
        assert all(f"U+{ord(c):04X}" in str(caught.value) for c in unknown)
    else:
        assert np.array_equal(vocabulary.encode([text])[1], [len(text)])
    assert set(vocabulary.without_unknown(text)) == set(text) - unknown
