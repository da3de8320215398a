"""A recording on disk: whole lines only, never overwritten, refused in one line where it is not one."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.measure import lines as lines_module
from benchmarks.measure import recording as recording_module
from benchmarks.measure.bench import opened_benchmark
from benchmarks.measure.lines import Round, append_line, create_lines, cut_torn_line, format_of, only_writer
from benchmarks.measure.recording import Decoded, Recording
from benchmarks.report.changes import compare
from benchmarks.report.results import Results
from common.errors import CannotBeginError, RosettaError
from tests.attack.damaged_files import reported
from tests.program import refusal
from tests.recordings import COMMITTED, Noise, changed, on_machine, plan_of, recording, slowed, written

WHOLE = recording(plan_of(["torch", "keras"], within=0.04), rounds=2)
VERSION = "expected rosetta-benchmark version 5"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(WHOLE, tmp_path / "a.jsonl").path


def refused(path: Path) -> str:
    """In one line, whatever the file holds, and without what could write over the terminal."""
    with pytest.raises(RosettaError) as caught:
        Recording.read(path)
    message = str(caught.value)
    assert message.isprintable(), message
    assert str(path) in message
    return message


def rewritten(path: Path, kind: str, change: Callable[[Any], object]) -> None:
    """The file with `change` done to its first line of a kind."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(next(line for line in lines if line["kind"] == kind))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_what_was_written_is_read_and_nothing_is_overwritten(path: Path) -> None:
    read = Recording.read(path)
    assert (read.head, read.lines) == (WHOLE.head, WHOLE.lines)
    assert format_of(path) == "rosetta-benchmark"
    new = path.parent / "folder" / "b.jsonl"
    made = Recording.begin(new, WHOLE.plan, WHOLE.head.corpus)
    made.append(WHOLE.lines[0])
    assert Recording.read(new) == made
    before = path.read_bytes()
    with pytest.raises(CannotBeginError, match="exists already; choose another --out, or continue it with --resume"):
        create_lines(path, WHOLE.head)
    for wrong, said in ((Path("."), "is a folder"), (path / "beneath a file.jsonl", "cannot be written")):
        with pytest.raises(CannotBeginError, match=said):
            create_lines(wrong, WHOLE.head)
    assert "exists already" in refusal(2, "bench", "--backends", "numpy", "--out", path)
    assert "the name is too long" in refusal(2, "bench", "--backends", "numpy", "--out", path.with_name("n" * 300))
    assert "cannot be read: File name too long" in refusal(2, "report", path.with_name("n" * 300), "-o", "a.md")
    own = path.rename(path.with_name("own.md"))
    assert "own.md is itself a recording; give --out another name" in refusal(2, "report", own, "-o", own)
    assert own.read_bytes() == before
    notes = path.with_name("notes.md")
    notes.write_text("my own")
    assert "notes.md exists, and `rosetta report` did not make it" in refusal(2, "report", own, "-o", notes)
    nowhere = path.with_name("link.md")
    nowhere.symlink_to("nothing")
    assert "link.md exists, and `rosetta report` did not make it" in refusal(2, "report", own, "-o", nowhere)
    assert nowhere.is_symlink()
    assert notes.read_text() == "my own"
    assert ".html" in refusal(2, "report", own, "-o", own.with_suffix(".pdf"))
    assert "cannot be read" in refusal(2, "report", path, "-o", notes, "--force")
    assert "cannot be written" in refusal(2, "report", own, "-o", own.parent / "none" / "report.md")


@pytest.mark.parametrize("torn", [1, 40, 100_000])
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", f"is empty, {VERSION}"),
        ('{"kind": "pl', f"is empty, {VERSION}"),
        ("{}\n", "line 1, is no line of rosetta-benchmark version 5"),
        ("[1]\n", "Expected `object`"),
        ("not JSON\n", "malformed"),
        ('{"kind": "plan", "format": "rosetta-bench", "version": 1}\n', f"is rosetta-bench version 1, {VERSION}"),
        ('{"kind": "plan", "format": "\\u001b[2J", "version": 9}\n', f"is ?[2J version 9, {VERSION}"),
        ('{"kind": "plan", "format": "rosetta-sweep", "version": 2}\n', "expected rosetta-sweep version 4"),
        ('{"format": "rosetta-sweep", "version": 4, "kind": "\\u001b[2J"}\n', "is no line of rosetta-sweep"),
        ("[" * 100_000 + "\n", "is no line of"),
        ('{"kind": "plan", "plan": ' + '{"a":' * 100_000 + "\n", "is no line of"),
        ("\x00\udcff\n", "is no line of"),
        ("cos\nsystem\n(S'touch harmed'\ntR.", "is no line of"),  # a pickle
    ],
    ids="nothing torn empty list text earlier hostile older escape deep-list deep-object bytes pickle".split(),
)
def test_another_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert said in refused(path)
    with pytest.raises(RosettaError, match=r"is rosetta-sweep version 4, expected rosetta-benchmark version 5"):
        Recording.read(COMMITTED / "scaling.jsonl", "rosetta-benchmark")


