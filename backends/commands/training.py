"""Begins a run or resumes one, trains it in a process or in those of a group,
and scores a run's translations."""

import os
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from backends import find
from backends.process import timeout_for, train_in_child
from backends.process.group import ask_each, lost_another, new_group, place_in_group, start_group
from backends.process.parent import BackendProcess, OnEvent, Runtime, Worker
from backends.process.translating import translations
from common.corpus import Material, prepare
from common.errors import CannotBeginError, RosettaError, refusing
from common.machine import cores
from common.run import RunDirectory, refuse_existing
from common.scoring import references, score
from common.settings import DataConfig, ModelConfig, ModelName, Padding, Precision, TrainConfig
from common.tensors import PAD, model_config
from common.text import count, quoted
from common.weights import initial_state

ONE_WORKER = (Worker(),)


@dataclass(frozen=True)
class TrainRequest:
    """A training as it is asked for.

    A run that is resumed keeps the settings with which it was begun, but for its learning rate.
    """

    out: Path  # the run's folder
    backend: str
    epochs: int  # in all, with those before
    data: DataConfig
    training: TrainConfig
    runtime: Runtime
    latent_dim: int = ModelConfig.latent_dim
    dtype: Precision = ModelConfig.dtype
    padding: Padding = ModelConfig.padding
    model: ModelName = ModelConfig.model

    def require_same(self, run: RunDirectory, names: Container[str] | None = None) -> None:
        """Raise CannotBeginError unless a run was begun with the settings of these names,
        by default with all.

        Its learning rate may be another.
        """
        begun = asdict(run.data_config) | asdict(run.train_config) | asdict(run.model_config)
        asked = asdict(self.data) | asdict(self.training)
        asked |= {
            "latent_dim": self.latent_dim,
            "dtype": self.dtype,
            "padding": self.padding,
            "model": self.model,
        }
        del asked["learning_rate"]
        for name, value in asked.items():
            if value != begun[name] and (names is None or name in names):
                raise CannotBeginError(
                    f"{run.path} was begun with --{name.replace('_', '-')} {begun[name]}, and this "
                    f"command has {value}; give what it was begun with, or another --out"
                )


@dataclass(frozen=True)
class Trained:
    """A run that was trained, and translations of some of its pairs."""

    run: RunDirectory
    # Of each pair its `split` ("training" or "validation"), `source`, `reference`, `translation`,
    # and as `exact` if this is one of the source's references; none where the run was whole
    # already.
    samples: list[dict[str, Any]]


