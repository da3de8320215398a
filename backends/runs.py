"""Begins a run or resumes one, and trains it in a backend's process."""

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from backends import find
from backends.engines import Place, engine_of, place_in_group, telling_who_is_lost
from backends.launch import run_workers
from backends.options import needed
from backends.process.parent import BackendProcess, OnEvent
from backends.process.runtime import Runtime, silence
from backends.translator import Translator
from common import training
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError, RosettaError
from common.load import fewer_threads
from common.material import Material, prepare
from common.run_directory import RunDirectory, refuse_existing
from common.tensors import model_config
from common.weights import ModelState, initial_state


@dataclass(frozen=True)
class Sample:
    """A pair of the corpus, and the model's translation of its source."""

    split: str  # "training" or "validation"
    source: str
    reference: str
    translation: str


@dataclass(frozen=True)
class Trained:
    """A run that was trained, and translations of some of its pairs."""

    run: RunDirectory
    backend: str  # the one that trained it
    samples: list[Sample]


def train(
    backend: str,
    data: DataConfig,
    settings: TrainConfig,
    latent_dim: int,
    dtype: str,
    padding: str,
    epochs: int,
    out: Path,
    runtime: Runtime,
    on_event: OnEvent,
) -> Trained | None:
    """Begin a run in the new folder `out` and train it. Raises CannotBeginError and RosettaError.

    In a group, the first worker writes the run. The others return None.
    """
    find(backend)
    place = place_in_group(backend, os.environ)
    if place.rank == 0:
        refuse_existing(out)
    material, sha256 = prepare(data, settings.seed, dtype, padding)
    model = model_config(material.batch, material.decoder_vocabulary, latent_dim, dtype)
    state = initial_state(model, settings.seed)
    with runtime.start(backend, model, settings, place.variables) as process:
        if place.rank:
            _follow(process, state, 0, material, epochs, place)
            return None
        run = RunDirectory.create(
            out,
            backend,
            (model, settings, data),
            sha256,
            material.pairs,
            (material.encoder_vocabulary, material.decoder_vocabulary),
            state,
        )
        return _fit(process, run, material, epochs, on_event, place)


def resume(
    run: RunDirectory,
    backend: str | None,
    epochs: int,
    runtime: Runtime,
    on_event: OnEvent,
    learning_rate: float | None = None,
) -> Trained | None:
    """Train a run on until it has `epochs` epochs, in `backend` or, where that is None, in the run's own.

    A `learning_rate` becomes the run's own before training goes on. Raises CannotBeginError and RosettaError. In a
    group, the first worker writes the run. The others return None.
    """
    name = backend or run.backend
    find(name)
    place = place_in_group(name, os.environ)
    state, done = _resumable(run, epochs, place)
    material = Material.of_run(run)
    if learning_rate is not None:
        run = replace(run, train_config=replace(run.train_config, learning_rate=learning_rate))
    with runtime.start(name, run.model_config, run.train_config, place.variables) as process:
        if place.rank:
            _follow(process, state, done, material, epochs, place)
            return None
        return _fit(process, run, material, epochs, on_event, place)


def train_in_group(
    backend: str | None,
    workers: int,
    epochs: int,
    out: Path,
    resumes: bool,
    arguments: list[str],
    on_event: OnEvent,
) -> Trained:
    """Train the run in `out` with a group of workers on this machine, each of which is `rosetta` with `arguments`.

    Raises CannotBeginError and RosettaError.
    """
    if resumes:
        run = RunDirectory.open(out)
        _resumable(run, epochs, Place())
        name = backend or run.backend
    else:
        refuse_existing(out)
        name = needed(backend)
    find(name)
    engine_of(name)
    try:
        answer = run_workers(name, workers, arguments, on_event)
    except RosettaError as error:
        if not (out / "config.json").exists():
            raise CannotBeginError(str(error)) from error
        if "--resume" in str(error):
            raise
        raise RosettaError(f"{error}; {RunDirectory.open(out).kept(epochs, backend, workers)}") from error
    return Trained(RunDirectory.open(out), name, [Sample(**sample) for sample in answer["samples"]])


def _resumable(run: RunDirectory, epochs: int, place: Place) -> tuple[ModelState, int]:
    """The state that a run goes on from, and its epoch. Raises CannotBeginError where there is nothing to do."""
    # Asked here too, so that no process is started if another one trains this run.
    with run.only_writer() if place.rank == 0 else nullcontext():
        state, last = run.read_state("last")
    if last.epoch >= epochs:
        raise CannotBeginError(f"{run.path} has {last.epoch} epochs already; --epochs is the total to reach")
    return state, last.epoch


def _follow(
    process: BackendProcess, state: ModelState, done: int, material: Material, epochs: int, place: Place
) -> None:
    """Train along as another worker than the first."""
    with telling_who_is_lost(process.name, place):
        process.listening(silence=silence(len(material.pairs))).call(
            training.follow,
            state=state,
            done=done,
            epochs=epochs,
            corpus=material.batch,
            training_rows=material.training_rows,
            validation_rows=material.validation_rows,
        )


def _fit(
    process: BackendProcess, run: RunDirectory, material: Material, epochs: int, on_event: OnEvent, place: Place
) -> Trained:
    # In a group the other workers are programs that use the machine, too, and rightly so.
    if place.size == 1 and (advice := fewer_threads(process.facts.threads, process.pid)):
        on_event({"warning": advice})
    with telling_who_is_lost(process.name, place):
        process.listening(on_event, silence(len(material.pairs))).call(
            training.fit,
            run=str(run.path.resolve()),
            learning_rate=run.train_config.learning_rate,
            epochs=epochs,
            corpus=material.batch,
            training_rows=material.training_rows,
            validation_rows=material.validation_rows,
        )
    return Trained(run, process.name, _samples(Translator(process, material), on_event))


def _samples(translator: Translator, on_event: OnEvent) -> list[Sample]:
    """Ten training pairs and ten validation pairs with their translations, which the example shows at its end."""
    material = translator.material
    chosen = [("training", row) for row in material.training_rows[:10]]
    chosen += [("validation", row) for row in material.validation_rows[:10]]
    pairs = [material.pairs[row] for _, row in chosen]
    translations = translator([source for source, _ in pairs], on_event=on_event)
    return [
        Sample(side, source, target, translation)
        for (side, _), (source, target), translation in zip(chosen, pairs, translations, strict=True)
    ]
