"""Finds weights of two records that hold the same numbers, in whatever arrangement.

A porter's own converter leaves the same numbers on both sides. So rows of an array are looked up
among the rows of the other side's arrays, along each of their axes, by digests that do not depend
on the order of numbers. What is found is written as a line of a mapping, and counts only if both
sides are equal by that line.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, islice, pairwise, permutations
from math import gcd
from operator import mul

import numpy as np
from numpy.typing import NDArray

from rosetta_diff.arrays import Array, pieces
from rosetta_diff.helpers import CannotBeginError
from rosetta_diff.pair.arrangement import MappingLine, solve_pair
from rosetta_diff.pair.pairs import TensorPair
from rosetta_diff.read.view import PARTS, Axes

# Names of a row's axes; those of the axis along which rows were looked up are n, g, a, b and c.
INNER = "mkljhi"
MOST_PARTS = 100  # of an axis, each of which is an array or a row of one elsewhere

ByName = Mapping[str, Array]
Row = tuple[str, int, int]  # an array, one of its axes, and a place along it
WHOLE = -1  # the axis of a row that is a whole array
Digests = NDArray[np.uint64]
Table = Mapping[int, list[Row]]
# Of SplitMix64.
GOLDEN, STEPS = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
Guess = tuple[tuple[str, ...], tuple[Axes, Axes], dict[str, int]]  # names, axes, sizes


def find_by_value(left: ByName, right: ByName) -> list[TensorPair]:
    """Pairs of arrays that hold the same numbers; each array stands in one pair at most."""
    pairs: list[TensorPair] = []
    sides = [
        {name: array for name, array in side.items() if telling(array)} for side in (left, right)
    ]
    marks = [{name: digests(array) for name, array in side.items()} for side in sides]
    tables = [rows_of(of_side) for of_side in marks]
    # One array of the left side and one or several of the right, and the reverse.
    for place in (0, 1):
        arrays, candidates = sides[place], sides[1 - place]
        for name, array in list(arrays.items()):
            pair = next(
                _pairs(name, array, marks[place][name], candidates, tables[1 - place]), None
            )
            if pair:
                pairs.append(pair.exchange() if place else pair)
                del arrays[name]
                for part in pair.right.names:
                    del candidates[part]
    return pairs


def telling(array: Array) -> bool:
    """True if the array's numbers tell it from others: they are not all the same."""
    is_number = array.size > 1 and array.dtype.kind == "f"
    return is_number and any((array[rows] != array.flat[0]).any() for rows in pieces(array.shape))


def digests(array: Array) -> list[Digests]:
    """For each axis the digests of the rows along it. A digest tells which numbers a row has and
    not where they stand; that of several rows is the sum of theirs."""
    sums = [np.zeros(size, np.uint64) for size in array.shape]
    for rows in pieces(array.shape):
        marks = scramble(array[rows])
        for axis, of_axis in enumerate(sums):
            rest = tuple(number for number in range(array.ndim) if number != axis)
            of_axis[rows if axis == 0 else slice(None)] += marks.sum(rest, dtype=np.uint64)
    return sums


def scramble(array: Array) -> Digests:
    """Numbers of 64 bits that look random, equal where those of the array are:
    each one's place in SplitMix64."""
    bits = np.ascontiguousarray(array).view(f"u{array.itemsize}").astype(np.uint64)
    bits += np.uint64(GOLDEN)
    for shift, factor in STEPS:
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor)
    return bits


def rows_of(arrays: Mapping[str, list[Digests]]) -> dict[int, list[Row]]:
    """Places of each row, by its digest, along each axis of each array;
    whole arrays are rows, too."""
    table: dict[int, list[Row]] = {}
    for name, of_array in arrays.items():
        for axis, of_axis in enumerate(of_array):
            for place, digest in enumerate(of_axis.tolist()):
                table.setdefault(digest, []).append((name, axis, place))
        table.setdefault(int(of_array[0].sum()), []).append((name, WHOLE, 0))
    return table


def _pairs(
    name: str, array: Array, marks: Sequence[Digests], candidates: ByName, table: Table
) -> Iterator[TensorPair]:
    """The pairs of one array, each of which is seen to hold."""
    for axis in range(array.ndim):
        for to, axes, sizes in _along(array, axis, marks[axis], candidates, table):
            there = {part: candidates[part].shape for part in to}
            shapes = {name: array.shape}, there
            try:
                pair = solve_pair(name, ((name,), to), axes, shapes, MappingLine("", sizes=sizes))
            except CannotBeginError:  # a guess that cannot be
                continue
            left, right = pair.left.of({name: array}.get), pair.right.of(candidates.get)
            if left is not None and right is not None and np.array_equal(left, right):
                yield replace(pair, how="value")


