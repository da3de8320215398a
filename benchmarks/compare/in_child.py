"""The record of a backend on each rung of the parity ladder; these functions run in the backend's own process."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.process.in_child import search
from common.interface import COUNTED, Backend, Emit, Metrics, unreported
from common.tensors import Batch, Batches, max_decoded_length
from common.weights import SLOT_PREFIX, ModelState

TENSORS = ("encoder_input_data", "decoder_input_data", "decoder_target_data", "target_weights")


def record(
    backend: Backend,
    emit: Emit,
    *,
    rung: str,
    state: ModelState,
    corpus: Batch,
    rows: NDArray[np.integer],
    batch_size: int,
) -> dict[str, NDArray[Any]]:
    """Load `state` and compute what a rung compares, of the rows of the corpus in the order (rows,).

    On the rungs of training and counting they are cut into batches, of which the last one may be smaller.
    """
    backend.load(state)
    batches = Batches(corpus, rows, batch_size)
    if rung == "tensors":
        return {name: getattr(batches.whole(), name) for name in TENSORS}
    if rung == "weights":
        return named_arrays(backend.dump())
    if rung == "forward":
        return dict(vars(backend.forward(batches.whole())))
    if rung == "gradients":
        loss, gradients = backend.gradients(batches.whole())
        return {"loss": np.array([loss]), **gradients}
    if rung == "counts":
        evaluated = backend.evaluate(batches)
        return counted("evaluate", evaluated) | counted("train", backend.train(batches, unreported))
    if rung == "strings":
        ids, lengths = (array[rows] for array in (corpus.encoder_ids, corpus.encoder_lengths))
        # As in the example, a text ends once it is longer than the longest target, so one character more comes out.
        longest = max_decoded_length(corpus.decoder_input_ids.shape[1])
        # The last sentence is decoded alone, since a backend may have another loop for a single sentence.
        parts = [part for part in np.split(np.arange(len(rows)), [-1]) if len(part)]
        decoded = [
            search(backend, emit, encoder_ids=ids[part], encoder_lengths=lengths[part], max_length=longest).ids[:, 0]
            for part in parts
        ]
        return {"ids": np.concatenate(decoded)}
    trained = backend.train(batches, lambda step, loss: emit(step=step))
    return {"losses": trained.step_losses, **named_arrays(backend.dump())}


def named_arrays(state: ModelState) -> dict[str, NDArray[Any]]:
    """The weights by their canonical names and the slots by "rmsprop/NAME"."""
    return state.weights | {SLOT_PREFIX + name: slot for name, slot in state.mean_squares.items()}


def counted(how: str, metrics: Metrics) -> dict[str, NDArray[Any]]:
    """What was counted in each batch (batches,), by "train NAME" or "evaluate NAME"."""
    return {f"{how} {name}": getattr(metrics, name) for name in COUNTED}
