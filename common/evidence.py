"""What every backend finds out about its framework in the same way: the speed of a product, the fate of denormals,
what a profile's kernels and times mean."""

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

WARM_UPS = 2  # anything compiled or allocated on first use is out of the way by then
FEWEST = 3
ENOUGH = 1 << 20  # elements, so that every framework shares the work out among its threads

# What a step's time goes to. "LSTM" is products and gates in one kernel, which cannot be told apart from outside;
# "gates" are all other operators of the model and its loss; "Python" is the interpreter and the framework's own
# bookkeeping, between the kernels.
Part = Literal["LSTM", "products", "gates", "optimizer", "data", "Python", "other"]


@dataclass(frozen=True)
class Kernel:
    """What a framework's own profiler says of one kernel or operator, under the framework's own name for it."""

    name: str
    calls: int
    seconds: float  # in itself, without what it calls; over all threads
    part: Part


@dataclass(frozen=True)
class Profiled:
    """Training under a framework's own profiler."""

    kernels: list[Kernel]  # what took most time comes first
    seconds: float  # that the steps took, as in Metrics
    busy_seconds: float  # of these, what at least one kernel was running in

    @classmethod
    def of(cls, kernels: Sequence[Kernel], seconds: float, busy_seconds: float | None = None) -> "Profiled":
        """Where `busy_seconds` are not given, one kernel ran at a time."""
        busy = sum(kernel.seconds for kernel in kernels) if busy_seconds is None else busy_seconds
        return cls(sorted(kernels, key=lambda kernel: -kernel.seconds), seconds, busy)


class Evidence(ABC):
    """One framework's own tools: its profiler, its matrix product, its settings."""

    @abstractmethod
    def profile(self, batches: Batches) -> Profiled:
        """Train on these batches under the framework's own profiler.

        It changes the weights, leaves no file, and tells which kernels ran, not how fast: a profiler slows them.
        """

    @abstractmethod
    def matrix_product(self, m: int, k: int, n: int, seconds: float) -> float:
        """Floating-point operations a second of the framework's product (m, k) @ (k, n), in the model's precision.

        Random operands; after two warm-up products the median of those that fit into `seconds`, three at least.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """`version`, `device`, `threads` and `precision` as the framework itself reports them, and `settings`.

        These are the framework's own names and values, a str, number or bool each, of what decides how it runs, read
        back from it. In all of them `matrix_library`, which the framework itself multiplies matrices with, and
        `denormals`: "kept", "flushed", or "some flushed" where its threads differ.
        """


def random_operands(m: int, k: int, n: int, dtype: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """(m, k) and (k, n), between 0 and 1."""
    generator = np.random.default_rng(0)
    return generator.random((m, k)).astype(dtype), generator.random((k, n)).astype(dtype)


def median_seconds(call: Callable[[], Any], seconds: float) -> float:
    """The median of one call's seconds, over as many as fit into `seconds`, after two that do not count.

    `call` must return when its work is done, not when it is queued.
    """
    for _ in range(WARM_UPS):
        call()
    stamps = [perf_counter()]
    while len(stamps) <= FEWEST or stamps[-1] - stamps[0] < seconds:
        call()
        stamps.append(perf_counter())
    return median(after - before for before, after in pairwise(stamps))


def smallest_normals(dtype: str) -> NDArray[np.floating]:
    """(ENOUGH,) of the smallest number whose half is denormal."""
    return np.full(ENOUGH, np.finfo(dtype).tiny, dtype)


def kept_or_flushed(halves: NDArray[np.floating]) -> str:
    """What became of denormals where a framework halved `smallest_normals`: "kept", "flushed" or "some flushed".

    The last where one thread flushes and another does not.
    """
    # By their bits: a thread that flushes takes denormals for zero when it compares, too.
    share = np.mean(halves.view(f"u{halves.itemsize}") == 0)
    return {0.0: "kept", 1.0: "flushed"}.get(float(share), "some flushed")


def part_of(name: str, parts: Mapping[Part, str]) -> Part:
    """The first part whose regular expression is found in a kernel's name; "other" where none is."""
    return next((part for part, pattern in parts.items() if re.search(pattern, name)), "other")


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """The time that lies in at least one of the spans, each from its begin to its end."""
    total = reached = 0
    for began, ended in sorted(spans):
        total += max(0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
