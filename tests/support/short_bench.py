"""`rosetta` with short turns, to test whole benchmarks:
`python -m tests.support.short_bench ROUNDS bench ...`.

Only times and counts are others, and no other program is minded: tests run while others do.
"""

import sys
from dataclasses import replace
from math import inf

from backends import TABLE
from benchmarks import schema
from benchmarks.measure import bench, quiet, race, rounds, turns
from benchmarks.report import results
from rosetta import main
from tests.support.planted import entry_of


def make_short(number: int) -> None:
    """Let benchmarks and races of this process end after so many rounds of short turns,
    and one with all rows."""
    bench.QUICK = replace(bench.QUICK, num_samples=64, steps=2, batch_rows=8, sentences=4)
    rounds.LEAD_SECONDS = rounds.Rounds.timed_seconds = race.Race.timed_seconds = 0.02
    rounds.CYCLES, bench.ROW_BYTES = 2, 0.0
    rounds.LEAST_ROUNDS = bench.LEAST_ROUNDS = results.LEAST_ROUNDS = 2
    rounds.ENOUGH_ROUNDS = rounds.CAREFUL_ROUNDS = number
    quiet.MOST_WAIT = quiet.WINDOW
    schema.MOST_OTHERS = turns.MOST_OTHERS = inf
    quiet.wait_until_fit = lambda note, longest: True


if __name__ == "__main__":
    make_short(int(sys.argv.pop(1)))
    sys.argv[0] = "rosetta"
    for name in ",".join(sys.argv).split(","):
        if name.startswith("numpy:"):  # a mistake of tests/support/planted.py
            TABLE[name] = entry_of(name)
    main()
