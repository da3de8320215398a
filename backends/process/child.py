"""The child's side: a process that holds one backend, started by backends/process/parent.py.

Messages are pickles on an inherited socket. The first one names the backend to open; each later one
is a function to call with it. Standard input is a pipe into which nothing is written. When the
other end of this pipe is closed, as when the parent dies, the process ends, whatever it does.
"""

import fcntl
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from pkgutil import resolve_name
from time import perf_counter
from typing import Any

from backends import framework_of
from backends.interface import Backend
from backends.process import SOCKET
from backends.process.translate_in_child import load_run
from common.errors import FULL, CannotBeginError, RosettaError, in_words
from common.settings import ModelConfig, TrainConfig


def main() -> None:
    """Answer the requests that come by the socket, until it is closed or one of them fails."""
    descriptor = int(os.environ[SOCKET])
    # By its status the parent knows that a signal ended it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # So that no program that the framework starts keeps the socket open.
    os.set_inheritable(descriptor, False)
    _be_killed_with_parent()
    end = socket.socket(fileno=descriptor)
    requests = end.makefile("rb")

    def send(kind: str, content: Any) -> None:
        end.sendall(pickle.dumps((kind, content)))

    def emit(**event: Any) -> None:
        send("event", event)

    name, targets, model, train, device, load = pickle.load(requests)
    try:
        backend = _open_backend(targets, model, train, device, trains=not load)
        if load:
            load_run(backend, *load)
        send("result", None)
        while True:
            function, arguments = pickle.load(requests)
            send("result", function(backend, emit, **arguments))
    except BaseException as error:
        send("error", _described(name, error))
        raise


def _be_killed_with_parent() -> None:
    """Have Linux kill this process when its parent ends,
    even while a framework lets no other thread run.

    Paddle and TensorFlow let none run for minutes,
    while they wait for the other workers of a group.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    standard_input = select.poll()
    standard_input.register(0)
    if standard_input.poll(0):  # the parent has ended before
        sys.exit(1)


def _open_backend(
    targets: tuple[str, str, str], model: ModelConfig, train: TrainConfig, device: str, trains: bool
) -> Backend:
    """The backend of a model file, its driver and the group that it joins;
    with its optimizer if it `trains`."""
    start = perf_counter()  # NumPy and our own modules are imported already
    file, driver, group = map(resolve_name, targets)
    imported = perf_counter()
    backend: Backend = driver(file, model, train, device, group)
    if trains:
        backend.mean_squares()  # makes the optimizer
    backend.seconds_to_open = {
        "import_seconds": imported - start,
        "build_seconds": perf_counter() - imported,
    }
    return backend


def _described(name: str, error: BaseException) -> tuple[type[RosettaError], str]:
    """The error that the parent raises for an error of this backend: its class and its text.

    The error itself does not cross: a framework's own would have the parent import the framework.
    """
    if isinstance(error, RosettaError):
        return CannotBeginError if isinstance(error, CannotBeginError) else RosettaError, str(error)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in FULL):
        return RosettaError, str(in_words(error))
    frames = traceback.extract_tb(error.__traceback__)
    model_file = f"backends/{framework_of(name)}_*.py"
    # The line of the model file helps more than a line of the framework that it calls.
    place = ([frame for frame in frames if Path(frame.filename).match(model_file)] or frames)[-1]
    first_line = (str(error).strip() or "no message").splitlines()[0]
    where = f"{os.path.basename(place.filename)}, line {place.lineno}"
    return RosettaError, (
        f"the {name} backend failed: {type(error).__name__}: {first_line} ({where})"
    )
