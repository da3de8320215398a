"""Training in a group of workers: the same result as one process,
and one line where a worker fails."""

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from backends import TABLE, numpy_model
from backends.commands import training
from backends.interface import Alone, Backend
from backends.process import child_environment, group
from backends.process.group import ask_each, free_ports, new_group, place_in_group
from backends.process.parent import PROJECT, Runtime, Worker
from backends.process.train_in_child import TrainingData, follow
from benchmarks.parity.cases import QUICK, Cases, StageArrays
from benchmarks.parity.comparison import Comparison
from common.errors import CannotBeginError, RosettaError
from common.run import RunDirectory
from common.settings import DataConfig
from tests.conftest import SETTINGS
from tests.support.hosts import two_hosts
from tests.support.planted import OF_GROUPS, plant_in_worker
from tests.support.program import is_backend, refusal, rosetta, started, wait_until

WORKERS = 2
# In float64, with masked padding and a last batch of one row.
SMALL = ["--num-samples", 200, "--batch-size", 53, "--latent-dim", 16, "--dtype", "float64"]
SMALL += ["--padding", "mask", "--batches", "bucketed"]
RESUMED = "rosetta train --out {} --resume --epochs 9999 --workers 2"  # as an error tells to go on


def test_only_planted_mistakes_of_groups_are_caught() -> None:
    """A group is compared as it is, with each mistake, and again as it is in the end."""
    cases = Cases(DataConfig(), SETTINGS, 16, QUICK, Runtime(threads=1), "mask", WORKERS)
    with cases, cases.start_group("torch", "float64") as processes:

        def broken(mistake: str) -> list[str]:
            ask_each(processes, lambda process: process.call(plant_in_worker, mistake=mistake))
            arrays = StageArrays(processes[0], "float64", cases.by_stage)
            checks = list(Comparison(cases, arrays).of_group(processes))
            # The losses, eight weights, eight slots, and that all workers hold the same.
            assert len(checks) == 18
            return [check.tensor for check in checks if not check.passed]

        assert broken("") == []
        for mistake in OF_GROUPS:
            tensors = broken(mistake)
            assert any("losses" in tensor for tensor in tensors), mistake
            # The workers end in different states.
            parted = any("states" in tensor for tensor in tensors)
            assert parted == (mistake == "SlotsOfItsOwn"), mistake
        assert broken("") == []


def test_workers_that_begin_with_different_states_are_refused() -> None:
    class WithAnother(Alone):
        def sum(self, array: np.ndarray) -> np.ndarray:
            return array + np.array([0.0, 5.0])

    with pytest.raises(
        CannotBeginError, match="the 2 workers were started with 2 different states or settings"
    ):
        WithAnother(numpy_model, 0, 2).agree(b"state")


ADDRESSES = ["10.0.0.1:4000", "10.0.0.2:4000", "10.0.0.2:4001"]
TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "3",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "4000",
}
CLUSTER = {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": 1}}
PADDLE = {"PADDLE_TRAINER_ID": "1", "PADDLE_TRAINERS_NUM": "3", "PADDLE_LOCAL_SIZE": "2"}
LAUNCHED = {  # a backend with the variables of a launcher, and the workers on this machine
    "torchrun": ("torch", TORCHRUN, 2),
    "TF_CONFIG": ("keras", {"TF_CONFIG": json.dumps(CLUSTER)}, 2),
    "paddle.distributed.launch": (
        "paddle",
        PADDLE | {"PADDLE_TRAINER_ENDPOINTS": ",".join(ADDRESSES)},
        2,
    ),
    "torchrun's variables": ("paddle", TORCHRUN, 2),
    "another framework's launcher besides": ("torch", TORCHRUN | PADDLE | {"TF_CONFIG": ""}, 2),
}


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_a_worker_finds_its_rank_in_the_launchers_variables(launcher: str) -> None:
    name, variables, here = LAUNCHED[launcher]
    worker = place_in_group(name, variables | {"HOME": "/root"})
    assert (worker.rank, worker.size, worker.on_this_machine) == (1, 3, here)
    assert worker.meets_at == "10.0.0.1:4000"
    assert worker.target == TABLE[name].group
    host, _, port = worker.meets_at.partition(":")
    expected = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": host, "MASTER_PORT": port}
    assert worker.variables == variables | expected


def test_without_others_a_worker_trains_alone() -> None:
    assert place_in_group("torch", {"TF_CONFIG": "of Keras"}) == Worker()
    assert place_in_group("numpy", TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}) == Worker()


