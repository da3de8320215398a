"""The bundled phrasebook: what its phrases make, in the format and the variety that it promises."""

import re
import string
import unicodedata
from collections import Counter

import pytest

from common.corpus import PHRASEBOOK
from docs.phrasebook.__main__ import ATTRIBUTION, text
from docs.phrasebook.grammar import LONGEST_ENGLISH, LONGEST_FRENCH
from docs.phrasebook.grammar import PAIRS as MOST

LINES = PHRASEBOOK.read_text(encoding="utf-8").split("\n")
PAIRS = [tuple(line.split("\t")[:2]) for line in LINES[:-1]]
ENGLISH, FRENCH = ([pair[side] for pair in PAIRS] for side in (0, 1))


@pytest.mark.at_length
def test_the_committed_file_is_what_the_phrases_make() -> None:
    assert PHRASEBOOK.read_text(encoding="utf-8") == text()


def test_it_is_large_and_varied_in_the_format_of_manythings() -> None:
    assert LINES[-1] == ""
    assert all(line.split("\t")[2:] == [ATTRIBUTION] for line in LINES[:-1])
    assert all(unicodedata.is_normalized("NFC", line) for line in LINES)
    assert sorted(PAIRS, key=lambda pair: (len(pair[0]), pair)) == PAIRS
    assert len(set(PAIRS)) == len(PAIRS) == MOST
    assert max(map(len, ENGLISH)) <= LONGEST_ENGLISH
    assert max(map(len, FRENCH)) <= LONGEST_FRENCH
    assert len(set(re.findall("[a-z]+", " ".join(ENGLISH).lower()))) >= 400
    assert set(string.ascii_letters + string.digits + " .?!,'") == set("".join(ENGLISH)), (
        "few more can be typed"
    )
    assert [pair for pair in PAIRS if pair[0][-1] != pair[1][-1]] == []
    assert sum(count > 1 for count in Counter(ENGLISH).values()) >= 0.05 * len(set(ENGLISH))
