"""What is measured, each scenario written once against the interface; runs in the backend's process."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.decoding import Emit
from common.interface import Backend
from common.tensors import Batch, Batches
from common.training import train_epoch
from common.weights import initial_state


def train(
    backend: Backend,
    emit: Emit,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    training_rows: NDArray[np.integer],
    validation_rows: NDArray[np.integer],
    **corpus: Any,
) -> Mapping[str, Any]:
    """Train from the seed's weights; `epochs` is a list of each one's seconds and figures."""
    backend.load(initial_state(backend.config, seed))
    validation = Batches(Batch(**corpus), validation_rows, batch_size)
    figures = []
    for epoch in range(1, epochs + 1):
        trained, validated = train_epoch(backend, emit, training_rows, validation, seed, epoch)
        figures.append(
            {
                "seconds": trained.seconds,
                "samples": len(training_rows),
                "loss": trained.loss,
                "val_loss": validated.loss,
                "val_accuracy": validated.accuracy,
                "val_accuracy_real": validated.accuracy_real,
            }
        )
    return {"epochs": figures}


def decode(
    backend: Backend,
    emit: Emit,
    *,
    encoder_ids: NDArray[np.integer],
    encoder_lengths: NDArray[np.integer],
    max_length: int,
    warm_up_rows: int,
) -> Mapping[str, Any]:
    """Decode all rows in one call, after a warm-up call: `ids` (N, L) and `seconds`."""
    backend.translate(encoder_ids[:warm_up_rows], encoder_lengths[:warm_up_rows], max_length)
    start = perf_counter()
    ids = backend.translate(encoder_ids, encoder_lengths, max_length)
    return {"seconds": perf_counter() - start, "ids": ids}
