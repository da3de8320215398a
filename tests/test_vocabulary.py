"""Characters to ids and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UnknownCharactersError
from common.tensors import CharVocabulary

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_ids_are_the_ranks_of_the_sorted_characters_with_the_space_which_pads() -> None:
    vocabulary = CharVocabulary.of(["\tba", "é😀a"])
    assert vocabulary.characters == ("\t", " ", "a", "b", "é", "😀")
    ids, lengths = vocabulary.encode(["ab", "", "😀"], width=3)
    assert ids.tolist() == [[2, 3, 1], [1, 1, 1], [5, 1, 1]]
    assert lengths.tolist() == [2, 0, 1]
    assert CharVocabulary("").characters == (" ",)


def test_the_last_character_of_a_large_vocabulary_keeps_its_id() -> None:
    for size in (255, 256, 257, 70_000):
        characters = [chr(0x10000 + i) for i in range(size - 1)]
        ids, _ = CharVocabulary(characters).encode([characters[-1] + characters[0]])
        assert ids.tolist() == [[size - 1, 1]]


def test_unknown_characters_of_the_first_text_that_has_any_are_named() -> None:
    for unknown in ("A", "é", "\U0001f600", "\0"):
        with pytest.raises(UnknownCharactersError) as caught:
            CharVocabulary("abc\u00e8").encode(["abc", f"a{unknown}Z", "Q"])
        message = str(caught.value)
        assert f"U+{ord(unknown):04X}" in message
        assert "U+005A" in message
        assert "U+0051" not in message
        assert "\n" not in message


@settings(derandomize=True, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8), st.integers(0, 30))
def test_what_is_encoded_is_decoded_again(texts: list[str], width: int) -> None:
    vocabulary = CharVocabulary.of(texts)
    ids, lengths = vocabulary.encode(texts, width)
    assert ids.shape == (len(texts), max(width, *map(len, texts)))
    assert lengths.tolist() == [*map(len, texts)]
    assert [vocabulary.decode(row) for row in ids] == [text.ljust(ids.shape[1]) for text in texts]


@settings(derandomize=True, deadline=None)
@given(TEXT, TEXT)
def test_exactly_texts_of_known_characters_are_encoded(known: str, text: str) -> None:
    vocabulary = CharVocabulary(known)
    unknown = set(text) - set(known) - {" "}
    if unknown:
        with pytest.raises(UnknownCharactersError) as caught:
            vocabulary.encode(["", text])
        assert all(f"U+{ord(c):04X}" in str(caught.value) for c in unknown)
    else:
        vocabulary.encode([text])
    assert set(vocabulary.without_unknown(text)) == set(text) - unknown
