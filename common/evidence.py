"""The interface through which a backend tells about its framework, and what its implementations share.

They share how a matrix product is timed, how it is found out whether denormal numbers are flushed to zero, and how
the kernels of a profile are sorted.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.tensors import Batches

WARM_UPS = 2  # calls before the timed ones; they do what is only done on first use, such as compiling
FEWEST = 3  # the least number of timed calls
ENOUGH = 1 << 20  # elements of the array with denormals; so many that every framework uses all its threads

# The parts into which the time of a training step is divided. "LSTM" is a kernel that does products and gates, which
# cannot be separated from outside; "gates" are all other operators of the model and of its loss; "Python" is the
# interpreter and the framework's own bookkeeping, between the kernels.
Part = Literal["LSTM", "products", "gates", "optimizer", "data", "Python", "other"]


@dataclass(frozen=True)
class Kernel:
    """What a framework's profiler reports of one kernel or operator, under the framework's own name for it."""

    name: str
    calls: int
    seconds: float  # spent in the kernel itself, without the kernels that it calls; summed over all threads
    part: Part


@dataclass(frozen=True)
class Profiled:
    """What a framework's profiler reports of some training steps."""

    kernels: list[Kernel]  # the kernel that took most time comes first
    seconds: float  # duration of all steps, as in Metrics
    busy_seconds: float  # the part of it in which at least one kernel was running

    @classmethod
    def of(cls, kernels: Sequence[Kernel], seconds: float, busy_seconds: float | None = None) -> "Profiled":
        """Sort the kernels by their time. Without `busy_seconds`, no two kernels ran at the same time."""
        busy = sum(kernel.seconds for kernel in kernels) if busy_seconds is None else busy_seconds
        return cls(sorted(kernels, key=lambda kernel: -kernel.seconds), seconds, busy)


class Evidence(ABC):
    """One framework's own tools: its profiler, its matrix product, its settings."""

    @abstractmethod
    def profile(self, batches: Batches) -> Profiled:
        """Train on these batches under the framework's own profiler.

        Profiling changes the weights and leaves no file. It tells which kernels ran, but not how fast they normally
        are, since a profiler slows them.
        """

    @abstractmethod
    def matrix_product(self, m: int, k: int, n: int, seconds: float) -> float:
        """The speed of the framework's product (m, k) @ (k, n), in floating-point operations a second.

        The operands are random and have the model's precision. After two warm-up products the median is taken over as
        many products as fit into `seconds`, at least three.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """`version`, `device`, `threads` and `precision` as the framework itself reports them, and `settings`.

        The settings decide how the framework runs; names and values (a str, number or bool each) are its own and are
        read back from it. Every backend adds `matrix_library`, the library with which the framework itself multiplies
        matrices, and `denormals`: "kept", "flushed", or "some flushed" where its threads differ.
        """


def random_operands(m: int, k: int, n: int, dtype: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Two matrices, (m, k) and (k, n), of random numbers between 0 and 1."""
    generator = np.random.default_rng(0)
    return generator.random((m, k)).astype(dtype), generator.random((k, n)).astype(dtype)


def median_seconds(call: Callable[[], Any], seconds: float) -> float:
    """The median duration of a call, over as many calls as fit into `seconds`, after two that do not count.

    `call` must return when its work is done, not when the work is queued.
    """
    for _ in range(WARM_UPS):
        call()
    stamps = [perf_counter()]
    while len(stamps) <= FEWEST or stamps[-1] - stamps[0] < seconds:
        call()
        stamps.append(perf_counter())
    return median(after - before for before, after in pairwise(stamps))


def smallest_normals(dtype: str) -> NDArray[np.floating]:
    """An array (ENOUGH,) of the smallest normal number, whose half is denormal."""
    return np.full(ENOUGH, np.finfo(dtype).tiny, dtype)


def kept_or_flushed(halves: NDArray[np.floating]) -> str:
    """What a framework did with denormal numbers when it halved `smallest_normals`.

    It is "kept", "flushed", or "some flushed" where one thread flushes them to zero and another does not.
    """
    # The bits are compared, since a thread that flushes denormals also takes them for zero in comparisons.
    share = np.mean(halves.view(f"u{halves.itemsize}") == 0)
    return {0.0: "kept", 1.0: "flushed"}.get(float(share), "some flushed")


def part_of(name: str, parts: Mapping[Part, str]) -> Part:
    """The first part whose regular expression is found in a kernel's name; "other" where none is."""
    return next((part for part, pattern in parts.items() if re.search(pattern, name)), "other")


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """The length of time in which at least one span lies. A span is its begin and its end."""
    total = reached = 0
    for began, ended in sorted(spans):
        total += max(0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
