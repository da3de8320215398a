"""Writes the optimizer of a record of mid-training as another framework's own optimizer loads it: the slots in the
other side's layout and under its names, and the step counter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ladder.arrays import Array
from benchmarks.ladder.carry import check_file, laid_out, write_file
from benchmarks.ladder.explain.facts import steps_differ
from benchmarks.ladder.explain.operators import TWO_BIASES
from benchmarks.ladder.pair.pairing import Pairing
from benchmarks.ladder.read.layouts import KEPT, NEEDED_BY, RATE_IN_MOMENTUM, SAME_SLOTS, SLOTS
from benchmarks.ladder.read.record import Side, UnfitRecordsError
from common.text import count

SUFFIXES = {"torch": (".pt",), "paddle": (".pdopt",), "keras": (".safetensors",)}
LOADING = {
    "torch": "torch.load reads it with weights_only=True, and optimizer.load_state_dict takes it",
    "paddle": "paddle.load reads it, and optimizer.set_state_dict takes it where parameters have the names that they "
    "had in the record, as in a process that makes the same model first",
    "keras": "after optimizer.build(model.trainable_variables), safetensors' load_file reads it, and "
    "optimizer.load_own_variables takes it",
}
RECORDING = "record.model(model) and then record.optimizer(optimizer), and nothing else"


class Optimizer:
    """The optimizer of a record: what it is, and what it keeps of a weight."""

    def __init__(self, side: Side) -> None:
        """Raises UnfitRecordsError for one that is not recorded as it must be, or is of no kind that is carried."""
        if not side.optimizer.keys and side.framework != "flax":
            raise UnfitRecordsError(
                f"{side.name} lacks the optimizer; record it with the present rosetta_record: {RECORDING}"
            )
        self.side, self.says, self.settings = side, side.optimizer, side.optimizer_settings
        self.name = self.says.kind
        if side.optimizer_class not in KEPT:
            known = ", ".join(name for framework, name in KEPT if framework == side.framework) or "another framework"
            raise UnfitRecordsError(f"the optimizer of {side.name} is {self.name}, which is not carried; try {known}")
        if any(key.endswith("|master_weight") for key in side.arrays("slots")) or (
            self.says.settings.get("_multi_precision") and side.says.precision in ("float16", "bfloat16")
        ):
            raise UnfitRecordsError(f"the optimizer of {side.name} keeps master weights, which are not carried")
        self.kind = SAME_SLOTS.get(self.name, self.name)
        self.own = {SLOTS[side.framework][own]: own for own in KEPT[side.optimizer_class].split()}
        always = {slot for slot in self.own if slot not in NEEDED_BY or (self.kind, slot) == ("Adam", "momentum")}
        self.slots = [slot for slot in self.own if slot in always or self.settings.get(NEEDED_BY[slot])]
        parts = {key: (name or "").partition("|")[0] for key, name in self.says.keys.items()}
        self.weights = {key: weight for key, weight in parts.items() if weight}  # by the loader's keys
        if self.slots and not self.weights:
            raise UnfitRecordsError(
                f"the optimizer of {side.name} knows no weights; in Keras call optimizer.build"
                "(model.trainable_variables) before record.optimizer(optimizer)"
            )

    @property
    def rate_is_constant(self) -> bool:
        rate = self.settings.get("learning_rate")
        scheduled = self.side.framework == "paddle" and "_learning_rate" not in self.says.settings
        return isinstance(rate, int | float) and bool(rate) and not scheduled and not self.says.groups

    def slot(self, slots: "Slots", slot: str, weight: str) -> Array:
        """A slot of a weight; zeros, as it begins, where it was not carried."""
        found = slots.get(slot, {}).get(weight)
        return np.zeros_like(self.side.arrays("weights")[weight]) if found is None else found

    def setting(self, name: str) -> float:
        value = self.settings.get(name)
        if not isinstance(value, int | float):
            raise UnfitRecordsError(f"the {name} of {self.side.name} is {value}; expected a number")
        return float(value)


Slots = Mapping[str, Mapping[str, Array]]  # by canonical name, and by the other side's weights


@dataclass(frozen=True)
class OptimizerState:
    """What the file of an optimizer holds."""

    arrays: dict[str, Array]  # by the keys of the framework's loader
    groups: list[dict[str, Any]]  # of torch: settings, and numbers of weights
    remarks: list[str]  # in what the training may part from the left one


@np.errstate(all="ignore")  # what becomes of a record's numbers is asked whether it is finite
def carried_optimizer(pairing: Pairing) -> OptimizerState:
    """The left side's optimizer for that of the right side, whose settings stay. Raises UnfitRecordsError for what
    cannot be carried."""
    left_side, like_side = pairing.sides
    left, like = Optimizer(left_side), Optimizer(like_side)
    if (left.kind, set(left.slots)) != (like.kind, set(like.slots)):
        one, other = (f"{of.name} with {' and '.join(of.slots) or 'no slots'}" for of in (left, like))
        raise UnfitRecordsError(
            f"the optimizer of {left_side.name} is {one}, and that of {like_side.name} is {other}; make both alike, "
            f"with the same {', '.join(NEEDED_BY.values())}"
        )
    if left_side.says.steps or left_side.arrays("gradients"):
        raise UnfitRecordsError(
            f"{left_side.name} has the weights of before a step and the slots of after it; record it in "
            f"mid-training: {RECORDING}"
        )
    for of in (left, like):
        if of.side.optimizer_class in RATE_IN_MOMENTUM and "momentum" in of.slots and not of.rate_is_constant:
            raise UnfitRecordsError(
                f"the momentum of {of.side.name} has the learning rate in it, which is not one number there; only a "
                "constant rate can be taken out of it"
            )
    counter = _counter(left)
    slots = {slot: _laid_out(slot, pairing.require()) for slot in like.slots}
    remarks = list(_remarks(pairing, left, like, slots))
    arrays = ARRAYS[like_side.framework](like, slots, counter)
    return OptimizerState(arrays, _torch_groups(like) if like_side.framework == "torch" else [], remarks)


def _counter(left: Optimizer) -> int:
    """How many steps were taken; 0 where an optimizer does not count them."""
    counters = left.says.counters
    if len(counters) == 1:
        return counters[0]
    if counters:
        raise UnfitRecordsError(
            f"weights of {left.side.name} took {' or '.join(map(str, counters))} steps, and one counter is carried "
            "for all; train all weights from the first step on"
        )
    if left.kind == "Adam":
        raise UnfitRecordsError(
            f"{left.side.name} has no step counter, or so high a one that Paddle's powers of beta are 0; if you know "
            f'it, write it into {left.side.path / "record.json"} as "counters": [100000] of the optimizer'
        )
    return 0


def _laid_out(slot: str, pairing: Pairing) -> dict[str, Array]:
    """A slot of all weights that have it, by the other side's weights."""
    of_left, of_like = pairing.sides
    arrays = {name: of_left.slot(of[slot]) for name, of in of_left.slots.items() if slot in of}
    for name, array in arrays.items():
        if name not in of_left.arrays("weights") or array.shape != of_left.shape(name):
            raise UnfitRecordsError(
                f"{slot} of {name} in {of_left.name} is not of its weight's shape; record it again"
            )
    found = laid_out(pairing.pairs, arrays, lambda name: np.zeros(of_like.shape(name)), are_weights=False)
    weights, factor = of_like.arrays("weights"), of_like.rate_in_momentum if slot == "momentum" else 1.0
    for name, facts in of_like.says.weights.items():  # a tied weight bears the first of its names in the optimizer
        if name in found and facts.tied_to in weights:
            found.setdefault(str(facts.tied_to), found[name])
    return {name: (array * factor).astype(weights[name].dtype, order="C") for name, array in found.items()}


