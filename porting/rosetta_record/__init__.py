"""Writes down how a model computes, so that the same model
in another framework can be compared with it.

The record is a folder of safetensors and JSON: inputs, weights, what each layer was given and gave,
loss, gradients, weights after a step, losses of steps. Names, layouts and settings are the
framework's own, and `rosetta-diff LEFT RIGHT`, which needs no framework, understands them. This
folder needs NumPy and safetensors and may be copied into any project. It imports no framework: it
works with what it is handed, of PyTorch, Paddle, Keras 3 or Flax NNX.

    from rosetta_record import Record

    record = Record("torch-side")
    record.inputs(ids=ids, targets=targets)
    record.model(model)              # before the forward pass: its weights, and from now on its
                                     layers' outputs logits = model(ids)
    record.forward(logits=logits)
    loss = loss_of(logits, targets)
    record.loss(loss)
    loss.backward()
    record.gradients(model)
    optimizer.step()
    record.optimizer(optimizer)      # after the step: its settings
    record.step(1, loss)             # the model's weights after it

`record.training(...)` does all this at once, and the docstrings of Record have the rest.
`take_turns(step)`, of the file rosetta_turns.py, has a script raced against others, by `rosetta
race`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rosetta_turns import take_turns

    from .record import Record, tap

__all__ = ["Record", "RecordError", "take_turns", "tap"]

MODULES = {"Record": ".record", "tap": ".record", "take_turns": "rosetta_turns"}


class RecordError(Exception):
    """Something cannot be recorded. The message is one line:
    what was found, what was expected, what to try."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name], __name__), name)
