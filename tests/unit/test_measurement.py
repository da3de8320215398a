"""A measurement on disk: whole lines only, never overwritten,
refused in one line where it is damaged."""

import json
import os
import re
from math import nan
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from benchmarks.measure.measurement import Measurement, append_line
from benchmarks.report.bench_results import BenchResults
from benchmarks.schema import Decoded, Round
from common.errors import CannotBeginError, RosettaError
from tests.support.measurements import changed, measurement, plan_of, reported, written
from tests.support.program import refusal

WHOLE = measurement(plan_of(["torch", "keras"], within=0.04), rounds=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(WHOLE, tmp_path / "a.jsonl").path


def refused(path: Path) -> str:
    """In one line, whatever the file holds, and without what could write over the terminal."""
    with pytest.raises(RosettaError) as caught:
        Measurement.read(path)
    message = str(caught.value)
    assert message.isprintable(), message
    assert message.startswith((f"{path} is damaged", f"{path} is no measurement"))
    return message


def test_what_was_written_is_read_and_nothing_is_overwritten(path: Path) -> None:
    read = Measurement.read(path)
    assert (read.head, read.lines) == (WHOLE.head, WHOLE.lines)
    before, folder = path.read_bytes(), path.parent
    for wrong, message in (
        (path, "exists already; choose another --out"),
        (Path("."), "exists already"),
        (path / "beneath a file.jsonl", "cannot be written"),
        (path.with_name("n" * 300), "the name is too long"),
    ):
        with pytest.raises(CannotBeginError, match=message):
            Measurement.create(wrong, WHOLE.head)
    assert "cannot be read: the name is too long" in refusal(
        2, "report", path.with_name("n" * 300), "-o", "a.md"
    )
    measurement = path.rename(folder / "own.md")
    notes = folder / "notes.md"
    nowhere = folder / "link.md"
    notes.write_text("my own")
    nowhere.symlink_to("nothing")
    for out, message in (
        (folder / f"{'n' * 300}.md", "cannot be written: the name is too long"),
        (measurement, "own.md is itself a measurement; give --out another name"),
        (notes, "notes.md exists, and `rosetta report` did not make it"),
        (nowhere, "link.md exists, and `rosetta report` did not make it"),
        (folder / "own.pdf", ".html"),
        (folder / "none" / "report.md", "cannot be written"),
    ):
        assert message in refusal(2, "report", measurement, "-o", out)
    assert nowhere.is_symlink()
    assert (measurement.read_bytes(), notes.read_text()) == (before, "my own")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no measurement; expected what `rosetta bench`"),
        ("Go.\tVa !\n", "is no measurement; expected what `rosetta bench`"),
        (
            '{"kind": "plan", "format": "rosetta-benchmark", "version": 5}\n',
            "Invalid value 'plan' - at",
        ),
        ('{"kind": "head", "format": "\\u001b[2J", "version": 9}\n', "Invalid enum value '"),
        (
            '{"format": "rosetta-recording", "version": 1, "kind": "\\u001b[2J"}\n',
            "Invalid value '?[2J'",
        ),
        ('{"kind": "head", "plan": ' + '{"a":' * 100_000 + "\n", "in line 1"),
        ("cos\nsystem\n(S'touch harmed'\ntR.", "is no measurement"),  # a pickle
        ('{"kind": "head", "format": "rosetta-rec', "is no measurement"),
    ],
    ids="nothing pairs earlier hostile escape deep pickle torn".split(),
)
def test_another_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    assert said in refused(path)


GONE = object()
STRANGE_VISIT = {"row": 99, "lead": [], "steps": [1.0], "loop": 1.0}
# Where a line of a kind is damaged, by what, and a part of the message. That each class has its
# bounds is held by one field of each kind.
HOSTILE = [
    ("round work", GONE, "missing required field `work`"),
    ("round hint", 1, "unknown field `hint`"),
    ("round number", 10_001, "Expected `int` <= 10000"),
    ("round cycles 0 0 steps 0", 0.0, "Expected `float` >="),
    ("round cycles", [[STRANGE_VISIT]], "its lines contradict its plan"),
    ("round starts 0 row", len(WHOLE.plan.rows), "its lines contradict its plan"),
    ("round starts 0 facts", GONE, "its lines contradict its plan"),
    ("round starts 0 facts import_seconds", -1e300, "Expected `float` >= 0"),
    ("head started", "yesterday", "Invalid RFC3339 encoded datetime"),
    ("head plan training settings batch_size", 0, "batch_size is 0, expected 1 to"),
    ("head plan training", None, "its lines contradict its plan"),
    ("head plan rows 1 backend", "torch", "its lines contradict its plan"),
    (
        "head plan rows",
        [{"backend": "torch", "lane": "installed"}],
        "its lines contradict its plan",
    ),
    ("head plan rows 0 lane", "\x1b[2J", "Invalid enum value '"),
    ("head plan training data num_samples", 10**400, "num_samples is 1"),
    ("head text shown 0 source", "x" * 10_001, "length <= 10000"),
]


