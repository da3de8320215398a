"""Constants that a framework rounds to float32, and what they take from a comparison in float64."""

from collections.abc import Iterable, Iterator

import numpy as np

from rosetta_diff.helpers import some_of
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.base import Deviation
from rosetta_diff.read.side import Side

MOST_NORMS = 3  # norms with a rounded epsilon that are named


def remark_on_epsilons(left: Side, right: Side, pairs: Iterable[LayerPair]) -> Iterator[str]:
    """Yield a remark on norms whose epsilon one side's framework alone rounds."""
    pairs = list(pairs)
    for place, exact in enumerate((right, left)):
        norms = {pair.name: deviation for pair in pairs if (deviation := rounded_epsilon(pair, place))}
        for words, entry in dict.fromkeys(norms.values()):
            setting = f"layer.{exact.framework.epsilon}"
            remedy = f"for equal ones set `{setting} = float(np.float32({setting}))` in {exact.name}"
            yield f"{words} in {some_of([*norms], MOST_NORMS)}; {remedy} (docs/deviations.md#{entry})"


def rounded_epsilon(pair: LayerPair, place: int) -> Deviation | None:
    """Return how the framework of one side rounds a norm's epsilon to float32, which is the same on the other side;
    None where it does not, or where both do."""
    groups = pair.both[place], pair.both[1 - place]
    known = [group.side.framework.float32_epsilons for group in groups]
    if known[0] is known[1]:
        return None
    rounded, exact = (group.settings.get("epsilon") for group in groups)
    floats = isinstance(rounded, float) and isinstance(exact, float)
    if not floats or np.float32(rounded) != np.float32(exact) or exact == float(np.float32(exact)):
        return None
    return next((known[0][kind] for kind in groups[0].layer.classes if kind in known[0]), None)


def rounding_of_momentum(pair: LayerPair) -> float:
    """Return the share by which running statistics move otherwise, where one side alone rounds their momentum to
    float32."""
    kept = [group.settings.get("momentum") for group in pair.both if group.side.framework.rounds_momentum]
    if len(kept) != 1 or not isinstance(kept[0], float) or not 0 < kept[0] < 1:
        return 0.0
    return abs(float(np.float32(kept[0])) - kept[0]) / (1 - kept[0])


def coarse_layers(side: Side) -> list[str]:
    """Paths of the layers that the framework computes with constants of float32."""
    coarse = side.framework.float32_layers(side.backend)
    return [
        layer.path for layer in side.says.layers if coarse & {*layer.classes, str(layer.settings.get("activation"))}
    ]
