"""`rosetta bench` on NumPy's backend, in short visits: from the command line to JSON, killed, ended, gone on with."""

import fcntl
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks.measure import machine
from benchmarks.measure.lock import lock_path
from benchmarks.measure.recording import Recording
from tests.attack.stories import whole_lines
from tests.program import refusal, rosetta, short, start_short, wait_until, workers

# So wide that the fewest rounds are enough, on however restless a machine.
TINY = [*"--num-samples 300 --latent-dim 16 --threads 1 --within 100000% --budget 10m".split()]
HERE_TOO = ["--python", f"numpy={sys.executable}"]
TWICE_NUMPY = ["--backends", "numpy", *HERE_TOO, *TINY]  # two rows that start in no time
ROUNDS = 2  # of the benchmark that is looked at, before one with rows as installed


def in_a_round(program: Any, out: Path, rounds: int) -> None:
    """Wait until a benchmark has measured so many rounds and has processes of the next one."""
    wait_until(lambda: whole_lines(out).count(b'"kind":"round"') >= rounds or program.poll() is not None)
    wait_until(lambda: workers(program) or program.poll() is not None)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """The recording of a benchmark that is killed in its first round, and the whole lines that it had then."""
    out = tmp_path_factory.mktemp("bench") / "measured.jsonl"
    program = start_short(ROUNDS, "bench", *TWICE_NUMPY, "--out", out)
    in_a_round(program, out, 0)
    program.kill()
    program.communicate()
    before = whole_lines(out)
    with out.open("ab") as file:
        file.write(b'{"kind":"round","num')
    return out, before


@pytest.fixture(scope="module")
def interrupted(killed: tuple[Path, bytes]) -> tuple[str, str]:
    """What this benchmark says where it goes on without an end, until Ctrl-C after a round."""
    out, _ = killed
    program = start_short(1000, "bench", "--resume", "--out", out, *HERE_TOO)
    in_a_round(program, out, 1)
    program.send_signal(signal.SIGINT)
    printed, said = program.communicate(timeout=60)
    assert program.returncode == 130, said
    assert not workers(program)
    return printed, said


@pytest.fixture(scope="module")
def measured(killed: tuple[Path, bytes], interrupted: tuple[str, str]) -> tuple[Recording, dict[str, Any]]:
    """The benchmark, gone on with once more to its end, and the JSON that it ended with."""
    out, _ = killed
    answered = short(ROUNDS, "--resume", "--out", out, *HERE_TOO)
    assert answered["results"] == str(out)
    return Recording.read(out), answered


@contextmanager
def another_benchmark() -> Iterator[None]:
    """One that seems to run, since its lock is held."""
    with lock_path().open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_ctrl_c_shows_what_is_known_and_says_how_to_go_on(killed, interrupted) -> None:
    printed, said = interrupted
    assert "numpy" in printed
    assert said.splitlines()[-1] == (
        f"rosetta: interrupted; go on with: rosetta bench --out {killed[0]} --resume --python numpy={sys.executable}"
    )


def test_a_benchmark_that_was_killed_goes_on_with_all_that_it_had(killed, measured) -> None:
    out, before = killed
    recording, answered = measured
    assert out.read_bytes().startswith(before)
    assert [line.number for line in recording.rounds()] == [*range(1, answered["rounds"] + 1)], (
        "none is lost or twice"
    )
    assert answered["missing"] == []