def test_a_workers_environment_lacks_other_launchers_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launched = "PET_NNODES PADDLE_NNODES TF_CONFIG MASTER_ADDR RANK LOCAL_RANK ROLE_NAME".split()
    for name in [*launched, "GLOO_SOCKET_IFNAME"]:
        monkeypatch.setenv(name, "2")
    (worker, _) = new_group("torch", 2)
    environment = child_environment({}, group=worker.variables)
    assert environment.keys() & {*launched} == {"MASTER_ADDR", "RANK", "TF_CONFIG"}
    assert environment["TF_CONFIG"] != "2"
    assert (environment["MASTER_ADDR"], environment["GLOO_SOCKET_IFNAME"]) == ("127.0.0.1", "lo")


@pytest.mark.parametrize(
    ("command", "variables", "why"),
    [
        (
            "train --out run --backend numpy --workers 2",
            {},
            "backend numpy cannot train in a group",
        ),
        ("train --out run --backend jax --workers 2", {}, "backend jax cannot train in a group"),
        (
            "train --out run --backend keras:example --workers 2",
            {},
            "backend keras:example cannot train in a group",
        ),
        ("train --out run --backend numpy", TORCHRUN, "backend numpy cannot train in a group"),
        ("train --out run --backend torch --workers 2 --device gpu", {}, "--device is gpu"),
        (
            f"train --out run --backend torch --workers {1 << 40}",
            {},
            "1,099,511,627,776 workers share batches of 64",
        ),
        (
            f"train --out run --backend torch --workers {1 << 30} --batch-size {1 << 30}",
            {},
            "give --workers",
        ),
        (f"parity --workers {1 << 40}", {}, "give --workers"),
        (
            "train --out run --backend torch",
            TORCHRUN | {"WORLD_SIZE": "65"},
            "65 workers share batches of 64 rows",
        ),
        (
            "train --out run --backend torch --workers 2",
            TORCHRUN,
            "worker 1 of 3 that another program starts.*--workers",
        ),
        (
            "train --out run --backend torch",
            {"WORLD_SIZE": "2"},
            "WORLD_SIZE is set, .*'MASTER_ADDR' is missing",
        ),
        (
            "train --out run --backend torch",
            TORCHRUN | {"RANK": "3"},
            "WORLD_SIZE is set, .*worker 3 of 3",
        ),
        (
            "train --out run --backend keras",
            {"TF_CONFIG": '{"cluster": {"chief": []}}'},
            "TF_CONFIG is set, .*alone",
        ),
        (
            "train --out run --backend torch",
            TORCHRUN | {"MASTER_ADDR": "no.such.invalid"},
            "no.such.invalid:4000",
        ),
        pytest.param(
            *(
                "train --out run --backend keras",
                TORCHRUN,
                "needs the addresses of all workers in TF_CONFIG",
            ),
            marks=pytest.mark.at_length,  # starts TensorFlow
        ),
    ],
)
def test_a_group_that_cannot_train_is_refused_at_once(
    command: str,
    variables: dict[str, str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Keras refuses after its import, which other programs may delay
    monkeypatch.setattr(group, "NOTICE_SECONDS", 60)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert re.search(why, refusal(2, *command.split()))
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_waits_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "NOTICE_SECONDS", 0.1)
    said, worker = list[str](), place_in_group("torch", TORCHRUN)
    monkeypatch.setattr(
        group.BackendProcess, "wait_until_open", lambda process: wait_until(lambda: said)
    )
    process: Any = nullcontext()
    with group.start_group([worker], lambda worker: process, said.append):
        pass
    assert said == [
        "worker 1 of 3 waits at 10.0.0.1:4000 for the others; start them within 300 s "
        "of one another"
    ]


def fake_process(seconds: float, error: RosettaError | None) -> Any:
    """A worker's process that fails after so many seconds; without an error it does not answer."""
    ended = threading.Event()

    def answer() -> None:
        ended.wait(seconds if error else None)
        raise error or RosettaError("was ended")

    return SimpleNamespace(name="torch", answer=answer, close=ended.set, ended=ended)


LOST = RosettaError("RuntimeError: Connection closed by peer")
FULL = RosettaError("the disk is full")


@pytest.mark.parametrize(
    ("errors", "blamed"),
    [
        ([(0.0, LOST), (0.1, FULL)], RosettaError(f"worker 1 of 2 failed: {FULL}")),
        (
            [(0.0, CannotBeginError("no")), (9.0, None)],
            CannotBeginError("worker 0 of 2 failed: no"),
        ),
        (
            [(9.0, None), (0.0, LOST)],
            RosettaError(f"worker 0 of 2 does not answer: worker 1 of 2 failed: {LOST}"),
        ),
        ([(0.0, LOST), (0.0, LOST)], RosettaError(f"worker 0 of 2 failed: {LOST}")),
    ],
    ids=["its own comes later", "cannot begin", "hangs", "nobody's own"],
)
def test_the_worker_that_failed_first_is_named_and_all_end(
    monkeypatch: pytest.MonkeyPatch,
    errors: list[tuple[float, RosettaError | None]],
    blamed: RosettaError,
) -> None:
    monkeypatch.setattr(group, "GRACE", 0.5)
    processes = [fake_process(*error) for error in errors]
    with pytest.raises(RosettaError) as caught:
        ask_each(processes, lambda process: process.answer())
    assert (type(caught.value), str(caught.value)) == (type(blamed), str(blamed))
    assert all(process.ended.is_set() for process in processes)


def test_ctrl_c_is_acted_on_where_another_thread_gets_it() -> None:
    """As it does where a thread begins in the moment between the key and the main thread's turn."""
    ended, in_time = threading.Event(), list[bool]()

    def press(process: Any) -> None:
        ended.wait(0.3)  # until the main thread waits
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        os.kill(os.getpid(), signal.SIGINT)
        in_time.append(ended.wait(10))

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        with pytest.raises(KeyboardInterrupt):
            ask_each([SimpleNamespace(close=ended.set) for _ in range(2)], press)  # type: ignore[misc]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    assert in_time == [True, True]


def epochs_of(run: Path) -> int:
    return len(RunDirectory.open(run).history()) if (run / "config.json").exists() else 0


def train_arguments(name: str, run: Path) -> list[object]:
    return ["train", "--backend", name, "--out", run, *SMALL]


def disturbed(
    run: Path, name: str, disturb: Callable[[list[psutil.Process]], object], epochs: int = 9999
) -> str:
    """The last line of a training in a group,
    to whose workers' processes something is done after two epochs."""
    before = psutil.Process().children()

    def wait_and_disturb() -> None:
        wait_until(lambda: epochs_of(run) >= 2, seconds=300)
        disturb([process for process in psutil.Process().children() if process not in before])

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(wait_and_disturb)
        *_, said = rosetta(*train_arguments(name, run), "--epochs", epochs, "--workers", WORKERS)
        done.result()
    assert psutil.Process().children() == before
    return said.splitlines()[-1]


def assert_trained_as_alone(run: RunDirectory, epochs: int) -> None:
    """Compare a run's weights with those after the same training by NumPy alone."""
    material, backend = run.material(), Backend(numpy_model, run.model_config, run.train_config)
    data = TrainingData(material.batch, material.training_rows, material.validation_rows)
    follow(backend, lambda **event: None, run=None, epochs=epochs, data=data)
    state, place = run.read_state("last")
    assert (place.epoch, place.step) == (epochs, 4 * epochs), "the last of four batches has one row"
    for name, weight in backend.dump().weights.items():
        np.testing.assert_allclose(
            state.weights[name], weight, rtol=0, atol=1e-11, err_msg=name, strict=True
        )


# torch's workers die below, on two hosts and under its launcher; Keras's take long.
DYING = [
    pytest.param(name, marks=pytest.mark.at_length if name == "keras" else ())
    for name, entry in TABLE.items()
    if entry.group and name != "torch"
]


@pytest.mark.parametrize("name", DYING)
def test_a_group_trains_as_one_worker_and_names_a_dead_one(name: str, tmp_path: Path) -> None:
    said = disturbed(tmp_path / "run", name, lambda processes: processes[1].kill())
    run = RunDirectory.open(tmp_path / "run")
    epochs = len(run.history())
    assert said.startswith(
        f"rosetta: worker 1 of 2 failed: the {name} backend's process was ended by signal 9"
    )
    assert said.endswith(
        f"; {run.path} keeps epoch {epochs}. Go on with: {RESUMED.format(run.path)}"
    )
    assert_trained_as_alone(run, epochs)


@pytest.mark.at_length
def test_a_restarted_launcher_ends_with_one_workers_result(tmp_path: Path) -> None:
    run, epochs = tmp_path / "run", 16
    launcher = "--standalone --nproc-per-node 2 --max-restarts 2 -m rosetta".split()
    arguments = [
        *launcher,
        *train_arguments("torch", run),
        "--resume-or-begin",
        "--epochs",
        epochs,
        "--threads",
        1,
    ]
    with started(*arguments, module="torch.distributed.run") as program:
        try:
            wait_until(lambda: epochs_of(run) >= 2, 300)
            children = psutil.Process(program.pid).children(recursive=True)
            [child for child in children if is_backend(child)][1].kill()
            _, said = program.communicate(timeout=300)
        finally:
            program.terminate()
    assert program.returncode == 0, said
    assert_trained_as_alone(RunDirectory.open(run), epochs)


def test_ctrl_c_ends_a_group_and_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of NumPy, whose workers add nothing up."""
    workers = [Worker(rank, WORKERS, on_this_machine=WORKERS) for rank in range(WORKERS)]
    monkeypatch.setattr(training, "new_group", lambda name, size: workers)
    monkeypatch.setattr(training, "cores", lambda: 6)
    threads = []

    def interrupt(processes: list[psutil.Process]) -> None:
        threads.extend(process.environ()["OPENBLAS_NUM_THREADS"] for process in processes)
        os.kill(os.getpid(), signal.SIGINT)

    said = disturbed(tmp_path / "run", "numpy", interrupt)
    run = RunDirectory.open(tmp_path / "run")
    epoch = run.read_state("last")[1].epoch
    assert said == (
        f"rosetta: interrupted; {run.path} keeps epoch {epoch}. Go on with: "
        f"{RESUMED.format(run.path)}"
    )
    assert threads == ["3", "3"], "each worker uses its share of the cores"


def test_workers_on_two_hosts_train_one_run_and_tell_of_a_loss(tmp_path: Path) -> None:
    """Each is started by hand, as a cluster's scheduler does, with the variables of torchrun."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "rosetta", *train_arguments("torch", tmp_path / "run")]
    with two_hosts() as hosts:
        (port,), programs = free_ports(1), []
        for rank, host in enumerate(hosts):
            variables = {
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": hosts[0].address,
                "MASTER_PORT": str(port),
            }
            variables["GLOO_SOCKET_IFNAME"] = host.interface
            programs.append(
                host.start(*command, "--threads", 1, "--epochs", 9999, cwd=PROJECT, **variables)
            )
        wait_until(
            lambda: epochs_of(run) >= 2 or any(program.poll() is not None for program in programs),
            300,
        )
        psutil.Process(programs[0].pid).children()[0].kill()
        (_, first), (printed, second) = (program.communicate(timeout=100) for program in programs)
    assert [program.returncode for program in programs] == [1, 1], first + second
    assert re.search(
        r"the torch backend's process was ended by signal 9.*keeps epoch .*--resume", first
    )
    assert printed == ""
    # On a busy machine a worker has said before whom it waited for.
    assert re.fullmatch(
        r"(warning: .*\n)?rosetta: another worker has ended or is out of reach: [^\n]*\n",
        second,
        re.DOTALL,
    )
