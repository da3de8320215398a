"""Scores against values known by hand and by sacrebleu."""

import pytest
from sacrebleu.metrics.chrf import CHRF

from common.scoring import references, score

SENTENCES = ["Va !", "Je comprends.", "Ça alors !", "Arrête-toi !"]


def test_the_best_and_the_worst() -> None:
    best = score(SENTENCES, [[sentence] for sentence in SENTENCES])
    assert (best["chrf"], best["exact_match"], best["character_error_rate"]) == (pytest.approx(100), 1, 0)
    assert best["sentences"] == len(SENTENCES)
    worst = score(["xxx", "qqqq"], [["abc"], ["defg"]])
    assert (worst["chrf"], worst["exact_match"], worst["character_error_rate"]) == (0, 0, 1)


def test_exact_match_is_with_any_reference() -> None:
    references = [["Cours !", "Courez !"], ["Cours !", "Courez !"], ["Va !"], ["Va !"]]
    assert score(["Courez !", "Cours !", "Va !", "Va"], references)["exact_match"] == 0.75


def test_character_error_rate_is_that_counted_by_hand() -> None:
    for translations, of_each, rate in [
        (["abd"], [["abc"]], 1 / 3),  # one substitution of three; then an insertion, and a deletion
        (["abcd"], [["abc"]], 1 / 3),
        (["ab"], [["abc"]], 1 / 3),
        ([""], [["abc"]], 1.0),
        (["abcabc"], [["a"]], 5.0),  # may pass one
        (["abd", "wxyz"], [["abc"], ["wxyz"]], 1 / 7),  # summed over the corpus, not a mean of rates
        (["abx"], [["zzzz", "abc"]], 1 / 3),  # the nearest reference, wherever it stands
        (["ab"], [["b", "abcdefghi", "abcd"]], 2 / 4),  # nearest by rate and not by edits: 1/1, 7/9, 2/4
    ]:
        assert score(translations, of_each)["character_error_rate"] == pytest.approx(rate)


def test_chrf_is_sacrebleus_and_its_signature_says_how_it_was_counted() -> None:
    translations = ["Va donc !", "Je comprend.", "Ça va !", "Arrêtez !"]
    streams = [SENTENCES, ["Bouge !", "Je vois.", "Waouh !", "Stop !"]]
    result = score(translations, [list(of_one) for of_one in zip(*streams, strict=True)])
    assert result["chrf"] == CHRF().corpus_score(translations, streams).score
    assert 5 < result["chrf"] < 95
    assert all(part in result["chrf_signature"] for part in ("nc:6", "nw:0", "case:mixed", "version:"))


def test_chrf_takes_varying_numbers_of_references() -> None:
    translations = ["Va donc !", "Je comprend.", "Waouh !"]
    varying = [["Va !"], ["Je comprends.", "Je vois.", "Je comprend."], ["Ça alors !", "Waouh !"]]
    filled = [refs + [refs[0]] * (3 - len(refs)) for refs in varying]  # a reference twice changes nothing
    result = score(translations, varying)
    assert result["chrf"] == pytest.approx(score(translations, filled)["chrf"])
    assert result["chrf"] > score(translations, [refs[:1] for refs in varying])["chrf"]


def test_references_are_the_distinct_targets_in_order() -> None:
    pairs = [("Run!", "Courez !"), ("Go.", "Va !"), ("Run!", "Cours !"), ("Run!", "Courez !")]
    assert references(pairs, ["Run!", "Go."]) == {"Run!": ["Courez !", "Cours !"], "Go.": ["Va !"]}
    assert references(pairs, ["Go."]) == {"Go.": ["Va !"]}
