"""Scores against values known by hand and by sacrebleu."""

import pytest
from sacrebleu.metrics.chrf import CHRF

from common.scoring import references, score

SENTENCES = ["Va !", "Je comprends.", "Ça alors !", "Arrête-toi !"]


def test_matches_and_errors_are_those_counted_by_hand() -> None:
    for translations, of_each, exact, rate in [
        (SENTENCES, [[sentence] for sentence in SENTENCES], 1, 0),
        (["xxx", "qqqq"], [["abc"], ["defg"]], 0, 1),
        # Exact with any reference.
        (["Courez !", "Va"], [["Cours !", "Courez !"], ["Va !"]], 0.5, 2 / 12),
        # A substitution, an insertion, a deletion, three.
        (["abd", "abcd", "ab", ""], [["abc"]] * 4, 0, 6 / 12),
        (["abcabc"], [["a"]], 0, 5.0),  # may pass one
        # Summed over the corpus, not a mean of rates.
        (["abd", "wxyz"], [["abc"], ["wxyz"]], 0.5, 1 / 7),
        # Nearest by rate and not by edits: 1/1, 7/9, 2/4.
        (["ab"], [["b", "abcdefghi", "abcd"]], 0, 2 / 4),
    ]:
        scores = score(translations, of_each)
        assert (scores["exact_match"], scores["character_error_rate"]) == (
            exact,
            pytest.approx(rate),
        )
        assert scores["sentences"] == len(translations)


def test_chrf_is_sacrebleus_with_its_signature() -> None:
    translations = ["Va donc !", "Je comprend.", "Ça va !", "Arrêtez !"]
    streams = [SENTENCES, ["Bouge !", "Je vois.", "Waouh !", "Stop !"]]
    result = score(translations, [list(of_one) for of_one in zip(*streams, strict=True)])
    assert 5 < result["chrf"] == CHRF().corpus_score(translations, streams).score < 95
    assert all(
        part in result["chrf_signature"] for part in ("nc:6", "nw:0", "case:mixed", "version:")
    )
    varying = [
        ["Va !"],
        ["Je comprends.", "Je vois.", "Je comprend."],
        ["Ça alors !", "Waouh !"],
        ["Stop !"],
    ]
    # A reference twice changes nothing.
    filled = [refs + [refs[0]] * (3 - len(refs)) for refs in varying]
    assert score(translations, varying)["chrf"] == pytest.approx(
        score(translations, filled)["chrf"]
    )


def test_references_are_the_distinct_targets_in_order() -> None:
    pairs = [("Run!", "Courez !"), ("Go.", "Va !"), ("Run!", "Cours !"), ("Run!", "Courez !")]
    assert references(pairs, ["Run!", "Go."]) == {"Run!": ["Courez !", "Cours !"], "Go.": ["Va !"]}
