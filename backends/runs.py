"""Begins a run or resumes one, and trains it in a backend's process."""

from dataclasses import dataclass, replace
from pathlib import Path

from backends import find
from backends.process.parent import BackendProcess, OnEvent
from backends.process.runtime import Runtime, silence
from backends.translator import Translator
from common import training
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError
from common.load import fewer_threads
from common.material import Material, prepare
from common.run_directory import RunDirectory, refuse_existing
from common.tensors import model_config
from common.weights import initial_state


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
) -> Trained:
    """Begin a run in the new folder `out` and train it. Raises CannotBeginError and RosettaError."""
    find(backend)
    refuse_existing(out)
    material, sha256 = prepare(data, settings.seed, dtype, padding)
    model = model_config(material.batch, material.decoder_vocabulary, latent_dim, dtype)
    with runtime.start(backend, model, settings) as process:
        run = RunDirectory.create(
            out,
            backend,
            (model, settings, data),
            sha256,
            material.pairs,
            (material.encoder_vocabulary, material.decoder_vocabulary),
            initial_state(model, settings.seed),
        )
        return _fit(process, run, material, epochs, on_event)


def resume(
    run: RunDirectory,
    backend: str | None,
    epochs: int,
    runtime: Runtime,
    on_event: OnEvent,
    learning_rate: float | None = None,
) -> Trained:
    """Train a run on until it has `epochs` epochs, in `backend` or, where that is None, in the run's own.

    A `learning_rate` becomes the run's own before training goes on. Raises CannotBeginError and RosettaError.
    """
    find(backend or run.backend)
    with run.only_writer():  # asked here too, so that no process is started if another one trains this run
        done = run.read_state("last")[1].epoch
    if done >= epochs:
        raise CannotBeginError(f"{run.path} has {done} epochs already; --epochs is the total to reach")
    material = Material.of_run(run)
    if learning_rate is not None:
        run = replace(run, train_config=replace(run.train_config, learning_rate=learning_rate))
    with runtime.start(backend or run.backend, run.model_config, run.train_config) as process:
        return _fit(process, run, material, epochs, on_event)


def _fit(process: BackendProcess, run: RunDirectory, material: Material, epochs: int, on_event: OnEvent) -> Trained:
    if advice := fewer_threads(process.facts.threads, process.pid):
        on_event({"warning": advice})
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
