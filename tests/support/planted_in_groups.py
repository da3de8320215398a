"""Mistakes that training in a group invites, planted in a worker of any framework."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from backends.interface import Backend, Emit
from common.tensors import Batch
from common.weights import ModelState

MISTAKES = ("mean_of_means", "first_shard_twice", "slots_of_its_own")
shard = Batch.shard


def plant(backend: Any, emit: Emit, *, mistake: str) -> None:
    """Have a worker make this mistake, and none that it made before; "" is none."""
    Batch.shard = shard  # type: ignore[method-assign]
    vars(backend).pop("train", None)
    if mistake:
        globals()[mistake](backend)


def mean_of_means(backend: Backend) -> None:
    """Each worker divides its loss by the number of its own rows, so that the rows of a smaller shard weigh more."""

    def divided(batch: Batch, rank: int, size: int) -> Batch:
        taken = shard(batch, rank, size)
        return replace(taken, loss_rows=len(taken) * size)

    Batch.shard = divided  # type: ignore[method-assign]


def first_shard_twice(backend: Backend) -> None:
    """All workers take the first one's rows."""
    Batch.shard = lambda batch, rank, size: shard(batch, 0, size)  # type: ignore[method-assign]


def slots_of_its_own(backend: Any) -> None:
    """Each worker's slots are the mean squares of its own gradients, not of the group's."""
    train, step, rho = backend.train, backend._train_step, backend.train_config.rho

    def own_slots(batch: Any) -> Any:
        with patch.object(backend, "_tensors", lambda tensors: tensors, create=True):  # a step takes tensors
            before, own = backend.dump().mean_squares, backend.gradients(batch)[1]
        result, weights = step(batch), backend.dump().weights
        slots = {name: rho * before[name] + (1 - rho) * own[name] ** 2 for name in before}
        backend.load(ModelState(weights, slots))
        return result

    def train_so(*arguments: Any) -> Any:
        with patch.object(backend, "_train_step", own_slots):
            return train(*arguments)

    backend.train = train_so
