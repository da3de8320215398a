"""Mapping files: which weights of the left record are which of the right one, and how their axes belong together.

A line gives names, axes and sizes, and no operations, so that it reads the same in both directions:

    [weights]
    "l.{i}.qkv" = {to = ["b_{i}/q", "b_{i}/k", "b_{i}/v"], axes = "parts m -> m parts"}

docs/porting.md has the grammar with examples. Names are expanded against those that the records have; axes are solved
from the arrays' shapes.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.compare.arrangement import LACKING, PARTS, Arrangement, Axes, Half
from benchmarks.compare.layouts import Shape
from benchmarks.compare.record import Name, UnfitRecordsError
from common.errors import CannotBeginError, RosettaError, why
from common.files import LARGEST_JSON, read_at_most

INDEX = re.compile(r"\{([A-Za-z]\w*)([+-]\d+)?\}|\*")  # "{i}", "{i+1}", or "*" for an only index
DIGITS = r"(\d{1,18}+)"  # all that stand there, of which none is given back to what follows
GROUP = re.compile(r"\(([^()]*)\)|(\S+)")
AXIS = re.compile(r"[A-Za-z]\w*")
LISTED = 8  # names that an error lists


class MappingLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The right side of a line of [weights]. Right weights are `times` the left ones, plus `add`."""

    to: Name | list[Name]
    axes: Name = ""
    sizes: dict[str, int] = {}
    order: list[int] = []  # of the left array's equal parts, in the right array
    times: float = 1.0
    add: float = 0.0


class MappingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    weights: dict[Name, Name | MappingLine] = {}
    layers: dict[Name, Name] = {}  # left layer -> right layer, whose outputs are compared
    skip: dict[Name, Name] = {}  # a weight or layer of either side, and the reason why it is not compared


def read_mapping(path: Path) -> MappingFile:
    """Raises CannotBeginError for a file that holds no mapping."""
    try:
        read = tomllib.loads(read_at_most(LARGEST_JSON, path).decode())
        return msgspec.convert(read, MappingFile)
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be read: {why(error)}") from error
    except (RosettaError, ValueError, RecursionError, msgspec.ValidationError) as error:
        raise UnfitRecordsError(f"{path} holds no mapping: {error}; --write-mapping writes one") from error


def axes_of(pattern: str, where: str) -> Axes:
    """The axes of one side's pattern, such as "(g parts d) m"; "1" is an axis of one number."""
    found: list[tuple[str, ...]] = []
    for inside, alone in GROUP.findall(pattern):
        group = tuple(inside.split()) if not alone else () if alone == "1" else (alone,)
        wrong = next((name for name in group if not AXIS.fullmatch(name)), None)
        if wrong:
            raise UnfitRecordsError(
                f"{where}: {wrong!r} is no name of an axis; expected words, such as {PARTS}, m or head"
            )
        found.append(group)
    count = Counter(name for group in found for name in group)
    twice = next((name for name, number in count.items() if number > 1), None)
    if twice:
        raise UnfitRecordsError(f"{where}: the axis {twice} stands twice in {pattern!r}; expected each once")
    return tuple(found)


