"""The parent's side of a backend's process: start it, call functions in it, hear its events, report its death.

Each framework runs in a child process of its own, since importing TensorFlow before Paddle crashes.
"""

import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import msgspec

from backends import Entry, find
from backends.process.calls import name_of, result_from_wire, to_wire
from backends.process.environment import child_environment
from backends.process.messages import GarbledMessageError, read_message, write_message
from common.config import ModelConfig, TrainConfig
from common.decoding import Emit
from common.errors import CannotBeginError, RosettaError
from common.interface import Backend, BackendFacts

PROJECT = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0  # allowed for importing a framework and building a model, on a slow disk
SILENCE = 600.0  # seconds that a call may go without a message; one step, with its compilation, takes far less
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
# Prints the version of the interpreter that runs it, and which of the packages in its arguments are missing.
CHECK = """
import sys
from importlib.util import find_spec
print(*sys.version_info[:2], *[name for name in sys.argv[1:] if find_spec(name) is None])
"""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
OnEvent = Callable[[Mapping[str, Any]], None]


class BackendProcess:
    """A backend running in a child process; a context manager that ends the process.

    `facts` holds what the backend says about itself, with the seconds and memory of import and build. `python` is the
    child's interpreter where it is not this one: frameworks that cannot be installed together each have their own.

    Raises CannotBeginError when the interpreter, the backend or its device is missing; RosettaError when the process
    fails, dies, sends garbage, or is silent for longer than a call allows.
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
    ) -> None:
        entry = find(name, python)
        if python:
            require_interpreter(python, name, entry)
        self.name = name
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._scratch = tempfile.TemporaryDirectory()  # TensorFlow leaves temporary files behind when it is killed
        child_requests, requests = os.pipe()
        replies, child_replies = os.pipe()
        environment = child_environment(lane, threads, device) | {"TMPDIR": self._scratch.name}
        command = [python or sys.executable, "-P", "-c", WORKER, str(PROJECT), "backends.process.worker"]
        self._child = subprocess.Popen(
            [*command, str(child_requests), str(child_replies)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=environment,
            pass_fds=(child_requests, child_replies),
            process_group=0,  # Ctrl-C reaches the parent alone, which then ends the child
        )
        os.close(child_requests)
        os.close(child_replies)
        self._requests, self._replies = os.fdopen(requests, "wb"), os.fdopen(replies, "rb", buffering=0)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        try:
            opening = {
                "target": entry.target,
                "variant": entry.variant,
                "model": model,
                "train": train,
                "device": device,
            }
            facts = self._exchange("open", to_wire(opening), START_SECONDS, None)
            self.facts = msgspec.convert(facts, BackendFacts)
        except BaseException:
            self.close()
            raise

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
        """Prepare one `call`: its events are given to `on_event`, and the process is ended if it sends nothing for
        `silence` seconds."""
        return Listening(self, on_event, silence)

    def _exchange(self, function: str, arguments: Any, silence: float, on_event: OnEvent | None) -> Any:
        """Send a request and wait for its result; arguments and result are in the form in which they cross."""
        try:
            write_message(self._requests, function, arguments)
            while True:
                kind, content = self._receive(silence)
                if kind == "result":
                    return content
                if kind == "error":
                    raise self._error(content)
                if on_event is not None:
                    on_event(content)
        except (EOFError, BrokenPipeError) as error:
            raise RosettaError(self._how_it_ended()) from error
        except GarbledMessageError as error:
            self.close()
            raise RosettaError(f"the {self.name} backend's process sent garbage: {error}") from error

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._child.poll() is None:
            # The whole group, since the child may have started a compiler.
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for resource in (self._selector, self._requests, self._replies, self._output):
            with suppress(BrokenPipeError):  # the rest of a request that the dead child cannot take
                resource.close()
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, silence: float) -> tuple[str, Any]:
        if not self._selector.select(silence):
            self.close()
            raise RosettaError(
                f"the {self.name} backend's process was silent for {silence:.0f} s and was ended; "
                "is the machine overloaded or out of memory?"
            )
        return read_message(self._replies)

    def _error(self, content: Mapping[str, Any]) -> RosettaError:
        if content["exit_code"] == CannotBeginError.exit_code:
            return CannotBeginError(content["message"])
        if content["exit_code"] == RosettaError.exit_code:
            return RosettaError(content["message"])
        return RosettaError(f"the {self.name} backend failed: {content['message']}")

    def _how_it_ended(self) -> str:
        """The message of the error that reports the child's death."""
        status = self._child.wait()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        self._output.seek(0)
        lines = self._output.read()[-LAST_WORDS:].decode(errors="replace").split("\n")
        last_words = [line.strip() for line in lines if line.strip()]
        said = f"; its last words: {last_words[-1]}" if last_words else ", without a word"
        return f"the {self.name} backend's process {how}{said}"


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
        wire = to_wire(arguments)
        result: Result = result_from_wire(
            function, self.process._exchange(name_of(function), wire, self.silence, self.on_event)
        )
        return result


@cache
def require_interpreter(python: str, name: str, entry: Entry) -> None:
    """Raise CannotBeginError unless this interpreter runs, is recent enough, and has what the backend needs."""
    # A compiled backend asks pooch where the cache folder is, in which it keeps what it compiled.
    command = [python, "-c", CHECK, *NEEDED, entry.package, *(["pooch"] if entry.compiled else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        major, minor, *missing = done.stdout.split()
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
            f'run: {quote(python)} -m pip install -e ".{extras}" in the clone of Rosetta'
        )