def set_in(*where: str | int, value: Any) -> Callable[[Any], object]:
    """What puts `value` at a place in a line."""

    def change(line: Any) -> None:
        for key in where[:-1]:
            line = line[key]
        line[where[-1]] = value

    return change


# What is damaged, and a part of the message. That each class has its bounds is held by one field of each kind.
VISIT = ("cycles", 0, 0)
HOSTILE: list[tuple[str, Callable[[Any], object], str]] = [
    ("round", lambda line: line.pop("work"), "missing required field `work`"),
    ("round", lambda line: line.update(hint=1), "unknown field `hint`"),
    ("round", lambda line: line.update(kind="cell"), "Invalid value 'cell'"),
    ("round", set_in("number", value=10_001), "Expected `int` <= 10000"),
    ("round", set_in("number", value=2), "round 2 is recorded twice"),
    ("round", set_in(*VISIT, "steps", value=[]), "length >= 1"),
    ("round", set_in(*VISIT, "steps", 0, value=0.0), "Expected `float` >="),
    ("round", set_in(*VISIT, "row", value=99), "is not one visit to each of its rows"),
    ("round", lambda line: line["cycles"][0].pop(), "is not one visit to each of its rows"),
    (
        "round",
        lambda line: [visit.update(row=visit["row"] + 90) for cycle in line["cycles"] for visit in cycle],
        "has rows that the plan does not have",
    ),
    ("round", set_in("starts", 0, "row", value=99), "it has lines of other rows than its 5"),
    ("round", set_in("starts", 0, "facts", "import_seconds", value=-1e300), "a number above 1e+40"),
    ("decoded", lambda line: line.update(translations=["one"]), "there are not 2 translations"),
    ("decoded", lambda line: line.update(characters=None), "no line has the number of characters"),
    ("profiling", set_in("profile", "kernels", 0, "seconds", value=-1.0), "a kernel took less than no time"),
    ("profiling", set_in("flops", value=0.0), "Expected `float` >="),
    ("certified", lambda line: line["certificate"].pop("rungs"), "missing required field `rungs`"),
    ("plan", set_in("plan", "settings", "batch_size", value=0), "batch_size is 0, expected 1 to"),
    ("plan", set_in("plan", "rows", 1, "backend", value="torch"), "it has 5 rows with 4 labels"),
    (
        "plan",
        lambda line: (
            [row.update(lane="default") for row in line["plan"]["rows"][:3]]
            and line["plan"].update(rows=line["plan"]["rows"][:3])
        ),
        "none of its rows has matched settings",
    ),
    ("plan", set_in("plan", "rows", 0, "lane", value="\x1b[2J"), "Invalid enum value '"),
    ("plan", set_in("plan", "workers", value=2), "its plan is that of a rosetta-workers"),
    ("plan", set_in("plan", "data", "num_samples", value=10**400), "a number above 1e+40"),
    ("plan", set_in("corpus", "shown", 0, "source", value="x" * 10_001), "length <= 10000"),
]


@pytest.mark.parametrize(
    ("kind", "change", "said"), HOSTILE, ids=[f"{n} {line[0]}" for n, line in enumerate(HOSTILE)]
)
def test_a_line_that_is_damaged_is_refused(path: Path, kind: str, change: Callable[[Any], object], said: str) -> None:
    rewritten(path, kind, change)
    assert said in refused(path)