@dataclass
class Solver:
    """Finds the sizes of a line's axes from the shapes of the arrays that it names."""

    where: str
    sizes: dict[str, int]
    equations: list[tuple[str, tuple[str, ...], int]] = field(default_factory=list)  # array, names, the product

    def add(self, name: str, axes: Axes, shape: Shape, parts: str) -> None:
        """The equations of one array, whose number of parts has a name of its own."""
        if 0 in shape:
            raise UnfitRecordsError(
                f"{self.where}: {name} has the shape {shape} and no numbers; [skip] leaves it out"
            )
        if len(axes) != len(shape):
            expected = " ".join(f"({' '.join(group)})" if len(group) != 1 else group[0] for group in axes)
            raise UnfitRecordsError(
                f"{self.where}: {name} has the shape {shape}, which are {len(shape)} axes, and the line gives it "
                f"{len(axes)}: {expected!r}"
            )
        for group, size in zip(axes, shape, strict=True):
            self.equations.append((name, tuple(parts if axis == PARTS else axis for axis in group), size))

    def solve(self) -> dict[str, int]:
        """Raises UnfitRecordsError where an equation fails, or sizes are missing."""
        open_equations = self.equations
        while open_equations:
            left = [equation for equation in open_equations if not self._solved(*equation)]
            if len(left) == len(open_equations):
                name, group, size = left[0]
                unknown = [axis for axis in group if axis not in self.sizes]
                raise UnfitRecordsError(
                    f"{self.where}: {size} of {name} is {' × '.join(map(self._shown, group))}, which leaves "
                    f"{len(unknown)} sizes open; add: sizes = {{{unknown[0].partition(':')[0]} = …}}"
                )
            open_equations = left
        return self.sizes

    def _shown(self, axis: str) -> str:
        return str(self.sizes.get(axis, axis.partition(":")[0]))

    def _solved(self, name: str, group: tuple[str, ...], size: int) -> bool:
        unknown = [axis for axis in group if axis not in self.sizes]
        known = prod(self.sizes[axis] for axis in group if axis in self.sizes)
        if len(unknown) > 1:
            return False
        if (unknown and (known == 0 or size % known)) or (not unknown and known != size):
            product = " × ".join(map(self._shown, group)) or "1"
            raise UnfitRecordsError(
                f"{self.where}: {size} of {name} is not {product} ({' '.join(a.partition(':')[0] for a in group)})"
            )
        if unknown:
            self.sizes[unknown[0]] = size // known
        return True


def expanded(
    text: str, line: Name | MappingLine, left: Mapping[str, Shape], right: Mapping[str, Shape]
) -> Iterator[Arrangement]:
    """The entries of one line: its names expanded against those of both records, its axes solved from the shapes.

    Raises UnfitRecordsError for a line that names what is not there, or whose axes do not fit.
    """
    line = line if isinstance(line, MappingLine) else MappingLine(line)
    lefts = [name.strip() for name in text.split(",")]
    rights = list(line.to) if isinstance(line.to, list) else [line.to]
    where = f"the mapping's line {text}"
    one, arrow, other = line.axes.partition("->")
    patterns = (axes_of(one, where), axes_of(other if arrow else one, where)) if line.axes else None
    common = indices(lefts) & indices(rights)
    of_left, of_right = (
        _matched(where, templates, names, common) for templates, names in ((lefts, left), (rights, right))
    )
    for key in dict.fromkeys((*of_left, *of_right)):
        halves = []
        for found, names, templates in ((of_left, left, lefts), (of_right, right, rights)):
            if key not in found:
                missing = ", ".join(filled(template, key) for template in templates)
                raise UnfitRecordsError(
                    f"{where}: {'the right' if found is of_right else 'the left'} side has no {missing}; it has "
                    f"{listed(names)}"
                )
            halves.append(found[key])
        yield fitted(text, line, halves, patterns, (left, right))


def listed(names: Mapping[str, Shape]) -> str:
    return ", ".join(list(names)[:LISTED]) + (" …" if len(names) > LISTED else "")


def indices(templates: Sequence[str]) -> set[str]:
    return {found[1] or "*" for template in templates for found in INDEX.finditer(template)}


def filled(template: str, key: tuple[tuple[str, int], ...]) -> str:
    """The template with those of its indices filled in that the key has."""
    values = dict(key)

    def number(found: re.Match[str]) -> str:
        name = found[1] or "*"
        return str(values[name] + int(found[2] or 0)) if name in values else found[0]

    return INDEX.sub(number, template)


Key = tuple[tuple[str, int], ...]


def _matched(
    where: str, templates: Sequence[str], names: Mapping[str, Shape], common: set[str]
) -> dict[Key, tuple[str, ...]]:
    """By the values of the indices that both sides have, the names of this side; those of an index of this side alone
    in the order of its numbers."""
    found: dict[Key, dict[int, list[tuple[Key, str]]]] = {}
    for place, template in enumerate(templates):
        if template == LACKING:
            continue
        matches = 0
        for name, values in _matches(template, names):
            key = tuple(sorted((index, value) for index, value in values.items() if index in common))
            rest = tuple((index, value) for index, value in values.items() if index not in common)
            found.setdefault(key, {}).setdefault(place, []).append((rest, name))
            matches += 1
        if not matches:
            raise UnfitRecordsError(f"{where}: no weight is named {template!r}; there are {listed(names)}")
    made = {}
    for key, of_places in found.items():
        own: list[str] = []
        for place, template in enumerate(templates):
            if template == LACKING:
                own.append(LACKING)
            elif place in of_places:
                own += [name for _, name in sorted(of_places[place])]
            else:
                raise UnfitRecordsError(f"{where}: there is no {filled(template, key)}; there are {listed(names)}")
        made[key] = tuple(own)
    return made


