"""Training and evaluation of a run, in a backend's process.

Each function takes the open backend, a function that emits events,
and keyword arguments that can cross between processes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.errors import RosettaError, why
from common.run import RunDirectory
from common.tensors import Batch, Batches, epoch_batches
from common.weights import Epoch, ModelState, initial_state

if TYPE_CHECKING:  # commands import this module for the names of its functions
    from backends.interface import Backend, Emit, Metrics

# A batch's loss has grown past any sense if it is this many times that of a uniform guess among all
# characters. Of twelve trainings (24 to 128 units, rates from 0.01 to a million), seven stayed
# below 6 times and were back near a uniform guess or below it in the end; five reached 24 times and
# more, and were still above 10 times in the end.
MOST_GROWTH = 20.0


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The rows of a corpus on which a model trains, and those on which it is validated."""

    corpus: Batch
    training_rows: NDArray[np.integer]
    validation_rows: NDArray[np.integer]


class DivergedError(RosettaError):
    """A batch's loss is not finite, or has grown past any sense."""


def fit(
    backend: Backend,
    emit: Emit,
    *,
    run: Path,
    name: str,
    epochs: int,
    data: TrainingData,
) -> None:
    """Train on from the run's last state until the run has `epochs` epochs,
    and write it after each of them.

    The run keeps the learning rate with which the backend was opened, and with each epoch the
    backend's `name`. Emits the events of `train_epoch`, and `epoch_done` with the figures of each
    epoch. Where training diverges, the run keeps the epoch before.

    Raises CannotBeginError if another process is training the run; RosettaError where training
    diverges, and where an epoch cannot be written.
    """
    directory, learning_rate = RunDirectory.open(run), backend.train_config.learning_rate
    try:
        with directory.only_writer():
            checkpoint = directory.read()
            backend.read_characters(directory)
            _begin_alike(backend, checkpoint.state, checkpoint.progress.epoch, epochs, data)
            if learning_rate != directory.train_config.learning_rate:
                directory = directory.with_learning_rate(learning_rate)
            for number in range(checkpoint.progress.epoch + 1, epochs + 1):
                trained, validated = train_epoch(backend, emit, data, number)
                epoch = Epoch(
                    epoch=number,
                    loss=trained.loss,
                    val_loss=validated.loss,
                    accuracy=trained.accuracy,
                    val_accuracy=validated.accuracy,
                    val_accuracy_real=validated.accuracy_real,
                    seconds=trained.seconds,
                    backend=name,
                )
                checkpoint = checkpoint.after(backend.dump(), len(trained.loss_sums), epoch)
                directory.write(checkpoint)
                emit(epoch_done=asdict(epoch))
    except DivergedError as error:
        raise RosettaError(
            f"{error}. The run keeps epoch {checkpoint.progress.epoch}: go on from there with "
            "--resume and a smaller --learning-rate"
        ) from error
    except OSError as error:
        raise RosettaError(
            f"{error.filename or run} cannot be written: {why(error)}. Mend that first"
        ) from error


def follow(
    backend: Backend, emit: Emit, *, run: Path | None, epochs: int, data: TrainingData
) -> None:
    """Train along in a group whose first worker calls `fit`; write nothing.

    Where the group does not resume a run, `run` is None. Raises CannotBeginError if the first
    worker goes on from another state.
    """
    if run:
        state, progress = RunDirectory.open(run).read_state("last")
        done = progress.epoch
    else:
        state, done = initial_state(backend.config, backend.train_config.seed), 0
    _begin_alike(backend, state, done, epochs, data)
    with suppress(DivergedError):  # which the first worker reports
        for number in range(done + 1, epochs + 1):
            train_epoch(backend, emit, data, number)


def _begin_alike(
    backend: Backend, state: ModelState, done: int, epochs: int, data: TrainingData
) -> None:
    """Load `state`. In a group, raises CannotBeginError unless all workers begin
    with the same state and settings."""
    settings = backend.config, backend.train_config, done, epochs, data.corpus.mean_decoder_length
    arrays = [
        named[name] for named in (state.weights, state.mean_squares) for name in sorted(named)
    ]
    backend.group.agree(
        repr(settings).encode(), *(array.tobytes() for array in [*arrays, data.training_rows])
    )
    backend.load(state)


def train_epoch(
    backend: Backend, emit: Emit, data: TrainingData, epoch: int
) -> tuple[Metrics, Metrics]:
    """Train one epoch, in the batches that the backend's settings ask for, and then validate.

    Emits `epoch`, `step`, `steps` and `loss` while it trains. Raises DivergedError, and stops early
    for it, where a loss is not finite or is more than MOST_GROWTH times that of a uniform guess.
    """
    settings = backend.train_config
    training = epoch_batches(data.corpus, data.training_rows, settings, epoch)
    validation = Batches(data.corpus, data.validation_rows, settings.batch_size)
    most = MOST_GROWTH * log(backend.config.num_decoder_tokens)

    def report(step: int, loss: float) -> bool:
        emit(epoch=epoch, step=step, steps=len(training), loss=loss)
        return not loss <= most

    report(0, float("nan"))
    trained = backend.train(training, report)
    _require_sense("training", epoch, trained, len(training), most)
    validated = backend.evaluate(validation)
    _require_sense("validation", epoch, validated, len(validation), most)
    return trained, validated


def _require_sense(kind: str, epoch: int, metrics: Metrics, num_batches: int, most: float) -> None:
    """Raise DivergedError where the loss of a batch is not finite or more than `most`."""
    losses = metrics.step_losses
    beyond = np.flatnonzero(~(losses <= most))
    # Training stops at a batch's loss by Batch.loss_positions,
    # which may be more than its mean, as in `metrics`.
    if len(beyond) or len(losses) < num_batches:
        number = int(beyond[0]) if len(beyond) else len(losses) - 1
        raise DivergedError(
            f"the loss was {losses[number]:.3g} in {kind} step {number + 1} of epoch {epoch}"
        )


def evaluate_corpus(
    backend: Backend, emit: Emit, *, batch_size: int, corpus: Batch
) -> dict[str, float]:
    """The `loss`, `accuracy` and `accuracy_real` over all rows of a corpus; see Metrics."""
    metrics = backend.evaluate(Batches(corpus, np.arange(len(corpus)), batch_size))
    return {
        "loss": metrics.loss,
        "accuracy": metrics.accuracy,
        "accuracy_real": metrics.accuracy_real,
    }
