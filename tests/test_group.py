"""Training in a group of workers: the same result as one process, and one line where a worker fails."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from backends.engines import ENGINES, Place, engine_of, free_addresses, place_in_group
from backends.launch import without_workers
from backends.process.group import ask_each
from backends.process.parent import PROJECT, BackendProcess
from backends.process.runtime import Runtime
from benchmarks.measure import in_child
from benchmarks.parity.checks import Check
from benchmarks.parity.ladder import QUICK, Climber, Course
from common.config import DataConfig
from common.errors import CannotBeginError
from common.group import Group
from common.run_directory import RunDirectory
from common.weights import ModelState
from tests import child, planted_in_groups
from tests.conftest import FRAMEWORKS, SETTINGS, batch_of, model
from tests.hosts import kind_of_hosts, two_hosts
from tests.program import answer, refusal, started, wait_until

WORKERS = 2
SMALL = ["--num-samples", 300, "--latent-dim", 16, "--dtype", "float64", "--padding", "mask", "--batches", "bucketed"]


@pytest.fixture(scope="module")
def course() -> Iterator[Course]:
    with small_course() as course:
        yield course


def small_course() -> Course:
    return Course(DataConfig(), SETTINGS, 16, QUICK, Runtime(threads=1), "mask", WORKERS)


@pytest.fixture(scope="module")
def group_of_torch(course: Course) -> Iterator[list[BackendProcess]]:
    with course.start_group("torch", "float64") as processes:
        yield processes


def broken(course: Course, processes: list[BackendProcess]) -> list[Check]:
    checks = list(Climber(course, processes[0], "float64").of_group(processes))
    assert len(checks) == 18  # the losses, eight weights, eight slots, and that all workers hold the same
    return [check for check in checks if not check.passed]


def test_a_group_trains_as_one_process_does(course: Course, group_of_torch: list[BackendProcess]) -> None:
    assert broken(course, group_of_torch) == []


def caught(course: Course, processes: list[BackendProcess], mistake: str) -> bool:
    """Whether the checks tell this planted mistake, and nothing else."""

    def plant(mistake: str) -> None:
        ask_each(processes, lambda process: process.call(planted_in_groups.plant, mistake=mistake))

    plant(mistake)
    found = [check.tensor for check in broken(course, processes)]
    plant("")
    parted = any("states" in tensor for tensor in found)  # the workers end in different states
    told = any("losses" in tensor for tensor in found) and parted == (mistake == "slots_of_its_own")
    return told and not broken(course, processes)


@pytest.mark.parametrize("mistake", planted_in_groups.MISTAKES)
def test_planted_mistakes_of_groups_are_caught(
    course: Course, group_of_torch: list[BackendProcess], mistake: str
) -> None:
    assert caught(course, group_of_torch, mistake)


def test_a_group_s_sums_are_timed_and_are_seen_by_torch_s_profiler(
    course: Course, group_of_torch: list[BackendProcess]
) -> None:
    sizes, rows = [8, 1 << 20], course.batch.take(np.arange(12))
    first, second = ask_each(group_of_torch, lambda process: process.call(in_child.sums, sizes=sizes, repetitions=5))
    assert [len(seconds) for seconds in [*first, *second]] == [5] * 4
    profile, _ = ask_each(group_of_torch, lambda process: process.call(in_child.profiled, rows=rows, batch_size=4))
    (summed,) = (kernel for kernel in profile.kernels if kernel.name == "gloo:all_reduce")
    assert summed.calls >= profile.steps
    assert 0 < summed.seconds < profile.seconds


def test_the_shards_of_a_batch_hold_each_of_its_rows_once_and_their_mean_loss_is_its_loss() -> None:
    batch = batch_of(3, "float64")
    shards = [batch.shard(rank, 4) for rank in range(4)]
    rows = [shard.encoder_ids[0].tolist() for shard in shards if shard.target_weights.any()]
    assert rows == batch.encoder_ids.tolist()
    assert [len(shard) for shard in shards] == [1, 1, 1, 1], "no framework is given a batch without rows"
    assert sum(shard.target_weights.sum() / shard.loss_positions for shard in shards) / 4 == pytest.approx(1.0)
    assert batch.shard(0, 1) is batch


def test_workers_that_begin_with_different_states_are_refused() -> None:
    def sum_with_another(array: np.ndarray) -> np.ndarray:
        return array + np.array([0.0, 5.0])

    with pytest.raises(CannotBeginError, match="the 2 workers were started with 2 different states or settings"):
        Group(0, 2, sum_with_another).agree(b"state")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_worker_finds_its_place_in_the_variables_of_its_engine(name: str) -> None:
    engine = ENGINES[name]
    variables = engine.variables(1, ["10.0.0.1:4000", "10.0.0.2:4000", "10.0.0.3:4000"])
    assert place_in_group(name, variables) == Place(1, 3, {engine.joining: variables[engine.joining]})
    assert place_in_group(name, {}) == Place()
    assert place_in_group(name, engine.variables(0, ["10.0.0.1:4000"])) == Place(), "a group of one needs no engine"
    with pytest.raises(CannotBeginError, match=f"{engine.joining} is set, and no place in a group can be read"):
        place_in_group(name, {engine.joining: "3"})


@pytest.mark.parametrize("name", ["numpy", "keras:example", "torch:compile"])
def test_a_backend_without_an_engine_is_refused(name: str) -> None:
    with pytest.raises(CannotBeginError, match=f"backend {name} cannot train in a group"):
        engine_of(name)


def test_a_backend_that_is_not_asked_to_join_a_group_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of `rosetta translate` in a terminal in which somebody trains."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TF_CONFIG", "{}")
    with Runtime(threads=1).start("numpy", model("float64"), SETTINGS) as process:
        assert process.call(child.environment, names=["WORLD_SIZE", "TF_CONFIG"]) == {
            "WORLD_SIZE": None,
            "TF_CONFIG": None,
        }


def test_workers_get_the_command_without_its_option() -> None:
    for given in (["--workers", "2"], ["--workers=2"], ["--workers", "3", "--workers=2"]):
        assert without_workers(["train", *given, "--out", "run"]) == ["train", "--out", "run"]


def start_training(name: str, run: Path, workers: int, epochs: int = 1000) -> "subprocess.Popen[str]":
    """A small training in a group, in float64, with masked padding and a last batch of one row."""
    return started("train", "--backend", name, "--workers", workers, "--epochs", epochs, "--out", run, *SMALL)


def epochs_of(run: Path) -> int:
    history = run / "history.jsonl"
    return history.read_text().count("\n") if history.exists() else 0


def backend_process(program: "subprocess.Popen[str]", name: str, rank: int) -> psutil.Process:
    """The process of a worker's backend."""
    for process in psutil.Process(program.pid).children(recursive=True):
        if "backends.process.worker" in process.cmdline():
            place = place_in_group(name, psutil.Process(process.ppid()).environ())
            if place.rank == rank:
                return process
    raise AssertionError(f"worker {rank} is not there")


