"""One framework's side of the tests of porting, which does in one process what would need many:
`python -m tests.porting_side FRAMEWORK` reads requests, a line of JSON each, and answers each with a line."""

import importlib
import json
import os
import runpy
import sys
import traceback
from functools import partialmethod
from typing import Any
from unittest.mock import patch

from safetensors.numpy import load_file

import rosetta_record
from rosetta_record import Record

TRAINING = Record.training


def script(folder: str, arguments: list[str], steps: int, control: bool) -> None:
    """Run a script of the guide as if it were the whole program, but for at most so many steps."""
    os.chdir(folder)
    sys.argv = arguments
    sys.path.insert(0, folder)
    try:
        with patch.object(Record, "training", partialmethod(shortened, steps, control)):
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        sys.path.remove(folder)


def shortened(
    record: Record, most: int, control: bool, model: Any, batches: Any, loss_of: Any, optimizer: Any, steps: int = 10
) -> None:
    """Record.training of at most so many steps, without the control if that is not wanted."""
    if callable(optimizer) and not control:
        optimizer = optimizer(rosetta_record.framework_of(model).trained(model))
    TRAINING(record, model, batches, loss_of, optimizer, min(steps, most))


def record(
    program: Any, folder: str, config: dict[str, Any], batches: str, weights: str = "", steps: int = 3
) -> None:
    """Record a model that `config` describes, with the weights of a file, in a training or as it is."""
    arrays = load_file(batches)
    model = program.model_of(config, arrays["ids0"])
    if weights:
        program.load(model, load_file(weights))
    if not steps:
        return Record(folder).model(model)

    def loss_of(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        loss, logits = program.loss_of(model, batch["ids"], batch["targets"], config)
        return loss, {"logits": logits}

    order = config.get("order", [0, 1])
    fed = [{name: arrays[f"{name}{number}"] for name in ("ids", "targets")} for number in order]
    Record(folder).training(model, fed, loss_of, program.optimizer(model, **config["optimizer"]), steps)


def main(framework: str, replies: int) -> None:
    module = importlib.import_module(f"tests.porting_{framework}")
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        answer = ""
        try:
            module.reset()
            script(**request["script"]) if "script" in request else record(module, **request["record"])
        except Exception:  # whatever a script raises is the tests' to tell
            answer = traceback.format_exc()
        os.write(replies, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    own = os.dup(1)
    os.dup2(2, 1)  # frameworks print where the answers go
    main(sys.argv[1], own)
