"""What the programs tests.recorded_FRAMEWORK do: each trains a small tagger, once by itself and twice recorded.

Each leaves in a folder what rosetta_record wrote, and in `expected` what the framework itself had, under the names
that a record has for it. A program is a module with functions of the same names for each framework.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from rosetta_record import Record, RecordError

STEPS = 3
RNG = np.random.default_rng(5)
IDS, TARGETS = RNG.integers(0, 7, (2, 3, 5)), RNG.integers(0, 7, (2, 3, 5))  # two batches (N, T)
BATCHES = [{"ids": ids, "targets": targets} for ids, targets in zip(IDS, TARGETS, strict=True)]

Arrays = dict[str, NDArray[Any]]


def main(program: Any) -> None:
    """All that a program leaves in the folder that is its argument."""
    folder = Path(sys.argv[1])
    program.set_up()
    expected, losses = trained(program)
    record_call_by_call(program, folder / "calls")
    facts: dict[str, Any] = {"losses": losses, "put back": program.record_training(folder / "training")}
    program.record_optimizers(folder)
    model, record = program.small(), Record(folder / "refused")
    facts["step"] = refused(lambda: record.step(1, 0.5))
    record.model(model)
    facts["gradients"] = refused(lambda: record.gradients(model))
    facts["other model"] = refused(lambda: record.gradients(program.small()))
    facts["optimizer"] = refused(lambda: record.optimizer(object()))
    if hasattr(program, "lazy"):
        facts["lazy"] = refused(lambda: Record(folder / "lazy").model(program.lazy()))
    (folder / "expected").mkdir()
    for file, arrays in expected.items():
        contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
        save_file(contiguous, folder / "expected" / f"{file}.safetensors")
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")


def trained(program: Any) -> tuple[dict[str, Arrays], list[float]]:
    """What the framework itself has at each rung, and losses."""
    model, optimizer = program.made()
    expected, losses = {"weights": program.arrays(model)}, []
    for step in range(1, STEPS + 1):
        model.kept = []
        loss, outputs, gradients = program.backward(model, optimizer, BATCHES[(step - 1) % 2])
        if step == 1:
            expected["layers"] = {f"{number}": array for number, array in enumerate(model.kept)}
            expected["outputs"] = {"logits": program.array_of(outputs["logits"])}
            expected["gradients"] = program.gradients_by_name(model, gradients)
        program.update(model, optimizer, gradients)
        losses.append(float(program.array_of(loss)))
        if step == 1:
            expected["slots"] = program.slots_by_name(model, optimizer)
            expected["step-1"] = program.arrays(model)
    return {**expected, "step-last": program.arrays(model)}, losses


def record_call_by_call(program: Any, folder: Path) -> None:
    model, optimizer = program.made()
    record = Record(folder)
    record.inputs(**BATCHES[0])
    record.model(model)
    for step in range(1, STEPS + 1):
        loss, outputs, gradients = program.backward(model, optimizer, BATCHES[(step - 1) % 2])
        if step == 1:
            record.forward(**outputs)
            record.loss(loss)
            record.gradients(model, gradients)
        program.update(model, optimizer, gradients)
        if step == 1:
            record.optimizer(optimizer)
        record.step(step, loss)


def refused(action: Callable[[], Any]) -> str:
    """The line with which a call is refused."""
    try:
        action()
    except RecordError as error:
        return str(error)
    raise AssertionError("it was not refused")
