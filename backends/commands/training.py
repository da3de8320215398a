"""Begins a run or resumes one, trains it in a process or in those of a group, and scores a run's translations."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from backends import find
from backends.process import in_child
from backends.process.group import ask_each, lost_another, new_group, place_in_group, started_group
from backends.process.parent import BackendProcess, OnEvent, Runtime, Worker, timeout_for
from backends.process.translating import Translator
from common.corpus import Material, prepare
from common.errors import CannotBeginError, RosettaError, refusing
from common.machine import cores
from common.run import RunDirectory, refuse_existing
from common.scoring import references, score
from common.settings import DataConfig, ModelConfig, Padding, Precision, TrainConfig
from common.tensors import PAD, model_config
from common.text import count
from common.weights import ModelState, initial_state

ONE_WORKER = (Worker(),)


@dataclass(frozen=True)
class Trained:
    """A run that was trained, and translations of some of its pairs."""

    run: RunDirectory
    # Of each pair its `split` ("training" or "validation"), `source`, `reference` and `translation`; none where the
    # run was whole already.
    samples: list[dict[str, str]]


def train(
    backend: str,
    data: DataConfig,
    settings: TrainConfig,
    latent_dim: int,
    dtype: Precision,
    padding: Padding,
    epochs: int,
    out: Path,
    runtime: Runtime,
    on_event: OnEvent,
    group: Sequence[Worker] = ONE_WORKER,
) -> Trained | None:
    """Begin a run in the new folder `out` and train it. Raises CannotBeginError and RosettaError.

    `group` are those workers of a group that are here. The first worker of all writes the run; without it None is
    returned.
    """
    if group[0].rank == 0:
        refuse_existing(out)
    material, sha256 = prepare(data, settings.seed, dtype, padding)
    model = model_config(material.batch, material.decoder_vocabulary, latent_dim, dtype)
    state = initial_state(model, settings.seed)
    configs, vocabularies = (model, settings, data), (material.encoder_vocabulary, material.decoder_vocabulary)

    def create() -> RunDirectory:
        return RunDirectory.create(out, backend, configs, sha256, material.pairs, vocabularies, state)

    return _train(group, runtime, backend, model, settings, create, state, 0, material, epochs, on_event)


def resume(
    run: RunDirectory,
    backend: str | None,
    epochs: int,
    runtime: Runtime,
    on_event: OnEvent,
    learning_rate: float | None = None,
    group: Sequence[Worker] = ONE_WORKER,
    may_be_whole: bool = False,
) -> Trained | None:
    """Train a run on until it has `epochs` epochs, in `backend` or, where that is None, in the run's own.

    A `learning_rate` becomes the run's own before training goes on. See `train` for groups. Raises CannotBeginError
    and RosettaError; the former for a run that has all its epochs, unless it `may_be_whole`.
    """
    name = backend or run.backend
    # Asked here too, so that no process is started if another one trains this run. Where a group was killed a moment
    # ago, its first worker may still write an epoch; each worker of the next group waits for that before it reads.
    with run.only_writer():
        if group[0].rank == 0:  # nor is an epoch computed that cannot be written
            remedy = "; mend that, or train a copy of the folder"
            with refusing(f"{run.path} cannot be written", remedy), TemporaryFile(dir=run.path) as file:
                file.write(b"1")
    state, last = run.read_state("last")
    if last.epoch >= epochs and may_be_whole:
        return Trained(run, []) if group[0].rank == 0 else None
    if last.epoch >= epochs:
        raise CannotBeginError(f"{run.path} has {count(last.epoch, 'epoch')} already; --epochs is the total to reach")
    material = Material.of_run(run)
    if learning_rate is not None:
        run = replace(run, train_config=replace(run.train_config, learning_rate=learning_rate))
    model, settings = run.model_config, run.train_config
    return _train(group, runtime, name, model, settings, lambda: run, state, last.epoch, material, epochs, on_event)


def require_same_settings(run: RunDirectory, asked: Mapping[str, Any]) -> None:
    """Raise CannotBeginError unless a run was begun with these settings; its learning rate may be another."""
    begun = asdict(run.data_config) | asdict(run.train_config) | asdict(run.model_config)
    for name, value in asked.items():
        if name != "learning_rate" and value != begun[name]:
            raise CannotBeginError(
                f"{run.path} was begun with --{name.replace('_', '-')} {begun[name]}, and this command has {value}; "
                "give what it was begun with, or another --out"
            )


def workers_here(backend: str, workers: int, batch_size: int, runtime: Runtime) -> list[Worker]:
    """The workers that this program starts: all of a new group, or the one that the environment's variables describe,
    which trains alone where there are none.

    Raises CannotBeginError for a backend that is missing, and for a group that cannot train: larger than a batch, or
    on GPUs, among other reasons.
    """
    find(backend)
    launched = place_in_group(backend, os.environ)
    if min(workers, launched.size) > 1:
        raise CannotBeginError(
            f"this is worker {launched.rank} of {launched.size} that another program starts, and with --workers "
            f"{workers} each would start a group of its own; leave --workers out"
        )
    size = max(workers, launched.size)
    if size > 1 and runtime.device != "cpu":
        raise CannotBeginError(
            f"--device is {runtime.device}, and a group of {size:,} workers trains on CPUs alone, as GPUs "
            "are not tried; leave --device out, or train in one process"
        )
    if size > batch_size:
        raise CannotBeginError(
            f"{size:,} workers share batches of {batch_size:,} rows, and each needs a row; begin a run with a larger "
            f"--batch-size, or give it {batch_size:,} workers or fewer"
        )
    return new_group(backend, workers) if workers > 1 else [launched]


def _train(
    group: Sequence[Worker],
    runtime: Runtime,
    name: str,
    model: ModelConfig,
    settings: TrainConfig,
    writes: Callable[[], RunDirectory],
    state: ModelState,
    done: int,
    material: Material,
    epochs: int,
    on_event: OnEvent,
) -> Trained | None:
    """Train from `state` after epoch `done` with the workers of a group that are here, each in its process.

    Each has its share of this machine's cores, or as many threads as the `runtime` says. The first worker of the
    group writes the run, which is asked for once its process is open; where it is not here, None is returned.
    """
    if (sharing := group[0].on_this_machine) > 1 and not runtime.threads:
        runtime = replace(runtime, threads=max(1, cores() // sharing))
    launch = partial(BackendProcess, name, model, settings, runtime)
    timeout = timeout_for(len(material.pairs))
    data = in_child.TrainingData(material.batch, material.training_rows, material.validation_rows)
    with started_group(group, launch, lambda message: on_event({"warning": message})) as processes:
        run, first = writes() if group[0].rank == 0 else None, processes[0]

        def train_worker(process: BackendProcess) -> None:
            if run is not None and process is first:
                path = run.path.resolve()
                process.call(in_child.fit, on_event, timeout, run=path, name=name, epochs=epochs, data=data)
            else:
                process.call(in_child.follow, None, timeout, state=state, done=done, epochs=epochs, data=data)

        try:
            ask_each(processes, train_worker)
        except CannotBeginError:
            raise
        except RosettaError as error:
            message = str(error)
            if len(group) < group[0].size and lost_another(error):
                message = f"another worker has ended or is out of reach: {message}"
            if run is not None and "--resume" not in message:
                with suppress(RosettaError):  # of a run that cannot be read either; the first error counts
                    message += f"; {run.kept(epochs, name, len(group))}"
            raise RosettaError(message) from error
        return Trained(run, _samples(Translator(first, run), material, on_event)) if run else None


def evaluate(translator: Translator, dtype: Precision | None, limit: int | None, on_event: OnEvent) -> dict[str, Any]:
    """Scores over the validation rows of the translator's run, or the first `limit` of them.

    One translation a distinct source, against all of its references in the corpus.
    """
    material, batch_size = Material.of_run(translator.run, dtype), translator.run.train_config.batch_size
    rows = material.validation_rows[:limit]
    batch = material.batch.take(rows)
    timeout = timeout_for(len(batch))
    on_event({"doing": "computing loss and accuracy"})
    figures = translator.process.call(in_child.evaluate, None, timeout, batch_size=batch_size, corpus=batch)
    is_space = batch.decoder_target_ids == material.decoder_vocabulary.id_of[PAD]
    always_space = (is_space * batch.target_weights).sum() / batch.target_weights.sum()
    sources = list(dict.fromkeys(material.pairs[row][0] for row in rows))
    translations = translator(sources, on_event=on_event)
    scores = score(translations, list(references(material.pairs, sources).values()))
    return {**figures, "accuracy_always_space": float(always_space), "rows": len(rows)} | scores


def _samples(translator: Translator, material: Material, on_event: OnEvent) -> list[dict[str, str]]:
    """Ten training pairs and ten validation pairs with their translations, which the example shows at its end."""
    chosen = [("training", row) for row in material.training_rows[:10]]
    chosen += [("validation", row) for row in material.validation_rows[:10]]
    pairs = [material.pairs[row] for _, row in chosen]
    translations = translator([source for source, _ in pairs], on_event=on_event)
    names = "split", "source", "reference", "translation"
    return [
        dict(zip(names, (split, *pair, translation), strict=True))
        for (split, _), pair, translation in zip(chosen, pairs, translations, strict=True)
    ]
