"""What every backend finds out about its framework in the same way: the speed of a product, the fate of denormals,
what a profile's kernels and times mean."""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.interface import Part

WARM_UPS = 2  # anything compiled or allocated on first use is out of the way by then
FEWEST = 3
ENOUGH = 1 << 20  # elements, so that every framework shares the work out among its threads


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
