"""Functions that tests call in a backend's process: `process.call(child.steps, ...)`."""

import ctypes
import importlib
import io
import os
import resource
import subprocess
import sys
import time
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from backends import interface, native_tool
from backends.interface import Backend, Characters, Emit, Metrics, unreported
from backends.native import convert_in_child
from backends.process import SOCKET, translate_in_child
from backends.process.translate_in_child import Answer
from backends.profiling import Profiled, covered, profile
from common.errors import CannotBeginError, RosettaError
from common.tensors import Batch, Batches
from common.weights import ModelState


def elsewhere(backend: Backend, emit: Emit, *, named: str, arguments: dict[str, Any]) -> Any:
    """Call the function named "module:function" of a module that the tests' own process must not
    import, since it imports a framework."""
    return resolve_name(named)(backend, emit, **arguments)


def import_without(backend: Backend, emit: Emit, *, module: str, missing: str) -> None:
    """Import a module anew, as where another one is missing."""
    with patch.dict(sys.modules, {missing: None}):
        del sys.modules[module]
        importlib.import_module(module)


def part_of_a_copied_view(backend: Backend, emit: Emit) -> float:
    """The share of the time under Paddle's profiler
    in which a transposed view is copied for a product."""
    import paddle

    from backends.profiling import paddle as profiling

    view = paddle.ones([64, 64, 16, 32]).transpose([0, 2, 1, 3])

    def train() -> float:
        began = time.perf_counter()
        (view @ paddle.ones([32, 1])).numpy()
        return time.perf_counter() - began

    train()
    seconds, kernels = profiling.traced(train, "cpu")
    return covered(kernel for kernel in kernels if "matmul" not in kernel.name) / seconds


@dataclass(frozen=True, eq=False)
class Steps:
    """Training steps, and what was reported of them."""

    losses: NDArray[np.float64]  # (steps,)
    reported: list[tuple[int, float]]  # steps and losses


def batches_of(batch: Batch, batch_size: int) -> Batches:
    """All rows, in order."""
    return Batches(batch, np.arange(len(batch)), batch_size)


def steps(
    backend: Backend,
    emit: Emit,
    *,
    state: ModelState,
    batch: Batch,
    batch_size: int,
    last: int | None = None,
) -> Steps:
    """Train on all rows in order, each step being slow enough to be reported;
    the report of step `last` ends it."""
    backend.load(state)
    reported: list[tuple[int, float]] = []

    def report(step: int, loss: float) -> bool:
        reported.append((step, loss))
        return step == last

    with patch.object(interface, "REPORT_SECONDS", 0):
        trained = backend.train(batches_of(batch, batch_size), report)
    return Steps(trained.step_losses, reported)


def run_script(
    backend: Backend, emit: Emit, *, text: str, folder: Path, arguments: list[str]
) -> str:
    """Run a script's text in a folder, from which it may import; return what it prints."""
    printed = io.StringIO()
    with (
        chdir(folder),
        patch.object(sys, "path", [str(folder), *sys.path]),
        patch.object(sys, "argv", ["", *arguments]),
        redirect_stdout(printed),
    ):
        exec(text, {"__name__": "__main__"})
    return printed.getvalue()


def second_biases(backend: Backend, emit: Emit) -> float:
    """The largest of the biases that torch and Paddle have and Keras lacks."""
    lstms = backend.model.encoder, backend.model.decoder  # type: ignore[attr-defined]
    return max(float(abs(lstm.bias_hh_l0).max()) for lstm in lstms)


def optimizer_of_torch(backend: Backend, emit: Emit) -> None:
    """Make an optimizer of torch's own."""
    import torch

    torch.optim.RMSprop([torch.zeros(1, requires_grad=True)])


def imported(backend: Backend, emit: Emit) -> list[str]:
    """The modules that the process has imported."""
    return sorted(sys.modules)


def refusal_of_gpu(backend: Backend, emit: Emit) -> str:
    """The refusal of building the same model once more, on a GPU."""
    try:
        type(backend)(backend.file, backend.config, backend.train_config, "gpu")
    except CannotBeginError as error:
        return str(error)
    return "it was built"


def variable(backend: Backend, emit: Emit, *, name: str) -> str | None:
    return os.environ.get(name)


def page_faults(backend: Backend, emit: Emit, *, megabytes: int) -> int:
    """Count the page faults of writing so much memory, when as much was just given back."""
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        b"x" * (megabytes << 20)  # NumPy asks for huge pages by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def chatter(backend: Backend, emit: Emit) -> None:
    """Print what would break a protocol spoken over standard output."""
    os.write(1, b"\x00\xff garbage on standard output\n" * 100_000)


# Clears a terminal, names its window, and so on.
HOSTILE = "out of memory\x1b[2J\x1b]0;title\x07\x9b31m\r\u202e"


