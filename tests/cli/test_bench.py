"""`rosetta bench` on NumPy's backend, in short turns:
from the command line to JSON, and interrupted."""

import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends import numpy_model
from backends.interface import Backend
from benchmarks import measure_in_child
from benchmarks.measure import quiet
from benchmarks.measure.bench import Benchmark
from benchmarks.measure.measurement import Measurement
from benchmarks.schema import Checked
from common.tensors import Batches
from tests.conftest import SETTINGS, batch_of, model
from tests.support.planted import HONEST_STEPS, Planted
from tests.support.program import rosetta, short, start_short, wait_until, workers

# So wide that the fewest rounds are enough, on however restless a machine.
TINY = [
    *"--backends numpy --num-samples 300 --latent-dim 16 --threads 1 --within 100000% --budget "
    "10m".split()
]
ROUNDS = 2  # of the benchmark that is looked at


def test_a_measurement_that_was_cut_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    """Ctrl-C in the second round shows the first; a kill tears the last line."""
    out = tmp_path / "measured.jsonl"
    program = start_short(1000, "bench", *TINY, "--out", out)
    wait_until(
        lambda: (
            (out.exists() and b'"kind":"round"' in out.read_bytes()) or program.poll() is not None
        )
    )
    wait_until(lambda: workers(program) or program.poll() is not None)
    program.send_signal(signal.SIGINT)
    printed, errors = program.communicate(timeout=60)
    assert program.returncode == 130, errors
    assert not workers(program)
    assert "NumPy trains" in printed
    assert errors.splitlines()[-1] == f"rosetta: interrupted; {out} keeps what was measured before"
    with out.open("ab") as file:
        file.write(b'{"kind":"round","num')
    status, shown, _ = rosetta("report", out)
    assert (status, "NumPy trains" in shown) == (0, True)


@pytest.mark.at_length
def test_a_benchmark_answers_in_json_and_tells_cheats(tmp_path: Path) -> None:
    """Cheats compute something else while they are timed."""
    cheats = ["numpy:WithoutUpdatesLater", "numpy:NothingWhileTimed", "numpy:DecodesHalfLater"]
    given = [",".join(["numpy", *cheats]) if word == "numpy" else word for word in TINY]
    out = tmp_path / "measured.jsonl"
    answered = short(ROUNDS, *given, "--out", out)
    measurement = Measurement.read(out)
    assert [line.number for line in measurement.rounds()] == [*range(1, answered["rounds"] + 1)]
    assert (answered["results"], answered["missing"], answered["dropped"]) == (str(out), [], 0)
    rows = {row["label"]: row for row in answered["rows"]}
    tuned, installed = rows["numpy"], rows["numpy, as installed"]
    for row in (tuned, installed):
        assert (row["why_not"], row["certificate"]["version"]) == ("", row["facts"]["version"])
        assert row["peak_memory"] > 20_000_000
    assert (tuned["facts"]["threads"], tuned["sentences"] > 1, bool(tuned["step_parts"])) == (
        1,
        True,
        True,
    )
    assert answered["sentences"][0]["translations"].keys() >= {"numpy"}
    assert "--threads 1" in answered["command"]
    starts = [start for line in measurement.rounds() for start in line.starts]
    assert len({start.warm_up.first_step_seconds for start in starts}) == len(starts), (
        "each round has new processes"
    )
    without_updates, nothing, half = (rows[cheat]["why_not"] for cheat in cheats)
    assert "parity is broken" in nothing  # which counts by the same function
    assert without_updates == half == "its process computed something else after its turns"


@pytest.mark.parametrize("cheat", ["", "NothingLater", "CoarserLater", "WithoutUpdatesLater"])
def test_the_steps_after_the_turns_are_those_of_an_honest_process(cheat: str) -> None:
    config, rows = model("float32"), np.arange(64)
    epoch = Batches(batch_of(64, "float32"), rows, batch_size=8)
    honest = Backend(numpy_model, config, SETTINGS)
    timed = Planted(cheat, numpy_model, config, SETTINGS)
    expected = measure_in_child.train_first_steps(honest, print, epoch=epoch)
    measure_in_child.time_steps(timed, print, first=0, lead=0, timed=HONEST_STEPS)
    recorded = list[Checked]()
    process = SimpleNamespace(call=lambda function: function(timed, print))
    benchmark: Any = SimpleNamespace(
        expected=(expected, None),
        status=print,
        training=SimpleNamespace(settings=SETTINGS),
        measurement=SimpleNamespace(append=recorded.append),
    )
    Benchmark._check(benchmark, [SimpleNamespace(process=process, row=0)], 1)  # type: ignore[list-item]
    assert [line.passed for line in recorded] == [cheat == ""]


def test_what_cannot_be_measured_leaves_no_measurement(tmp_path, monkeypatch) -> None:
    """Variables of the shell are left out with a sentence;
    a budget that cannot hold is refused at once."""
    monkeypatch.setattr(quiet, "wait_until_fit", lambda note, longest: True)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    out = tmp_path / "a.jsonl"
    status, _, errors = rosetta("bench", "--device", "gpu", *TINY, "--out", out)
    assert status == 2
    assert re.search("without .*XLA_FLAGS.* of your shell", errors)
    assert errors.splitlines()[-1].endswith("use --device cpu")
    assert not out.exists()
    status, _, errors = rosetta("bench", *TINY[:-1], "5s", "--out", out)
    assert (status, "an answer needs 3 rounds" in errors.splitlines()[-1]) == (2, True)
    assert not out.exists()
