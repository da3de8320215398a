"""Hypotheses about what a side computes, and the one search for those by which both sides part."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product
from math import inf
from typing import Any

from rosetta_diff.arrays import Array, largest_difference, largest_unmasked

SMALLER = 10  # times that the error must become smaller within the bound
# Times smaller, and at most so many bounds, where it is not within the bound.
MUCH_SMALLER, NEAR_THE_BOUND = 1000, 30
# At most, that numbers which have nothing to do
# with a hypothesis pass the test of one of those tried.
CHANCE = 0.01
ROUNDING = 1e-13  # an error that is as good as none
CHOICES_TRIED, WORK = 5_000, 1 << 33  # in one search, and multiplications for all of them
LEFT_CHOICES = 8  # of those by which the left side can be explained

Chosen = Mapping[str, Any]  # a value for each parameter
# Returns None for values that do not fit its arrays or each other.
Operator = Callable[..., Array | None]


@dataclass(frozen=True)
class Criterion:
    """The one rule by which a hypothesis is told as likely:
    what it leaves of the error is rounding."""

    bound: float  # the largest error that may be rounding
    error: float  # that is to be explained

    def limit(self, numbers: int) -> float:
        """Return the most that may be left of so many numbers: the bound and a tenth of the error,
        or of several a thousandth of it near the bound."""
        within = min(self.bound, self.error / SMALLER)
        return (
            within
            if numbers == 1
            else max(within, min(NEAR_THE_BOUND * self.bound, self.error / MUCH_SMALLER))
        )

    def left_over(self, computed: Array | None, seen: Array, scale: float | None = None) -> float:
        """Return what is left of the error, as a share of `scale`, where `computed` explains
        `seen`; else infinity. `scale` is the largest number that is seen where it is not given;
        constants of a mask are their own."""
        if computed is None or computed.shape != seen.shape or not computed.size:
            return inf
        if seen.dtype.kind != "f":  # whole numbers are explained by equal ones alone
            return inf if largest_difference(seen, computed)[0] else 0.0
        error = largest_difference(seen, computed, least=scale or largest_unmasked(seen) or 1.0)[0]
        return error if error <= self.limit(seen.size) else inf

    def explains(self, computed: Array | None, seen: Array) -> bool:
        """Return True if `computed`, which a hypothesis makes, is what is seen."""
        return self.left_over(computed, seen) < inf

    def tell(self, numbers: int, tried: int) -> bool:
        """Return True if so many numbers would hardly agree by chance with one of so many
        hypotheses. In float16 a single number would."""
        return tried * min(self.limit(numbers), 1.0) ** numbers <= CHANCE


@dataclass(frozen=True)
class Choice:
    """The hypotheses about one parameter of an operator, as its default."""

    # Stand before the value in a cause, where {} is the layer or the weight; "" is not told.
    words: str
    values: tuple[Any, ...] = ()  # the usual one first
    setting: str = ""  # a canonical setting, whose recorded values come first
    entry: str = ""  # of the register of deviations


def choice(words: str, values: Sequence[Any] = (), setting: str = "", entry: str = "") -> Any:
    """Return a Choice, as the default of a parameter of any type."""
    return Choice(words, tuple(values), setting, entry)


def choices_of(operator: Callable[..., Any], **known: Sequence[Any]) -> dict[str, Choice]:
    """Return the choices in an operator's signature.
    `known` has the values of some parameters in place of theirs."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(operator).parameters.items()
    }
    return {
        name: replace(default, values=tuple(dict.fromkeys(known.get(name, default.values))))
        for name, default in defaults.items()
        if isinstance(default, Choice)
    }


@dataclass(frozen=True)
class Computation:
    """An operator that may have made a side's output, and the choices that it leaves."""

    operator: Operator
    choices: Mapping[str, Choice]
    output: Array
    work: int = 1  # multiplications for one trial
    # The same of some rows, which no others have a part in; is tried first.
    sample: "Computation | None" = None

    @cached_property
    def scale(self) -> float:
        """The largest number of the output but for constants of a mask."""
        return largest_unmasked(self.output)

    def usual(self) -> Chosen:
        return {name: choice.values[0] for name, choice in self.choices.items()}

    def others(self, start: Chosen, number: int) -> Iterator[Chosen]:
        """Yield what is chosen where so many parameters have other values than in `start`."""
        for names in combinations(self.choices, number):
            values = (
                [value for value in self.choices[name].values if value != start[name]]
                for name in names
            )
            for several in product(*values):
                yield {**start, **dict(zip(names, several, strict=True))}

    def made(self, chosen: Chosen) -> Array | None:
        try:
            return self.operator(**chosen)
        # Shapes that do not fit, values of the other side alone.
        except (ValueError, LookupError, ZeroDivisionError):
            return None


