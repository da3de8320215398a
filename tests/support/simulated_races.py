"""Simulate how often the intervals of a race are right: `python -m tests.support.simulated_races --races 4000`.

A race is a series of rounds of two scripts, whose processes and turns stray from what is planted. Coverage is that of
races with a given number of rounds, and that of races that end as soon as their interval is as narrow as asked, after
the least number of rounds and 30 at most. Both estimates are of the same rounds: Student's, and the robust one, which
is Student's before ROBUST_ROUNDS. A true ratio only shifts logarithms, so coverage does not depend on it.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from benchmarks.measure.plan import CAREFUL
from benchmarks.measure.rounds import CAREFUL_ROUNDS, ENOUGH_ROUNDS
from benchmarks.measure.statistics import Estimate, Observations

ROUNDS = (3, 5, 8, 10, 15, 20, 30)
WITHIN = (0.03, 0.07)  # half-widths with which races end
MORE_WORK = (1.02, 1.05, 1.1)  # that has to be found
Draw = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class World:
    """Noise of two scripts: logarithms by which processes of each are off, and the standard deviation of a turn."""

    name: str
    left: Draw
    right: Draw
    turns: float
    cycles: int = 1  # turns of a process

    def differences(self, rng: np.random.Generator, rounds: int) -> np.ndarray:
        """The logarithm of the right script's time less that of the left one, by round."""
        noise = rng.normal(0, self.turns * math.sqrt(2 / self.cycles), rounds)
        return self.right(rng, rounds) - self.left(rng, rounds) + noise


def normal(deviation: float) -> Draw:
    return lambda rng, count: rng.normal(0, deviation, count)


def two_modes(gap: float, share: float, deviation: float) -> Draw:
    """A `share` of the processes is slower by `gap`, of a logarithm."""
    return lambda rng, count: gap * (rng.random(count) < share) + rng.normal(0, deviation, count)


def heavy_tailed(scale: float, freedom: float) -> Draw:
    return lambda rng, count: scale * rng.standard_t(freedom, count)


GRU = two_modes(0.49, 0.1, 0.04)  # 22 and 36 ms; the standard deviation of all is 0.15
WORLDS = [
    World("1 %; turns 1 %", normal(0.01), normal(0.01), 0.01),
    World("4 %; turns 3 %", normal(0.04), normal(0.04), 0.03),
    World("one in ten slower by 15 %", *[two_modes(0.14, 0.1, 0.02)] * 2, 0.02),
    World("a GRU: 22 ms, one in ten 36 ms", GRU, GRU, 0.06, cycles=2),
    World("22 ms, one in five 36 ms", *[two_modes(0.49, 0.2, 0.04)] * 2, 0.06, cycles=2),
    World("two modes, equally often", *[two_modes(0.26, 0.5, 0.02)] * 2, 0.03),
    World("Student's t of 2 degrees", *[heavy_tailed(0.03, 2)] * 2, 0.03),
    World("one in ten 36 ms, of one script", normal(0.04), GRU, 0.03),
]


def estimates(differences: Sequence[float]) -> tuple[Estimate, Estimate]:
    """Student's and the robust one, of these rounds."""
    rounds = {number: {0: 0.0, 1: float(value)} for number, value in enumerate(differences)}
    student, robust = (Observations(rounds, robust=robust).ratio(0, 1) for robust in (False, True))
    assert student
    assert robust
    return student, robust


def least_rounds(within: float) -> int:
    return CAREFUL_ROUNDS if within < CAREFUL else ENOUGH_ROUNDS


def stopped(series: Sequence[Estimate], within: float) -> int:
    """The place of the estimate with which a race ends."""
    narrow = (
        n
        for n, estimate in enumerate(series)
        if n + ROUNDS[0] >= least_rounds(within) and estimate.half_width <= within
    )
    return next(narrow, len(series) - 1)


def holds(estimate: Estimate) -> bool:
    return estimate.low <= 1 <= estimate.high


def both(old: str, new: str) -> str:
    """A cell: Student's figure, and the robust one where it is another."""
    return old if old == new else f"{old} → {new}"


def simulated(world: World, races: int, seed: int) -> tuple[list[list[Estimate]], list[list[Estimate]]]:
    """By race, Student's and robust estimates after ROUNDS[0] rounds, after one more, and so on up to ROUNDS[-1]."""
    rng = np.random.default_rng(seed)
    # By the middle of many differences the truth is 1. Of scripts that stray alike their mean is the same.
    middle = float(np.median(world.differences(rng, 200_001)))
    old, new = [], []
    for _ in range(races):
        differences = world.differences(rng, ROUNDS[-1]) - middle
        pairs = [estimates(differences[:count]) for count in range(ROUNDS[0], ROUNDS[-1] + 1)]
        old.append([student for student, _ in pairs])
        new.append([robust for _, robust in pairs])
    return old, new


def of_rounds(series: Sequence[Sequence[Estimate]], count: int) -> str:
    """Coverage after so many rounds, and the middle half-width."""
    ends = [grown[count - ROUNDS[0]] for grown in series]
    return f"{100 * fmean(map(holds, ends)):.1f} (± {100 * median(end.half_width for end in ends):.1f})"


def of_ended(series: Sequence[Sequence[Estimate]], within: float) -> Iterator[str]:
    """Coverage of races that end, how often more work is found, and the mean of rounds."""
    places = [stopped(grown, within) for grown in series]
    ends = [grown[place] for grown, place in zip(series, places, strict=True)]
    yield f"{100 * fmean(map(holds, ends)):.1f}"
    yield from (f"{100 * fmean(grown.low * more > 1 for grown in ends):.0f}" for more in MORE_WORK)
    yield f"{fmean(places) + ROUNDS[0]:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=4000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    fixed, ended = [], []
    for world in WORLDS:
        sides = simulated(world, given.races, given.seed)
        fixed.append([world.name, *(both(*(of_rounds(side, count) for side in sides)) for count in ROUNDS)])
        for within in WITHIN:
            cells = zip(*(of_ended(side, within) for side in sides), strict=True)
            ended.append([f"{world.name}; within {within:.0%}", *(both(*cell) for cell in cells)])
    print("Coverage of 95 % intervals in per cent after so many rounds, and the middle half-width:\n")
    print_table(["processes", *map(str, ROUNDS)], fixed)
    print("\nRaces that end: coverage, how often more work is found, in per cent, and the mean of rounds:\n")
    print_table(["processes", "coverage", *(f"{more - 1:.0%} found" for more in MORE_WORK), "rounds"], ended)


def print_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    for line in (heads, ["---"] * len(heads), *lines):
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
