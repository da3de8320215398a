"""Scores against values known by hand and by sacrebleu."""

import pytest
from sacrebleu.metrics.chrf import CHRF

from common.scoring import score

SENTENCES = ["Va !", "Je comprends.", "Ça alors !", "Arrête-toi !"]


def test_identical_translations_score_best() -> None:
    result = score(SENTENCES, [[sentence] for sentence in SENTENCES])
    assert result["chrf"] == pytest.approx(100)
    assert result["exact_match"] == 1
    assert result["character_error_rate"] == 0
    assert result["sentences"] == len(SENTENCES)


def test_translations_with_nothing_in_common_score_worst() -> None:
    result = score(["xxx", "qqqq"], [["abc"], ["defg"]])
    assert (result["chrf"], result["exact_match"], result["character_error_rate"]) == (0, 0, 1)


def test_exact_match_is_with_any_reference() -> None:
    references = [["Cours !", "Courez !"], ["Cours !", "Courez !"], ["Va !"], ["Va !"]]
    assert score(["Courez !", "Cours !", "Va !", "Va"], references)["exact_match"] == 0.75


@pytest.mark.parametrize(
    ("translations", "references", "rate"),
    [
        (["abd"], [["abc"]], 1 / 3),  # one substitution of three
        (["abcd"], [["abc"]], 1 / 3),  # one insertion
        (["ab"], [["abc"]], 1 / 3),  # one deletion
        ([""], [["abc"]], 1.0),
        (["abcabc"], [["a"]], 5.0),  # may pass one
        (["abd", "wxyz"], [["abc"], ["wxyz"]], 1 / 7),  # summed over the corpus, not a mean of rates
        (["abx"], [["zzzz", "abc"]], 1 / 3),  # the nearest reference, wherever it stands
        (["kitten"], [["sitting"]], 3 / 7),
        (["abcdefgh"], [["abcdefghij", "xb"]], 2 / 10),
        (["ab"], [["b", "abcdefghi", "abcd"]], 2 / 4),  # nearest by rate and not by edits: 1/1, 7/9, 2/4
    ],
)
def test_character_error_rate_is_that_counted_by_hand(
    translations: list[str], references: list[list[str]], rate: float
) -> None:
    assert score(translations, references)["character_error_rate"] == pytest.approx(rate)


@pytest.mark.parametrize("num_references", [1, 2, 3])
def test_chrf_is_sacrebleus(num_references: int) -> None:
    translations = ["Va donc !", "Je comprend.", "Ça va !", "Arrêtez !"]
    streams = [SENTENCES, ["Bouge !", "Je vois.", "Waouh !", "Stop !"], ["Allez !", "Vu.", "Ça !", "Ça suffit !"]]
    streams = streams[:num_references]
    result = score(translations, [list(refs) for refs in zip(*streams, strict=True)])
    assert result["chrf"] == CHRF().corpus_score(translations, streams).score
    assert 5 < result["chrf"] < 95


def test_chrf_takes_varying_numbers_of_references() -> None:
    translations = ["Va donc !", "Je comprend.", "Waouh !"]
    varying = [["Va !"], ["Je comprends.", "Je vois.", "Je comprend."], ["Ça alors !", "Waouh !"]]
    filled = [refs + [refs[0]] * (3 - len(refs)) for refs in varying]  # a reference twice changes nothing
    result = score(translations, varying)
    assert result["chrf"] == pytest.approx(score(translations, filled)["chrf"])
    assert result["chrf"] > score(translations, [refs[:1] for refs in varying])["chrf"]


def test_the_signature_says_how_chrf_was_counted() -> None:
    signature = score(["a"], [["a"]])["chrf_signature"]
    for part in ("nc:6", "nw:0", "case:mixed", "version:"):
        assert part in signature


def test_translations_and_references_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        score(["a", "b"], [["a"]])