# Of both sides, and how much may be otherwise.
Both = tuple[list[Computation], list[Computation], tuple[int, int]]


@dataclass(frozen=True)
class Parting:
    """A choice that explains the left side, and those that explain the right one."""

    choices: Mapping[str, Choice]
    left: Chosen
    rights: Sequence[Chosen]
    explained: Computation  # of the right side

    @property
    def test(self) -> tuple[Array | None, Array]:
        """The output that the right side's choice makes, and the recorded one."""
        return self.explained.made(self.rights[0]), self.explained.output


@dataclass
class Search:
    """Tries hypotheses about one check, and counts them all. A call of `parting` ends after
    CHOICES_TRIED or WORK, so it ends everywhere alike."""

    criterion: Criterion
    tried: int = 0
    ends: tuple[int, int] = (0, 0)  # numbers of trials and of multiplications
    work: int = 0

    def passes(self, computed: Array | None, seen: Array) -> bool:
        """Return True if `computed` is what is seen, and not by chance."""
        self.tried += 1
        return self.criterion.explains(computed, seen) and self.criterion.tell(
            seen.size, self.tried
        )

    def parting(
        self, lefts: Sequence[Computation], rights: Sequence[Computation], most: tuple[int, int]
    ) -> Parting | None:
        """Return a choice that explains the left side, and those that explain the right side with
        the fewest parameters otherwise; None where a side cannot be explained, or one choice
        explains both. `most` is how many parameters may be unusual on the left, and how many may be
        otherwise on the right. The least unusual choices of all computations come first; where
        several parameters are otherwise, less usual choices may leave fewer."""
        self.ends = self.tried + CHOICES_TRIED, self.work + WORK
        waiting, parting, fewest = [*lefts], None, most[1] + 1
        for number in range(most[0] + 1):
            for left in [*waiting]:
                several, before = self._fitting(left, left.usual(), number)[:LEFT_CHOICES], parting
                for right in rights if several else ():
                    nearer = self._nearest(several, right, fewest - 1)
                    if nearer:
                        parting = nearer
                        fewest = sum(
                            nearer.left[name] != nearer.rights[0][name] for name in nearer.left
                        )
                    if fewest == 1:
                        return parting
                if several and parting is before:
                    waiting.remove(left)
        return parting

    def _nearest(self, lefts: Sequence[Chosen], right: Computation, most: int) -> Parting | None:
        """Return one of the left side's choices, and those of the right side that differ from it in
        the fewest parameters, and in at most so many; None where there are none, or one choice
        explains both sides."""
        for number in range(most + 1):
            for left in lefts:
                rights = self._fitting(right, left, number)
                if rights:
                    return Parting(right.choices, left, rights, right) if number else None
        return None

    def _fitting(self, computation: Computation, start: Chosen, number: int) -> list[Chosen]:
        """Return the choices that explain an output best, of those with so many parameters not as
        in `start`; none where the numbers are too few to tell so many apart."""
        fitting = []
        for chosen in computation.others(start, number):
            if self.tried >= self.ends[0] or self.work >= self.ends[1]:
                break
            if not self.criterion.tell(computation.output.size, self.tried + 1):
                return []
            error = self._error(computation, chosen)
            fitting += [(error, chosen)] if error < inf else []
        best = min((error for error, _ in fitting), default=inf)
        return [chosen for error, chosen in fitting if error <= max(SMALLER * best, ROUNDING)]

    def _error(self, computation: Computation, chosen: Chosen) -> float:
        """Return what a choice leaves of the error;
        infinity where it does not explain the output."""
        first = computation.sample or computation
        computed = first.made(chosen)
        if computed is None:
            return inf
        self.tried += 1
        self.work += first.work
        error = self.criterion.left_over(computed, first.output, computation.scale)
        if first is computation or error == inf:
            return error
        self.work += computation.work
        return self.criterion.left_over(computation.made(chosen), computation.output)
