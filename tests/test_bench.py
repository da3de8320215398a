"""`rosetta bench` on real backends, in short visits: from the command line to JSON, killed, ended, gone on with."""

import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks.measure.lock import lock_path
from benchmarks.measure.recording import Generation, Recording
from benchmarks.parity.ladder import QUICK
from benchmarks.results.rows import results_of
from tests.attack.kills import whole_lines
from tests.program import answer, refusal, rosetta, short, start_short, wait_until, workers

# So wide that the fewest generations are enough, on however restless a machine.
WIDE = ["--within", "1000%", "--budget", "10m"]
TINY = ["--num-samples", "300", "--latent-dim", "16", "--threads", "1", "--lanes", "matched", *WIDE]
# Two rows that start in no time.
TWICE_NUMPY = ["--backends", "numpy", "--python", f"numpy={sys.executable}", *TINY]
GENERATIONS = 2  # of the benchmark that is looked at


@pytest.fixture(scope="module")
def parity(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What `rosetta parity` answers, and its certificates; that of torch is then made one of another version."""
    path = tmp_path_factory.mktemp("parity") / "certificates.json"
    options = ["--quick", "--backends", "numpy,torch", "--dtype", "float32", "--latent-dim", 16, "--threads", 1]
    answered = answer("parity", *options, "--certificate", path)
    certificates = json.loads(path.read_text())
    for certificate in certificates.values():
        certificate["rungs"]["forward"]["error"] = 1.25e-9  # by which it is known again
    certificates["torch float32"]["version"] = "of another version"
    path.write_text(json.dumps(certificates))
    return answered, path


@pytest.fixture(scope="module")
def measured(
    parity: tuple[dict[str, Any], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recording, dict[str, Any]]:
    """A whole benchmark, and the JSON that it ended with."""
    out = tmp_path_factory.mktemp("bench") / "measured.jsonl"
    rows = ["--baseline", "numpy", "--rows", "torch; numpy, masked and bucketed", "--certificate", parity[1]]
    options = ["--backends", "numpy,torch", "--batches", "shuffled,bucketed", *rows, *TINY, "--out", out]
    answered = short(GENERATIONS, *options)
    assert answered["results"] == str(out)
    return Recording.read(out), answered


@contextmanager
def another_benchmark() -> Iterator[None]:
    """One that seems to run, since its lock is held."""
    with lock_path().open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_parity_answers_with_its_checks_and_writes_certificates_for_the_benchmark(parity, measured, tmp_path) -> None:
    found, path = parity
    assert found["passed"] is True
    keys = {"backend", "variant", "dtype", "rung", "tensor", "error", "tolerance", "passed"}
    assert all(check.keys() >= keys for check in found["checks"])
    assert {check["rung"] for check in found["checks"]} >= {"tensors", "gradients", "trajectory", "strings", "pairs"}
    assert json.loads(path.read_text())["torch float32"]["size"] == asdict(QUICK)
    rows = measured[1]["rows"]
    for row in rows:
        assert row["certificate"]["passed"] is True
        assert row["certificate"]["version"] == row["facts"]["version"]
        assert row["certificate"]["machine"]["cores"] >= 1
    given = {row["label"] for row in rows if row["certificate"]["rungs"]["forward"]["error"] == 1.25e-9}
    assert given == {"numpy"}, "what is of another version, or padded otherwise, is climbed anew"
    (tmp_path / "text.json").write_text("no JSON")
    assert "--certificate" in refusal(2, "bench", "--certificate", tmp_path / "text.json")


def test_a_benchmark_answers_in_json(measured) -> None:
    recording, answered = measured
    assert {row["label"] for row in answered["rows"]} == {cell.label for cell in recording.plan.measured}
    assert not [row["why_not"] for row in answered["rows"] if row["why_not"]]
    pair = next(pair for pair in answered["pairs"] if {pair["left"], pair["right"]} == {"numpy", "torch"})
    assert pair["low"] < pair["ratio"] < pair["high"]
    assert answered["headline"].startswith(f"{pair['left']} trains ")
    assert answered["decoding"][0].keys() >= {"left", "right", "ratio", "low", "high"}
    assert (answered["generations"], answered["dropped"]) == (GENERATIONS, 0)
    for sentence in answered["sentences"]:
        assert sentence["source"]
        assert sentence["references"]
        assert sentence["translations"].keys() == {"numpy", "torch"}
    assert "--threads 1" in answered["command"]


def test_what_is_recorded_is_what_the_report_needs(measured) -> None:
    recording, _ = measured
    for row in results_of(recording).rows:
        assert row.facts.threads == 1
        assert row.resources.peak > row.resources.after_import > 0
        assert row.resources.busy_threads >= 1
        assert row.certificate.padding == ("mask" if row.cell.bucketed else "space")
        if not row.cell.bucketed:
            assert row.resources.kernels
            assert row.decoding.sentences > 1
    visits = [visit for g in recording.of_kind(Generation) for cycle in g.cycles for visit in cycle]
    for visit in visits:
        assert sum(visit.lead) + sum(visit.steps) <= visit.loop
        assert visit.finite
        assert 0 <= visit.others < os.cpu_count()
    # Of the median visit, since other programs may stop a process between two steps.
    assert median((sum(visit.lead) + sum(visit.steps)) / visit.loop for visit in visits) > 0.95


def test_generations_have_processes_of_their_own(measured) -> None:
    """Whose first step is cold in each."""
    recording, _ = measured
    starts = [start for g in recording.of_kind(Generation) for start in g.starts]
    assert len(starts) == GENERATIONS * len(recording.plan.measured)
    assert len({start.warm_up.first_step_seconds for start in starts}) == len(starts)


def test_report_and_compare_read_it(measured, tmp_path) -> None:
    path = measured[0].path
    for name in ("report.html", "report.md"):
        status, _, said = rosetta("report", path, "-o", tmp_path / name)
        assert status == 0, said
        assert "torch" in (tmp_path / name).read_text(encoding="utf-8")
    assert ".html" in refusal(2, "report", path, "-o", tmp_path / "report.pdf")
    assert "cannot be read" in refusal(2, "report", tmp_path / "none.jsonl", "-o", tmp_path / "report.html")
    assert "cannot be written" in refusal(2, "report", path, "-o", tmp_path / "none" / "report.md")


def test_going_on_takes_the_recordings_plan_and_refuses_another_machine(measured, tmp_path) -> None:
    path = measured[0].path
    assert "leave out --seeds" in refusal(2, "bench", "--resume", "--out", path, "--seeds", 9)
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_text(path.read_text(encoding="utf-8").replace('"cores":', '"cores":7'), encoding="utf-8")
    before = elsewhere.read_bytes()
    assert "begun elsewhere: cores" in refusal(2, "bench", "--resume", "--out", elsewhere)
    assert elsewhere.read_bytes() == before
    whole = path.read_bytes()
    assert short(GENERATIONS, "--resume", "--out", path)["generations"] == GENERATIONS, "nothing is missing"
    assert path.read_bytes() == whole


def interrupted(out: Path, *options: str, generations: int = 0) -> tuple[str, str]:
    """What a benchmark says on either output that gets Ctrl-C while it measures, after so many generations."""
    program = start_short(1000, "bench", *TWICE_NUMPY, "--out", out, *options)
    wait_until(lambda: whole_lines(out).count(b'"kind":"generation"') >= generations or program.poll() is not None)
    wait_until(lambda: workers(program) or program.poll() is not None)
    program.send_signal(signal.SIGINT)
    printed, said = program.communicate(timeout=60)
    assert program.returncode == 130, said
    assert "Traceback" not in said
    assert not workers(program)
    return printed, said


def test_ctrl_c_shows_what_is_known_and_says_how_to_go_on(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    printed, said = interrupted(out, generations=2)
    assert "numpy" in printed
    assert "trains" in printed or "No answer" in printed
    assert said.splitlines()[-1] == (
        f"rosetta: interrupted; go on with: rosetta bench --out {out} --resume --python numpy={sys.executable}"
    )
    assert Recording.read(out).of_kind(Generation)


def test_ctrl_c_before_anything_is_known_says_so(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    printed, said = interrupted(out, "--json")
    assert json.loads(printed.splitlines()[-1])["headline"] == "Nothing was measured yet."
    assert f"--out {out} --resume" in said


def test_where_another_benchmark_runs_it_ends_at_once_if_told_to_and_leaves_nothing(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    with another_benchmark():
        for name in ("bench", "sweep"):
            options = ["--backends", "numpy", "--num-samples", "300", "--no-wait", "--out", out]
            assert "another benchmark runs" in refusal(2, name, *options)
            assert not out.exists()


def test_a_recording_that_somebody_else_writes_is_not_read_before_they_are_done(measured, tmp_path) -> None:
    """Who goes on with a recording while it is still being measured would measure its next generation twice."""
    out = tmp_path / "a.jsonl"
    whole = measured[0].path.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(whole[:-1]))
    with another_benchmark():
        second = start_short(GENERATIONS, "bench", "--resume", "--out", out, "--json")
        assert "another benchmark runs" in second.stderr.readline()
        with out.open("ab") as first:
            first.write(whole[-1])  # the first one ends with its last generation
    printed, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert json.loads(printed.splitlines()[-1])["generations"] == GENERATIONS
    assert out.read_bytes() == b"".join(whole)


def test_the_last_recording_that_has_a_head_alone_is_not_removed_by_who_may_not_go_on(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    program = start_short(5, "bench", *TWICE_NUMPY, "--out", out)
    wait_until(lambda: whole_lines(out) or program.poll() is not None)
    program.kill()
    program.communicate()
    with another_benchmark():
        assert "another benchmark runs" in refusal(2, "bench", "--resume", "--no-wait", "--out", out)
    assert out.exists()


def test_what_cannot_be_measured_leaves_no_recording(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    status, _, said = rosetta("bench", "--backends", "numpy", "--device", "gpu", *TINY, "--out", out)
    assert status == 2
    assert said.splitlines()[-1].endswith("use --device cpu"), "there is nothing to go on with"
    assert not out.exists()
