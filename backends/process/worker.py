"""The child's side: a process that holds one backend, started as `backends.process.worker SOCKET`.

SOCKET is the number of an inherited file descriptor. The first request names the backend to open. Each later request
names a function to call with it. Standard input is a pipe into which nothing is written. When the other end of this
pipe is closed, as when the parent dies, the process ends, whatever it does.
"""

import fcntl
import os
import select
import signal
import socket
import sys
import traceback
from pkgutil import resolve_name
from time import perf_counter
from typing import Any

from backends.process.wire import BROKEN, FAILED, REFUSED, Wire, arguments_for, function_named
from common.config import ModelConfig, TrainConfig
from common.errors import FULL, CannotBeginError, RosettaError, in_words
from common.interface import Backend
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
    wire = Wire(end, opens_files=True)

    def emit(**event: Any) -> None:
        wire.send("event", event)

    try:
        _, opening = wire.receive()
        backend, seconds = _open(**arguments_for(_open, opening))
        wire.send("result", seconds)
        while True:
            name, arguments = wire.receive()
            if not name.startswith(CALLABLE_PACKAGES):
                raise ValueError(f"{name} is not a function that a request may name")
            function = function_named(name)
            wire.send("result", function(backend, emit, **arguments_for(function, arguments)))
    except BaseException as error:
        wire.send(*_described(error))
        raise


def _be_killed_with_parent() -> None:
    """Have Linux kill this process when its parent ends, even while a framework lets no other thread run: Paddle and
    TensorFlow do not for minutes where they wait for the other workers of a group."""
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    standard_input = select.poll()
    standard_input.register(0)
    if standard_input.poll(0):  # the parent has ended before
        sys.exit(1)


def _open(target: str, model: ModelConfig, train: TrainConfig, device: str) -> tuple[Backend, dict[str, float]]:
    """The backend, and the seconds that its opening took."""
    if not target.startswith(BACKEND_PACKAGES):
        raise ValueError(f"{target} is not a backend that a request may name")
    start = perf_counter()  # NumPy and our own modules are imported already
    kind = resolve_name(target)
    kind.import_framework()
    imported = perf_counter()
    backend = kind(model, train, device)
    return backend, {"import_seconds": imported - start, "build_seconds": perf_counter() - imported}


def _described(error: BaseException) -> tuple[str, str]:
    """The kind and the content of the message that reports an error."""
    if isinstance(error, RosettaError):
        return REFUSED if isinstance(error, CannotBeginError) else FAILED, printable(str(error))
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in FULL):
        return FAILED, printable(str(in_words(error)))
    place = traceback.extract_tb(error.__traceback__)[-1]
    first_line = printable((str(error).strip() or "no message").splitlines()[0])
    where = f"{os.path.basename(place.filename)}, line {place.lineno}"
    return BROKEN, f"{type(error).__name__}: {first_line} ({where})"


if __name__ == "__main__":
    main()
