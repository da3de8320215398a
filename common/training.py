"""Functions that run in a backend's process and train its model, write the run, or evaluate the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from common.config import TrainConfig
from common.decoding import Emit
from common.errors import RosettaError, why
from common.interface import Backend, Metrics
from common.run_directory import Epoch, RunDirectory
from common.tensors import Batch, Batches, epoch_batches
from common.text import quoted


def load_run(backend: Backend, emit: Emit, *, run: str, weights: str) -> None:
    """Load the `last` or `best` weights of a run."""
    state, _ = RunDirectory.open(run).read_state(weights, backend.config.dtype)
    backend.load(state)


def fit(
    backend: Backend,
    emit: Emit,
    *,
    run: str,
    learning_rate: float,
    epochs: int,
    corpus: Batch,
    training_rows: NDArray[np.integer],
    validation_rows: NDArray[np.integer],
) -> None:
    """Train on from the run's last state until the run has `epochs` epochs, and write it after each of them.

    The run keeps `learning_rate`, with which the backend was opened. Emits the events of `train_epoch`, and
    `epoch_done` with the figures of each epoch. Raises CannotBeginError if another process is training the run, and
    RosettaError with what is kept where an epoch cannot be written.
    """
    directory = RunDirectory.open(run)
    with directory.only_writer(), _keeping(directory, epochs):
        if learning_rate != directory.train_config.learning_rate:
            directory = directory.with_learning_rate(learning_rate)
        settings = directory.train_config
        state, place = directory.begin()
        backend.load(state)
        validation = Batches(corpus, validation_rows, settings.batch_size)
        for epoch in range(place.epoch + 1, epochs + 1):
            trained, validated = train_epoch(backend, emit, training_rows, validation, settings, epoch)
            done = _epoch(epoch, trained, validated)
            place = replace(place, epoch=epoch, step=place.step + len(trained.loss_sums))
            directory.write_epoch(backend.dump(), done, place.step)
            emit(epoch_done=asdict(done))


@contextmanager
def _keeping(run: RunDirectory, epochs: int) -> Iterator[None]:
    """Turn the error of a disk that is full into one that tells what the run keeps and how to go on."""
    try:
        yield
    except OSError as error:
        kept = run.read_state("last")[1].epoch
        raise RosettaError(
            f"{error.filename or run.path} cannot be written: {why(error)}; the run keeps epoch {kept}. When that "
            f"is mended, go on with: rosetta train --out {quoted(run.path)} --resume --epochs {epochs}"
        ) from error


def train_epoch(
    backend: Backend,
    emit: Emit,
    training_rows: NDArray[np.integer],
    validation: Batches,
    settings: TrainConfig,
    epoch: int,
) -> tuple[Metrics, Metrics]:
    """Train one epoch, in the batches that `settings` ask for, and then validate.

    The numbers of training rows are those of the corpus that `validation` has. Emits `epoch`, `step`, `steps` and
    `loss` while it trains. Raises RosettaError when the loss is no longer finite.
    """
    training = epoch_batches(validation.corpus, training_rows, settings, epoch)

    def report(step: int, loss: float) -> None:
        emit(epoch=epoch, step=step, steps=len(training), loss=loss)

    report(0, float("nan"))
    trained = backend.train(training, report)
    _check_finite(trained, epoch)
    validated = backend.evaluate(validation)
    _check_finite(validated, epoch)
    return trained, validated


def evaluate(backend: Backend, emit: Emit, *, batch_size: int, corpus: Batch) -> dict[str, float]:
    """The `loss`, `accuracy` and `accuracy_real` over all rows of a corpus; see Metrics."""
    metrics = backend.evaluate(Batches(corpus, np.arange(len(corpus)), batch_size))
    return {"loss": metrics.loss, "accuracy": metrics.accuracy, "accuracy_real": metrics.accuracy_real}


def _epoch(epoch: int, trained: Metrics, validated: Metrics) -> Epoch:
    return Epoch(
        epoch=epoch,
        loss=trained.loss,
        val_loss=validated.loss,
        accuracy=trained.accuracy,
        val_accuracy=validated.accuracy,
        val_accuracy_real=validated.accuracy_real,
        seconds=trained.seconds,
    )


def _check_finite(metrics: Metrics, epoch: int) -> None:
    broken = np.flatnonzero(~np.isfinite(metrics.loss_sums))
    if len(broken):
        raise RosettaError(
            f"the loss was no longer finite at step {broken[0] + 1} of epoch {epoch}; the run on disk ends with "
            "the epoch before. Try a smaller --learning-rate"
        )
