"""A rung that breaks, as its causes see it, and the one rule by which a cause is told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from math import inf
from typing import Any

import numpy as np

from benchmarks.ladder.arrays import Array, head, largest, largest_difference, nearest_arrangement
from benchmarks.ladder.judge.check import Check, Item
from benchmarks.ladder.judge.items import Rungs
from benchmarks.ladder.read.groups import WeightGroup, settings_of
from benchmarks.ladder.read.record import LARGEST_SETTING, Side

REGISTER = "docs/deviations.md"
SMALLER = 10  # times that the error must become smaller within the bound
MUCH_SMALLER, NEAR_THE_BOUND = 1000, 30  # times smaller, and at most so many bounds, where it is not within the bound
CHOICES_TRIED, WORK = 4_000, 1 << 33  # choices in one search for causes, and multiplications for all of them
LIKELY, SEEN, MORE, GO_ON = "likely", "differs", "to see more", "to go on"
# Aspects that are whole sentences.
TWO_BIASES = "one side trains two biases, whose sum moves twice as far"
ANOTHER_DIVISOR = "one side's variance is divided by n, the other's by n - 1"
WHOLE_SENTENCES = (TWO_BIASES, ANOTHER_DIVISOR)
CHANCE = 0.01  # at most, that numbers which have nothing to do with a hypothesis pass the test of one of those tried
ROUNDING = 1e-13  # an error that is as good as none
OF_RIGHT = "the right side's "  # begins the name of what the right side computed
LEFT_CHOICES = 8  # of those by which the left side can be explained


@dataclass(frozen=True)
class Cause:
    """A line below the explanation. It is `likely` only where its test passed on the numbers. What differs is a fact,
    and what to record next is told where no test passed."""

    sentence: str
    entry: str = ""  # of the register
    standing: str = LIKELY

    @property
    def link(self) -> str:
        return f"{REGISTER}#{self.entry}" if self.entry else ""

    @property
    def line(self) -> str:
        return self.sentence + (f" ({self.link})" if self.link else "")


@dataclass
class Budget:
    """The choices and multiplications that a search may still try, so that it ends, and ends the same everywhere."""

    choices: int = CHOICES_TRIED
    work: int = WORK

    @property
    def spent(self) -> bool:
        return self.choices <= 0 or self.work <= 0

    def spend(self, multiplications: int) -> None:
        """Take off one choice of so many multiplications."""
        self.choices -= 1
        self.work -= multiplications


@dataclass(frozen=True)
class Broken:
    """The check that is shown, and all checks of the rung that fail."""

    rungs: Rungs
    check: Check
    failed: Sequence[Check]

    @property
    def item(self) -> Item:
        return self.check.item

    @cached_property
    def arrays(self) -> tuple[Array, Array]:
        """The right and the left array that are shown, the right one's axes in the left one's order; empty ones where
        a side has none."""
        both = self.item.right(), self.item.left()
        right, left = (np.zeros(0) if array is None else array for array in both)
        ways = [turned(right) for turned in self.item.ways.values()]
        errors = [largest_difference(one, left)[0] if one.shape == left.shape else inf for one in ways]
        return ways[nearest_arrangement(errors)], left

    @cached_property
    def moved(self) -> tuple[Array, Array]:
        """The arrays; of weights after a step by how much both sides moved them, in their first rows."""
        if not self.item.is_update:
            return self.arrays
        starts = (group.tensor(self.item.name) for group in reversed(self.groups))
        pairs = list(zip((self.item.right(), self.item.left()), starts, strict=True))
        if any(after is None or start is None or start.shape != after.shape for after, start in pairs):
            return np.zeros(0), np.zeros(0)
        right, left = (head(after).astype(np.float64) - head(start) for after, start in pairs)  # type: ignore
        return right, left

    @property
    def sides(self) -> tuple[Side, Side]:
        """The left and the right side."""
        return self.rungs.left, self.rungs.right

    @property
    def groups(self) -> Sequence[WeightGroup]:
        """The groups that are shown, left and right; none for what is of no layer."""
        return self.item.pair.both if self.item.pair else ()

    @property
    def kind(self) -> str:
        """The kind of layer that is shown."""
        return self.item.pair.left.kind if self.item.pair else ""

    def settings(self, name: str) -> list[Any]:
        """A setting of the layer that is shown, left and right."""
        return [group.settings.get(name) for group in self.groups]

    def explains(self, made: Array | None, seen: Array) -> bool:
        """Whether a mistake that would make one array of a side's numbers explains the other, which is seen."""
        return self.left_over(made, seen) < inf

    def left_over(self, made: Array | None, seen: Array) -> float:
        """The one rule: what is left of the error where a mistake explains it, else infinity. It must be rounding:
        within the rung's bound and ten times smaller than the error that is shown, or a thousand times smaller and
        near the bound."""
        if made is None or made.shape != seen.shape or not made.size:
            return inf
        if seen.dtype.kind != "f":  # whole numbers are explained by equal ones alone
            return 0.0 if np.array_equal(made, seen) else inf
        error = largest_difference(made, seen)[0] / (largest(seen) or 1.0)
        within = min(self.bound, self.check.error / SMALLER)
        near = min(NEAR_THE_BOUND * self.bound, self.check.error / MUCH_SMALLER)
        return error if error <= max(within, near) else inf

    @cached_property
    def bound(self) -> float:
        """The largest error that may be rounding."""
        tolerances = self.rungs.tolerances
        return max(self.check.tolerance, tolerances.table.get(self.item.quantity, 0.0), 8 * tolerances.unit)

    def tell(self, numbers: int, tried: int) -> bool:
        """True if so many numbers would hardly agree by chance with one of so many hypotheses. In float16 a single
        one would."""
        return tried * min(self.bound, 1.0) ** numbers <= CHANCE

    def padded_inputs(self) -> Iterator[tuple[str, Array]]:
        """The left side's inputs (N, T) in which a 0 may be padding, without those of batches after the first."""
        for name, array in self.rungs.left.arrays("inputs").items():
            ids = array.dtype.kind == "i" and array.ndim == 2 and not name.startswith("batch")
            if ids and 0 < np.count_nonzero(array) < array.size:
                yield name, array


