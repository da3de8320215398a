"""`rosetta` with short visits, to test whole benchmarks: `python -m tests.short_bench GENERATIONS bench ...`.

Only times and counts are others, and nothing is dropped: tests run while other programs do.
"""

import sys
from math import inf

from benchmarks.measure import machine, schedule
from benchmarks.results import timings
from rosetta import main


def make_short(generations: int) -> None:
    """Let the benchmarks of this process end after so many generations of short visits."""
    schedule.LEAD_SECONDS = schedule.TIMED_SECONDS = 0.02
    schedule.CYCLES = 3
    schedule.DECODING_CYCLES = (1, 2)
    schedule.LEAST_GENERATIONS = generations
    machine.MOST_WAIT = machine.WINDOW
    schedule.MOST_OTHERS = timings.MOST_OTHERS = inf


if __name__ == "__main__":
    make_short(int(sys.argv.pop(1)))
    sys.argv[0] = "rosetta"
    main()
