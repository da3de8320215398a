"""Mapping files: which weights of the left record are which of the right one,
and how their axes belong together.

A line gives names, axes and sizes of both sides, left = right:

    [weights]
    "l.{i}.qkv" = {to = ["b_{i}/q", "b_{i}/k", "b_{i}/v"], axes = "parts m -> m parts"}

The guide has the grammar with examples. Names are expanded against those that the records have;
axes are solved from the arrays' shapes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from rosetta_diff.helpers import LARGEST_JSON, CannotBeginError, DiffError, read_at_most, reason
from rosetta_diff.pair.arrangement import MappingLine, Shapes, solve_pair
from rosetta_diff.pair.pairs import Names, TensorPair
from rosetta_diff.read.description import Name
from rosetta_diff.read.side import Side
from rosetta_diff.read.view import Axes, parse_axes

INDEX = re.compile(r"\{([A-Za-z]\w*)([+-]\d+)?\}|\*")  # "{i}", "{i+1}", or "*" for an only index
INDEX_DIGITS = r"(\d{1,18})(?!\d)"  # an index takes all digits at its place
LISTED = 8  # names that an error lists

Key = tuple[tuple[str, int], ...]  # values of indices


class MappingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    left: Name = ""  # whose names stand left, a framework or a record; the left side's by default
    weights: dict[Name, Name | MappingLine] = {}
    layers: dict[Name, Name] = {}  # left layer -> right layer, whose outputs are compared
    # Of an input, an output, a tap or a layer: its axes, "left -> right".
    axes: dict[Name, Name] = {}
    skip: dict[Name, Name] = {}  # what is not compared, by a name or a pattern, and the reason


def read_mapping(path: Path) -> MappingFile:
    """Raises CannotBeginError for a file that holds no mapping."""
    try:
        return msgspec.toml.decode(read_at_most(LARGEST_JSON, path), type=MappingFile)
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be read: {reason(error)}") from error
    except (DiffError, ValueError, RecursionError, msgspec.ValidationError) as error:
        raise CannotBeginError(
            f"{path} holds no mapping: {error}; --write-mapping writes one"
        ) from error


def expand(
    text: str, line: Name | MappingLine, left: Shapes, right: Shapes
) -> Iterator[TensorPair]:
    """The pairs of one line: its names expanded against those of both records,
    its axes solved from shapes.

    Raises CannotBeginError for a line that names what is not there, or whose axes do not fit.
    """
    line = line if isinstance(line, MappingLine) else MappingLine(line)
    to = line.to if isinstance(line.to, list) else [line.to]
    templates, names = ([name.strip() for name in text.split(",")], to), (left, right)
    where = f"the mapping's line {text}"
    left_axes, arrow, right_axes = line.axes.partition("->")
    axes = (
        (parse_axes(left_axes, where), parse_axes(right_axes if arrow else left_axes, where))
        if line.axes
        else None
    )
    indices = [
        {index[1] or "*" for template in templates_of_side for index in INDEX.finditer(template)}
        for templates_of_side in templates
    ]
    common = indices[0] & indices[1]
    matches = [
        _match(where, templates_of_side, of, common)
        for templates_of_side, of in zip(templates, names, strict=True)
    ]
    for key in dict.fromkeys((*matches[0], *matches[1])):
        for side, word in enumerate(("left", "right")):
            if key not in matches[side]:
                missing = ", ".join(fill(template, key) for template in templates[side])
                raise CannotBeginError(
                    f"{where}: the {word} side has no {missing}; it has {list_names(names[side])}"
                )
        yield solve_pair(text, (matches[0][key], matches[1][key]), axes, names, line)


def list_names(names: Shapes) -> str:
    return ", ".join(list(names)[:LISTED]) + (" …" if len(names) > LISTED else "")


def fill(template: str, key: Key) -> str:
    """The template with those of its indices filled in that the key has."""
    values = dict(key)

    def number(match: re.Match[str]) -> str:
        name = match[1] or "*"
        return str(values[name] + int(match[2] or 0)) if name in values else match[0]

    return INDEX.sub(number, template)


def _match(
    where: str, templates: Sequence[str], names: Shapes, common: set[str]
) -> dict[Key, Names]:
    """This side's names, by the values of the indices that both sides have.

    Names that differ only in an index of this side are in the order of its numbers.
    """
    places_of: dict[Key, list[list[tuple[Key, str]]]] = {}
    for place, template in enumerate(templates):
        matches = list(_matches(template, names))
        if not matches:
            raise CannotBeginError(
                f"{where}: no weight is named {template!r}; there are {list_names(names)}"
            )
        for name, values in matches:
            key = tuple(sorted(item for item in values.items() if item[0] in common))
            rest = tuple(item for item in values.items() if item[0] not in common)
            places_of.setdefault(key, [[] for _ in templates])[place].append((rest, name))
    matched_names = {}
    for key, of_places in places_of.items():
        names_in_order: list[str] = []
        for template, matched in zip(templates, of_places, strict=True):
            if not matched:
                raise CannotBeginError(
                    f"{where}: there is no {fill(template, key)}; there are {list_names(names)}"
                )
            names_in_order += [name for _, name in sorted(matched)]
        matched_names[key] = tuple(names_in_order)
    return matched_names


def _matches(template: str, names: Shapes) -> Iterator[tuple[str, dict[str, int]]]:
    """The names that fit a template, each with the values of its indices.

    An index stands for all digits at its place, so a name fits in one way at most.
    """
    texts = INDEX.split(template)
    texts, indices, shifts = texts[::3], texts[1::3], texts[2::3]
    pattern = re.compile(INDEX_DIGITS.join(map(re.escape, texts)))
    for name in names if indices else [template] if template in names else []:
        match = pattern.fullmatch(name)
        read = zip(indices, shifts, match.groups(), strict=True) if match else ()
        values = {(index or "*", int(digits) - int(shift or 0)) for index, shift, digits in read}
        if match and len(dict(values)) == len(values):  # an index that stands twice is one number
            yield name, dict(values)


def is_turned(file: MappingFile, sides: tuple[Side, Side]) -> bool:
    """True if the names that stand left in the file are the right side's."""
    left, right = (file.left in (side.name, side.framework.name) for side in sides)
    return right and not left


