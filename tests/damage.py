"""Committed recordings that are damaged at random, line by line and field by field, and what is made of them."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from backends.process.parent import PROJECT
from benchmarks import commands
from benchmarks.measure.recording import Recording
from benchmarks.report import changes, page, render
from common.errors import RosettaError

COMMITTED = PROJECT / "docs" / "benchmark"
WORDS = ["", "x", "torch", "default", "alone", "\x1b[2J", "a\u2028b", "\u202e", "-1", "nan", "é" * 20_000]
NUMBERS = [0, 1, -1, 2, 10**12, 10**30, -(10**30), 10**400, 0.0, 1e-320, 1e-9, -1e-9, 0.5, 1e39, 1e300]
OTHERS = [None, True, False, [], {}, [[]], [{}], [0.1], {"a": 1}]


@cache
def lines_of(name: str) -> list[Any]:
    """The lines of a committed recording, of which each round has two cycles; of a benchmark two rounds."""
    lines = [json.loads(line) for line in (COMMITTED / name).read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["kind"] == "round":
            line["cycles"] = line["cycles"][:2]
    return [line for line in lines if name != "intel.jsonl" or line.get("number", 0) < 3]


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """A committed recording with one to three of its lines or fields changed."""
    lines = list(lines_of(name))
    for _ in range(draw(st.integers(1, 3))):
        kinds = sorted({str(line.get("kind")) for line in lines})
        if not kinds:
            break
        kind = draw(st.sampled_from(kinds))  # so that rare kinds are damaged as often as frequent ones
        place = draw(st.sampled_from([n for n, line in enumerate(lines) if str(line.get("kind")) == kind]))
        match draw(st.integers(0, 19)):
            case 0:
                del lines[place]
            case 1:
                lines.insert(draw(st.integers(0, len(lines))), lines[place])
            case _:
                lines[place] = copy.deepcopy(lines[place])
                _damage(draw, lines[place])
    raw = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    if draw(st.integers(0, 19)):
        return raw
    where = draw(st.integers(0, len(raw)))
    return raw[:where] + draw(st.binary(max_size=3)) + raw[where + draw(st.integers(0, 100)) :]


def _damage(draw: st.DrawFn, inside: Any) -> None:
    """Change one field of a line, in place; each level of nesting is as likely as the others."""
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        if isinstance(inside, dict) and "kind" in keys and len(keys) > 1 and draw(st.integers(0, 9)):
            keys.remove("kind")
        key = draw(st.sampled_from(keys))
        old = inside[key]
        if not (isinstance(old, dict | list) and old and draw(st.integers(0, 4))):
            break
        inside = old
    edit = draw(st.integers(0, 9))
    if edit == 0:
        del inside[key]
    elif edit == 1 and isinstance(inside, list):
        inside.insert(key, old)
    elif edit == 2 and isinstance(inside, dict):
        inside[draw(st.sampled_from(["x", "\x1b[2J", "torch"]))] = old
    elif edit == 3 and isinstance(old, list):
        inside[key] = old[:1]
    elif edit <= 7 and isinstance(old, int | float):
        inside[key] = draw(st.sampled_from([*NUMBERS, -old, 1000 * old, old // 2, 1 - old]))
    elif edit <= 7 and isinstance(old, str):
        inside[key] = draw(st.sampled_from([*WORDS, old + "\x1b", old * 2]))
    else:
        inside[key] = draw(st.sampled_from([*OTHERS, *NUMBERS, *WORDS]))


def reported(path: Path) -> str:
    """The page and the Markdown of a recording, or the one line with which it is refused."""
    try:
        found = commands.report_of([path])
    except RosettaError as error:
        return _line(error)
    return render.html(found.page, found.charts) + render.markdown(found.page) + found.summary


@cache
def another() -> Recording:
    return Recording.read(COMMITTED / "intel.jsonl")


def beside_another(path: Path) -> str:
    """The page of a recording beside `another`, or the one line with which it is refused."""
    try:
        recording = Recording.read(path, "rosetta-benchmark")
    except RosettaError as error:
        return _line(error)
    both = page.machines([("damaged", recording), ("whole", another())]).page
    return render.html(both, {}) + render.markdown(both)


def compared_with(path: Path, other: Recording) -> str:
    """What `compare` says of a recording and another one, or the one line with which it is refused."""
    try:
        recording = Recording.read(path, "rosetta-benchmark")
    except RosettaError as error:
        return _line(error)
    both = changes.compare(recording, other), changes.compare(other, recording)
    return "".join(map(changes.page, both))


def _line(error: RosettaError) -> str:
    line = str(error)
    assert line.isprintable(), repr(line)
    assert len(line) < 1000
    return line
