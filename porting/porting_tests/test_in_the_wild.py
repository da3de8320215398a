"""The page on other projects' models is what the saved results say;
and what a comparison shows is read rightly."""

import re
from pathlib import Path
from typing import Any

import pytest

from wild.compare import Result, read
from wild.page import PAGE, WILD, counts, page
from wild.page import read as saved
from wild.pairs import DIFFERENCES, PAIRS, Pair

SQUEEZENET = next(pair for pair in PAIRS if pair.model == "squeezenet1_1")
PADDING = "padding is [0, 0] on the left and 1 on the right"


def report(line: str, *causes: str, wrong: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what `rosetta-diff --json` tells where the forward pass breaks,
    and the replay at some layers."""
    places = [
        {
            "layer": layer,
            "what": "gives: error 1.0",
            "lines": ["a.py:1: x", "b.py:1: x"],
            "causes": [],
            "inside": False,
        }
        for layer in wrong
    ]
    return {
        "passed": False,
        "breaks_at": "forward",
        "explanation": ["right breaks at forward", line],
        "causes": [{"standing": "likely", "sentence": cause} for cause in causes],
        "replay": {"judged": ["a", "b"], "wrong": places, "not_judged": {}},
    }


def result_of(pair: Pair, **told: Any) -> Result:
    result = Result(pair.name, "eval", [])
    read(result, told, pair)
    return result


def test_page_is_what_its_results_say() -> None:
    assert PAGE.read_text("utf-8") == page(saved())


def test_readme_has_the_pages_number_of_pairs_that_differ() -> None:
    number = dict(counts(saved()))
    differ, pairs = number["pairs that are equal after what differs is mended"], number["pairs"]
    readme = (WILD.parent.parent / "README.md").read_text("utf-8")
    assert f"{differ} of {pairs} such pairs" in " ".join(readme.split())


REPORTS = [path for path in sorted((WILD / "reports").glob("*.md")) if path.stem != "README"]


@pytest.mark.parametrize("path", REPORTS, ids=[path.stem for path in REPORTS])
def test_report_has_the_script_of_its_find(path: Path) -> None:
    _, script = (WILD / "finds" / f"{path.stem}.py").read_text("utf-8").split('"""\n\n')
    assert re.findall("```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL) == [script]


def test_every_difference_is_expected_somewhere() -> None:
    assert {name for pair in PAIRS for name in pair.differences} == DIFFERENCES.keys()


def test_expected_difference_is_seen_and_named() -> None:
    result = result_of(SQUEEZENET, **report("  features.0 output: error 1.0", PADDING))
    assert (result.seen, result.named) == (["SqueezeNet's padding"],) * 2
    assert not result.false_places + result.false_causes


@pytest.mark.parametrize(
    ("line", "causes", "wrong", "places", "false_causes"),
    [
        ("  elsewhere output: error 1.0", (), (), 1, 0),
        ("  features.0 output: error 1.0", ("a wrong cause",), (), 0, 1),
        ("  features.0 output: error 1.0", (PADDING,), ("_conv", "_conv3.fc"), 1, 0),
    ],
)
def test_anything_else_is_a_false_alarm(
    line: str, causes: tuple[str, ...], wrong: tuple[str, ...], places: int, false_causes: int
) -> None:
    result = result_of(SQUEEZENET, **report(line, *causes, wrong=wrong))
    assert (len(result.false_places), len(result.false_causes)) == (places, false_causes)
