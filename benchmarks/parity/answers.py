"""The arrays that a backend computes for each stage, in its process. Written once for all backends."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.interface import COUNTED, Backend, Emit, Metrics, unreported
from benchmarks.in_child import TENSORS, greedy
from common.tensors import Batch, Batches, max_decoded_length
from common.weights import SLOT_PREFIX, ModelState


def answer(
    backend: Backend,
    emit: Emit,
    *,
    stage: str,
    state: ModelState,
    corpus: Batch,
    rows: NDArray[np.integer],
    batch_size: int,
) -> dict[str, NDArray[Any]]:
    """Load `state` and compute the arrays of a stage, by name, from the rows of the corpus in the order (rows,).

    The stages of training and counting cut the rows into batches; the last one may be smaller.
    """
    backend.load(state)
    batches = Batches(corpus, rows, batch_size)
    if stage == "tensors":
        return {name: getattr(batches.whole(), name) for name in TENSORS}
    if stage == "weights":
        return _named(backend.dump())
    if stage == "forward":
        return dict(vars(backend.forward(batches.whole())))
    if stage == "gradients":
        loss, gradients = backend.gradients(batches.whole())
        return {"loss": np.array([loss]), **gradients}
    if stage == "counts":
        evaluated = backend.evaluate(batches)
        return _counted("evaluate", evaluated) | _counted("train", backend.train(batches, unreported))
    if stage == "strings":
        ids, lengths = (array[rows] for array in (corpus.encoder_ids, corpus.encoder_lengths))
        # As in the example, a text ends once it is longer than the longest target, so one character more comes out.
        longest = max_decoded_length(corpus.decoder_input_ids.shape[1])
        # The last sentence is decoded alone, since a backend may have another loop for a single sentence.
        parts = [part for part in np.split(np.arange(len(rows)), [-1]) if len(part)]
        decoded = [
            greedy(backend, emit, encoder_ids=ids[part], encoder_lengths=lengths[part], max_length=longest)
            for part in parts
        ]
        return {"ids": np.concatenate(decoded)}
    trained = backend.train(batches, lambda step, loss: emit(step=step))
    return {"losses": trained.step_losses, **_named(backend.dump())}


def _named(state: ModelState) -> dict[str, NDArray[Any]]:
    """The weights by their canonical names and the slots by "rmsprop/NAME"."""
    return state.weights | {SLOT_PREFIX + name: slot for name, slot in state.mean_squares.items()}


def _counted(how: str, metrics: Metrics) -> dict[str, NDArray[Any]]:
    """The counts of each batch (batches,), by "train NAME" or "evaluate NAME"."""
    return {f"{how} {name}": getattr(metrics, name) for name in COUNTED}
