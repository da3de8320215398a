"""The parent's side of a backend's process: start it, call functions in it, hear its events, report its death.

Each framework runs in a child process of its own, since importing TensorFlow before Paddle crashes.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import IO, Any, Concatenate, ParamSpec, Self, TypeVar

from backends import Entry, find
from backends.process import in_child
from backends.process.environment import child_environment
from backends.process.wire import BROKEN, ERRORS, REFUSED, GarbledMessageError, Wire, converted, hints, name_of
from common.config import ModelConfig, TrainConfig
from common.errors import CannotBeginError, RosettaError, refusing
from common.files import temporary_folder
from common.interface import PATIENCE, Backend, BackendFacts, Emit
from common.text import printable, quoted

PROJECT = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0  # allowed for importing a framework and building a model, on a slow disk
TIMEOUT = 600.0  # seconds that a call may go without a message; one step, with its compilation, takes far less
SECONDS_A_ROW = 0.2  # more for each row that a call goes through; several times what 1,024 units need
SECONDS_A_SENTENCE = 60.0  # more for each sentence that a call decodes; far more than the slowest way needs
ENDING_SECONDS = 10.0  # allowed for ending, for a process that was killed or has closed its socket
LAST_WORDS = 2000  # bytes at the end of the child's own output, from which an error message quotes the last line
# Who sends the signals that end a process which has made no error, and what helps.
FROM_OUTSIDE: dict[int, str] = {
    signal.SIGKILL: "which the system sends where memory runs out, and `kill -9`; free some memory, if it was short",
    signal.SIGINT: "which `kill -INT` or another program sent to it alone",
    signal.SIGTERM: "which `kill` or a job's manager sent to it alone",
    signal.SIGHUP: "which `kill -HUP` or a terminal's end sent to it alone",
}
NEEDED = ("msgspec", "numpy", "psutil", "safetensors", "threadpoolctl")  # what a child imports beside its framework
OLDEST_PYTHON = (3, 11)
SCRATCH = "rosetta-scratch"  # of the names of folders for temporary files
# The program that a child runs. It takes our packages from where this process has them, so that neither a folder
# common/ in the working directory (hence also the flag -P) nor a package that somebody installed is taken for them.
# All other packages come from where the child's interpreter has them; those beside ours may be another interpreter's.
WORKER = """
import runpy, sys
from importlib.machinery import PathFinder
project, module = sys.argv[1:3]
del sys.argv[1:3]
class Ours:
    def find_spec(name, path=None, target=None):
        ours = name in ("backends", "benchmarks", "common", "tests")
        return PathFinder.find_spec(name, [project]) if ours else None
sys.meta_path.insert(0, Ours)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
# Prints the version of the interpreter that runs it, that of the framework whose package is its first argument, and
# which of the packages in the other arguments are missing. It does not look into the working directory.
CHECK = """
import sys
sys.path.pop(0)
from importlib import metadata
from importlib.util import find_spec
distributions = getattr(metadata, "packages_distributions", dict)().get(sys.argv[1], [])
framework = metadata.version(distributions[0]) if distributions else "unknown"
print(*sys.version_info[:2], framework, *[name for name in sys.argv[2:] if find_spec(name) is None])
"""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
OnEvent = Callable[[Mapping[str, Any]], None]


def timeout_for(rows: int = 0, sentences: int = 0) -> float:
    """Seconds that a call may go without a message which goes through so many rows and decodes so many sentences."""
    return TIMEOUT + SECONDS_A_ROW * rows + SECONDS_A_SENTENCE * sentences


@dataclass(frozen=True)
class Runtime:
    """The threads, device and interpreter of a backend's process; they change no mathematics."""

    threads: int | None = None  # None: one for each core that this process may use
    device: str = "cpu"
    lane: str = "matched"
    python: str | None = None  # the interpreter; None: this one

    def start(self, backend: str, model: ModelConfig, train: TrainConfig) -> "BackendProcess":
        """Start the backend's process and wait until it is open."""
        process = BackendProcess(backend, model, train, self)
        process.wait_until_open()
        return process


