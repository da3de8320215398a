"""`rosetta bench` on NumPy's backend, in short visits: from the command line to JSON, ended and gone on with."""

import signal
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from benchmarks.measure import machine
from benchmarks.measure.recording import Recording
from tests.attack.stories import whole_lines
from tests.program import rosetta, short, start_short, wait_until, workers

# So wide that the fewest rounds are enough, on however restless a machine.
TINY = [*"--num-samples 300 --latent-dim 16 --threads 1 --within 100000% --budget 10m".split()]
HERE_TOO = ["--python", f"numpy={sys.executable}"]  # a second row that starts in no time
ROUNDS = 2  # of the benchmark that is looked at, before one with rows as installed


class Interrupted(NamedTuple):
    """A benchmark without an end that Ctrl-C ended in its second round."""

    out: Path
    lines: bytes  # those that its recording had then
    printed: str
    errors: str


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    out = tmp_path_factory.mktemp("bench") / "measured.jsonl"
    program = start_short(1000, "bench", "--backends", "numpy", *HERE_TOO, *TINY, "--out", out)
    wait_until(lambda: b'"kind":"round"' in whole_lines(out) or program.poll() is not None)
    wait_until(lambda: workers(program) or program.poll() is not None)
    program.send_signal(signal.SIGINT)
    printed, errors = program.communicate(timeout=60)
    assert program.returncode == 130, errors
    assert not workers(program)
    return Interrupted(out, whole_lines(out), printed, errors)


@pytest.fixture(scope="module")
def measured(interrupted: Interrupted) -> tuple[Recording, dict[str, Any]]:
    """The same, as a kill would have left it, gone on with to its end; and the JSON that it ended with."""
    with interrupted.out.open("ab") as file:
        file.write(b'{"kind":"round","num')
    answered = short(ROUNDS, "--resume", "--out", interrupted.out, *HERE_TOO)
    assert answered["results"] == str(interrupted.out)
    return Recording.read(interrupted.out), answered


def test_ctrl_c_shows_what_is_known_and_says_how_to_go_on(interrupted: Interrupted) -> None:
    go_on = f"rosetta bench --out {interrupted.out} --resume --python numpy={sys.executable}"
    assert "numpy" in interrupted.printed
    assert interrupted.errors.splitlines()[-1] == f"rosetta: interrupted; go on with: {go_on}"


def test_a_benchmark_that_goes_on_keeps_all_that_it_had_and_answers_in_json(interrupted, measured) -> None:
    recording, answered = measured
    assert interrupted.out.read_bytes().startswith(interrupted.lines)
    assert [line.number for line in recording.rounds()] == [*range(1, answered["rounds"] + 1)], "none lost or twice"
    assert (answered["missing"], answered["dropped"]) == ([], 0)
    rows = {row["label"]: row for row in answered["rows"]}
    assert rows.keys() == {row.label for row in recording.plan.rows}
    for row in rows.values():
        assert (row["why_not"], row["certificate"]["version"]) == ("", row["facts"]["version"])
        assert row["peak_memory"] > 20_000_000
        assert row["row"]["lane"] == "default" or (row["facts"]["threads"] == 1 and row["sentences"] > 1)
        assert row["row"]["lane"] == "default" or row["step_parts"]
    names = {row.label for row in recording.plan.question}
    pair = next(pair for pair in answered["pairs"] if {pair["left"], pair["right"]} == names)
    assert pair["ratio"]["low"] < pair["ratio"]["value"] < pair["ratio"]["high"]
    assert answered["sentences"][0]["translations"].keys() == names
    assert " sentences alike." in answered["headline"]
    assert "--threads 1" in answered["command"]
    starts = [start for line in recording.rounds() for start in line.starts]
    assert len({start.warm_up.first_step_seconds for start in starts}) == len(starts), "each round has new processes"
    assert {len(line.starts) for line in recording.rounds()} == {2, 4}
    visits = [visit for line in recording.rounds() for cycle in line.cycles for visit in cycle]
    assert all(visit.finite and sum(visit.lead) + sum(visit.steps) <= visit.loop for visit in visits)
    # Of the median visit, since other programs may stop a process between two steps.
    assert median((sum(visit.lead) + sum(visit.steps)) / visit.loop for visit in visits) > 0.95


def test_what_cannot_be_measured_leaves_no_recording(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "wait_until_fit", lambda note: None)
    out = tmp_path / "a.jsonl"
    status, _, errors = rosetta("bench", "--backends", "numpy", "--device", "gpu", *TINY, "--out", out)
    assert status == 2
    assert errors.splitlines()[-1].endswith("use --device cpu"), "there is nothing to go on with"
    assert not out.exists()
