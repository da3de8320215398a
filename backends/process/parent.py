"""The parent's side of a backend's process: start it, call functions in it, hear its events, report its death.

Each framework runs in a child process of its own, since importing TensorFlow before Paddle crashes.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import msgspec

from backends import Entry, find
from backends.process.calls import name_of, result_from_wire, to_wire
from backends.process.environment import child_environment
from backends.process.messages import Failure, GarbledMessageError, read_message, write_message
from backends.process.pipes import LimitedPipe, opened_pipe
from backends.process.scratch import scratch_folder
from common.config import ModelConfig, TrainConfig
from common.decoding import Emit
from common.errors import CannotBeginError, RosettaError
from common.interface import Backend, BackendFacts
from common.text import printable, quoted

PROJECT = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0  # allowed for importing a framework and building a model, on a slow disk
SILENCE = 600.0  # seconds that a call may go without a message; one step, with its compilation, takes far less
ENDING_SECONDS = 10.0  # allowed for ending, for a process that was killed or has closed its pipes
LAST_WORDS = 2000  # bytes at the end of the child's own output, from which an error message quotes the last line
NEEDED = ("msgspec", "numpy", "psutil", "safetensors", "threadpoolctl")  # what a child imports beside its framework
OLDEST_PYTHON = (3, 11)
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
# which of the packages in the other arguments are missing.
CHECK = """
import sys
from importlib import metadata
from importlib.util import find_spec
distributions = getattr(metadata, "packages_distributions", dict)().get(sys.argv[1], [])
framework = metadata.version(distributions[0]) if distributions else "unknown"
print(*sys.version_info[:2], framework, *[name for name in sys.argv[2:] if find_spec(name) is None])
"""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
OnEvent = Callable[[Mapping[str, Any]], None]


class BackendProcess:
    """A backend running in a child process; a context manager that ends the process.

    The constructor starts the process, and does not wait until the backend is open: `facts` and calls do. `group`
    holds the variables by which the backend joins a group of workers; see backends/engines.py. `python` is the
    child's interpreter where it is another than this one, since not all frameworks can be installed together.

    Raises CannotBeginError when the interpreter, the backend or its device is missing; RosettaError when the process
    fails, dies, sends garbage, or takes longer than a call allows to read a request or to send a message.
    """

    def __init__(
        self,
        name: str,
        model: ModelConfig,
        train: TrainConfig,
        *,
        threads: int | None = None,
        device: str = "cpu",
        lane: str = "matched",
        python: str | None = None,
        group: Mapping[str, str] | None = None,
    ) -> None:
        entry = find(name, python)
        if python:
            interpreter_versions(python, name, entry)
        self.name = name
        self._opened, self._asking = ExitStack(), Lock()
        environment = child_environment(lane, threads, device, group)
        command = [python or sys.executable, "-P", "-c", WORKER, str(PROJECT), "backends.process.worker"]
        opening = {
            "target": entry.target,
            "variant": entry.variant,
            "model": model,
            "train": train,
            "device": device,
        }
        try:
            self._start(command, environment)
            self._send("open", to_wire(opening), START_SECONDS)
        except BaseException:
            self.close()
            raise

    @cached_property
    def facts(self) -> BackendFacts:
        """What the backend says about itself when it is open, with the seconds and memory of import and build."""
        facts_of: Callable[[Any], BackendFacts] = partial(msgspec.convert, type=BackendFacts)
        try:
            return self._result(START_SECONDS, None, facts_of)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor of the pipe of replies, in which there is something to read when the backend is open."""
        return self._replies.fileno()

    def _start(self, command: list[str], environment: dict[str, str]) -> None:
        """Start the process, and leave in `_opened` what ends it. Raises CannotBeginError."""
        try:
            self._output = self._opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (it is one)
            scratch = self._opened.enter_context(scratch_folder())  # TensorFlow, when killed, leaves files behind
            with ExitStack() as of_child:
                child_requests, requests = opened_pipe(of_child, self._opened)
                replies, child_replies = opened_pipe(self._opened, of_child)
                self._requests, self._replies = LimitedPipe(requests), LimitedPipe(replies)
                inherited = child_requests.fileno(), child_replies.fileno()
                self._child = subprocess.Popen(
                    [*command, *map(str, inherited)],
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=self._output,
                    env=environment | {"TMPDIR": str(scratch)},
                    pass_fds=inherited,
                    process_group=0,  # Ctrl-C reaches the parent alone, which then ends the child
                )
            self._opened.callback(self._end)
        except OSError as error:  # too many files are open or processes run; there is no room for temporary files
            message = f"the {self.name} backend's process cannot be started: {error.strerror}"
            raise CannotBeginError(message) from error

    @property
    def pid(self) -> int:
        return self._child.pid

    def call(
        self,
        function: Callable[Concatenate[Backend, Emit, Arguments], Result],
        *nothing: Arguments.args,
        **arguments: Arguments.kwargs,
    ) -> Result:
        """Call a function in the child, with the child's backend, and return what it returns.

        The function is one of Rosetta's own. It takes the backend, a function that emits events, and keyword
        arguments; `backends.process.calls` says which values may cross between the processes. `nothing` stands for
        positional arguments, of which there are none; Python's typing wants it beside `arguments`.
        """
        return self.listening().call(function, *nothing, **arguments)

    def listening(self, on_event: OnEvent | None = None, silence: float = SILENCE) -> "Listening":
        """Prepare one `call`: its events are given to `on_event`, and the process is ended if it has not sent a whole
        message within `silence` seconds of the one before."""
        return Listening(self, on_event, silence)

    def _exchange(
        self,
        function: str,
        arguments: Any,
        silence: float,
        on_event: OnEvent | None,
        result_from: Callable[[Any], Result],
    ) -> Result:
        """Send a request, with arguments in the form in which they cross, and wait for its result.

        Several threads may ask the same process; it answers one after another.
        """
        with self._asking:
            self.facts  # noqa: B018 (the reply to the first request, which comes before all others)
            self._send(function, arguments, silence)
            return self._result(silence, on_event, result_from)

    def _send(self, function: str, arguments: Any, silence: float) -> None:
        self._within(silence, "took no request", partial(write_message, self._requests, function, arguments))

    def _result(self, silence: float, on_event: OnEvent | None, result_from: Callable[[Any], Result]) -> Result:
        """Wait for the result of the last request."""
        receive = partial(self._receive, {"result": result_from, "error": _failure_from, "event": _event_from})
        while True:
            kind, content = self._within(silence, "sent no whole message", receive)
            if kind == "result":
                result: Result = content
                return result
            if kind == "error":
                raise self._error(content)
            if on_event is not None:
                on_event(content)

    def _within(self, seconds: float, failing: str, transfer: Callable[[], Result]) -> Result:
        """Send or receive a message. A process that does not do its part is ended and becomes a RosettaError, whose
        text has `failing` for one that has not done it within so many seconds."""
        self._requests.deadline = self._replies.deadline = monotonic() + seconds
        try:
            return transfer()
        except TimeoutError as error:
            self.close()
            raise RosettaError(
                f"the {self.name} backend's process {failing} for {seconds:.0f} s and was ended; "
                "is the machine overloaded or out of memory?"
            ) from error
        except (EOFError, BrokenPipeError) as error:
            raise RosettaError(self._how_it_ended()) from error
        except GarbledMessageError as error:
            self.close()
            raise RosettaError(f"the {self.name} backend's process sent garbage: {printable(str(error))}") from error

    def _receive(self, contents_from: Mapping[str, Callable[[Any], Any]]) -> tuple[str, Any]:
        """A message's kind, and its content as the function for this kind converts it from how it crossed."""
        kind, content = read_message(self._replies)
        if kind not in contents_from:
            raise GarbledMessageError(f"a message of the unknown kind {kind}")
        try:
            return kind, contents_from[kind](content)
        except (RecursionError, ValueError) as error:  # those of msgspec, and a lone surrogate
            raise GarbledMessageError(f"a message of kind {kind}: {error}") from error

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._opened.close()

    def _end(self) -> None:
        with suppress(ProcessLookupError):  # all have ended
            # The whole group, since the child may have started a compiler, which outlives it.
            os.killpg(self._child.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # the system does not get round to it
            self._child.wait(ENDING_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _error(self, failure: Failure) -> RosettaError:
        message = printable(failure.message)
        if failure.exit_code == CannotBeginError.exit_code:
            return CannotBeginError(message)
        if failure.exit_code == RosettaError.exit_code:
            return RosettaError(message)
        return RosettaError(f"the {self.name} backend failed: {message}")

    def _how_it_ended(self) -> str:
        """The message of the error that reports the child's death, or that it closed its pipes and was ended."""
        try:
            status = self._child.wait(ENDING_SECONDS)
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        except subprocess.TimeoutExpired:
            how = "closed its pipes without ending, and was ended"
        size = os.fstat(self._output.fileno()).st_size
        written = os.pread(self._output.fileno(), LAST_WORDS, max(0, size - LAST_WORDS))
        lines = [printable(line).strip() for line in written.decode(errors="replace").split("\n")]
        last_words = next(filter(None, reversed(lines)), "")
        self.close()
        said = f"; its last words: {last_words}" if last_words else ", without a word"
        return f"the {self.name} backend's process {how}{said}"


def _failure_from(content: Any) -> Failure:
    return msgspec.convert(content, Failure)


def _event_from(content: Any) -> dict[str, Any]:
    return msgspec.convert(content, dict[str, Any])


@dataclass(frozen=True)
class Listening:
    """A call that is being prepared: which function hears its events, and how long the process may be silent."""

    process: BackendProcess
    on_event: OnEvent | None
    silence: float  # seconds

    def call(
        self,
        function: Callable[Concatenate[Backend, Emit, Arguments], Result],
        *nothing: Arguments.args,
        **arguments: Arguments.kwargs,
    ) -> Result:
        """See `BackendProcess.call`."""
        result: Result = self.process._exchange(
            name_of(function), to_wire(arguments), self.silence, self.on_event, partial(result_from_wire, function)
        )
        return result


@cache
def interpreter_versions(python: str, name: str, entry: Entry) -> tuple[str, str]:
    """The versions of an interpreter and of the framework that it has for a backend, such as "3.12" and "2.15.0".

    Raises CannotBeginError unless this interpreter runs, is recent enough, and has what the backend needs.
    """
    # A compiled backend asks pooch where the cache folder is, in which it keeps what it compiled.
    packages = [*NEEDED, entry.package, *(["pooch"] if entry.compiled else [])]
    command = [python, "-c", CHECK, entry.package, *packages]
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