def test_a_benchmark_answers_in_json_from_rounds_that_have_processes_of_their_own(measured) -> None:
    recording, answered = measured
    assert {row["label"] for row in answered["rows"]} == {row.label for row in recording.plan.rows}
    assert len(answered["rows"]) == 4
    assert not [row["why_not"] for row in answered["rows"] if row["why_not"]]
    assert all(row["certificate"]["version"] == row["facts"]["version"] for row in answered["rows"])
    names = {row.label for row in recording.plan.question}
    pair = next(pair for pair in answered["pairs"] if {pair["left"], pair["right"]} == names)
    assert pair["ratio"]["low"] < pair["ratio"]["value"] < pair["ratio"]["high"]
    assert " sentences alike." in answered["headline"]
    assert answered["dropped"] == 0
    assert answered["sentences"][0]["translations"].keys() == names
    assert "--threads 1" in answered["command"]
    starts = [start for line in recording.rounds() for start in line.starts]
    assert len({start.warm_up.first_step_seconds for start in starts}) == len(starts)
    assert {len(line.starts) for line in recording.rounds()} == {2, 4}
    for row in answered["rows"]:
        assert row["peak_memory"] > 20_000_000
        if row["row"]["lane"] == "matched":
            assert row["facts"]["threads"] == 1
            assert row["step_parts"]
            assert row["sentences"] > 1
    visits = [visit for line in recording.rounds() for cycle in line.cycles for visit in cycle]
    assert all(visit.finite and sum(visit.lead) + sum(visit.steps) <= visit.loop for visit in visits)
    # Of the median visit, since other programs may stop a process between two steps.
    assert median((sum(visit.lead) + sum(visit.steps)) / visit.loop for visit in visits) > 0.95


def test_pages_are_made_of_it(measured, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "MOST_OTHERS", inf)  # tests run while other programs do
    path = measured[0].path
    for name in ("report.html", "report.md"):
        (tmp_path / name).write_text("a file of somebody's own")
        for recordings in ([path, "--force"], [path, path]):
            status, _, said = rosetta("report", *recordings, "-o", tmp_path / name)
            assert status == 0, said
            assert "numpy" in (tmp_path / name).read_text(encoding="utf-8")
    assert ".html" in refusal(2, "report", path, "-o", tmp_path / "report.pdf")
    assert "cannot be read" in refusal(2, "report", tmp_path / "none.jsonl", "-o", tmp_path / "report.html")
    assert "cannot be written" in refusal(2, "report", path, "-o", tmp_path / "none" / "report.md")


def test_where_another_benchmark_runs_it_ends_at_once_if_told_to_and_leaves_what_is_there(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    with another_benchmark():
        for name in ("bench", "sweep"):
            options = ["--backends", "numpy", "--num-samples", "300", "--no-wait", "--out", out]
            assert "another benchmark runs" in refusal(2, name, *options)
            assert not out.exists()
        out.write_bytes(b"its head alone\n")
        assert "another benchmark runs" in refusal(2, "bench", "--resume", "--no-wait", "--out", out)
        assert out.exists()


def test_a_recording_that_somebody_else_writes_is_not_read_before_they_are_done(measured, tmp_path) -> None:
    """Who goes on with a recording while it is still being measured would measure its next round twice; one that is
    done is gone on with by measuring nothing."""
    out = tmp_path / "a.jsonl"
    recording, answered = measured
    assert "leave out --seed" in refusal(2, "bench", "--resume", "--out", recording.path, "--seed", 9)
    whole = recording.path.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(whole[:-1]))
    with another_benchmark():
        second = start_short(ROUNDS, "bench", "--resume", "--out", out, *HERE_TOO, "--json")
        assert "another benchmark runs" in second.stderr.readline()
        with out.open("ab") as first:
            first.write(whole[-1])  # the first one ends with its last line
    printed, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert json.loads(printed.splitlines()[-1])["rounds"] == answered["rounds"]
    assert out.read_bytes() == b"".join(whole)


def test_what_cannot_be_measured_leaves_no_recording(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "wait_until_fit", lambda note: None)
    out = tmp_path / "a.jsonl"
    status, _, said = rosetta("bench", "--backends", "numpy", "--device", "gpu", *TINY, "--out", out)
    assert status == 2
    assert said.splitlines()[-1].endswith("use --device cpu"), "there is nothing to go on with"
    assert not out.exists()
