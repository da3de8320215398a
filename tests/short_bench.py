"""`rosetta` with short visits, to test whole benchmarks: `python -m tests.short_bench GENERATIONS bench ...`.

Only times and counts are others, and nothing is dropped: tests run while other programs do.
"""

import sys
from math import inf

from benchmarks.measure import machine, schedule
from benchmarks.results import timings
from rosetta import main

if __name__ == "__main__":
    schedule.LEAD_SECONDS = schedule.TIMED_SECONDS = 0.02
    schedule.CYCLES = 3
    schedule.DECODING_CYCLES = (1, 2)
    schedule.LEAST_GENERATIONS = int(sys.argv.pop(1))
    machine.MOST_WAIT = machine.WINDOW
    schedule.MOST_OTHERS = timings.MOST_OTHERS = inf
    sys.argv[0] = "rosetta"
    main()
