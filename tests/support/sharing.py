"""Backends that share a process with others of their framework, since importing it takes longer
than most tests; NumPy computes in the tests' own process. To whoever asks them each is as a process
of its own."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import count
from pkgutil import resolve_name
from typing import Any, Self

from backends import TABLE, Entry
from backends.interface import Backend, BackendFacts, Emit
from backends.process.facts_in_child import facts
from backends.process.parent import BackendProcess, Runtime
from backends.process.translate_in_child import load_run
from benchmarks.parity.cases import OPTIMIZER, QUICK, Cases
from common.run import RunDirectory
from common.settings import ModelConfig, TrainConfig

BUILT: dict[int, Backend] = {}  # in a framework's process: the backends that are in use
NUMBERS = count()
# Of the backend for which a process is started, which is not used.
OWNER = ModelConfig(2, 2, 0, 1, latent_dim=1)
# So that graphs are compiled for few shapes.
CASE_SETTINGS = TrainConfig(seed=7, batch_size=QUICK.batch_rows, **OPTIMIZER)
Processes = Callable[[Entry], BackendProcess]  # of the framework in which this backend computes


def build(
    backend: Backend,
    emit: Emit,
    *,
    number: int,
    entry: Entry,
    model: ModelConfig,
    train: TrainConfig,
) -> BackendFacts:
    """Build a backend beside the others; returns its facts."""
    # Which goes on with the first precision unless it is told to forget it.
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session(free_memory=False)
    BUILT[number] = resolve_name(entry.driver)(
        import_module(entry.file_of(model.model)), model, train
    )
    return facts(BUILT[number], emit)


def ask(
    backend: Backend,
    emit: Emit,
    *,
    number: int,
    asked: Callable[..., Any],
    arguments: dict[str, Any],
) -> Any:
    """Call a function with one of them."""
    backend = BUILT[number]
    # Otherwise the precision is that of the backend which was built last.
    backend.file.prepare(backend.config.dtype, backend.device)
    if "keras" in sys.modules:  # which keeps the policy that it made of the first precision
        sys.modules["keras"].config.set_dtype_policy(backend.config.dtype)
    return asked(backend, emit, **arguments)


def load_shared(backend: Backend, emit: Emit, *, run: RunDirectory, weights: str) -> None:
    load_run(backend, run, weights)


def drop(backend: Backend, emit: Emit, *, number: int) -> None:
    BUILT.pop(number, None)


@contextmanager
def shared_processes() -> Iterator[Processes]:
    """Starts the process of a framework when it is first needed."""
    with ExitStack() as stack:

        @cache
        def started(framework: tuple[str, str]) -> BackendProcess:
            first = next(name for name, entry in TABLE.items() if framework_of(entry) == framework)
            process = stack.enter_context(
                BackendProcess(first, OWNER, TrainConfig(), Runtime(threads=1))
            )
            assert process.facts  # of a process that has done nothing yet
            return process

        yield lambda entry: started(framework_of(entry))


def framework_of(entry: Entry) -> tuple[str, str]:
    """The key that backends of one process have in common: Keras's engine,
    or else the framework's package."""
    return ("keras", entry.engine) if entry.engine else ("", entry.package)


def _unheard(**event: Any) -> None:
    """Events of a call that nobody listens to."""


class Sharing:
    """One of the backends that share a process."""

    def __init__(
        self,
        name: str,
        model: ModelConfig,
        train: TrainConfig,
        processes: Processes,
        load: tuple[RunDirectory, str] | None = None,
    ) -> None:
        entry = TABLE[name]
        self.name, self._number = name, next(NUMBERS)
        self._process = processes(entry) if entry.extra else None
        self.pid = self._process.pid if self._process else os.getpid()
        self.facts = self._run(build, entry=entry, model=model, train=train)
        if self._process:
            self.facts = replace(self.facts, os_threads=self._process.facts.os_threads)

        if load:
            self.call(load_shared, run=load[0], weights=load[1])

    def _run(self, function: Callable[..., Any], **arguments: Any) -> Any:
        if self._process:
            return self._process.call(function, number=self._number, **arguments)
        return function(None, _unheard, number=self._number, **arguments)

    def call(
        self,
        function: Callable[..., Any],
        on_event: object = None,
        timeout: float = 0.0,
        **arguments: Any,
    ) -> Any:
        if self._process:
            return self._run(ask, asked=function, arguments=arguments)
        return function(BUILT[self._number], _unheard, **arguments)

    _is_open = True  # as BackendProcess.wait_until_open asks

    def wait_until_open(self) -> None:
        """Open since the constructor."""

    def close(self) -> None:
        self._run(drop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class SharingCases(Cases):
    """A cases on which backends share processes."""

    def __init__(self, *arguments: Any, processes: Processes, **more: Any) -> None:
        self.processes = processes
        super().__init__(*arguments, **more)

    def start(self, name: str, dtype: str) -> Any:
        return Sharing(name, replace(self.model, dtype=dtype), self.settings, self.processes)

    def _start_numpy(self, dtype: str) -> Any:
        return self.start("numpy", dtype)