def _matches(template: str, names: Mapping[str, Shape]) -> Iterator[tuple[str, dict[str, int]]]:
    """The names of a template, each with the values of its indices. An index stands for all digits at its place, so
    that there is one way at most in which a name can be meant."""
    parts, order, end = [], [], 0
    for found in INDEX.finditer(template):
        parts += [re.escape(template[end : found.start()]), DIGITS]
        order.append((found[1] or "*", int(found[2] or 0)))
        end = found.end()
    if not order:
        yield from [(template, {})] if template in names else []
        return
    pattern = re.compile("".join([*parts, re.escape(template[end:])]))
    for name in names:
        match = pattern.fullmatch(name)
        if match:
            found_values = {(index, int(match[number + 1]) - shift) for number, (index, shift) in enumerate(order)}
            values = dict(found_values)
            if len(values) == len(found_values):  # an index that stands twice is one number
                yield name, values


def fitted(
    text: str,
    line: MappingLine,
    names: Sequence[tuple[str, ...]],
    patterns: tuple[Axes, Axes] | None,
    shapes: tuple[Mapping[str, Shape], Mapping[str, Shape]],
) -> Arrangement:
    """The entry of these names, left and right; its axes are solved from the shapes."""
    described = [
        " + ".join(name if name == LACKING else f"{name} {'×'.join(map(str, of[name])) or '1'}" for name in own)
        for own, of in zip(names, shapes, strict=True)
    ]
    where = f"the mapping's line {text}, {' = '.join(described)}"
    if patterns is None:
        plain = tuple((f"a{number}",) for number in range(len(shapes[0][names[0][0]])))
        patterns = plain, plain
    _check(where, line, names, patterns)
    solver = Solver(where, dict(line.sizes))
    for side, (axes, own, of_side) in enumerate(zip(patterns, names, shapes, strict=True)):
        for place, name in enumerate(own):
            if name != LACKING:
                solver.add(name, axes, of_side[name], f"{PARTS}:{side}:{place}")
    solved = solver.solve()
    widths = [
        [0 if name == LACKING else solved.get(f"{PARTS}:{side}:{place}", 1) for place, name in enumerate(own)]
        for side, own in enumerate(names)
    ]
    sums = [" + ".join(str(width) for width in of if width) for of in widths]
    for own, of, others in zip(names, widths, widths[::-1], strict=True):
        if LACKING in own:
            of[own.index(LACKING)] = max(0, sum(others) - sum(of))
    if sum(widths[0]) != sum(widths[1]) or any(0 in of for of in widths):
        raise UnfitRecordsError(
            f"{where}: the left side has {sums[0]} {PARTS}, the right one {sums[1]}; name all arrays that hold them, "
            f'or "{LACKING}" for those that the other side lacks'
        )
    if line.order and sum(widths[0]) % len(line.order):
        raise UnfitRecordsError(f"{where}: order has {len(line.order)} places for {sums[0]} {PARTS}")
    sizes = {axis: size for axis, size in solved.items() if ":" not in axis}
    left, right = (Half(own, axes, tuple(of)) for own, axes, of in zip(names, patterns, widths, strict=True))
    return Arrangement(text, left, right, sizes, tuple(line.order), line.times, line.add)