def _along(
    array: Array, axis: int, marks: Digests, candidates: ByName, table: Table
) -> Iterator[Guess]:
    """Lines by which an array's rows along an axis may stand elsewhere, or equal parts of it be
    arrays or rows there, such as those of arrays that have an axis of heads."""
    length = array.shape[axis]
    for count in (
        length,
        *(count for count in divisors(length) if 1 < count < min(length, MOST_PARTS)),
    ):
        split = array.reshape(*array.shape[:axis], count, length // count, *array.shape[axis + 1 :])
        known = [table.get(digest, ()) for digest in marks.reshape(count, -1).sum(1).tolist()]
        rows = [[row for row in of if row[0] in candidates] for of in known]
        if all(rows):
            for to, (left, right), sizes in _arrange(split, axis, candidates, _assign(rows)):
                yield (
                    to,
                    ((*left[:axis], left[axis] + left[axis + 1], *left[axis + 2 :]), right),
                    sizes,
                )


def _assign(candidates: Sequence[Sequence[Row]]) -> list[Row | None]:
    """For each row one of the places where it stands:
    those of as few arrays as there can be, each place once."""
    count = Counter((name, axis) for rows in candidates for name, axis in {row[:2] for row in rows})
    chosen: dict[str, int] = {}  # the axis of each array
    for rows in candidates:
        if rows and not any(chosen.get(name) == axis for name, axis, _ in rows):
            name, axis, _ = max(rows, key=lambda row: count[row[:2]])
            chosen.setdefault(name, axis)
    used: set[Row] = set()
    assigned: list[Row | None] = []
    for rows in candidates:
        row = next((row for row in rows if chosen.get(row[0]) == row[1] and row not in used), None)
        assigned.append(row)
        used |= {row} if row else set()
    return assigned


def _arrange(
    array: Array, axis: int, candidates: ByName, rows: Sequence[Row | None]
) -> Iterator[Guess]:
    """Names, axes and sizes of lines by which an array's rows along an axis may stand
    where they were seen."""
    there = [row for row in rows if row]
    if len(there) < len(rows):
        return
    names = tuple(dict.fromkeys(name for name, _, _ in there))
    their_axes = {other_axis for _, other_axis, _ in there}
    lengths = [
        1 if WHOLE in their_axes else candidates[name].shape[a]
        for name in names
        for a in their_axes
    ]
    if len(their_axes) != 1 or len(there) != sum(lengths):
        return
    (other_axis,) = their_axes
    places = [(names.index(name), place) for name, _, place in there]
    row = array.take(0, axis)
    first = candidates[names[0]]
    other_row = first if other_axis == WHOLE else first.take(there[0][2], other_axis)
    for (axes, other_axes), inner_sizes in _inner(row, other_row):
        for outer, outer_sizes in _outer(
            places, lengths, several=len(names) > 1 or other_axis == WHOLE
        ):
            left, right = (*axes[:axis], outer[0], *axes[axis:]), other_axes
            if other_axis != WHOLE:
                right = (*other_axes[:other_axis], outer[1], *other_axes[other_axis:])
            yield names, (left, right), {**inner_sizes, **outer_sizes}


def _inner(row: Array, candidate: Array) -> Iterator[tuple[tuple[Axes, Axes], dict[str, int]]]:
    """The axes of two rows of which one is the other with its axes in another order, or some of
    them as one. Axes of one number are there or not."""
    finer, coarser = (
        (row, candidate) if row.squeeze().ndim >= candidate.squeeze().ndim else (candidate, row)
    )
    squeezed, letters = finer.squeeze(), iter(INNER)
    if squeezed.ndim > len(INNER):
        return
    plain = tuple(() if size == 1 else (next(letters),) for size in finer.shape)
    for order in permutations(range(squeezed.ndim)):
        turned = squeezed.transpose(order)
        groups = _group([INNER[place] for place in order], turned.shape, coarser.shape)
        if groups is not None and np.array_equal(turned.reshape(coarser.shape), coarser):
            axes = (plain, groups) if finer is row else (groups, plain)
            yield axes, dict(zip(INNER, squeezed.shape, strict=False))


def _group(letters: Sequence[str], sizes: Sequence[int], wanted: Sequence[int]) -> Axes | None:
    """The letters in groups whose sizes have the wanted products;
    None if there are none such. No size is 1."""
    places = {product: place for place, product in enumerate(accumulate(sizes, mul, initial=1))}
    ends = [places.get(product, -1) for product in accumulate(wanted, mul, initial=1)]
    if -1 in ends or ends[-1] < len(letters):
        return None
    return tuple(tuple(letters[start:end]) for start, end in pairwise(ends))


Outer = tuple[tuple[tuple[str, ...], tuple[str, ...]], dict[str, int]]  # both groups, sizes


def _outer(
    places: Sequence[tuple[int, int]], lengths: Sequence[int], several: bool
) -> Iterator[Outer]:
    """The axes of an array along which its rows stand in others. `places` has for each row in which
    of the others it is and where there; `lengths` are theirs. `several` is whether there is more
    than one, or one that is a row."""
    if several:
        yield from _side_by_side(places, lengths)
        return
    # The row that stands at each place of the other array.
    rows = np.argsort([place for _, place in places])
    if np.array_equal(rows, np.arange(len(rows))):
        yield (("n",), ("n",)), {}
    else:
        yield from islice(_transpose(rows), 1)


def _side_by_side(places: Sequence[tuple[int, int]], lengths: Sequence[int]) -> Iterator[Outer]:
    """The others follow one another, perhaps in each of several groups."""
    for groups in divisors(gcd(*lengths)):
        parts = [length // groups for length in lengths]
        if list(places) == [
            (k, g * n + j) for g in range(groups) for k, n in enumerate(parts) for j in range(n)
        ]:
            axis = (PARTS,) if groups == 1 else ("g", PARTS)
            yield (axis, axis), {"g": groups} if groups > 1 else {}


def _transpose(rows: NDArray[np.int64]) -> Iterator[Outer]:
    """The axis is one of three, two neighbours of which change places."""
    number = len(rows)
    for first in divisors(number):
        for second in divisors(number // first):
            sizes = {"a": first, "b": second, "c": number // first // second}
            whole = np.arange(number).reshape(list(sizes.values()))
            for order in ("acb", "bac"):
                if np.array_equal(
                    whole.transpose(["abc".index(letter) for letter in order]).ravel(), rows
                ):
                    kept = {letter: size for letter, size in sizes.items() if size > 1}
                    left, right = (
                        tuple(name for name in of if name in kept) for of in ("abc", order)
                    )
                    yield (left, right), kept


def divisors(number: int) -> list[int]:
    """All divisors, from 1."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
