"""Functions that a command calls in a backend's process: loading a run, training, evaluating, decoding, native files.

Each takes the open backend, a function that emits events, and keyword arguments that can cross between processes.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import inf, log
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.answers import Answer, Candidate, Choice, Position
from common.errors import CannotBeginError, RosettaError, refusing, why
from common.files import sync
from common.run import Epoch, RunDirectory
from common.tensors import STOP, Array, Batch, Batches, CharVocabulary, Ids, epoch_batches
from common.text import printable, quoted
from common.weights import ModelState, in_dtype, initial_state

if TYPE_CHECKING:  # the parent imports this module for the names of its functions
    from backends.interface import Backend, BackendFacts, Emit, Metrics

ROWS_AT_ONCE = 512  # rows that are decoded in one loop; bounds the memory, and the time between two events
MORE = 1 << 20  # bytes, written to learn why torch could write no more
# A batch's loss has grown past any sense if it is this many times that of a uniform guess among all characters. Of
# twelve trainings (24 to 128 units, rates from 0.01 to a million), seven stayed below 6 times and were back near a
# uniform guess or below it in the end; five reached 24 times and more, and were still above 10 times in the end.
GROWN = 20.0


def facts(backend: Backend, emit: Emit, *, import_seconds: float, build_seconds: float) -> BackendFacts:
    """What the backend and its process say about themselves, and how long its opening took."""
    import psutil  # like threadpoolctl not needed to train or translate
    from threadpoolctl import threadpool_info

    from backends.interface import BackendFacts

    described = backend.profiling().describe()
    described["settings"]["decoder"] = backend.decoder
    # The libraries for matrices and threads, with those that what `describe` computes has loaded.
    pools = {(pool["internal_api"], pool["version"], pool.get("architecture")) for pool in threadpool_info()}
    return BackendFacts(
        **described,
        import_seconds=import_seconds,
        build_seconds=build_seconds,
        python=printable(sys.executable),
        python_version=platform.python_version(),
        libraries=sorted(" ".join(str(part) for part in pool if part) for pool in pools),
        os_threads=psutil.Process().num_threads(),
    )


def load_run(backend: Backend, emit: Emit, *, run: Path, weights: str) -> None:
    """Load the `last` or `best` weights of a run. Raises CannotBeginError for those that training begins with."""
    directory = RunDirectory.open(run)
    state, progress = directory.read_state(weights, backend.config.dtype)
    if not progress.epoch:  # a run that `convert` made has no epochs either, and is trained
        untrained = in_dtype(initial_state(directory.model_config, directory.train_config.seed), backend.config.dtype)
        if all(np.array_equal(state.weights[name], weight) for name, weight in untrained.weights.items()):
            raise CannotBeginError(
                f"{run} has 0 epochs, so its weights are random; train it first: rosetta train --out {quoted(run)} "
                "--resume --epochs TOTAL"
            )
    backend.load(state)


def translate(
    backend: Backend,
    emit: Emit,
    *,
    texts: Sequence[str],
    encoder_characters: str,
    decoder_characters: str,
    width: int,
    max_length: int,
    beam: int | None = None,
    alone: bool = False,
    choices: int = 0,
) -> list[Answer]:
    """Translate texts; return an answer to each, with the `beam` best candidates or, if None, the greedy one.

    The vocabularies are those of `encoder_characters`, in which the texts are written, and `decoder_characters`. A
    text is padded to `width`, as in training; it would translate differently if it were padded further. A longer text
    is as wide as itself. `alone` decodes each text by itself, so that its time is its own, and the first text of each
    width once before, so that no time holds what a framework prepares. `choices` is how many of the most probable
    characters an answer has at each position.

    Emits `translated`, the number of texts that are done, of all `sentences`.
    """
    encoder, decoder = CharVocabulary([encoder_characters]), CharVocabulary([decoder_characters])
    answers: dict[int, Answer] = {}
    rows_of_width: dict[int, list[int]] = {}
    for row, text in enumerate(texts):
        if text.strip():
            rows_of_width.setdefault(max(len(text), width), []).append(row)
    at_once = 1 if alone else max(1, ROWS_AT_ONCE // (beam or 1))
    for rows in rows_of_width.values():
        pieces = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        warmup = pieces[:1] if alone else []
        for piece in [*warmup, *pieces]:
            ids, lengths = encoder.encode([texts[row] for row in piece], width)
            found = _decoded(backend, ids, lengths, decoder, max_length, beam, choices)
            answers |= zip(piece, found, strict=True)
            emit(translated=len(answers), sentences=len(texts))
    of_blank = Answer((Candidate("", 0.0),))
    return [answers.get(row, of_blank) for row in range(len(texts))]


def _decoded(
    backend: Backend,
    encoder_ids: Ids,
    encoder_lengths: Ids,
    vocabulary: CharVocabulary,
    max_length: int,
    beam: int | None,
    choices: int,
) -> Iterator[Answer]:
    """Decode these rows at once; see `translate`. The vocabulary is the decoder's."""
    begun, sources = perf_counter(), (encoder_ids, encoder_lengths)
    if beam is None:
        ids = backend.translate(*sources, max_length)[:, None]  # (N, 1, L)
        scores: Sequence[Sequence[float | None]] = [[None]] * len(ids)
    else:
        from backends.interface import BeamSearch

        search = BeamSearch(len(encoder_ids), backend.config, max_length, beam)
        backend.beam_search(*sources, search)
        ids, scores = search.ids, search.scores.tolist()  # (N, beam, L), (N, beam)
    milliseconds = 1000 * (perf_counter() - begun)
    found = probabilities(backend, *sources, ids[:, 0]) if choices else None
    for row, (of_row, scores_of_row) in enumerate(zip(ids, scores, strict=True)):
        scored = zip(map(vocabulary.text_of, of_row), scores_of_row, strict=True)
        candidates = tuple(Candidate(text, score) for text, score in scored if score != -inf)
        best = candidates[0].translation
        ended = len(best) < max_length
        characters = () if found is None else _positions(best + STOP * ended, found[row], vocabulary, choices)
        yield Answer(candidates, milliseconds, ended, characters)


