"""The child's side: a process that holds one backend, started as `backends.process.worker REQUESTS REPLIES`.

REQUESTS and REPLIES are the numbers of two inherited file descriptors. The first request names the backend to open;
each later request names a function to call with this backend. The process ends when the pipe of requests is closed,
whatever it is doing, and so also when its parent dies.
"""

import importlib
import os
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from time import perf_counter
from typing import IO, Any

import psutil

from backends import open_backend
from backends.process.calls import arguments_from_wire, function_named, to_wire
from backends.process.messages import Failure, GarbledMessageError, read_message, write_message
from common.config import ModelConfig, TrainConfig
from common.errors import FULL, RosettaError, in_words
from common.interface import Backend, BackendFacts

# A request names a class or a function; only these packages are searched for it.
TESTS = ("tests.",) if "PYTEST_CURRENT_TEST" in os.environ else ()
BACKEND_PACKAGES = ("backends.", *TESTS)
CALLABLE_PACKAGES = ("common.", "benchmarks.", *TESTS)


def main() -> None:
    requests, replies = os.fdopen(int(sys.argv[1]), "rb", buffering=0), os.fdopen(int(sys.argv[2]), "wb")
    inbox: SimpleQueue[tuple[str, Mapping[str, Any]]] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, inbox), daemon=True).start()

    def emit(**event: Any) -> None:
        write_message(replies, "event", event)

    try:
        backend, facts = _open(**arguments_from_wire(_open, inbox.get()[1]))
        write_message(replies, "result", to_wire(facts))
        while True:
            name, arguments = inbox.get()
            function = _function(name)
            result = function(backend, emit, **arguments_from_wire(function, arguments))
            write_message(replies, "result", to_wire(result))
    except BaseException as error:
        write_message(replies, "error", to_wire(_described(error)))
        raise


def _listen(requests: IO[bytes], inbox: SimpleQueue[tuple[str, Mapping[str, Any]]]) -> None:
    """Put requests into the queue as they come. This runs in a thread of its own, which waits in a read most of the
    time and notices at once when the parent is gone."""
    try:
        while True:
            inbox.put(read_message(requests))
    except (EOFError, OSError, GarbledMessageError):
        os._exit(0)


def _open(
    target: str, variant: str, model: ModelConfig, train: TrainConfig, device: str
) -> tuple[Backend, BackendFacts]:
    if not target.startswith(BACKEND_PACKAGES):
        raise ValueError(f"{target} is not a backend that a request may name")
    memory_before, start = _resident(), perf_counter()  # NumPy and our own modules are imported already
    importlib.import_module(target.partition(":")[0])
    imported, memory_imported = perf_counter(), _resident()
    opened = open_backend(target, variant, model, train, device)
    own: dict[str, Any] = {
        "import_seconds": imported - start,
        "build_seconds": perf_counter() - imported,
        "resident_before_import": memory_before,
        "resident_after_import": memory_imported,
        "resident_after_build": _resident(),
        "python": sys.executable,
        "python_version": platform.python_version(),
    }
    own |= opened.evidence().describe()
    # Threads are counted last, since what `describe` computes has started those of the framework.
    return opened, BackendFacts(**own, libraries=_libraries(), os_threads=psutil.Process().num_threads())


def _resident() -> int:
    """Bytes of this process's resident memory."""
    return int(psutil.Process().memory_info().rss)


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
        return Failure(str(error), error.exit_code)
    if isinstance(error, OSError) and error.errno in FULL:
        return Failure(in_words(error), RosettaError.exit_code)
    place = traceback.extract_tb(error.__traceback__)[-1]
    first_line = (str(error).strip() or "no message").splitlines()[0]
    where = f"{os.path.basename(place.filename)}, line {place.lineno}"
    return Failure(f"{type(error).__name__}: {first_line} ({where})", None)


if __name__ == "__main__":
    main()