def number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < LARGEST_SETTING else 0.0


def drops(side: Side) -> Iterator[tuple[str, float]]:
    for layer in side.says.layers:
        rate = settings_of(side.framework, layer).get("rate")
        random = any("rop" in name or "RNN" in name for name in layer.classes)
        if layer.training and random and isinstance(rate, int | float) and 0 < rate < 1:
            yield layer.path, rate


def name_of(broken: Broken) -> str:
    return (broken.item.pair.name if broken.item.pair else broken.item.tensor) or "the model"


Choice = Mapping[str, Any]  # for each aspect what is chosen


@dataclass(frozen=True)
class Space:
    """All that a side may compute: for each aspect what there is to choose, the usual first, and what comes of the
    values of a choice; None for one that cannot be. An aspect is called by the words that stand before its value in a
    cause, where {} is the layer or the weight; one that is called "" is not told."""

    aspects: Mapping[str, Sequence[Any]]
    compute: Callable[..., Array | None]
    broken: Broken
    wanted: Array  # what the side has
    cost: int = 1  # multiplications for each choice
    more: Callable[..., int] = lambda *values: 0  # multiplications for a choice beside these

    def usual(self) -> Choice:
        return {aspect: choices[0] for aspect, choices in self.aspects.items()}

    def fitting(self, start: Choice, number: int, budget: Budget) -> list[Choice]:
        """Return the choices that explain the side best, of those in which so many aspects are not as in `start`.
        Choices beyond the budget are not tried, and none fits where the numbers are too few to tell so many apart."""
        found = []
        for choice in self._others(start, number):
            if budget.spent:
                break
            if not self.broken.tell(self.wanted.size, 1 + CHOICES_TRIED - budget.choices):
                return []
            try:
                made = self.compute(*choice.values())
            except (ValueError, IndexError, ZeroDivisionError):  # of shapes that do not fit
                made = None
            if made is not None:
                budget.spend(self.cost + self.more(*choice.values()))
                error = self.broken.left_over(made, self.wanted)
                found += [(error, choice)] if error < inf else []
        best = min((error for error, _ in found), default=inf)
        return [choice for error, choice in found if error <= max(SMALLER * best, ROUNDING)]

    def _others(self, start: Choice, number: int) -> Iterator[Choice]:
        """The choices in which so many aspects are not as in `start`."""
        for aspects in combinations(self.aspects, number):
            others = ([one for one in self.aspects[aspect] if one != start[aspect]] for aspect in aspects)
            for values in product(*others):
                yield {**start, **dict(zip(aspects, values, strict=True))}


Spaces = Iterator[tuple[list[Space], list[Space], tuple[int, int]]]  # of both sides, and how much may be otherwise


def parting(
    lefts: Sequence[Space], rights: Sequence[Space], most: tuple[int, int]
) -> tuple[Choice, list[Choice]] | None:
    """Return a choice that explains the left side, and those that explain the right side with the fewest aspects
    otherwise; None where a side cannot be explained, or one choice explains both. `most` is how many aspects may be
    unusual on the left, and how many may be otherwise on the right. The least unusual choices of all spaces come
    first; where several aspects are otherwise, less usual choices may leave fewer."""
    waiting, budget = [*lefts], Budget()
    found: tuple[Choice, list[Choice]] | None = None
    fewest = most[1] + 1
    for number in range(most[0] + 1):
        for left in [*waiting]:
            choices, before = left.fitting(left.usual(), number, budget)[:LEFT_CHOICES], found
            for right in rights if choices else ():
                nearer = nearest_choices(choices, right, fewest - 1, budget)
                if nearer:
                    found, fewest = nearer, sum(nearer[1][0][aspect] != nearer[0][aspect] for aspect in nearer[0])
                if fewest == 1:
                    return found
            if choices and found is before:
                waiting.remove(left)
    return found


def nearest_choices(
    choices: Sequence[Choice], right: Space, most: int, budget: Budget
) -> tuple[Choice, list[Choice]] | None:
    """Return one of the left side's choices, and those of the right side that differ from it in the fewest aspects,
    and in at most so many; None where there are none, or one choice explains both sides."""
    for number in range(most + 1):
        for choice in choices:
            others = right.fitting(choice, number, budget)
            if others:
                return (choice, others) if number else None
    return None
