"""Axes of what layers give: words for them, and how those of the right side stand otherwise than the left ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from rosetta_diff.arrays import ARRANGEMENTS, CHANNELS_FIRST, CHANNELS_LAST, TIME_TURNED, Array, Ways
from rosetta_diff.judge.check import GATES
from rosetta_diff.pair.mapping import Turn
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.groups import WeightGroup
from rosetta_diff.read.patterns import pattern_of
from rosetta_diff.read.rules import RECURRENT, TAP
from rosetta_diff.read.view import Shape

# Kinds of layers whose channels follow the rows or stand last, and those whose last axis is always that of features.
CHANNELLED = ("conv", "conv_transpose", "batchnorm", "groupnorm")
FEATURES_LAST = ("dense", "embedding", "layernorm", "rmsnorm")
MOST_POSITIONS = 4  # axes of an image, or of a volume over time
# Words for the axes of an output of which nothing else is known.
OUTPUT = (("row", "unit"), ("row", "time step", "unit"))


def axes_of_output(pair: LayerPair) -> dict[str, Any]:
    """Words for the axes of an output of a layer."""
    if pair.left.kind not in CHANNELLED:
        return {"axes": OUTPUT}
    first = channels_stand_first(pair.left)
    positions = [["position"] * number for number in range(1, MOST_POSITIONS)]
    channels = [["row", "channel", *of] if first else ["row", *of, "channel"] for of in positions]
    return {"axes": [OUTPUT[0], *channels]}


def axes_of_weight(pair: LayerPair, name: str) -> dict[str, Any]:
    """Words for the axes of a weight, and the units of each gate; none where a line arranges it."""
    if name in pair.weights and pair.weights[name].line:
        return {}
    kind, shape = pair.left.kind, pair.left.shapes.get(name)
    if shape and kind in GATES:
        axes = [*("row" for _ in shape[1:]), f"{kind} gate"]
        return {"axes": [axes], "units": shape[-1] // len(GATES[kind])}
    return {"axes": [{"embedding": ["row", "column"], "dense": ["input", "unit"]}.get(kind, [])]}


@dataclass(frozen=True)
class Turns:
    """Turns of the axes of right arrays: of pairs of layers, and of what a mapping names."""

    pairs: Sequence[LayerPair]
    named: Mapping[str, Turn]  # by the name of an array or a layer

    def ways(self, name: str, pair: LayerPair | None = None, is_input: bool = False) -> Ways:
        """Ways in which the axes of a right array may differ from the left one's: the mapping's, or what is known of
        the layer. A layer of which nothing is known may be turned as the known ones are, and so may an
        input; what a person named is as it is."""
        names = (name, pair.left.layer.path, pair.right.layer.path) if pair else (name,)
        turn = next((self.named[key] for key in names if key in self.named), None)
        if turn:
            return {f"the axes are {' -> '.join(map(pattern_of, turn))}": partial(turned, turn)}
        known = known_turn(pair) if pair else None if is_input else ""
        if known is not None:
            return {known: ARRANGEMENTS[known]}
        last = pair is not None and pair.left.kind in FEATURES_LAST
        turns = [words for words in ARRANGEMENTS if words in self._known and (words == TIME_TURNED or not last)]
        return {words: ARRANGEMENTS[words] for words in ("", *turns)}

    @cached_property
    def _known(self) -> set[str]:
        """Turns of layers whose axes are known, in the words of ARRANGEMENTS; other layers may be turned alike."""
        of_time = {TIME_TURNED for pair in self.pairs if time_is_turned(pair)}
        wide = [pair for pair in self.pairs if any(len(shape) > 2 for shape in output_shapes(pair))]
        return of_time | {known_turn(pair) or "" for pair in wide} - {""}


def channels_stand_first(group: WeightGroup) -> bool:
    """True if the channels of a layer's output follow its rows, as its settings or its framework have it."""
    settings = group.layer.settings
    said = str(settings.get("data_format") or settings.get("_data_format") or "")
    usual = not said and group.side.known.channels_first
    return usual or said == "channels_first" or said.startswith("NC") or settings.get("axis") in (1, [1])


def known_turn(pair: LayerPair) -> str | None:
    """The turn of the right layer's output, as settings or frameworks have it, in the words of
    ARRANGEMENTS; None where nothing tells."""
    if pair.left.kind in CHANNELLED:
        left, right = (channels_stand_first(group) for group in pair.both)
        return "" if left == right else CHANNELS_FIRST if left else CHANNELS_LAST
    return "" if pair.left.kind in (*RECURRENT, TAP) else None


def time_is_turned(pair: LayerPair) -> bool:
    """True if time stands first in a recurrent layer of one side, whose output is told with the rows first."""
    time_first = [bool(group.settings.get("time_first")) for group in pair.both]
    return pair.left.kind in RECURRENT and time_first[0] != time_first[1]


def output_shapes(pair: LayerPair) -> list[Shape]:
    """The shapes of the first outputs of two layers."""
    return [
        group.side.shape(call.parts[0], "layers") for group in pair.both for call in group.calls[:1] if call.parts
    ]


def turned(turn: Turn, right: Array) -> Array:
    """A right array with its axes in the left one's order; as it is where it has another number of axes."""
    left_axes, right_axes = turn
    return right.transpose([right_axes.index(axis) for axis in left_axes]) if right.ndim == len(left_axes) else right
