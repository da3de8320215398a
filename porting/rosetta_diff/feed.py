"""Writes a feed: what the left side's layers gave, by the right side's names and in its layout."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rosetta_diff.arrays import Array
from rosetta_diff.carry import lay_out
from rosetta_diff.helpers import CannotBeginError, write_atomically
from rosetta_diff.judge.items import Stages
from rosetta_diff.judge.outputs import activations, compared_outputs
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.pair.parents import partners_of
from rosetta_diff.read.description import RecordedCall
from rosetta_diff.read.rules import PARENT, RECURRENT
from rosetta_diff.read.side import Side
from rosetta_record.replay import FEED, model_of

# Parts of a stacked recurrent layer that are given what the layer is given.
FIRST_LAYER = ("", "l0", "l0_reverse")
READ_AT_ONCE = 1 << 22  # bytes of a file


FedCall = tuple[str, int]  # the path of a right layer, and which of its calls, from 0
Partners = dict[FedCall, tuple[LayerPair, RecordedCall]]


def left_calls(pairs: Sequence[LayerPair]) -> Partners:
    """For each call of a right layer its pair, and the left call that is given the same."""
    calls: Partners = {}
    lefts, rights = partners_of(pairs, 0), partners_of(pairs, 1)
    for pair in pairs:
        paths = [layer.path for layer in pair.left.layers]
        alone = all(len(lefts.get(path, ())) == 1 for path in paths)
        alone = alone and len({first_input(pair.left.side, path) for path in paths}) == 1
        of_first = pair.left.kind in RECURRENT and all(
            group.part in FIRST_LAYER for group in pair.both
        )
        for recorded, call in (
            (recorded, of) for of in pair.calls for recorded in of.right.recorded
        ):
            if pair.left.kind == PARENT or of_first or (alone and len(rights[recorded.layer]) == 1):
                calls.setdefault((recorded.layer, call.right.number), (pair, call.left.recorded[0]))
    return calls


def first_input(side: Side, path: str) -> str:
    """Name of the array that a layer is given first."""
    call = next(iter(side.called.get(path, [])), None)
    return next(iter(call.inputs.values()), "") if call else ""


def fed_outputs(stages: Stages) -> dict[str, Array]:
    """Outputs of the left layers, by the right side's names and in its layout: those of which the
    left side has the whole array."""
    right = stages.right
    values: dict[str, Array] = {}
    written: dict[str, Array] = {}  # which numbers of these are the left side's
    for pair in stages.pairing.pairs:
        changes = activations(pair)
        if changes is None or changes[1] is not np.asarray:
            continue  # an activation of the left layer alone is of what the right one gives
        for call in pair.calls:
            for tensors in compared_outputs(pair, call, stages.pairing.turns)[0].values():
                given = tensors.left.of(stages.left.arrays("layers").get)
                if given is None or not tensors.fit:
                    continue
                array = changes[0](given)
                for part in tensors.right.names:
                    values.setdefault(part, np.zeros(right.shape(part, "layers"), array.dtype))
                    written.setdefault(part, np.zeros(right.shape(part, "layers"), bool))
                tensors.right.write(array, values)
                tensors.right.write(np.broadcast_to(True, array.shape), written)
    return {name: array for name, array in values.items() if written[name].all()}


def gradients_of(stages: Stages) -> dict[str, Array]:
    """The left side's gradients by the right side's weights; none where one has no place there.
    Raises CannotBeginError for one of another shape than its weight's, which no framework
    writes."""
    pairs, left = stages.pairing.pairs, stages.left
    gradients = left.arrays("gradients")
    for name in gradients:
        if name in left.arrays("weights") and gradients.shape(name) != left.shape(name):
            raise CannotBeginError(
                f"the gradient of {name} in {left.name} has the shape {gradients.shape(name)}, "
                f"expected {left.shape(name)}; record it again"
            )
    if any(weight.times != 1 for pair in pairs for weight in pair.weights.values()):
        return {}
    try:
        return lay_out(
            pairs, gradients.get, lambda name: np.zeros(stages.right.shape(name)), are_weights=False
        )
    except CannotBeginError:
        return {}


def write_feed(folder: Path, stages: Stages) -> int:
    """Write a feed into a folder; return the number of calls whose output it has. Raises
    CannotBeginError for a folder that holds anything else, and where the left side has no outputs
    of layers."""
    left, path = stages.left, folder / "feed.safetensors"
    if not any(call.inputs for call in left.says.calls):
        raise CannotBeginError(
            f"{left.name} has no inputs of layers; record it again with today's rosetta_record"
        )
    if folder.exists() and not is_feed(path) and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotBeginError(
            f"{folder} exists and is no feed; give --feed the name of a new folder"
        )
    arrays = {f"gradients|{name}": array for name, array in gradients_of(stages).items()}
    outputs, partners, calls = fed_outputs(stages), left_calls(stages.pairing.pairs), 0
    for layer, of_layer in stages.right.called.items():
        for number, call in enumerate(of_layer):
            if (layer, number) not in partners:
                continue  # within a layer that is judged: fed, it would hide that layer's mistake
            given = {part: outputs[name] for part, name in enumerate(call.parts) if name in outputs}
            arrays |= {f"outputs {number} {layer}|{part}": array for part, array in given.items()}
            calls += bool(given)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    model = model_of(stages.right.arrays("weights").shapes)
    write_atomically(path, save(arrays, {"format": FEED, "of": checksum(left), "for": model}))
    return calls


def is_feed(path: Path) -> bool:
    """Return whether `write_feed` wrote this file."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "np") as file:
            return bool((file.metadata() or {}).get("format") == FEED)
    except (OSError, SafetensorError):
        return False


def checksum(side: Side) -> str:
    """Tell the numbers of a record's layers and gradients from those of another one."""
    digest = hashlib.blake2b()
    for path in (side.path / f"{name}.safetensors" for name in ("layers", "gradients")):
        if path.exists():
            with path.open("rb") as file:
                while block := file.read(READ_AT_ONCE):
                    digest.update(block)
    return digest.hexdigest()
