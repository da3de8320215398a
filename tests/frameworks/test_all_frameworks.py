"""Commands that use all frameworks, in the processes of the session."""

import re
from pathlib import Path

import pytest

from tests.conftest import AT_LENGTH, FRAMEWORKS
from tests.support.program import answer, rosetta, short

SENTENCE, TRANSLATION = "I love you!", "Je t'aime\u202f!"


@pytest.mark.usefixtures("session_processes")
def test_backends_shows_what_each_framework_reports() -> None:
    facts = answer("backends")["backends"]
    assert facts.keys() == {"numpy", *FRAMEWORKS}
    for name, of in facts.items():
        assert re.match(r"\d+\.\d+", of["version"]), name
        assert of["device"].lower().startswith("cpu"), name


@pytest.mark.usefixtures("session_processes")
def test_all_frameworks_give_the_same_translation() -> None:
    (sentence,) = answer("translate", "--backend", "all", SENTENCE)["translations"]
    translations = {
        row["backend"]: (row["translation"], row["same"]) for row in sentence["backends"]
    }
    assert translations == dict.fromkeys(["numpy", *FRAMEWORKS], (TRANSLATION, True))


@pytest.mark.usefixtures("session_processes")
def test_parity_of_two_frameworks_is_shown_stage_by_stage() -> None:
    status, printed, _ = rosetta(
        "parity", "--quick", "--latent-dim", 16, "--dtype", "float32", "--backends", "torch,paddle"
    )
    assert status == 0
    for name in ("torch", "paddle"):
        assert re.search(rf"{name} +.*\d", printed), printed
    assert printed.splitlines()[-1].startswith("Every backend agrees with the reference")


def test_a_short_bench_compares_trains_and_decodes(tmp_path: Path) -> None:
    """The path of `make demo`; NumPy alone where time is short."""
    chosen = [] if AT_LENGTH else ["--backends", "numpy"]
    options = "--num-samples 300 --latent-dim 16 --threads 1 --within 100000% --budget 20m".split()
    answered = short(2, *chosen, *options, "--out", tmp_path / "measured.jsonl")
    assert (answered["missing"], answered["rounds"] >= 2) == ([], True)
    assert {row["row"]["backend"] for row in answered["rows"]} >= {
        *(FRAMEWORKS if AT_LENGTH else ["numpy"])
    }
    for row in answered["rows"]:
        assert row["why_not"] == "", row["label"]
        assert row["certificate"]["passed"], row["label"]
    assert answered["sentences"][0]["translations"]
