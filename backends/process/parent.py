"""The parent's side of a backend's process: start it, call functions in it, receive its events.

Each framework runs in a child process of its own, since importing TensorFlow before Paddle crashes.
Parent and child are one program of one user, so what crosses between them is pickled: builtins,
arrays, and classes and functions of modules that import no framework.
"""

import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from backends import engine_of, find, require_model
from backends.process import (
    PATIENCE,
    SOCKET,
    START_SECONDS,
    TIMEOUT,
    child_environment,
    shell_settings,
)
from backends.process.child_process import ChildProcess
from backends.process.tuned import BUILT_IN, thread_variables, tuned_variables
from common.errors import refusing
from common.files import scratch_folder
from common.settings import ModelConfig, TrainConfig
from common.text import printable

if TYPE_CHECKING:
    from backends.interface import Backend, BackendFacts, Emit
    from common.run import RunDirectory

PROJECT = Path(__file__).resolve().parents[2]
# The program that a child runs, with our packages from where this process has them: neither a
# folder common/ in the working directory (hence also the flag -P) nor a package that somebody
# installed is taken for them.
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from backends.process.child import main; main()"
)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
OnEvent = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Runtime:
    """The threads, device and settings of a backend's process; they change no mathematics."""

    threads: int | None = None  # None: as the variables say, else the framework's own default
    device: str = "cpu"
    # Environment variables that steer the framework. None:
    # the tuned settings, and above them the shell's.
    variables: Mapping[str, str] | None = None
    shell: bool = True  # False: without the shell's

    def variables_of(self, backend: str, model: str) -> Mapping[str, str]:
        """Environment variables that steer a backend's framework."""
        variables = self.variables
        if variables is None:
            tuned = tuned_variables(engine_of(backend), tuning=BUILT_IN[model])
            variables = tuned | (shell_settings() if self.shell else {})
        return {**variables, **(thread_variables(self.threads) if self.threads else {})}


@dataclass(frozen=True)
class Worker:
    """A worker of a group, or a process that trains alone."""

    rank: int = 0  # counted from 0
    size: int = 1  # number of workers in the group
    on_this_machine: int = 1  # number of the group's workers that share this machine's cores
    target: str = "backends.interface:Alone"  # "module:Class" of the group that it joins
    # Of its environment, by which it joins.
    variables: Mapping[str, str] = field(default_factory=dict)
    meets_at: str = ""  # "host:port" of the first worker, where other programs start the others


class BackendProcess(ChildProcess):
    """A backend running in a child process.

    The constructor starts the process, and does not wait until the backend is open: `facts` and
    calls do. A `worker` of a group joins it; see backends/process/group.py. To `load` are a run and
    which of its weights.

    Raises CannotBeginError where the backend or its device is missing; RosettaError where the
    process fails or dies, or where a message takes longer than its timeout.
    """

    def __init__(
        self,
        name: str,
        model: ModelConfig,
        train: TrainConfig,
        runtime: Runtime,
        worker: Worker | None = None,
        load: "tuple[RunDirectory, str] | None" = None,
    ) -> None:
        entry, worker = find(name), worker or Worker()
        require_model(name, model.model)
        self.name = name
        self._is_open = False
        # In a group the framework gives its own reason,
        # when it has waited long enough for the other workers.
        self._start_timeout = START_SECONDS + (PATIENCE if worker.size > 1 else 0)
        self._asking = Lock()
        command = [sys.executable, "-P", "-c", PROGRAM, str(PROJECT)]
        settings = runtime.variables_of(name, model.model)
        environment = child_environment(settings, runtime.device, entry.engine, worker.variables)
        with refusing(f"the {name} backend's process cannot be started"), ExitStack() as opened:
            # TensorFlow, when killed, leaves files behind.
            scratch = opened.enter_context(scratch_folder())
            super().__init__(
                f"the {name} backend's process",
                command,
                environment | {"TMPDIR": str(scratch)},
                SOCKET,
                "the machine may be overloaded or out of memory",
                opened.pop_all(),
                # Closed when this process ends, on which the child ends itself.
                stdin=subprocess.PIPE,
            )
        targets = entry.file_of(model.model), entry.driver, worker.target
        self._ask(TIMEOUT, name, targets, model, train, runtime.device, load)

    def wait_until_open(self) -> None:
        """Wait until the backend is open. Raises the error with which it failed."""
        if not self._is_open:
            try:
                self._result(self._start_timeout)
                self._is_open = True
            except BaseException:
                self.close()
                raise

    @cached_property
    def facts(self) -> "BackendFacts":
        """The backend's facts about itself, with the seconds that import and build took."""
        from backends.process import facts_in_child  # which translating does without

        return self.call(facts_in_child.facts)

    def call(
        self,
        function: "Callable[Concatenate[Backend, Emit, Arguments], Result]",
        on_event: OnEvent | None = None,
        timeout: float = TIMEOUT,
        /,
        *nothing: Arguments.args,
        **arguments: Arguments.kwargs,
    ) -> Result:
        """Return what `function(backend, emit, **arguments)` returns in the child;
        `nothing` satisfies ParamSpec.

        `on_event` is given what the function emits. The process is ended where a message takes
        longer than `timeout` seconds. Several threads may call; the process answers them one after
        another.
        """
        with self._asking:
            self.wait_until_open()
            self._ask(timeout, function, arguments)
            result: Result = self._result(timeout, on_event)
            return result

    def _ask(self, timeout: float, *request: Any) -> None:
        self.send(pickle.dumps(request), timeout)

    def _result(self, timeout: float, on_event: OnEvent | None = None) -> Any:
        """Wait for the result of the last request, or raise its error."""
        while True:
            kind, content = self.receive(unpickled, timeout)
            if kind == "result":
                return content
            if kind == "error":
                error, text = content
                raise error(printable(text))
            if on_event is not None:
                on_event(content)


def unpickled(messages: IO[bytes]) -> tuple[str, Any]:
    """Read the kind and the content of the next message.

    Raises EOFError, and ValueError in place of the many errors that garbage has `pickle` raise.
    """
    try:
        kind, content = pickle.load(messages)
        return kind, content
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        ImportError,
        LookupError,
        TypeError,
    ) as error:
        raise ValueError(f"it is no message: {error}") from error
