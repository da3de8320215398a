"""`rosetta` with short visits, for tests of whole benchmarks: `python -m tests.short_bench GENERATIONS bench ...`.

Only times and counts are others: what is done is what `rosetta bench` does.
"""

import sys

from benchmarks.measure import machine, schedule
from rosetta import main

if __name__ == "__main__":
    schedule.LEAD_SECONDS = schedule.TIMED_SECONDS = 0.02
    schedule.CYCLES = 3
    schedule.DECODING_CYCLES = (1, 2)
    schedule.LEAST_GENERATIONS = int(sys.argv.pop(1))
    machine.MOST_WAIT = machine.WINDOW
    sys.argv[0] = "rosetta"
    main()
