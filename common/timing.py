"""How long one call takes."""

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

WARM_UPS = 2  # anything compiled or allocated on first use is out of the way by then
FEWEST = 3


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