@dataclass(frozen=True)
class Worker:
    """A worker of a group, or one that trains alone."""

    rank: int = 0  # counted from 0
    size: int = 1  # number of workers in the group
    variables: Mapping[str, str] = field(default_factory=dict)  # that its backend's process needs, to join the group
    on_this_machine: int = 1  # number of the group's workers that share this machine's cores
    # "module:Class" of its backend, which joins the group; "" where it trains alone
    target: str = field(default="", kw_only=True)
    # Of a group that other programs started: the "host:port" at which all workers meet, and then those of the workers
    # that the engine's variables have.
    addresses: Sequence[str] = ()


class BackendProcess:
    """A backend running in a child process; a context manager that ends the process.

    The constructor starts the process, and does not wait until the backend is open: `facts` and calls do. A `worker`
    of a group joins it; see backends/process/group.py.

    Raises CannotBeginError when the interpreter, the backend or its device is missing; RosettaError when the process
    fails, dies, sends garbage, or takes longer than a call allows to read a request or to send a message.
    """

    def __init__(
        self,
        name: str,
        model: ModelConfig,
        train: TrainConfig,
        runtime: Runtime,
        worker: Worker | None = None,
    ) -> None:
        entry = find(name, runtime.python)
        if runtime.python:
            interpreter_versions(runtime.python, name, entry)
        self.name = name
        self._seconds_to_open: dict[str, float] | None = None  # None: the backend is not open yet
        worker = worker or Worker()
        # In a group the engine gives its own reason, when it has waited long enough for the other workers.
        self._start_seconds = START_SECONDS + (PATIENCE if worker.target else 0)
        self._opened, self._asking = ExitStack(), Lock()
        opening = {
            "target": worker.target or entry.target,
            "model": model,
            "train": train,
            "device": runtime.device,
        }
        try:
            self._start(runtime, worker, entry.engine)
            self._send("open", opening, START_SECONDS)
        except BaseException:
            self.close()
            raise

    def _start(self, runtime: Runtime, worker: Worker, engine: str) -> None:
        """Start the process, and leave in `_opened` what ends it. Raises CannotBeginError."""
        command = [runtime.python or sys.executable, "-P", "-c", WORKER, str(PROJECT), "backends.process.worker"]
        environment = child_environment(runtime.lane, runtime.threads, runtime.device, engine, worker.variables)
        # Too many files are open or processes run, or there is no room for temporary files.
        with refusing(f"the {self.name} backend's process cannot be started"):
            self._output = self._opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (it is one)
            # TensorFlow, when killed, leaves files behind.
            scratch = self._opened.enter_context(temporary_folder(Path(tempfile.gettempdir(), SCRATCH), 0o700))
            own, end_of_child = socket.socketpair()
            self._wire = Wire(self._opened.enter_context(own))
            with end_of_child:
                self._child = subprocess.Popen(
                    [*command, str(end_of_child.fileno())],
                    stdin=subprocess.PIPE,  # closed when this process ends, on which the child ends itself
                    stdout=self._output,
                    stderr=self._output,
                    env=environment | {"TMPDIR": str(scratch)},
                    pass_fds=[end_of_child.fileno()],
                    process_group=0,  # Ctrl-C reaches the parent alone, which then ends the child
                )
            self._opened.callback(self._end)

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_until_open(self) -> None:
        """Wait for the reply to the first request. Raises the error with which the backend failed."""
        if self._seconds_to_open is None:
            try:
                self._seconds_to_open = self._result(self._start_seconds, None, dict[str, float])
            except BaseException:
                self.close()
                raise

    @cached_property
    def facts(self) -> BackendFacts:
        """What the backend says about itself, with the seconds and memory of import and build."""
        with self._asking:
            self.wait_until_open()
        return self.call(in_child.facts, **(self._seconds_to_open or {}))

    def call(
        self,
        function: Callable[Concatenate[Backend, Emit, Arguments], Result],
        on_event: OnEvent | None = None,
        timeout: float = TIMEOUT,
        /,
        *nothing: Arguments.args,
        **arguments: Arguments.kwargs,
    ) -> Result:
        """Call a function in the child, with the child's backend, and return what it returns.

        The function is one of Rosetta's own. It takes the backend, a function that emits events, and keyword
        arguments; `backends.process.wire` says which values may cross between the processes. Positional arguments,
        for which Python's typing wants `nothing`, there are none. Its events are given to `on_event`, and the process
        is ended if it has not sent a whole message within `timeout` seconds of the one before. Several threads may
        call; the process answers one after another.
        """
        with self._asking:
            self.wait_until_open()
            self._send(name_of(function), arguments, timeout)
            result: Result = self._result(timeout, on_event, hints(function).get("return", Any))
            return result

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._opened.close()

    def _end(self) -> None:
        with suppress(ProcessLookupError):  # all have ended
            # The whole group, since the child may have started a compiler, which outlives it.
            os.killpg(self._child.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # the system does not get round to it
            self._child.communicate(timeout=ENDING_SECONDS)  # which closes its standard input, too

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, function: str, arguments: Mapping[str, Any], timeout: float) -> None:
        with self._blamed("took no request", timeout):
            self._wire.send(function, arguments, timeout)

    def _result(self, timeout: float, on_event: OnEvent | None, expected: Any) -> Any:
        """Wait for the result of the last request, which is of the expected type."""
        types = {"result": expected, "event": dict[str, Any]} | dict.fromkeys(ERRORS, str)
        while True:
            with self._blamed("sent no whole message", timeout):
                kind, content = self._wire.receive(timeout)
                content = converted(kind, content, types)
            if kind == "result":
                return content
            if kind in ERRORS:
                broken = f"the {self.name} backend failed: " if kind == BROKEN else ""
                raise (CannotBeginError if kind == REFUSED else RosettaError)(f"{broken}{printable(content)}")
            if on_event is not None:
                on_event(content)

    @contextmanager
    def _blamed(self, failing: str, timeout: float) -> Iterator[None]:
        """Where a message does not cross, end the process and raise a RosettaError, whose text has `failing` if the
        process has not done its part within so many seconds."""
        try:
            yield
        except TimeoutError as error:
            self.close()
            raise RosettaError(
                f"the {self.name} backend's process {failing} for {timeout:.0f} s and was ended; "
                "is the machine overloaded or out of memory?"
            ) from error
        except (EOFError, OSError) as error:
            raise RosettaError(self._how_it_ended()) from error
        except GarbledMessageError as error:
            self.close()
            raise RosettaError(f"the {self.name} backend's process sent garbage: {printable(str(error))}") from error

    def _how_it_ended(self) -> str:
        """The message of the error that reports the child's death, or that it closed its socket and was ended."""
        if self._output.closed:
            return f"the {self.name} backend's process was ended before"
        status = 0
        try:
            status = self._child.wait(ENDING_SECONDS)
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        except subprocess.TimeoutExpired:
            how = "closed its socket without ending, and was ended"
        words = last_words(self._output)
        self.close()
        if -status in FROM_OUTSIDE:  # what it wrote before has nothing to do with its end
            after = f", {FROM_OUTSIDE[-status]}"
        else:
            after = f"; its last words: {words}" if words else ", without a word"
        return f"the {self.name} backend's process {how}{after}"


