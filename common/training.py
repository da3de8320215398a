"""Functions that run in a backend's process and train its model, write the run, or evaluate the model."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from common.decoding import Emit
from common.errors import RosettaError, why
from common.files import write_atomically
from common.interface import Backend, Metrics
from common.run_directory import Epoch, Progress, RunDirectory
from common.tensors import Batch, Batches, epoch_batches
from common.weights import ModelState

# A batch's loss has grown past any sense if it is this many times that of a uniform guess among all characters. Of
# twelve trainings (24 to 128 units, rates from 0.01 to a million), seven stayed below 6 times and were back near a
# uniform guess or below it in the end; five reached 24 times and more, and were still above 10 times in the end.
GROWN = 20.0


@dataclass(frozen=True)
class Trouble:
    """The batch at which training diverged."""

    epoch: int
    batches: str  # "training" or "validation", of which the batch is one
    number: int  # of the batch, counted from 1
    loss: float  # which is not finite, or has grown past any sense
    rows: list[int]  # of the corpus
    gradients: dict[str, float]  # the largest size of each weight's gradient, the largest of all first


class DivergedError(RosettaError):
    """A loss is not finite, or has grown past any sense."""

    def __init__(self, trouble: Trouble) -> None:
        named = ", ".join(f"{name} {size:.1e}" for name, size in list(trouble.gradients.items())[:3])
        super().__init__(
            f"the loss was {trouble.loss:.3g} in {trouble.batches} step {trouble.number} of epoch {trouble.epoch}, "
            f"where the largest gradients are {named}"
        )
        self.trouble = trouble


def fit(
    backend: Backend,
    emit: Emit,
    *,
    run: Path,
    name: str,
    learning_rate: float,
    epochs: int,
    corpus: Batch,
    training_rows: NDArray[np.integer],
    validation_rows: NDArray[np.integer],
) -> None:
    """Train on from the run's last state until the run has `epochs` epochs, and write it after each of them.

    The run keeps `learning_rate`, with which the backend was opened, and with each epoch the backend's `name`. Emits
    the events of `train_epoch`, and `epoch_done` with the figures of each epoch. Where training diverges, the run
    keeps the epoch before, and its trouble.json says what happened in which pairs.

    Raises CannotBeginError if another process is training the run; RosettaError where training diverges, and where an
    epoch cannot be written.
    """
    directory = RunDirectory.open(run)
    try:
        with directory.only_writer():
            if learning_rate != directory.train_config.learning_rate:
                directory = directory.with_learning_rate(learning_rate)
            state, progress = directory.begin()
            trained_epochs = _epochs(
                backend, emit, state, progress.epoch, epochs, corpus, training_rows, validation_rows
            )
            try:
                for number, state, trained, validated in trained_epochs:
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
                    progress = Progress(progress.step + len(trained.loss_sums), (*progress.history, epoch))
                    directory.write_epoch(state, progress)
                    emit(epoch_done=asdict(epoch))
            except DivergedError as error:
                path = _write_trouble(directory, error.trouble)
                raise RosettaError(
                    f"{error}; {path} has them all and the batch's pairs. The run keeps epoch "
                    f"{error.trouble.epoch - 1}: go on from there with --resume and a smaller --learning-rate"
                ) from error
    except OSError as error:
        raise RosettaError(f"{error.filename or run} cannot be written: {why(error)}. Mend that first") from error


def follow(
    backend: Backend,
    emit: Emit,
    *,
    state: ModelState,
    done: int,
    epochs: int,
    corpus: Batch,
    training_rows: NDArray[np.integer],
    validation_rows: NDArray[np.integer],
) -> None:
    """Train along in a group whose first worker calls `fit`, from `state` after epoch `done`; write nothing.

    Raises CannotBeginError if the first worker goes on from another state.
    """
    with suppress(DivergedError):  # which the first worker reports
        for _ in _epochs(backend, emit, state, done, epochs, corpus, training_rows, validation_rows):
            pass


def _epochs(
    backend: Backend,
    emit: Emit,
    state: ModelState,
    done: int,
    epochs: int,
    corpus: Batch,
    training_rows: NDArray[np.integer],
    validation_rows: NDArray[np.integer],
) -> Iterator[tuple[int, ModelState, Metrics, Metrics]]:
    """Train from `state` after epoch `done`. Gives each epoch's number, the state at its end, and the metrics of
    training and of validation. In a group, raises CannotBeginError unless all workers begin alike."""
    settings = backend.config, backend.train_config, done, epochs, corpus.mean_decoder_length
    arrays = [named[name] for named in (state.weights, state.mean_squares) for name in sorted(named)]
    backend.group.agree(repr(settings).encode(), *(array.tobytes() for array in [*arrays, training_rows]))
    backend.load(state)
    validation = Batches(corpus, validation_rows, backend.train_config.batch_size)
    for epoch in range(done + 1, epochs + 1):
        trained, validated = train_epoch(backend, emit, state, training_rows, validation, epoch)
        state = backend.dump()
        yield epoch, state, trained, validated


def train_epoch(
    backend: Backend,
    emit: Emit,
    state: ModelState,
    training_rows: NDArray[np.integer],
    validation: Batches,
    epoch: int,
) -> tuple[Metrics, Metrics]:
    """Train one epoch, in the batches that the backend's settings ask for, and then validate.

    The numbers of training rows are those of the corpus that `validation` has. `state` is the one that the backend is
    in. Emits `epoch`, `step`, `steps` and `loss` while it trains. Raises DivergedError, and stops early for it, where
    a loss is not finite or more than GROWN times that of a uniform guess.
    """
    training = epoch_batches(validation.corpus, training_rows, backend.train_config, epoch)
    most = GROWN * log(backend.config.num_decoder_tokens)

    def progress(step: int, loss: float) -> None:
        emit(epoch=epoch, step=step, steps=len(training), loss=loss)

    def stops(step: int, loss: float) -> bool:
        progress(step, loss)
        return not loss <= most

    progress(0, float("nan"))
    trained = backend.train(training, stops)
    if (number := _diverging(trained, training, most)) is not None:
        backend.load(state)
        if number:  # repeat the steps before, since gradients are read back in none
            backend.train(training.part(0, number), progress)
        raise DivergedError(_trouble(backend, epoch, "training", training, number, trained))
    validated = backend.evaluate(validation)
    if (number := _diverging(validated, validation, most)) is not None:
        raise DivergedError(_trouble(backend, epoch, "validation", validation, number, validated))
    return trained, validated


def evaluate(backend: Backend, emit: Emit, *, batch_size: int, corpus: Batch) -> dict[str, float]:
    """The `loss`, `accuracy` and `accuracy_real` over all rows of a corpus; see Metrics."""
    metrics = backend.evaluate(Batches(corpus, np.arange(len(corpus)), batch_size))
    return {"loss": metrics.loss, "accuracy": metrics.accuracy, "accuracy_real": metrics.accuracy_real}


def _diverging(metrics: Metrics, batches: Batches, most: float) -> int | None:
    """The number of the first batch, counted from 0, whose loss is not finite or more than `most`; None for none."""
    beyond = np.flatnonzero(~(metrics.step_losses <= most))
    if len(beyond):
        return int(beyond[0])
    # Training stops at a batch's loss by Batch.loss_positions, which may be more than its mean, as in `metrics`.
    done = len(metrics.step_losses)
    return done - 1 if done < len(batches) else None


def _trouble(backend: Backend, epoch: int, kind: str, batches: Batches, number: int, metrics: Metrics) -> Trouble:
    """What is to be told of the batch of this number, counted from 0, with the weights that the backend has."""
    part = batches.part(number, number + 1)
    (batch,) = part
    sizes = {name: float(np.abs(gradient).max()) for name, gradient in backend.gradients(batch)[1].items()}
    sizes = dict(sorted(sizes.items(), key=lambda size: -np.nan_to_num(size[1], nan=np.inf)))
    return Trouble(epoch, kind, number + 1, float(metrics.step_losses[number]), part.rows.tolist(), sizes)


def _write_trouble(run: RunDirectory, trouble: Trouble) -> Path:
    """Write trouble.json into the run, with the pairs of the batch. Numbers that are not finite become null."""
    path, pairs = run.path / "trouble.json", run.pairs()
    content = asdict(trouble)
    content["pairs"] = [pairs[row] for row in content.pop("rows")]
    write_atomically(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    return path
