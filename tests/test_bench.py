"""`rosetta bench` on real backends: whole rounds that survive any kill, fair clocks, a parent that waits."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from backends.process import PROJECT
from backends.session import prepare
from benchmarks import measure
from benchmarks.analysis import LOST, PARENT, analyse
from benchmarks.fitness import Finding
from benchmarks.lock import lock_path
from benchmarks.plan import BASELINE, Cell
from benchmarks.recording import Recording
from benchmarks.scenarios import WARM_UP, Text, one_by_one
from common.config import DataConfig
from rosetta import main
from tests import recordings
from tests.program import answer, refusal, rosetta

SMALL = ["--backends", "numpy,torch", "--num-samples", "300", "--latent-dim", "32", "--epochs", "1", "--steps", "6"]
KILLS = 5


def wait_until(what, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def backend_processes(program: subprocess.Popen) -> list[psutil.Process]:
    """Its workers that live now; children of another kind come and go."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(program.pid).children():
            with suppress(psutil.NoSuchProcess):
                found += [child] if "backends.worker" in child.cmdline() else []
    return found


def test_killed_at_any_moment_it_goes_on_and_every_round_is_there_once(tmp_path) -> None:
    out = tmp_path / "killed.jsonl"
    arguments = ["bench", *SMALL, "--rounds", "4", "--out", str(out)]
    rng = random.Random(4)
    for kill in range(KILLS):
        program = subprocess.Popen([sys.executable, "-m", "rosetta", *arguments], cwd=PROJECT, stderr=subprocess.PIPE)
        wait_until(lambda program=program: backend_processes(program) or program.poll() is not None)
        arguments = ["bench", "--out", str(out), "--resume"]
        time.sleep(rng.uniform(0, 6))
        workers = backend_processes(program) if kill % 2 else []
        if workers:
            workers[0].send_signal(signal.SIGKILL)
            message = program.communicate(timeout=60)[1].decode()
            if program.returncode:  # not where the worker had just done its work
                assert program.returncode == 1, message
                assert "signal 9" in message
                assert f"--out {out} --resume" in message
        else:
            program.kill()
            program.communicate()
        assert all(json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]), "a whole line is JSON"
    assert rosetta(*arguments)[0] == 0
    recording = Recording.read(out)
    assert sorted(record["round"] for record in recording.of_kind("round")) == [1, 2, 3, 4]
    assert sorted(record["backend"] for record in recording.of_kind("quality")) == ["numpy", "torch"]
    assert sorted(record["backend"] for record in recording.of_kind("certificate")) == ["numpy", "torch"]
    for record in recording.of_kind("round"):
        assert len(record["cells"]) == len(recording.plan.cells)
    assert out.read_bytes().endswith(b"\n")
    # What was being written beside its place when the kill came stays there, hidden.
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert names == {"killed.jsonl", "killed.safetensors"}


@pytest.mark.parametrize(
    ("who", "sent", "said"), [("program", signal.SIGINT, "interrupted"), ("worker", signal.SIGKILL, "signal 9")]
)
def test_ended_before_its_time_it_says_why_and_how_to_go_on(tmp_path, who: str, sent: int, said: str) -> None:
    out = tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "rosetta", "bench", *SMALL, "--out", str(out)]
    program = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: backend_processes(program))
    (backend_processes(program)[0] if who == "worker" else program).send_signal(sent)
    message = program.communicate(timeout=60)[1]
    assert program.returncode == 1, message
    assert said in message
    assert f"--out {out} --resume" in message
    assert "Traceback" not in message