def train_run(
    request: TrainRequest,
    on_event: OnEvent,
    run: RunDirectory | None = None,
    group: Sequence[Worker] = ONE_WORKER,
) -> Trained | None:
    """Begin the run `request.out`, or resume `run`, and train it until it has all its epochs.

    `group` are those workers of a group that are here. Each has its share of this machine's cores,
    unless the request has a number of threads. The first worker of all writes the run; without it
    None is returned.

    Raises CannotBeginError and RosettaError; the former for a run that has all its epochs.
    """
    is_first, runtime = group[0].rank == 0, request.runtime
    material, model, training = _prepared(request, run, is_first)
    if (sharing := group[0].on_this_machine) > 1 and not runtime.threads:
        runtime = replace(runtime, threads=max(1, cores() // sharing))
    launch = partial(BackendProcess, request.backend, model, training, runtime)
    with start_group(group, launch, lambda message: on_event({"warning": message})) as processes:
        resumed, written = run.path.resolve() if run else None, run if is_first else None
        if is_first and not run:  # once the backend's process is open
            configs, state = (model, training, request.data), initial_state(model, training.seed)
            written = RunDirectory.create(request.out, request.backend, configs, material, state)
        epochs, timeout = request.epochs, timeout_for(len(material.pairs))
        data = train_in_child.TrainingData(
            material.batch, material.training_rows, material.validation_rows
        )

        def train_worker(process: BackendProcess) -> None:
            if written and process is processes[0]:
                path, name = written.path.resolve(), request.backend
                process.call(
                    train_in_child.fit,
                    on_event,
                    timeout,
                    run=path,
                    name=name,
                    epochs=epochs,
                    data=data,
                )
            else:
                process.call(
                    train_in_child.follow, None, timeout, run=resumed, epochs=epochs, data=data
                )

        try:
            ask_each(processes, train_worker)
        except CannotBeginError:
            raise
        except RosettaError as error:
            message = str(error)
            if len(group) < group[0].size and lost_another(error):
                message = f"another worker has ended or is out of reach: {message}"
            if written and "--resume" not in message:
                # Of a run that cannot be read either; the first error counts.
                with suppress(RosettaError):
                    message += f"; {how_to_go_on(written, epochs, request.backend, len(group))}"
            raise RosettaError(message) from error
        return Trained(written, _samples(processes[0], material, on_event)) if written else None


def _prepared(
    request: TrainRequest, run: RunDirectory | None, is_first: bool
) -> tuple[Material, ModelConfig, TrainConfig]:
    """Read the data of a new run, or of `run`, which is resumed. Raises as `train_run` does."""
    training = request.training
    if run is None:
        if is_first:
            refuse_existing(request.out)
        material = prepare(request.data, training.seed, request.dtype, request.padding)
        of_corpus = material.batch, material.decoder_vocabulary
        model = model_config(*of_corpus, request.latent_dim, request.dtype, request.model)
        return material, model, training
    _require_writable(run, is_first)
    if (done := len(run.history())) >= request.epochs:
        raise CannotBeginError(
            f"{run.path} has {count(done, 'epoch')} already; --epochs is the total to reach"
        )
    return (
        run.material(),
        run.model_config,
        replace(run.train_config, learning_rate=training.learning_rate),
    )


def is_whole(run: RunDirectory, epochs: int) -> bool:
    """True if a run has all its epochs. Waits for a process
    that was just killed and may still write one.

    Raises CannotBeginError if another process trains the run.
    """
    with run.only_writer():
        return len(run.history()) >= epochs


def _require_writable(run: RunDirectory, is_first: bool) -> None:
    """Raise CannotBeginError if another process trains the run,
    or if the first worker cannot write it.

    Asked before a process is started and an epoch computed. Where a group was killed a moment ago,
    its first worker may still write an epoch; each worker of the next group waits for that before
    it reads.
    """
    with run.only_writer():
        if is_first:
            remedy = "; mend that, or train a copy of the folder"
            with (
                refusing(f"{run.path} cannot be written", remedy),
                TemporaryFile(dir=run.path) as file,
            ):
                file.write(b"1")


def workers_here(request: TrainRequest, run: RunDirectory | None, workers: int) -> list[Worker]:
    """The workers that this program starts: the `workers` of a new group, or the one that the
    environment's variables describe, which trains alone where there are none.

    Raises CannotBeginError for a backend that is missing, and for a group that cannot train: larger
    than a batch, or on GPUs, among other reasons.
    """
    find(request.backend)
    batch_size = (run.train_config if run else request.training).batch_size
    launched = place_in_group(request.backend, os.environ)
    if min(workers, launched.size) > 1:
        raise CannotBeginError(
            f"this is worker {launched.rank} of {launched.size} that another program starts, and "
            f"with --workers {workers} each would start a group of its own; leave --workers out"
        )
    size = max(workers, launched.size)
    if size > 1 and request.runtime.device != "cpu":
        raise CannotBeginError(
            f"--device is {request.runtime.device}, and a group of {size:,} workers trains on CPUs "
            "alone, as GPUs are not tried; leave --device out, or train in one process"
        )
    if size > batch_size:
        raise CannotBeginError(
            f"{size:,} workers share batches of {batch_size:,} rows, and each needs a row; begin a "
            f"run with a larger --batch-size, or give it {batch_size:,} workers or fewer"
        )
    return new_group(request.backend, workers) if workers > 1 else [launched]


def how_to_go_on(
    run: RunDirectory, epochs: int, backend: str | None = None, workers: int = 1
) -> str:
    """A sentence on the last epoch kept of `epochs`,
    with the command that goes on in the same way."""
    folder, epoch = quoted(run.path), len(run.history())
    if epoch >= epochs:
        return f"{run.path} is whole. See it with: rosetta evaluate {folder}"
    command = f"rosetta train --out {folder} --resume --epochs {epochs}"
    command += f" --backend {backend}" if backend not in (None, run.backend) else ""
    command += f" --workers {workers}" if workers > 1 else ""
    return f"{run.path} keeps epoch {epoch}. Go on with: {command}"


def score_run(
    process: BackendProcess, run: RunDirectory, limit: int | None, on_event: OnEvent
) -> dict[str, Any]:
    """Scores of a process that has loaded a run,
    over the run's validation rows or the first `limit` of them.

    Each distinct source has one translation, scored against all its references in the corpus.
    """
    material, batch_size = run.material(), run.train_config.batch_size
    rows = material.validation_rows[:limit]
    batch = material.batch.take(rows)
    timeout = timeout_for(len(batch))
    on_event({"doing": "computing loss and accuracy"})
    figures = process.call(
        train_in_child.evaluate_corpus, None, timeout, batch_size=batch_size, corpus=batch
    )
    is_space = batch.decoder_target_ids == material.decoder_vocabulary.id_of[PAD]
    always_space = (is_space * batch.target_weights).sum() / batch.target_weights.sum()
    sources = list(dict.fromkeys(material.pairs[row][0] for row in rows))
    scores = score(
        translations(process, sources, on_event), list(references(material.pairs, sources).values())
    )
    return {**figures, "accuracy_always_space": float(always_space), "rows": len(rows)} | scores


def _samples(
    process: BackendProcess, material: Material, on_event: OnEvent
) -> list[dict[str, Any]]:
    """Ten training pairs and ten validation pairs with their translations,
    which the example shows at its end."""
    chosen = [("training", row) for row in material.training_rows[:10]]
    chosen += [("validation", row) for row in material.validation_rows[:10]]
    pairs = [material.pairs[row] for _, row in chosen]
    sources = [source for source, _ in pairs]
    translated = translations(process, sources, on_event)
    targets = references(material.pairs, sources)
    names = "split", "source", "reference", "translation", "exact"
    return [
        dict(
            zip(
                names,
                (split, source, target, translation, translation in targets[source]),
                strict=True,
            )
        )
        for (split, _), (source, target), translation in zip(chosen, pairs, translated, strict=True)
    ]