def last_words(output: IO[bytes]) -> str:
    """The last line with words of what a process has written into a file."""
    size = os.fstat(output.fileno()).st_size
    written = os.pread(output.fileno(), LAST_WORDS, max(0, size - LAST_WORDS))
    lines = [printable(line).strip() for line in written.decode(errors="replace").split("\n")]
    return next(filter(None, reversed(lines)), "")


@cache
def interpreter_versions(python: str, name: str, entry: Entry) -> tuple[str, str]:
    """The versions of an interpreter and of the framework that it has for a backend, such as "3.12" and "2.15.0".

    Raises CannotBeginError unless this interpreter runs, is recent enough, and has what the backend needs.
    """
    needed = dict.fromkeys([*NEEDED, entry.package, entry.engine or entry.package])
    command = [python, "-c", CHECK, entry.package, *needed]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        major, minor, framework, *missing = done.stdout.split()
        version = int(major), int(minor)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it does not run Python 3"
        raise CannotBeginError(f"{python} cannot be used as the interpreter: {why}; give another path") from error
    if version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise CannotBeginError(f"{python} is Python {major}.{minor}, and {oldest} is the oldest that will do")
    if missing:
        extras = f"[{entry.extra}]" if entry.extra else ""
        raise CannotBeginError(
            f"backend {name} under {python} needs {', '.join(missing)}, which that interpreter has not; "
            f'run: {quoted(python)} -m pip install -e ".{extras}" in the clone of Rosetta'
        )
    return f"{major}.{minor}", framework