def trained_alone(run: Path, epochs: int) -> ModelState:
    """What NumPy alone makes of the same training."""
    answer("train", "--backend", "numpy", "--epochs", epochs, "--threads", 1, "--out", run, *SMALL)
    return RunDirectory.open(run).read_state("last")[0]


@pytest.mark.parametrize("name", ["torch"])  # `python -m tests.group_at_length` kills workers of each framework
def test_a_worker_that_dies_ends_the_group_and_the_run_goes_on_alone_to_the_same_end(
    name: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with start_training(name, run, WORKERS) as program:
        wait_until(lambda: epochs_of(run) >= 2 or program.poll() is not None)
        started = psutil.Process(program.pid).children(recursive=True)
        backend_process(program, name, rank=1).kill()
        _, said = program.communicate(timeout=60)
    last = said.strip().splitlines()[-1]
    assert program.returncode == 1, said
    assert f"rosetta: worker 1 of 2 failed: the {name} backend's process was ended by signal 9" in last
    assert sum(line.startswith("rosetta: ") for line in said.splitlines()) == 1
    assert not [process for process in started if process.is_running()]
    kept = RunDirectory.open(run).read_state("last")[1].epoch
    assert f"{run} keeps epoch {kept}. Go on with: rosetta train --out {run} --resume --epochs 1000" in last
    answer("train", "--out", run, "--resume", "--backend", "numpy", "--threads", 1, "--epochs", kept + 1)
    state, expected = RunDirectory.open(run).read_state("last")[0], trained_alone(tmp_path / "alone", kept + 1)
    for kernel, weight in expected.weights.items():
        np.testing.assert_allclose(state.weights[kernel], weight, rtol=0, atol=1e-11, err_msg=kernel)


def test_what_a_worker_refuses_is_said_once(tmp_path: Path) -> None:
    arguments = ("train", "--backend", "keras", "--workers", 2, "--out", tmp_path / "run")
    assert re.match(r"rosetta: worker [01] of 2 failed: ", refusal(2, *arguments, "--data", tmp_path / "nothing"))
    assert "--device is gpu" in refusal(2, *arguments, "--device", "gpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("hosts", [kind_of_hosts()])
def test_workers_on_two_hosts_train_one_run(tmp_path: Path, hosts: str) -> None:
    """Each is started by hand, as a cluster's scheduler does, with the variables of torch's engine."""
    run, engine = tmp_path / "run", ENGINES["torch"]
    command = [sys.executable, "-m", "rosetta", "train", "--backend", "torch", "--threads", 1, "--epochs", 2]
    command += ["--out", run, *SMALL]
    with two_hosts() as both:
        port = free_addresses(1)[0].rpartition(":")[2]
        addresses = [f"{host.address}:{port}" for host in both]
        workers = [
            subprocess.Popen(
                [*host.prefix, *map(str, command)],
                cwd=PROJECT,
                env=os.environ | engine.variables(rank, addresses) | {"GLOO_SOCKET_IFNAME": host.interface},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, host in enumerate(both)
        ]
        (printed, _), follower = (worker.communicate(timeout=100) for worker in workers)
    assert [worker.returncode for worker in workers] == [0, 0], follower
    assert "The run is in" in printed
    assert follower == ("", ""), "the first worker alone says something"
    assert RunDirectory.open(run).history()[-1].epoch == 2