Turn = tuple[Axes, Axes]  # the axes of a left array and of the right one


def read_turns(file: MappingFile, sides: tuple[Side, Side]) -> dict[str, Turn]:
    """The turned axes by the names of arrays and layers.
    Raises CannotBeginError for a line that turns no axes."""
    turns: dict[str, Turn] = {}
    for name, line in file.axes.items():
        where = f"the mapping's line {name} of [axes]"
        left_axes, arrow, right_axes = line.partition("->")
        left, right = parse_axes(left_axes, where), parse_axes(right_axes, where)
        if not arrow or sorted(left) != sorted(right) or any(len(group) != 1 for group in left):
            raise CannotBeginError(
                f'{where} is {line!r}; expected the same axes in two orders, such as "n c h -> n h '
                'c"'
            )
        turns[name] = (right, left) if is_turned(file, sides) else (left, right)
    return turns


def read_lines(
    file: MappingFile, sides: tuple[Side, Side]
) -> tuple[list[TensorPair], Mapping[str, Name]]:
    """The pairs of weights and of layers of a file.
    Raises CannotBeginError for a file that does not fit."""
    left, right = ({name: side.shape(name) for name in side.arrays("weights")} for side in sides)
    if not is_turned(file, sides):
        return expand_all(file, left, right), file.layers
    pairs = [pair.exchange() for pair in expand_all(file, right, left)]
    return pairs, {right_name: name for name, right_name in file.layers.items()}


def expand_all(file: MappingFile, left: Shapes, right: Shapes) -> list[TensorPair]:
    """The pairs of all lines. Raises CannotBeginError where a weight stands in two of them."""
    pairs: list[TensorPair] = []
    lines: dict[tuple[str, str], str] = {}
    for text, line in file.weights.items():
        for pair in expand(text, line, left, right):
            pairs.append(pair)
            for side, names in zip(
                ("left", "right"), (pair.left.names, pair.right.names), strict=True
            ):
                for name in names:
                    if (side, name) in lines:
                        both = f"{lines[side, name]} and {text}"
                        raise CannotBeginError(
                            f"{name} of the {side} side stands in the lines {both}; expected once"
                        )
                    lines[side, name] = text
    return pairs