def _check(where: str, line: MappingLine, names: Sequence[tuple[str, ...]], patterns: tuple[Axes, Axes]) -> None:
    """Raises UnfitRecordsError for what is wrong with a line whatever the shapes are."""
    one, other = ({name for group in axes for name in group} for axes in patterns)
    several = max(map(len, names)) > 1
    wrong = ""
    if min(map(len, names)) > 1:
        wrong = f"{len(names[0])} arrays are to be {len(names[1])}; expected one array on one side at least"
    elif several and not line.axes:
        wrong = f'several arrays need axes, such as axes = "{PARTS} m -> m {PARTS}"'
    elif several and PARTS not in one | other:
        wrong = f"several arrays need an axis {PARTS} in {line.axes!r}"
    elif any(own.count(LACKING) > 1 or set(own) == {LACKING} for own in names):
        wrong = f"expected one {LACKING} beside arrays that are there"
    elif one ^ other and not (several and one ^ other == {PARTS}):
        alone = ", ".join(sorted(one ^ other))
        wrong = f"{alone} of {line.axes!r} stands on one side; expected the same axes on both"
    elif line.sizes.keys() - one - other or min(line.sizes.values(), default=1) < 1:
        wrong = f"sizes are {line.sizes}; expected positive ones of axes in {line.axes!r}"
    elif line.order and (several or PARTS not in one or sorted(line.order) != list(range(len(line.order)))):
        wrong = f"order is {line.order}; expected each number once, for an axis {PARTS} of one array on each side"
    elif not line.times or not np.isfinite([line.times, line.add]).all():
        wrong = f"times is {line.times} and add {line.add}; expected finite numbers, and times not 0"
    if wrong:
        raise UnfitRecordsError(f"{where}: {wrong}")


def read_either_way(
    file: MappingFile, left: Mapping[str, Shape], right: Mapping[str, Shape], left_layers: Collection[str]
) -> tuple[list[Arrangement], Mapping[str, Name]]:
    """The arrangements and the pairs of layers of a file, be it written for these sides or for the same in each
    other's place. Raises UnfitRecordsError for what fits neither way."""
    layers_turned = {other: name for name, other in file.layers.items()}
    backwards = not file.weights and not file.layers.keys() & left_layers and layers_turned.keys() <= {*left_layers}
    try:
        return expanded_all(file, left, right), layers_turned if backwards else file.layers
    except UnfitRecordsError as error:
        try:
            found = expanded_all(file, right, left)
        except UnfitRecordsError:
            raise error from None
        return [entry.turned() for entry in found], layers_turned


def expanded_all(file: MappingFile, left: Mapping[str, Shape], right: Mapping[str, Shape]) -> list[Arrangement]:
    """The entries of all lines. Raises UnfitRecordsError where a weight stands in two of them."""
    found = [entry for text, line in file.weights.items() for entry in expanded(text, line, left, right)]
    for side, names in enumerate(zip(*((entry.left.own, entry.right.own) for entry in found), strict=True)):
        count = Counter(name for of in names for name in of)
        twice = next((name for name, number in count.items() if number > 1), None)
        if twice:
            lines = " and ".join(entry.line for entry in found if twice in (entry.left.own, entry.right.own)[side])
            raise UnfitRecordsError(
                f"{twice} of the {'right' if side else 'left'} side stands in the lines {lines}; expected once"
            )
    return found


def written(entries: Sequence[Arrangement]) -> str:
    """The lines of a mapping file for these entries, each with the way in which it was found."""
    return "".join(f"{line_of(entry)}  # by {entry.found}\n" for entry in entries)


def line_of(entry: Arrangement) -> str:
    """One line of [weights]."""
    one, other = (" ".join(map(_group, half.axes)) for half in (entry.left, entry.right))
    to = entry.right.names[0] if len(entry.right.names) == 1 else list(entry.right.names)
    settings = {"to": quoted(to), "axes": quoted(f"{one} -> {other}")}
    sizes = {axis: entry.sizes[axis] for half in (entry.left, entry.right) for axis in _factors(half)}
    if sizes:
        settings["sizes"] = f"{{{', '.join(f'{axis} = {size}' for axis, size in sizes.items())}}}"
    if entry.order:
        settings["order"] = str(list(entry.order))
    if (entry.times, entry.add) != (1.0, 0.0):
        settings |= {"times": str(entry.times), "add": str(entry.add)}
    made = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return f"{quoted(', '.join(entry.left.names))} = {{{made}}}"


def quoted(value: Any) -> str:
    """A text or a list of texts as TOML has them, which is as JSON has them but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _group(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"({' '.join(names)})" if names else "1"


def _factors(half: Half) -> Iterator[str]:
    """The axes whose sizes a line must give, since an axis of an array is a product of several."""
    for group in half.axes:
        factors = [name for name in group if name != PARTS]
        yield from factors if PARTS in group else factors[:-1]
