"""The report of `rosetta diff --markdown`: the verdict first, within a size, and nothing of a record is markup."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ladder.diff import Diff, compare_records
from benchmarks.ladder.read.record import Side
from benchmarks.ladder.report import BREAK, report
from tests.support.records import DATA, changed, put, resaved, write

MOST_BYTES = 60_000  # that a comment on a pull request may have, with room to spare
LINKS = "@somebody #12 https://example.com www.example.com"


@pytest.fixture
def wrong(tmp_path: Path) -> Diff:
    data = changed(DATA, put("weights fc kernel", np.transpose))
    sides = write(tmp_path / "left", "torch", DATA), write(tmp_path / "a|b <i>`* @me", "keras", data)
    return compare_records(*map(Side, sides))


def test_the_verdict_is_first_and_names_are_no_markup(wrong: Diff) -> None:
    made = report(wrong, "rosetta diff left right")
    assert made.startswith(rf"### a\|b \<i\>\`\* @{BREAK}me breaks at weights")
    rows = [line for line in made.splitlines() if line.startswith(("| tensors", "| weights"))]
    assert "**breaks**" in rows[1] > rows[0]
    assert made.endswith("Made by `rosetta diff left right`")


def test_a_reviewer_sees_versions_losses_and_tokens(tmp_path: Path) -> None:
    sides = [write(tmp_path / name, name, DATA) for name in ("torch", "paddle")]
    for side, last in zip(sides, (9, 8), strict=True):
        tokens = np.array([[3, 1, 4, 1, 5, last]])
        resaved(side, "outputs", lambda arrays, tokens=tokens: arrays | {"tokens": tokens})
    made = report(compare_records(*map(Side, sides)), "")
    assert "| framework | torch 1 | paddle 1 |" in made
    assert "| tokens | 1e+00 **breaks** | equal | 3 1 4 1 5 9 | 3 1 4 1 5 8 |" in made
    assert f"| 1 | {DATA['losses'][0]} | {DATA['losses'][0]} |" in made


def test_whatever_a_record_holds_a_report_has_no_links_and_its_size_is_bounded(wrong: Diff) -> None:
    long = replace(wrong.checks[0], tensor=LINKS + "x" * 10_000)
    hostile = replace(wrong, checks=[long] * 5_000, notes=[LINKS * 1000] * 5_000, right=LINKS)
    made = report(hostile, "rosetta diff " + "x" * 100_000)
    assert len(made.encode()) < MOST_BYTES
    for link in LINKS.split():
        assert link not in made