def test_where_another_benchmark_runs_it_ends_at_once_if_told_to(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    with (Path(os.environ["TMPDIR"]) / lock_path().name).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another benchmark runs" in refusal(2, "bench", *SMALL, "--no-wait", "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_a_check_says_whether_the_machine_is_fit(monkeypatch, capsys, ok: bool, status: int) -> None:
    findings = [Finding("load", True, "0.1", ""), Finding("swap", ok, "2 GiB in use", "" if ok else "close programs")]
    monkeypatch.setattr("benchmarks.fitness.check", lambda: findings)
    for option, said in ([], "2 GiB in use"), (["--json"], f'"fit": {str(ok).lower()}'):
        monkeypatch.setattr("sys.argv", ["rosetta", "bench", "--check", *option])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == status
        assert said in capsys.readouterr().out


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Recording:
    """Steps long enough that waiting for them can be told from nothing."""
    out = tmp_path_factory.mktemp("bench") / "measured.jsonl"
    small = ["--num-samples", "2000", "--latent-dim", "128", "--epochs", "1", "--steps", "24", "--rounds", "2"]
    found = answer("bench", "--backends", "torch,keras:example", *small, "--out", out)
    assert found["results"] == str(out)
    assert [row["backend"] for row in found["rows"]]
    return Recording.read(out)


def test_the_parent_waits_and_does_nothing_else(measured) -> None:
    assert max(cell["parent"] for record in measured.of_kind("round") for cell in record["cells"]) < PARENT


def test_the_timed_steps_are_the_loops_time(measured) -> None:
    for record in measured.of_kind("round"):
        for cell in record["cells"]:
            training = cell["training"]
            assert len(training["step_seconds"]) == 24
            assert sum(training["step_seconds"]) == pytest.approx(training["loop_seconds"], rel=LOST)


def test_a_row_has_what_the_report_shows(measured) -> None:
    results = analyse(measured)
    example = next(row for row in results.rows if row.name == "keras:example")
    other = next(row for row in results.rows if row.name == "torch")
    for row in (example, other):
        assert row.ranked, row.why_not
        assert row.kernels
        assert row.time_parts["products" if row is example else "LSTM"] > 0
        assert sum(row.time_parts.values()) == pytest.approx(row.train_seconds_per_epoch / row.steps_an_epoch)
        assert row.os_threads["busy"] >= 1
        assert row.memory["peak"] > row.memory["after_import"] > 0
        assert 0 < row.roofline.share < 1.5
        assert row.epochs[-1]["chrf"] >= 0
        assert set(row.start) == {"process", "import", "build", "first_step"}
    assert example.latency == {}
    assert other.latency[50].value < other.latency[95].value
    assert other.decode_ratio.ratio.value > 10
    assert other.longest_ratio.ratio.value > 2
    # All decode with the same weights, and none of the others puts out more.
    assert example.longest_output == other.longest_output
    most = max(max(cell["singles"]["characters"]) for r in measured.of_kind("round") for cell in r["cells"])
    assert other.longest_output >= most
    assert example.certificate["strings"]["compared"] == example.certificate["strings"]["equal"] == 5


def test_the_budget_ends_it_after_a_whole_round(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    status, printed, _ = rosetta("bench", *SMALL, "--rounds", "500", "--budget", "25s", "--out", out)
    assert status == 0
    rounds = len(Recording.read(out).of_kind("round"))
    assert 1 <= rounds < 500
    assert f"{rounds} of 500 rounds" in " ".join(printed.split())


@pytest.mark.parametrize(("budget", "begun"), [(25.0, 2), (23.0, 1)])
def test_a_round_is_begun_where_one_as_long_as_the_longest_so_far_fits(tmp_path, monkeypatch, budget, begun) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(measure, "perf_counter", lambda: clock.now)

    def cells_of(number: int) -> Iterator[str]:
        for seconds in (10.0, 1.0, 1.0):
            yield f"round {number}"
            clock.now += seconds

    recording = recordings.recording(tmp_path / "a.jsonl", rounds=0)
    rounds = [measure.Unit("cell", 3, partial(cells_of, number)) for number in (1, 2)]
    monkeypatch.setattr(measure.Benchmark, "missing", lambda self: rounds)
    benchmark = measure.Benchmark(recording, prepare(recording.plan.data, 0, "float32")[0], {})
    shown = []
    benchmark.run(lambda title, *_: shown.append(title), budget)
    assert sorted(set(shown)) == [f"round {number}" for number in range(1, begun + 1)]


@pytest.mark.parametrize(("budget", "begun"), [(7.0, 1), (5.0, 0)])
def test_a_training_is_begun_where_one_as_long_as_those_recorded_fits(tmp_path, monkeypatch, budget, begun) -> None:
    recording = recordings.recording(tmp_path / "a.jsonl", rounds=0)  # whose longest training took six seconds
    training = measure.Unit("training", 1, lambda: iter(["training"]))
    monkeypatch.setattr(measure.Benchmark, "missing", lambda self: [training])
    benchmark = measure.Benchmark(recording, prepare(recording.plan.data, 0, "float32")[0], {})
    shown = []
    benchmark.run(lambda title, *_: shown.append(title), budget)
    assert len(shown) == begun


def learned(tmp_path, monkeypatch, num_samples: int) -> tuple[measure.Benchmark, dict, float]:
    """A benchmark, what it records of a training of the example that took no time, and how long it may be silent."""
    silences = []

    def call(function, silence, on_event, **arguments):
        silences.append(silence)
        on_event({"state": np.zeros(1, np.uint8), "epoch_done": {"seconds": 1.0}})
        return {"peak": 1}

    material = prepare(DataConfig(num_samples=num_samples, split="grouped"), 0, "float32")[0]
    recording = recordings.recording(tmp_path / f"{num_samples}.jsonl", rounds=0)
    benchmark = measure.Benchmark(recording, material, {})
    process = nullcontext(SimpleNamespace(call=call))
    monkeypatch.setattr(measure.Benchmark, "_start", lambda self, cell: process)
    monkeypatch.setattr(
        measure.Benchmark, "_translate", lambda self, process, state, limit=None: ["a"] * len(self.sources[:limit])
    )
    *_, record = benchmark._learn(Cell(BASELINE), 0)
    return benchmark, record, silences[0]


def test_a_training_of_more_pairs_may_be_silent_for_longer(tmp_path, monkeypatch) -> None:
    short, long = (learned(tmp_path, monkeypatch, count)[2] for count in (24, 10_000))
    assert short > 600
    assert long - short > 0.05 * 9_000  # 64 pairs of 1,024 units take a step of three seconds on a slow machine


def test_strings_are_compared_as_far_as_there_are_sentences(tmp_path, monkeypatch) -> None:
    benchmark, record, _ = learned(tmp_path, monkeypatch, 24)
    assert len(benchmark.sources) < benchmark.plan.size.equal_strings
    assert record["strings"] == {"compared": len(benchmark.sources), "equal": len(benchmark.sources)}


def test_a_learning_rate_of_ones_own_breaks_no_parity(tmp_path) -> None:
    options = ["--learning-rate", "0.05", "--rounds", "1", "--out", tmp_path / "a.jsonl"]
    assert all(row["ranked"] for row in answer("bench", *SMALL, *options)["rows"])


def test_a_backend_under_another_interpreter_has_a_row_of_its_own(tmp_path) -> None:
    small = ["--num-samples", "300", "--latent-dim", "16", "--epochs", "1", "--steps", "4", "--rounds", "1"]
    other = ["--backends", "numpy", "--python", f"numpy={sys.executable}"]
    rows = answer("bench", *small, *other, "--out", tmp_path / "a.jsonl")["rows"]
    assert {row["label"]: row["ranked"] for row in rows} == {"numpy": True, f"numpy, under {sys.executable}": True}
    assert {row["python"] for row in rows} == {"", sys.executable}
    assert "no program" in refusal(2, "bench", "--python", "torch=/nowhere/python", "--out", tmp_path / "b.jsonl")
    bare = tmp_path / "bare" / "bin" / "python"
    venv.create(tmp_path / "bare", symlinks=True)
    said = refusal(2, "bench", "--backends", "numpy", "--python", f"numpy={bare}", "--out", tmp_path / "b.jsonl")
    assert "which that interpreter has not" in said
    assert not (tmp_path / "b.jsonl").exists(), "it is known before anything is measured"


def test_masked_and_bucketed_rows_time_an_epoch_and_are_trained_for_their_quality(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    small = ["--num-samples", "600", "--latent-dim", "16", "--epochs", "3", "--steps", "4", "--rounds", "2"]
    found = answer("bench", "--backends", "numpy", "--batches", "shuffled,bucketed", *small, "--out", out)
    assert "--batches shuffled,bucketed" in found["command"]
    row = found["bucketed"][0]
    assert (row["label"], row["ranked"]) == ("numpy, masked and bucketed", True)
    assert row["certificate"]["padding"] == "mask"
    assert row["bucketing"]["ratio"]["value"] > 0
    assert [epoch["chrf"] >= 0 for epoch in row["epochs"]] == [True] * 4
    assert len(found["rows"][0]["epochs"]) == 3
    recording = Recording.read(out)
    rows = recording.corpus["sizes"]["training_rows"]
    for record in recording.of_kind("round"):
        cell = next(cell for cell in record["cells"] if cell["batches"] == "bucketed")
        assert cell["training"]["samples"] == rows
        assert len(cell["training"]["step_seconds"]) == -(-rows // 64)
        assert cell["decoding"] is cell["singles"] is None
        assert not {"products", "kernels"} & cell.keys()
    status, printed, _ = rosetta("bench", "--out", out, "--resume")
    assert status == 0
    assert "Masked and bucketed" in printed
    assert "chrF: after 4 epochs" in " ".join(printed.split())
    assert rosetta("report", out, "-o", tmp_path / "a.md")[0] == 0
    assert "On bucketed batches numpy trains an epoch in" in (tmp_path / "a.md").read_text(encoding="utf-8")


def test_what_cannot_be_begun_is_refused_in_one_line(tmp_path) -> None:
    out = tmp_path / "a.jsonl"
    assert "--lanes" in refusal(2, "bench", "--lanes", "fast", "--out", out)
    for wrong in ("bucketed", "sorted", "bucketed,shuffled"):
        assert "--batches is shuffled, or" in refusal(2, "bench", "--batches", wrong, "--out", out)
    assert "NAME=PATH" in refusal(2, "bench", "--python", "torch", "--out", out)
    assert "10m" in refusal(2, "bench", "--budget", "soon", "--out", out)
    assert "there is no backend" in refusal(2, "bench", "--backends", "jax", "--out", out)
    assert "--out" in refusal(2, "bench", "--resume")
    assert "cannot be read" in refusal(2, "bench", "--resume", "--out", out)
    assert "the name of a file" in refusal(2, "bench", "--backends", "numpy", "--out", ".")
    status, _, said = rosetta("bench", "--backends", "numpy", "--device", "gpu", "--out", out)
    assert status == 2
    assert said.splitlines()[-1].endswith("use --device cpu"), "there is nothing to go on with"
    assert not out.exists()


def test_going_on_takes_the_recordings_plan(measured, tmp_path) -> None:
    assert "--rounds" in refusal(2, "bench", "--resume", "--out", measured.path, "--rounds", 9)
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_text(
        measured.path.read_text(encoding="utf-8").replace('"cores": ', '"cores": 7'), encoding="utf-8"
    )
    assert "begun elsewhere: cores" in refusal(2, "bench", "--resume", "--out", elsewhere)


def test_report_and_compare_read_a_recording(measured, tmp_path) -> None:
    for name in ("report.html", "report.md"):
        assert rosetta("report", measured.path, "-o", tmp_path / name)[0] == 0
        assert "keras:example" in (tmp_path / name).read_text(encoding="utf-8")
    assert ".html" in refusal(2, "report", measured.path, "-o", tmp_path / "report.pdf")
    assert "cannot be read" in refusal(2, "report", tmp_path / "none.jsonl", "-o", tmp_path / "report.html")
    assert "cannot be written" in refusal(2, "report", measured.path, "-o", tmp_path / "none" / "report.md")
    begun = tmp_path / "begun.jsonl"
    begun.write_text(measured.path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    assert "holds no round yet" in refusal(2, "report", begun, "-o", tmp_path / "report.md")
    status, printed, _ = rosetta("compare", measured.path, measured.path, "--fail-slower", "10%")
    assert status == 0
    assert "training step" in printed


def test_ci_is_told_of_what_became_slower(tmp_path) -> None:
    before = recordings.recording(tmp_path / "before.jsonl").path
    slower = recordings.SECONDS | {"torch": 1.2 * recordings.SECONDS["torch"]}
    after = recordings.recording(tmp_path / "after.jsonl", slower, seed=1).path
    assert "slower by more than 10%; worst: torch" in refusal(1, "compare", before, after, "--fail-slower", "10%")
    assert rosetta("compare", before, after, "--fail-slower", "30%")[0] == 0
    assert rosetta("compare", before, after)[0] == 0
    one = recordings.recording(tmp_path / "one.jsonl", rounds=1).path
    assert "nothing can be compared" in refusal(1, "compare", before, one, "--fail-slower", "10%")
    assert "is no percentage" in refusal(2, "compare", before, after, "--fail-slower", "soon")
    told = {(change["label"], change["figure"]): change for change in answer("compare", before, after)["changes"]}
    assert told["torch", "training step"]["slower_by"] == pytest.approx(0.2, abs=0.03)
    assert told["keras", "training step"]["slower_by"] == 0.0


def test_single_sentences_are_warmed_up_at_the_length_that_is_timed() -> None:
    asked = []

    def translate(ids, lengths, max_length):
        asked.append(max_length)
        return np.zeros((len(ids), max_length), int)

    backend = SimpleNamespace(translate=translate, config=SimpleNamespace(stop_token=1))
    text = Text(np.zeros((5, 4), int), np.full(5, 4), 9, np.zeros(0, np.uint8))
    assert one_by_one(backend, text, 3)["characters"] == [9] * 3
    assert asked == [9] * (WARM_UP + 3), "what is compiled for another length would be compiled again on the clock"
