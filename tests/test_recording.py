"""A recording on disk: whole lines only, never overwritten, refused in one line where it is not one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.measure.plan import Cell
from benchmarks.measure.recording import (
    Cause,
    Decoded,
    Generation,
    Recording,
    Trained,
    append_line,
    create_lines,
    cut_torn_line,
    format_of,
)
from benchmarks.measure.schedule import resumed
from benchmarks.results.rows import results_of
from common.errors import CannotBeginError, RosettaError
from tests.program import refusal
from tests.recordings import plan_of, recording, trained, written

WHOLE = recording(plan_of(["torch", "keras"], "standard"), generations=2)
WHOLE.lines += [trained(Cell("torch"), 0), Cause(Cell("torch", "default"), ["threads"], 0.2, 0.1, 0.1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(WHOLE, tmp_path / "a.jsonl").path


def refused(path: Path) -> str:
    """In one line, whatever the file holds, and without what could write over the terminal."""
    with pytest.raises(RosettaError) as caught:
        results_of(Recording.read(path))
    message = str(caught.value)
    assert message.isprintable(), message
    assert str(path) in message
    return message


def rewritten(path: Path, kind: str, change: Callable[[Any], object]) -> None:
    """The file with `change` done to its first line of a kind."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(next(line for line in lines if line["kind"] == kind))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_what_was_written_is_read(path: Path) -> None:
    read = Recording.read(path)
    assert read.head == WHOLE.head
    assert read.lines == WHOLE.lines
    assert format_of(path) == "rosetta-benchmark"
    assert results_of(read) == results_of(WHOLE)


def test_a_recording_that_is_created_has_its_head_alone(tmp_path: Path) -> None:
    made = Recording.create(tmp_path / "folder" / "a.jsonl", WHOLE.plan, WHOLE.head.corpus)
    assert Recording.read(made.path) == made
    assert made.lines == []
    made.append(WHOLE.lines[0])
    assert Recording.read(made.path).lines == WHOLE.lines[:1]


def test_nothing_is_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(CannotBeginError, match="exists already; choose another --out, or continue it with --resume"):
        create_lines(path, WHOLE.head)
    with pytest.raises(CannotBeginError, match="the name of a file"):
        create_lines(Path("."), WHOLE.head)
    with pytest.raises(CannotBeginError, match="cannot be written"):
        create_lines(path / "beneath a file.jsonl", WHOLE.head)
    assert path.read_bytes() == before


@pytest.mark.parametrize("torn", [1, 40, 1000])
def test_a_torn_last_line_is_left_out_and_cut_off(path: Path, torn: int) -> None:
    whole = path.read_bytes()
    last = whole.rfind(b"\n", 0, -1) + 1
    path.write_bytes(whole[: last + torn] if torn < len(whole) - last else whole[:-1])
    assert Recording.read(path).lines == WHOLE.lines[:-1]
    cut_torn_line(path)
    append_line(path, WHOLE.lines[-1])
    assert path.read_bytes() == whole
    cut_torn_line(path)
    assert path.read_bytes() == whole, "what is whole is not cut"