def _remarks(pairing: Pairing, left: Optimizer, like: Optimizer, slots: Slots) -> Iterator[str]:
    """In what the training may part from the left one. Raises UnfitRecordsError for weights that a mapping scales."""
    kept, trained = left.side.slots, dict.fromkeys(like.weights.values())
    for pair in pairing.pairs:
        if pair.entry and pair.entry.times != 1:
            raise UnfitRecordsError(
                f"{pair.name} is {pair.entry.times} times as large in {like.side.name}, and steps of an optimizer "
                "are not; it is carried without --optimizer only"
            )
        for name, tensor in pair.left.tensors.items() if not pair.entry else ():
            number = sum(own in trained for own in pair.right.tensors[name].names)
            if 0 < sum(own in kept for own in tensor.names) != number > 0:
                yield f"{pair.name}: {TWO_BIASES}; freeze the second"
    anew = [name for name in trained if any(name not in of for of in slots.values())]
    if anew:
        yield f"{left.side.name} has no slots of {count(len(anew), 'weight')}, such as {anew[0]}, which begin anew"
    if not left.says.counters and like.side.framework == "keras":
        yield f"{left.side.name} counts no steps, so Keras counts them from 0, which a schedule of rates would see"
    precisions = {left.side.precision, like.side.precision}
    for cause in steps_differ(left.side, like.side, "float64" if precisions == {"float64"} else "float32"):
        yield f"the next steps may part: {cause.line}"


