"""The report of `rosetta diff --markdown`: the verdict first, within a size, and all of it plain text in a fence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from benchmarks.ladder.diff import Diff, compare_records
from benchmarks.ladder.judge.check import Check
from benchmarks.ladder.read.record import Side
from benchmarks.ladder.report import report
from tests.support.records import DATA, changed, put, resaved, write

MOST_BYTES = 60_000  # that a comment on a pull request may have, with room to spare
HOSTILE = "@somebody #12 https://example.com <i> ``` ~~~ ````text"


@pytest.fixture
def wrong(tmp_path: Path) -> Diff:
    data = changed(DATA, put("weights fc kernel", np.transpose))
    return compare_records(
        *(Side(write(tmp_path / side, side, of)) for side, of in (("torch", DATA), ("keras", data)))
    )


def fenced(comment: str) -> list[str]:
    """The lines of a report, which is one fence and nothing else."""
    (token,) = MarkdownIt("commonmark").parse(comment)
    assert (token.type, token.info) == ("fence", "text")
    return token.content.splitlines()


def test_the_report_has_verdict_errors_versions_and_losses(wrong: Diff) -> None:
    lines = fenced(report(wrong, "rosetta diff torch keras"))
    assert lines[0].startswith("keras breaks at weights")
    assert lines[-1] == "$ rosetta diff torch keras"
    rows = [line.split() for line in lines]
    assert ["framework", "torch", "1", "keras", "1", "on", "tensorflow"] in rows
    assert ["1", str(DATA["losses"][0]), str(DATA["losses"][0])] in rows
    assert any(row[:1] == ["weights"] and "wrong" not in row for row in rows)


def test_a_reviewer_sees_tokens(tmp_path: Path) -> None:
    sides = [write(tmp_path / name, name, DATA) for name in ("torch", "paddle")]
    for side, last in zip(sides, (9, 8), strict=True):
        tokens = np.array([[3, 1, 4, 1, 5, last]])
        resaved(side, "outputs", lambda arrays, tokens=tokens: arrays | {"tokens": tokens})
    rows = [line.split() for line in fenced(report(compare_records(*map(Side, sides)), ""))]
    assert "tokens 1e+00, breaks equal 3 1 4 1 5 9 3 1 4 1 5 8".split() in rows


def test_a_report_is_one_fence_of_bounded_size(wrong: Diff) -> None:
    item = replace(wrong.checks[0].item, tensor=HOSTILE + "x" * 10_000)
    hostile = replace(wrong, checks=[Check(item, 0.0)] * 5_000, notes=[HOSTILE * 1000] * 5_000, right=HOSTILE)
    comment = report(hostile, "rosetta diff " + "x" * 100_000)
    assert fenced(comment)
    assert len(comment.encode()) < MOST_BYTES
