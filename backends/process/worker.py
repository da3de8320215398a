"""The child's side: a process that holds one backend, started as `backends.process.worker SOCKET`.

SOCKET is the number of an inherited file descriptor. The first request names the backend to open. Each later request
asks for the facts of this backend, or names a function to call with it. Standard input is a pipe into which nothing
is written. When the other end of this pipe is closed, as when the parent dies, the process ends, whatever it does.
"""

import fcntl
import importlib
import os
import platform
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import psutil

from backends import open_backend
from backends.process.wire import FACTS, Failure, Wire, arguments_for, function_named
from common.config import ModelConfig, TrainConfig
from common.errors import FULL, RosettaError, in_words
from common.interface import Backend, BackendFacts
from common.text import printable

# A request names a class or a function; only these packages are searched for it.
TESTS = ("tests.",) if "PYTEST_CURRENT_TEST" in os.environ else ()
BACKEND_PACKAGES = ("backends.", *TESTS)
CALLABLE_PACKAGES = ("common.", "benchmarks.", "backends.", *TESTS)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # by its status the parent knows that a signal ended it
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)  # so that no program that the framework starts keeps it open
    _be_killed_with_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    wire = Wire(end, opens_files=True)

    def emit(**event: Any) -> None:
        wire.send("event", event)

    try:
        _, opening = wire.receive()
        backend, opened = _open(**arguments_for(_open, opening))
        wire.send("result", None)
        while True:
            name, arguments = wire.receive()
            if name == FACTS:
                wire.send("result", _facts(backend, opened))
            else:
                function = _function(name)
                wire.send("result", function(backend, emit, **arguments_for(function, arguments)))
    except BaseException as error:
        wire.send("error", _described(error))
        raise


def _end_with_parent() -> None:
    """End this process when its parent ends. This runs in a thread of its own, which waits all the time."""
    standard_input = select.poll()
    standard_input.register(0, 0)  # for no event but the other end's being closed, which is always reported
    standard_input.poll()
    os._exit(0)


def _be_killed_with_parent() -> None:
    """Have Linux kill this process when its parent ends, even while a framework lets no other thread run: Paddle and
    TensorFlow do not for minutes where they wait for the other workers of a group."""
    with suppress(OSError):  # of a system that does not do so
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _open(target: str, model: ModelConfig, train: TrainConfig, device: str) -> tuple[Backend, dict[str, Any]]:
    """The backend, and the fields of BackendFacts that are known of its opening."""
    if not target.startswith(BACKEND_PACKAGES):
        raise ValueError(f"{target} is not a backend that a request may name")
    start = perf_counter()  # NumPy and our own modules are imported already
    importlib.import_module(target.partition(":")[0])
    imported = perf_counter()
    backend = open_backend(target, model, train, device)
    return backend, {
        "import_seconds": imported - start,
        "build_seconds": perf_counter() - imported,
    }


def _facts(backend: Backend, opened: dict[str, Any]) -> BackendFacts:
    described = backend.profiling().describe()
    return BackendFacts(
        **opened,
        **described,
        python=printable(sys.executable),
        python_version=platform.python_version(),
        libraries=_libraries(),
        os_threads=psutil.Process().num_threads(),  # with those that what `describe` computes has started
    )


def _libraries() -> list[str]:
    """Names and versions of the matrix and threading libraries that are loaded and that threadpoolctl knows."""
    from threadpoolctl import threadpool_info

    kinds = {(pool["internal_api"], pool["version"], pool.get("architecture")) for pool in threadpool_info()}
    return sorted(" ".join(str(part) for part in kind if part) for kind in kinds)


def _function(name: str) -> Callable[..., Any]:
    if not name.startswith(CALLABLE_PACKAGES):
        raise ValueError(f"{name} is not a function that a request may name")
    return function_named(name)


def _described(error: BaseException) -> Failure:
    if isinstance(error, RosettaError):
        return Failure(printable(str(error)), error.exit_code)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in FULL):
        return Failure(printable(str(in_words(error))), RosettaError.exit_code)
    place = traceback.extract_tb(error.__traceback__)[-1]
    first_line = printable((str(error).strip() or "no message").splitlines()[0])
    where = f"{os.path.basename(place.filename)}, line {place.lineno}"
    return Failure(f"{type(error).__name__}: {first_line} ({where})", None)


if __name__ == "__main__":
    main()