def _for_torch(like: Optimizer, slots: Slots, counter: int) -> dict[str, Array]:
    """Arrays as NUMBER|SLOT. A weight without slots begins anew."""
    arrays: dict[str, Array] = {}
    for number, weight in like.weights.items():
        found = {like.own[slot]: of[weight] for slot, of in slots.items() if weight in of}
        if found and like.kind != "SGD":
            found["step"] = np.array(counter, np.float32)
        arrays |= {f"{number}|{slot}": array for slot, array in found.items()}
    return arrays


def _torch_groups(like: Optimizer) -> list[dict[str, Any]]:
    """The groups' settings, and in order the numbers of their weights."""
    found, first = [], 0
    for group in like.says.groups or [{**like.says.settings, "weights": list(like.says.keys)}]:
        settings = {name: value for name, value in group.items() if name != "weights"}
        of = group.get("weights")
        number = len(of) if isinstance(of, list) else 0
        found.append({**settings, "params": list(range(first, first + number))})
        first += number
    return found


def _for_paddle(like: Optimizer, slots: Slots, counter: int) -> dict[str, Array]:
    """Arrays as PARAMETER_SLOT_0. RMSProp wants all its slots, were they of no use. Adam counts by powers of beta,
    the first of which is beta itself."""
    arrays: dict[str, Array] = {}
    name = like.says.settings.get("_name")
    for parameter, weight in like.weights.items():
        wanted = like.own if like.kind == "RMSprop" else like.slots
        found = {like.own[slot]: like.slot(slots, slot, weight) for slot in wanted}
        for beta in (1, 2) if like.kind == "Adam" else ():
            power = np.float64(like.setting(f"beta_{beta}")) ** (counter + 1)
            found[f"beta{beta}_pow_acc"] = np.full(1, power, found["moment1"].dtype)
        arrays |= {f"{parameter}_{f'{name}_' if name else ''}{slot}_0": array for slot, array in found.items()}
    return arrays


def _for_keras(like: Optimizer, slots: Slots, counter: int) -> dict[str, Array]:
    """Arrays by their numbers among the optimizer's variables."""
    arrays, canonical = {}, {own: slot for slot, own in like.own.items()}
    for number, name in like.says.keys.items():
        weight, _, variable = (name or "").rpartition("|")
        if weight and variable in canonical:
            arrays[number] = like.slot(slots, canonical[variable], weight)
        elif name == "|iteration":
            arrays[number] = np.array(counter)
        elif name == "|learning_rate":
            arrays[number] = np.array(like.setting("learning_rate"))
        else:
            raise UnfitRecordsError(f"the optimizer of {like.side.name} keeps {name}, which is not carried")
    return arrays


ARRAYS = {"torch": _for_torch, "paddle": _for_paddle, "keras": _for_keras}


def check_optimizer_file(
    path: Path, weights: Path, like: Side, state: OptimizerState, overwrite: bool = False
) -> None:
    """Raises UnfitRecordsError where the file cannot be written beside that of the weights."""
    if path.resolve() == weights.resolve():
        raise UnfitRecordsError(f"-o and --optimizer are both {path}; name two files")
    check_file(path, like, SUFFIXES[like.framework], "--optimizer", state.arrays, overwrite)


def write_optimizer(path: Path, like: Side, state: OptimizerState) -> str:
    """Write the file that the other framework's own optimizer loads; returns how."""
    write_file(path, like, state.arrays, state.groups)
    return LOADING[like.framework]