@pytest.mark.parametrize(
    ("where", "value", "message"), HOSTILE, ids=[where for where, _, _ in HOSTILE]
)
def test_a_line_that_is_damaged_is_refused(
    path: Path, where: str, value: object, message: str
) -> None:
    kind, *keys, last = (int(word) if word.isdigit() else word for word in where.split())
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    place: Any = next(line for line in lines if line["kind"] == kind)
    for key in keys:
        place = place[key]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert message in refused(path)


def test_what_is_valid_and_strange_has_a_page(tmp_path: Path) -> None:
    def alone(line: Round) -> Round:
        row = line.number % 2
        cycles = [[turn for turn in cycle if turn.row == row] for cycle in line.cycles]
        return msgspec.structs.replace(
            line, starts=[s for s in line.starts if s.row == row], cycles=cycles
        )

    def far(line: Round) -> Round:
        cycles = [
            [msgspec.structs.replace(v, steps=[1e-9 if v.row else 1e9]) for v in c]
            for c in line.cycles
        ]
        return msgspec.structs.replace(line, cycles=cycles)

    apart = changed(
        measurement(plan_of(["keras", "keras:example"]), rounds=4, decoding=0), Round, alone
    )
    assert "No answer yet" in reported(written(apart, tmp_path / "a.jsonl").path)
    extreme = changed(measurement(plan_of(["torch", "keras"]), rounds=3), Round, far)
    assert "times as fast" in reported(written(extreme, tmp_path / "b.jsonl").path)
    few = changed(WHOLE, Decoded, lambda line: msgspec.structs.replace(line, translations=[]))
    assert "PyTorch trains" in reported(written(few, tmp_path / "d.jsonl").path)
    unknown = tmp_path / "c.jsonl"  # a backend that this version lacks
    text = written(WHOLE, unknown).path.read_text(encoding="utf-8")
    unknown.write_text(re.sub(r'"backend":"keras"', '"backend":"mxnet"', text), encoding="utf-8")
    assert {
        row.label for row in BenchResults(Measurement.read(unknown)).rows if not row.why_not
    } >= {
        "torch",
        "mxnet",
    }


def test_a_line_that_could_not_be_read_again_is_not_written(path: Path) -> None:
    before, line = path.read_bytes(), WHOLE.of_kind(Decoded)[0]
    (measured, _) = WHOLE.rounds()
    for wrong in (
        msgspec.structs.replace(line, sentences=10**41),
        msgspec.structs.replace(measured, seconds=nan),
    ):
        with pytest.raises(RosettaError, match="cannot hold what was measured"):
            append_line(path, wrong)
    assert path.read_bytes() == before
    # Which stands for a byte that is not UTF-8.
    training = msgspec.structs.replace(WHOLE.plan.training, run="\udcff")
    plan = msgspec.structs.replace(WHOLE.plan, training=training)
    with pytest.raises(CannotBeginError, match="cannot hold"):
        Measurement.create(
            path.with_name("b.jsonl"), msgspec.structs.replace(WHOLE.head, plan=plan)
        )


def test_a_line_on_disk_counts_when_ctrl_c_comes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk does not count; it wrote nothing whole."""
    last = WHOLE.rounds()[-1]
    for error, more in ((KeyboardInterrupt, 1), (OSError, 0)):
        before = Measurement.read(path)
        measured = Measurement.read(path)
        monkeypatch.setattr(os, "fsync", Mock(side_effect=error))
        with pytest.raises(error):
            measured.append(last)
        assert len(measured.lines) == len(before.lines) + more


def test_no_file_and_a_too_large_one_are_refused_unread(tmp_path: Path) -> None:
    sparse, pipe = tmp_path / "a.jsonl", tmp_path / "pipe"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    os.mkfifo(pipe)
    for path, said in (
        (sparse, "it holds more than 33,554,432 bytes"),
        (pipe, "it is not a file"),
        (Path("/dev/zero"), "it is not a file"),
        (tmp_path / "none.jsonl", r"cannot be read: .*; `rosetta bench` makes one"),
    ):
        with pytest.raises(CannotBeginError, match=said):
            Measurement.read(path)
