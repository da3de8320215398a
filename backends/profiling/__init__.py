"""The interface of a framework's own tools, what its profiler reports, and what the implementations share."""

import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from common.tensors import Array, Batches

ENOUGH = 1 << 20  # elements of the array with denormals; so many that every framework uses all its threads

# The parts into which the time of a training step is divided. "LSTM" is a kernel that does products and gates, which
# cannot be separated from outside; "gates" are all other operators of the model and of its loss; "Python" is the
# interpreter and the framework's own bookkeeping, between the kernels.
Part = Literal["LSTM", "products", "gates", "optimizer", "data", "Python", "other"]


@dataclass(frozen=True)
class Kernel:
    """Time of one kernel or operator in a framework's profiler, under the framework's own name."""

    name: str
    calls: int
    seconds: float  # spent in the kernel itself, without the kernels that it calls; summed over all threads
    part: Part


@dataclass(frozen=True)
class Profiled:
    """A framework's profile of some training steps."""

    kernels: list[Kernel]  # the kernel that took most time comes first
    seconds: float  # duration of all steps, as in Metrics
    busy_seconds: float  # the part of it in which at least one kernel was running

    @classmethod
    def of(
        cls,
        events: Iterable[tuple[str, int, float]],
        parts: Mapping[Part, str],
        seconds: float,
        busy_seconds: float | None = None,
    ) -> "Profiled":
        """Sum events, each a kernel's name, calls and seconds, and sort the kernels by their time.

        A kernel belongs to the first of the `parts` whose regular expression is found in its name, or to "other".
        Without `busy_seconds`, no two kernels ran at the same time.
        """
        calls: Counter[str] = Counter()
        spent: defaultdict[str, float] = defaultdict(float)
        for name, times, event_seconds in events:
            calls[name] += times
            spent[name] += event_seconds
        kernels = [Kernel(name, calls[name], total, _part_of(name, parts)) for name, total in spent.items()]
        kernels.sort(key=lambda kernel: -kernel.seconds)
        return cls(kernels, seconds, sum(spent.values()) if busy_seconds is None else busy_seconds)


@dataclass(frozen=True)
class Profiling(ABC):
    """One framework's own tools: its profiler, and what it reports of itself."""

    backend: Any  # an open Backend of this framework

    @final
    def profile(self, batches: Batches) -> Profiled:
        """Train on these batches under the framework's own profiler.

        Profiling changes the weights and leaves no file. It tells which kernels ran, but not how fast they normally
        are, since a profiler slows them.
        """

        def train() -> float:
            return float(self.backend.train(batches, lambda step, loss: None).seconds)

        train()  # a warm-up, since the first steps do more than later ones
        return self.traced(train)

    @abstractmethod
    def traced(self, train: Callable[[], float]) -> Profiled:
        """Return the framework's profile of `train`, which returns the duration of its steps in seconds."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """`version`, `device`, `threads` and `precision` as the framework itself reports them, and `settings`.

        The settings of every backend are `matrix_library`, the library with which the framework itself multiplies
        matrices, and `denormals`, which is what `backends.profiling.denormals` returns. There may be others that
        decide how it computes, a str, number or bool each.
        """


def _part_of(name: str, parts: Mapping[Part, str]) -> Part:
    return next((part for part, pattern in parts.items() if re.search(pattern, name)), "other")


def denormals(halve: Callable[[Array], Array], dtype: str) -> str:
    """The treatment of denormal numbers, which the framework makes by halving the smallest normal number.

    It is "kept", "flushed", or "some flushed" where one thread flushes them to zero and another does not.
    """
    halves = halve(np.full(ENOUGH, np.finfo(dtype).tiny, dtype))
    # The bits are compared, since a thread that flushes denormals also takes them for zero in comparisons.
    share = np.mean(halves.view(f"u{halves.itemsize}") == 0)
    return {0.0: "kept", 1.0: "flushed"}.get(float(share), "some flushed")


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """The length of time in which at least one span lies. A span is its begin and its end."""
    total = reached = 0
    for began, ended in sorted(spans):
        total += max(0, ended - max(began, reached))
        reached = max(reached, ended)
    return total


def own_seconds(events: Iterable[tuple[int, int, str]]) -> Iterator[tuple[str, int, float]]:
    """For each event of one line of a trace (its begin and duration in picoseconds, its name), what `Profiled.of`
    takes: an event that encloses others has its own time alone."""
    enclosing: list[tuple[int, str]] = []  # when events end that may enclose others, and their names
    for began, lasted, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while enclosing and enclosing[-1][0] <= began:
            enclosing.pop()
        if enclosing:  # its time is not that of the event around it
            yield enclosing[-1][1], 0, -lasted / 1e12
        yield name, 1, lasted / 1e12
        enclosing.append((began + lasted, name))
