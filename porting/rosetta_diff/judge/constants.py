"""Constants that a framework rounds to float32, and what they take from a comparison in float64."""

from collections.abc import Iterable, Iterator

import numpy as np

from rosetta_diff.helpers import some_of
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.paddle import FLOAT32_EPSILON
from rosetta_diff.read.side import Side

MOST_NORMS = 3  # norms with a rounded epsilon that are named


def remark_on_epsilons(left: Side, right: Side, pairs: Iterable[LayerPair]) -> Iterator[str]:
    """A remark on norms whose epsilon Paddle rounds."""
    norms = [pair.name for pair in pairs if rounds_epsilon(pair)]
    if norms:
        exact = right if left.framework == "paddle" else left
        setting = f"layer.{exact.known.epsilon}"
        remedy = f"for equal ones set `{setting} = float(np.float32({setting}))` in {exact.name}"
        words = f"Paddle rounds epsilon to float32 in {some_of(norms, MOST_NORMS)}"
        yield f"{words}; {remedy} (docs/deviations.md#paddle-norm-epsilon)"


def rounds_epsilon(pair: LayerPair) -> bool:
    """True if Paddle rounds the epsilon of one of two norms, which is the same for the other one, to float32."""
    of_paddle, of_other = (
        [group for group in pair.both if (group.side.framework == "paddle") == paddle] for paddle in (True, False)
    )
    if not of_other or not of_paddle or not FLOAT32_EPSILON & {*of_paddle[0].layer.classes}:
        return False
    rounded, exact = (group.settings.get("epsilon") for group in (of_paddle[0], of_other[0]))
    floats = isinstance(rounded, float) and isinstance(exact, float)
    return floats and np.float32(rounded) == np.float32(exact) and exact != float(np.float32(exact))


def rounding_of_momentum(pair: LayerPair) -> float:
    """The share by which running statistics move otherwise, since Paddle rounds their momentum to float32."""
    kept = [group.settings.get("momentum") for group in pair.both if group.side.framework == "paddle"]
    if len(kept) != 1 or not isinstance(kept[0], float) or not 0 < kept[0] < 1:
        return 0.0
    return abs(float(np.float32(kept[0])) - kept[0]) / (1 - kept[0])


def coarse_layers(side: Side) -> list[str]:
    """Paths of the layers that the framework computes with constants of float32."""
    coarse = side.known.float32_layers(side.backend)
    return [
        layer.path for layer in side.says.layers if coarse & {*layer.classes, str(layer.settings.get("activation"))}
    ]