def end(
    backend: Backend, emit: Emit, *, words: str = HOSTILE, signal: int = 0, status: int = 0
) -> None:
    """Print words and end by a signal or with a status,
    while a process that was started meanwhile goes on."""
    subprocess.Popen(["sleep", "60"])
    os.write(2, words.encode())
    os.kill(os.getpid(), signal)  # which does nothing where the signal is 0
    os._exit(status)


def send(backend: Backend, emit: Emit, *, raw: bytes) -> None:
    """Write these bytes into the socket, and nothing more for a long time."""
    os.write(int(os.environ[SOCKET]), raw)
    time.sleep(20)


def close_socket(backend: Backend, emit: Emit) -> None:
    """Close the socket and go on."""
    os.write(2, HOSTILE.encode())
    os.close(int(os.environ[SOCKET]))
    time.sleep(20)


def hold(backend: Backend, emit: Emit) -> None:
    """Let no other thread of the interpreter run for a minute,
    as Paddle does while it waits for another worker."""
    emit(pid=os.getpid())
    ctypes.PyDLL(None).sleep(60)


def unpicklable(backend: Backend, emit: Emit) -> Any:
    return lambda: None


def fail(backend: Backend, emit: Emit) -> None:
    raise ValueError(HOSTILE)


def fail_in_numpy(backend: Backend, emit: Emit) -> None:
    backend.file.log_softmax(np.zeros((2, 0)))  # type: ignore[attr-defined]


def echo(backend: Backend, emit: Emit, *, content: dict[str, Any]) -> dict[str, Any]:
    """The content as it came, after five events."""
    for number in range(5):
        emit(number=number)
    return content


def taken(backend: Backend, emit: Emit, *, batch: Batch, rows: NDArray[np.int64]) -> Batch:
    """These rows of the batch, which must have come as one to have a `take`."""
    return batch.take(rows)


def load(backend: Backend, emit: Emit, *, state: ModelState) -> None:
    backend.load(state)


def translate(
    backend: Backend, emit: Emit, *, characters: Characters, texts: list[str], beam: int | None
) -> list[Answer]:
    """Translate as with a run of these characters."""
    backend.characters = characters
    return translate_in_child.translate_texts(backend, emit, texts=texts, beam=beam)


# Profiling


@dataclass(frozen=True)
class Traced:
    """Results of profiling a backend."""

    profiled: Profiled
    files: list[str]  # that profiling left where it was run


def trained_and_evaluated(
    backend: Backend, emit: Emit, *, batch: Batch, batch_size: int
) -> tuple[Metrics, Metrics]:
    batches = batches_of(batch, batch_size)
    return backend.train(batches, unreported), backend.evaluate(batches)


def traced(backend: Backend, emit: Emit, *, folder: str, batch: Batch, batch_size: int) -> Traced:
    """Profile in `folder`."""
    before = os.getcwd()
    os.chdir(folder)
    profiled = profile(backend, batches_of(batch, batch_size))
    os.chdir(before)
    return Traced(profiled, os.listdir(folder))


# Files of frameworks


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.folder}/executed",)


def save(backend: Backend, emit: Emit, *, state: ModelState, folder: Path) -> list[str]:
    """Have the backend write a state into `folder`; returns the files' names."""
    backend.load(state)
    write = partial(native_tool(backend.framework, "write"), backend)
    return convert_in_child.written(folder, write)[0]


@dataclass(frozen=True, eq=False)
class Read:
    """The state that files hold, or the refusal of them.
    As an error the refusal would end the process."""

    state: ModelState | None = None
    refusal: str = ""


def read(backend: Backend, emit: Emit, *, paths: list[Path]) -> Read:
    """The state that files of the framework hold."""
    try:
        return Read(convert_in_child.read_native(backend, emit, paths=paths))
    except RosettaError as error:
        return Read(refusal=str(error))


def loaded(backend: Backend, emit: Emit, *, program: str) -> dict[str, Any]:
    """The canonical weights of the `model` that a program makes of a model file, its `api`."""
    names: dict[str, Any] = {}
    exec(program, names)
    api = names["api"]
    return {
        name: api.layout(name, api.to_array(weight))
        for name, weight in names["model"].named_weights().items()
    }


def refuses_to_save(backend: Backend, emit: Emit, *, run: Path, folder: Path) -> str:
    """The message where no file may have more than 1,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        convert_in_child.save_native(backend, emit, run=run, weights="last", folder=folder)
    except RosettaError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return ""


def inheritable(backend: Backend, emit: Emit) -> list[str]:
    """The targets of descriptors that a program started here would inherit,
    besides its standard streams."""
    descriptors = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{name}")
    ]
    return [
        os.readlink(f"/proc/self/fd/{number}")
        for number in descriptors
        if number > 2 and os.get_inheritable(number)
    ]