def test_what_is_valid_and_strange_has_a_page(tmp_path: Path) -> None:
    def alone(line: Round) -> Round:
        row = line.number % 2
        cycles = [[visit for visit in cycle if visit.row == row] for cycle in line.cycles]
        return msgspec.structs.replace(line, starts=[s for s in line.starts if s.row == row], cycles=cycles)

    def far(line: Round) -> Round:
        cycles = [[msgspec.structs.replace(v, steps=[1e-9 if v.row else 1e9]) for v in c] for c in line.cycles]
        return msgspec.structs.replace(line, cycles=cycles)

    apart = changed(recording(plan_of(["torch", "keras"]), rounds=4, extra=0), Round, alone)
    assert "No answer yet" in reported(written(apart, tmp_path / "a.jsonl").path)
    extreme = changed(recording(plan_of(["torch", "keras"]), rounds=3), Round, far)
    assert "999,999,999,999,998,592 times as fast" in reported(written(extreme, tmp_path / "b.jsonl").path)
    still = recording(plan_of(["torch", "keras"]), rounds=3, noise=Noise(0, 0, 0))
    (torch, *_) = compare(still, slowed(still, "torch", 2.0)).changes
    assert (torch.word, torch.ratio.low, torch.ratio.high) == ("slower", pytest.approx(0.5), pytest.approx(0.5))
    unknown = tmp_path / "c.jsonl"  # a backend that this version lacks
    text = written(WHOLE, unknown).path.read_text(encoding="utf-8")
    unknown.write_text(re.sub(r'"backend":"keras"', '"backend":"jax"', text), encoding="utf-8")
    assert {row.label for row in Results(Recording.read(unknown)).rows if not row.why_not} >= {"torch", "jax"}


def test_what_cannot_be_written_whole_is_not_written(
    path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that could not be read again, and a first line that a full disk cuts off."""
    before, folder = path.read_bytes(), tmp_path_factory.mktemp("new")
    line = WHOLE.of_kind(Decoded)[0]
    for wrong in (msgspec.structs.replace(line, sentences=10**41), msgspec.structs.replace(line, seconds=nan)):
        with pytest.raises(RosettaError, match="cannot hold what was measured"):
            append_line(path, wrong)
    assert path.read_bytes() == before
    named = msgspec.structs.replace(WHOLE.plan, run="\udcff")  # which stands for a byte that is not UTF-8
    with pytest.raises(CannotBeginError, match="cannot hold"):
        create_lines(folder / "a.jsonl", msgspec.structs.replace(WHOLE.head, plan=named))

    def cut(path: Path, line: object) -> None:
        path.write_bytes(b'{"kind":"pl')
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lines_module, "append_line", cut)
    new = folder / "b.jsonl"
    with pytest.raises(CannotBeginError, match="cannot be written: the disk is full"), only_writer(new, new=True):
        create_lines(new, WHOLE.head)
    assert list(folder.iterdir()) == []


def test_what_is_no_file_or_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    sparse, pipe = tmp_path / "a.jsonl", tmp_path / "pipe"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    os.mkfifo(pipe)
    for path, said in (
        (sparse, "is larger than 32 MiB"),
        (pipe, "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path / "none.jsonl", r"cannot be read: .*; `rosetta bench` makes one"),
    ):
        with pytest.raises(CannotBeginError, match=said):
            Recording.read(path)
        assert format_of(path) == ""


def test_another_machine_or_another_text_is_not_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor whose name was not found is no other machine."""
    known, unknown = Recording.read(path), on_machine(Recording.read(path), processor="")
    for was, now in ((known, unknown), (unknown, unknown), (unknown, known)):
        monkeypatch.setattr(recording_module, "describe_machine", lambda found=now: found.head.machine)
        was.resume(was.head.corpus)
    with pytest.raises(CannotBeginError) as caught:
        on_machine(known, processor="\x1b[2J\u202e").resume(known.head.corpus)
    assert str(caught.value).endswith("processor was ?[2J? and is now a processor; choose another --out")
    with pytest.raises(CannotBeginError, match="phrasebook has changed since"):
        opened_benchmark(path, None)  # whose digest is of no corpus
    other = msgspec.structs.replace(known.head.corpus, weights_sha256="2" * 64)
    with pytest.raises(CannotBeginError, match="the bundled run after 30 epochs have changed since"):
        known.resume(other)


def test_a_command_of_the_page_is_one_command_whatever_the_recording_names() -> None:
    """Pasted into a terminal, too: it holds no character that the terminal would obey."""
    named = {"run": "a'b; touch x", "baseline": "\x03\nreboot\n", "device": "$(id)`id`\u202e\x9b\\x41"}
    command = msgspec.structs.replace(plan_of(["torch"]), **named).command.replace(" \\\n", " ")
    assert command.isprintable()
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True)
    words = done.stdout.decode().split("\0")
    assert {name: words[words.index(f"--{name}") + 1] for name in named} == named
