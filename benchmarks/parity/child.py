"""The questions that the parity ladder asks a backend; these functions run in the backend's own process."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from common import decoding
from common.decoding import Emit
from common.interface import Backend, Forward, Metrics, unreported
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState

TENSORS = ("encoder_input_data", "decoder_input_data", "decoder_target_data", "target_weights")


@dataclass(frozen=True, eq=False)
class Gradients:
    """The loss of a batch and its gradients, as `Backend.gradients` returns them."""

    loss: float
    by_name: Arrays  # one gradient for each weight, by the weight's canonical name


@dataclass(frozen=True, eq=False)
class Steps:
    """The result of some training steps."""

    state: ModelState  # after the last step
    losses: NDArray[np.float64]  # (steps,)


@dataclass(frozen=True, eq=False)
class Counts:
    """What was counted while the same batches were evaluated, and then trained on."""

    evaluate: Metrics
    train: Metrics


def hashes(batch: Batch) -> dict[str, str]:
    """The SHA-256 of the dtype, shape and bytes of each of the batch's tensors, by the tensor's name."""
    found = {}
    for name in TENSORS:
        tensor = getattr(batch, name)
        found[name] = sha256(f"{tensor.dtype} {tensor.shape} ".encode() + tensor.tobytes()).hexdigest()
    return found


def tensors(backend: Backend, emit: Emit, *, batch: Batch) -> dict[str, str]:
    """The hashes of the tensors that this process makes from the batch's ids."""
    return hashes(batch)


def reload(backend: Backend, emit: Emit, *, state: ModelState) -> ModelState:
    """Load `state` into the backend and return what it gives back."""
    backend.load(state)
    return backend.dump()


def forward(backend: Backend, emit: Emit, *, state: ModelState, batch: Batch) -> Forward:
    """The probabilities and the encoder's states for the batch."""
    backend.load(state)
    return backend.forward(batch)


def gradients(backend: Backend, emit: Emit, *, state: ModelState, batch: Batch) -> Gradients:
    """The batch's loss and the gradient of each weight."""
    backend.load(state)
    return Gradients(*backend.gradients(batch))


def steps(
    backend: Backend, emit: Emit, *, state: ModelState, corpus: Batch, order: NDArray[np.integer], batch_size: int
) -> Steps:
    """Train from `state` on the rows of the corpus in the order (rows,); the last batch may be smaller."""
    backend.load(state)
    trained = backend.train(Batches(corpus, order, batch_size), lambda step, loss: emit(step=step))
    return Steps(backend.dump(), trained.step_losses)


def counts(
    backend: Backend, emit: Emit, *, state: ModelState, corpus: Batch, order: NDArray[np.integer], batch_size: int
) -> Counts:
    """Evaluate the rows of the corpus in the order (rows,) with `state`, and train on them from it."""
    backend.load(state)
    batches = Batches(corpus, order, batch_size)
    return Counts(backend.evaluate(batches), backend.train(batches, unreported))


def strings(
    backend: Backend,
    emit: Emit,
    *,
    state: ModelState,
    encoder_ids: NDArray[np.integer],
    encoder_lengths: NDArray[np.integer],
    max_length: int,
) -> NDArray[np.int64]:
    """Ids (N, max_length) that are decoded greedily with the weights of `state`; see `common.decoding.translate`."""
    backend.load(state)
    return decoding.translate(
        backend, emit, encoder_ids=encoder_ids, encoder_lengths=encoder_lengths, max_length=max_length
    )