def _positions(text: str, of_each: Array, vocabulary: CharVocabulary, choices: int) -> tuple[Position, ...]:
    """The characters of a text with the probabilities (L, V_dec) of all at each position."""
    positions = []
    for character, found in zip(text, of_each, strict=False):
        best = np.argsort(-found, kind="stable")[:choices]
        most_probable = tuple(Choice(vocabulary.characters[n], float(found[n])) for n in best)
        positions.append(Position(character, float(found[vocabulary.id_of[character]]), most_probable))
    return tuple(positions)


def probabilities(backend: Backend, encoder_ids: Ids, encoder_lengths: Ids, decoded_ids: Ids) -> Array:
    """The probabilities (N, L, V_dec) of all characters at each position of decoded_ids (N, L).

    One forward pass computes them. Its decoder reads the decoded characters, as the loop read them one by one.
    """
    starts = np.full((len(decoded_ids), 1), backend.config.start_token)
    batch = Batch.of_ids(backend.config, encoder_ids, encoder_lengths, np.hstack([starts, decoded_ids]))
    return backend.forward(batch).probabilities


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
    """Train on from the run's last state until the run has `epochs` epochs, and write it after each of them.

    The run keeps the learning rate with which the backend was opened, and with each epoch the backend's `name`. Emits
    the events of `train_epoch`, and `epoch_done` with the figures of each epoch. Where training diverges, the run
    keeps the epoch before.

    Raises CannotBeginError if another process is training the run; RosettaError where training diverges, and where an
    epoch cannot be written.
    """
    directory, learning_rate = RunDirectory.open(run), backend.train_config.learning_rate
    try:
        with directory.only_writer():
            checkpoint = directory.begin()
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
            f"{error}. The run keeps epoch {checkpoint.progress.epoch}: go on from there with --resume and a smaller "
            "--learning-rate"
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
    data: TrainingData,
) -> None:
    """Train along in a group whose first worker calls `fit`, from `state` after epoch `done`; write nothing.

    Raises CannotBeginError if the first worker goes on from another state.
    """
    _begin_alike(backend, state, done, epochs, data)
    with suppress(DivergedError):  # which the first worker reports
        for number in range(done + 1, epochs + 1):
            train_epoch(backend, emit, data, number)


def _begin_alike(backend: Backend, state: ModelState, done: int, epochs: int, data: TrainingData) -> None:
    """Load `state`. In a group, raises CannotBeginError unless all workers begin with the same state and settings."""
    settings = backend.config, backend.train_config, done, epochs, data.corpus.mean_decoder_length
    arrays = [named[name] for named in (state.weights, state.mean_squares) for name in sorted(named)]
    backend.group.agree(repr(settings).encode(), *(array.tobytes() for array in [*arrays, data.training_rows]))
    backend.load(state)


def train_epoch(backend: Backend, emit: Emit, data: TrainingData, epoch: int) -> tuple[Metrics, Metrics]:
    """Train one epoch, in the batches that the backend's settings ask for, and then validate.

    Emits `epoch`, `step`, `steps` and `loss` while it trains. Raises DivergedError, and stops early for it, where a
    loss is not finite or is more than GROWN times that of a uniform guess.
    """
    settings = backend.train_config
    training = epoch_batches(data.corpus, data.training_rows, settings, epoch)
    validation = Batches(data.corpus, data.validation_rows, settings.batch_size)
    most = GROWN * log(backend.config.num_decoder_tokens)

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
    # Training stops at a batch's loss by Batch.loss_positions, which may be more than its mean, as in `metrics`.
    if len(beyond) or len(losses) < num_batches:
        number = int(beyond[0]) if len(beyond) else len(losses) - 1
        raise DivergedError(f"the loss was {losses[number]:.3g} in {kind} step {number + 1} of epoch {epoch}")


def evaluate(backend: Backend, emit: Emit, *, batch_size: int, corpus: Batch) -> dict[str, float]:
    """The `loss`, `accuracy` and `accuracy_real` over all rows of a corpus; see Metrics."""
    metrics = backend.evaluate(Batches(corpus, np.arange(len(corpus)), batch_size))
    return {"loss": metrics.loss, "accuracy": metrics.accuracy, "accuracy_real": metrics.accuracy_real}


def save_native(backend: Backend, emit: Emit, *, run: Path, weights: str, folder: Path) -> list[str]:
    """Write the `last` or `best` weights of a run into the new `folder`; returns the names of the files.

    Raises RosettaError where the disk is full.
    """
    state, _ = RunDirectory.open(run).read_state(weights, backend.config.dtype)
    backend.load(state)
    with refusing(f"{folder.parent} cannot be written", "; nothing is kept there", RosettaError):
        try:
            files = backend.save_native(folder)
        except RuntimeError:  # torch's, which does not tell what the system refused; one more write does
            (folder / "more").write_bytes(bytes(MORE))
            raise
        for name in files:
            sync(folder / name)
    return files


def read_native(backend: Backend, emit: Emit, *, paths: Sequence[Path]) -> ModelState:
    """The weights and slots in a framework's own files. Raises RosettaError for files that hold no such state."""
    return backend.read_native(paths)