@pytest.mark.parametrize("cut", [0, 10])
def test_a_file_without_a_whole_first_line_is_no_recording(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:cut])
    assert "is empty, expected rosetta-benchmark version 3" in refused(path)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("{}", "line 1, is no line of rosetta-benchmark version 3"),
        ("[1]", "Expected `object`"),
        ("not JSON", "malformed"),
        ('{"kind": "plan", "format": "rosetta-bench", "version": 1}', "missing required field"),
        ('{"kind": "\\u001b[2J"}', "is no line of"),
        ('{"kind": "plan", "\\u001b[2J\\n": 1}', "is no line of"),
        ("[" * 100_000, "is no line of"),
        ('{"kind": "plan", "plan": ' + '{"a":' * 100_000, "is no line of"),
        ("\x00\udcff", "is no line of"),
    ],
    ids=["empty", "list", "text", "earlier", "escape", "escaped field", "deep list", "deep object", "bytes"],
)
def test_another_file_is_refused(tmp_path: Path, first: str, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(first.encode("utf-8", "surrogateescape") + b"\n")
    assert said in refused(path)
    assert format_of(path) in ("", "rosetta-bench")


def test_another_format_or_version_is_named(path: Path) -> None:
    rewritten(path, "plan", lambda head: head.update(version=4))
    assert refused(path).endswith("is rosetta-benchmark version 4, expected rosetta-benchmark version 3")
    rewritten(path, "plan", lambda head: head.update(format="\x1b[2J", version=3))
    assert "is ?[2J version 3" in refused(path)


def test_a_recording_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    for read in (Recording.read, format_of):
        with pytest.raises(CannotBeginError, match=r"cannot be read: .*; `rosetta bench` makes one"):
            read(tmp_path / "none.jsonl")


def set_in(*where: str | int, value: Any) -> Callable[[Any], object]:
    """What puts `value` at a place in a line."""

    def change(line: Any) -> None:
        for key in where[:-1]:
            line = line[key]
        line[where[-1]] = value

    return change


VISIT = ("cycles", 0, 0)
HOSTILE: list[tuple[str, Callable[[Any], object], str]] = [
    ("generation", lambda line: line.pop("heat"), "missing required field `heat`"),
    ("generation", lambda line: line.update(hint=1), "unknown field `hint`"),
    ("generation", lambda line: line.update(kind="round"), "Invalid value 'round'"),
    ("generation", lambda line: line.update(kind="plan"), "is no line of"),
    ("generation", set_in("number", value="1"), "Expected `int`, got `str`"),
    ("generation", set_in("number", value=True), "Expected `int`, got `bool`"),
    ("generation", set_in(*VISIT, "steps", value=[]), "length >= 1"),
    ("generation", set_in(*VISIT, "steps", 0, value=0.0), "Expected `float` >="),
    ("generation", set_in(*VISIT, "steps", 0, value=-1.0), "Expected `float` >="),
    ("generation", set_in(*VISIT, "steps", 0, value=None), "Expected `float`, got `null`"),
    ("generation", set_in(*VISIT, "steps", 0, value=1e300), "Expected `float` <="),
    ("generation", set_in(*VISIT, "loop", value=0), "at `$.cycles[0][0].loop`"),
    ("generation", set_in(*VISIT, "cell", value=99), "is not one visit to each of its cells"),
    ("generation", set_in(*VISIT, "cell", value=-1), "is not one visit to each of its cells"),
    ("generation", lambda line: line["cycles"][0].pop(), "is not one visit to each of its cells"),
    ("generation", lambda line: line["cycles"][0].append(line["cycles"][0][0]), "is not one visit to each"),
    ("generation", set_in("starts", 0, "cell", value=99), "has cells that the plan does not have"),
    ("generation", set_in("number", value=2), "generation 2 is recorded twice"),
    ("generation", set_in("starts", 0, "facts", value={}), "missing required field"),
    ("generation", set_in("starts", 0, "warm_up", "first_step_seconds", value=0), "Expected `float` >="),
    ("decoded", lambda line: line.update(translations=["one"]), "there are not 2 translations"),
    ("decoded", lambda line: line.update(characters=[0, 1]), "Expected `int` >= 1"),
    ("decoded", lambda line: line.update(characters=None), "no line has the number of characters"),
    ("decoded", lambda line: line["scores"].pop("chrf"), "missing required field `chrf`"),
    ("trained", lambda line: line["scores"].pop(), "does not have as many scores as epochs"),
    ("trained", lambda line: line.update(scores=[], epochs=[]), "does not have as many scores as epochs"),
    ("cause", lambda line: line.update(groups=["magic"]), "that is none of threads, library"),
    ("cause", lambda line: line.update(matched=0.0), "Expected `float` >="),
    ("evidence", lambda line: line["profile"].update(seconds=0.0), "Expected `float` >="),
    ("evidence", lambda line: line["profile"]["kernels"][0].update(part="magic"), "Invalid enum value 'magic'"),
    ("evidence", set_in("products", 0, "flops", value=0.0), "Expected `float` >="),
    ("certified", lambda line: line["certificate"].pop("rungs"), "missing required field `rungs`"),
    ("plan", set_in("plan", "preset", value="theirs\x1b[2J"), "has the preset theirs?[2J"),
    ("plan", set_in("plan", "settings", "batch_size", value=0), "batch_size is 0, expected 1 to"),
    ("plan", set_in("plan", "cells", 0, "backend", value=3), "Expected `str`, got `int`"),
    ("plan", set_in("machine", value={}), "missing required field"),
    ("plan", set_in("corpus", "sizes", "training_rows", value=0), "Expected `int` >= 1"),
]


@pytest.mark.parametrize(
    ("kind", "change", "said"), HOSTILE, ids=[f"{n} {line[0]}" for n, line in enumerate(HOSTILE)]
)
def test_a_line_that_is_damaged_is_refused(path: Path, kind: str, change: Callable[[Any], object], said: str) -> None:
    rewritten(path, kind, change)
    assert said in refused(path)


def test_a_line_in_the_midst_that_is_torn_is_named(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:-5]
    path.write_bytes(b"\n".join(lines))
    assert f"{path}, line 3, is no line of" in refused(path)


def test_lines_that_name_cells_of_no_plan_are_harmless(path: Path) -> None:
    rewritten(path, "decoded", lambda line: line["cell"].update(backend="jax"))
    assert "no line has the number of characters" in refused(path)
    lines = [line for line in WHOLE.lines if not isinstance(line, Generation)]
    stranger = msgspec.structs.replace(next(line for line in lines if isinstance(line, Decoded)), cell=Cell("jax"))
    made = Recording(path, WHOLE.head, [*lines, stranger, trained(Cell("jax"), 1)])
    assert results_of(made).rows == []


def test_a_backend_that_this_version_lacks_has_its_row(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'"backend":"keras"', '"backend":"jax"', text), encoding="utf-8")
    assert {row.label for row in results_of(Recording.read(path)).of_group("main")} == {"torch", "jax"}


def test_another_text_or_machine_is_not_gone_on_with(path: Path) -> None:
    with pytest.raises(CannotBeginError, match="phrasebook has changed since"):
        resumed(path)  # whose digest is of no corpus
    assert "exists already" in refusal(2, "bench", "--backends", "numpy", "--out", path)


def test_lines_of_a_kind_are_given_in_their_order() -> None:
    assert [generation.number for generation in WHOLE.of_kind(Generation)] == [1, 2]
    assert [line.seed for line in WHOLE.of_kind(Trained)] == [0]
