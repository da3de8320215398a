"""Runs: trained by each backend, translated by every other, gone on with, interrupted."""

import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import TABLE, numpy_model
from backends.commands import training
from backends.commands.training import TrainRequest, train_run
from backends.interface import Backend
from backends.process import train_in_child, translating
from backends.process.parent import BackendProcess, Runtime
from backends.process.translate_in_child import load_run
from backends.process.translating import launch, translations
from common.corpus import prepare
from common.errors import CannotBeginError, RosettaError
from common.models import MODELS
from common.run import BUNDLED_RUN, RunDirectory
from common.settings import DataConfig, ModelConfig, TrainConfig, as_float32
from common.tensors import model_config
from common.weights import initial_state, permute_units
from tests.conftest import AT_LENGTH, FRAMEWORKS
from tests.support.program import started, wait_until
from tests.support.sharing import Processes, Sharing
from tests.support.small_run import same_training

RUNTIME = Runtime(threads=1)  # models this small gain nothing from more
DATA = DataConfig(num_samples=300, split="grouped")
# Small and hasty, so that epochs differ within seconds.
SETTINGS = TrainConfig(batch_size=8, learning_rate=as_float32(4e-3), seed=7)
LATENT_DIM = 32
BACKENDS = ["numpy", *FRAMEWORKS] if AT_LENGTH else ["numpy", "torch"]


def unheard(*event: object, **fields: object) -> None:
    """Events of a training that nobody follows."""


def trained_run(
    backend: str,
    out: Path,
    epochs: int,
    dtype: str = "float32",
    data: DataConfig = DATA,
    train_config: TrainConfig = SETTINGS,
    model: str = ModelConfig.model,
) -> RunDirectory:
    settings = TrainRequest(
        out, backend, epochs, data, train_config, RUNTIME, LATENT_DIM, dtype, model=model
    )
    return train_run(settings, unheard).run


def resume(
    run: RunDirectory, backend: str, epochs: int, learning_rate: float | None = None
) -> RunDirectory:
    if learning_rate is None:
        learning_rate = run.train_config.learning_rate
    train_config = TrainConfig(learning_rate=learning_rate)
    settings = TrainRequest(run.path, backend, epochs, DATA, train_config, RUNTIME)
    return train_run(settings, unheard, run).run


@pytest.fixture
def shared(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has commands take the process that a framework's backends share,
    in place of one of their own."""
    for command in (training, translating):
        monkeypatch.setattr(
            command,
            "BackendProcess",
            lambda name, model, settings, *_, load=None: Sharing(
                name, model, settings, processes, load
            ),
        )


@pytest.fixture(scope="module")
def references() -> dict[str, str]:
    """Sources that the training of the bundled run held out,
    and what the reference makes of them."""
    run = RunDirectory.open(BUNDLED_RUN)
    rows = run.material().validation_rows
    sources = list(dict.fromkeys(run.pairs()[row][0] for row in rows[::80]))
    with launch(run, "last", RUNTIME, "numpy") as process:
        return dict(zip(sources, translations(process, sources), strict=True))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_run_translates_alike_in_all_backends_batched_or_not(
    references: dict[str, str], name: str, shared: None
) -> None:
    sources, run = list(references), RunDirectory.open(BUNDLED_RUN)
    with launch(run, "last", RUNTIME, name) as process:
        # Must not change how the others are padded.
        longest = "e" * (run.max_encoder_seq_length + 5)
        *together, _, of_nothing = translations(process, [*sources, longest, ""])
        alone = [translations(process, [source])[0] for source in sources[:6]]
    assert len(set(references.values())) > 20, "decoding must mean something"
    assert of_nothing == ""
    assert dict(zip(sources, together, strict=True)) == references
    assert alone == together[:6]


def test_a_run_is_loaded_to_translate_without_an_optimizer() -> None:
    run = RunDirectory.open(BUNDLED_RUN)
    backend = Backend(numpy_model, run.model_config, run.train_config)
    load_run(backend, run, "last")
    assert "optimizer" not in vars(backend)
    expected, _ = run.read_state("last")
    for name, weight in backend.weights().items():
        np.testing.assert_array_equal(weight, expected.weights[name])


def assert_resumes(folder: Path, name: str, start: Callable[[ModelConfig], Any]) -> None:
    """Train twice, each time in what `start` gives;
    once end the training in the middle and go on from the disk."""
    material = prepare(replace(DATA, num_samples=80, split="tail"), SETTINGS.seed, "float32")
    config = model_config(material.batch, material.decoder_vocabulary, LATENT_DIM, "float32")
    data = train_in_child.TrainingData(
        material.batch, material.training_rows, material.validation_rows
    )

    def written(out: Path, totals: list[int]) -> RunDirectory:
        state = initial_state(config, SETTINGS.seed)
        run = RunDirectory.create(out, name, (config, SETTINGS, DATA), material, state)
        with start(config) as process:
            for epochs in totals:
                process.call(train_in_child.fit, run=out, name=name, data=data, epochs=epochs)
        return run

    whole, stopped = written(folder / "whole", [2]), written(folder / "stopped", [1, 2])
    assert same_training(stopped) == same_training(whole)
    assert [epoch.backend for epoch in whole.history()] == [name] * 2


@pytest.mark.parametrize("name", BACKENDS)
def test_resumed_equals_uninterrupted_to_the_bit(
    tmp_path: Path, name: str, processes: Processes
) -> None:
    once = cache(lambda config: Sharing(name, config, SETTINGS, processes))
    assert_resumes(tmp_path, name, lambda config: nullcontext(once(config)))


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "numpy"])
def test_processes_of_two_threads_train_to_the_same_bits(tmp_path: Path, name: str) -> None:
    assert_resumes(
        tmp_path, name, lambda config: BackendProcess(name, config, SETTINGS, Runtime(threads=2))
    )


def test_a_new_learning_rate_becomes_the_runs_own(tmp_path) -> None:
    run = trained_run("numpy", tmp_path / "run", 1)
    begun, weights = (run.path / "config.json").read_bytes(), run.read_state("last")[0].weights
    for backend, total, why in (
        ("numpy", 1, "has 1 epoch already"),
        ("mxnet", 2, "no backend 'mxnet'"),
    ):
        with pytest.raises(CannotBeginError, match=why):
            resume(run, backend, total, 0.5)
    assert (run.path / "config.json").read_bytes() == begun, "a rate that is not used is not kept"
    resume(run, "numpy", 2, 0.0)
    resume(RunDirectory.open(run.path), "numpy", 3)  # as after a kill
    assert RunDirectory.open(run.path).train_config == replace(SETTINGS, learning_rate=0.0)
    state, last = run.read_state("last")
    assert last.epoch == 3
    for name, weight in weights.items():
        np.testing.assert_array_equal(state.weights[name], weight, strict=True)


@pytest.mark.parametrize(
    ("dtype", "rate", "loss"), [("float64", 1e3, r"\d.*"), ("float32", 1e38, "nan")]
)
def test_a_diverging_training_names_its_step_and_keeps_epochs(tmp_path, dtype, rate, loss) -> None:
    run = trained_run("numpy", tmp_path / "run", 1, dtype)
    kept = (run.path / "state.safetensors").read_bytes()
    said = (
        rf"the loss was {loss} in training step [1-9]\d? of epoch 2\. The run keeps epoch 1: go on "
        r"from there with"
    )
    with pytest.raises(RosettaError, match=said):
        resume(run, "numpy", 3, rate)
    assert (run.path / "state.safetensors").read_bytes() == kept
    # And on from there, as if nothing had happened.
    resume(run, "numpy", 2, SETTINGS.learning_rate)
    assert same_training(run) == same_training(trained_run("numpy", tmp_path / "whole", 2, dtype))


def test_weights_that_an_epochs_last_step_ruined_are_not_kept(tmp_path) -> None:
    """Its batches had sensible losses, and the validation has none."""
    settings = replace(SETTINGS, batch_size=300, learning_rate=1e3)
    with pytest.raises(
        RosettaError,
        match=r"in validation step 1 of epoch 1\. The run keeps epoch "
        r"0",
    ):
        trained_run("numpy", tmp_path / "run", 1, train_config=settings)
    run = RunDirectory.open(tmp_path / "run")
    assert run.read_state("last")[1].epoch == 0


@pytest.mark.parametrize("model", MODELS)
def test_a_relay_of_all_frameworks_is_one_run(
    tmp_path, shared: None, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Begun in one and gone on with in others, it is the reference's run,
    at the example's settings but its size.

    Its losses differ by no more than ten times what the reference's do with its units in other
    orders. With torch alone where time is short; tests of parity have each framework go on with the
    reference's training.
    """
    # For which JAX would compile many shapes.
    monkeypatch.setattr(training, "_samples", lambda *_: [])
    data, settings = replace(DATA, num_samples=640 if AT_LENGTH else 240), TrainConfig(seed=7)
    first, *later = order = (
        ["torch", "paddle", "keras", "jax", "numpy"] if AT_LENGTH else ["torch", "numpy"]
    )
    run = trained_run(
        first, tmp_path / "relay", 2, "float64", data, train_config=settings, model=model
    )
    for turn, backend in enumerate(later, 2):
        resume(run, backend, 2 * turn)
    assert [epoch.backend for epoch in run.history()] == [
        backend for backend in order for _ in range(2)
    ]
    material, config = run.material(), run.model_config
    rows = train_in_child.TrainingData(
        material.batch, material.training_rows, material.validation_rows
    )
    fresh, rng = initial_state(config, settings.seed), np.random.default_rng(1)
    orders = [np.arange(LATENT_DIM), *(rng.permutation(LATENT_DIM) for _ in range(3))]
    losses = []  # of each epoch, by the order of units
    for units in orders:
        reference = Backend(import_module(TABLE["numpy"].file_of(model)), config, settings)
        reference.load(permute_units(fresh, config, units))
        epochs = [
            train_in_child.train_epoch(reference, unheard, rows, epoch.epoch)
            for epoch in run.history()
        ]
        losses.append([[trained.loss, validated.loss] for trained, validated in epochs])
    expected, *permuted = np.array(losses)
    bound = 10 * max(np.abs(np.array(permuted) / expected - 1).max(), np.finfo(np.float64).eps)
    assert bound < 1e-11
    relayed = np.array([[epoch.loss, epoch.val_loss] for epoch in run.history()])
    assert np.abs(relayed / expected - 1).max() <= bound


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "a kill"])
def test_a_run_that_was_ended_resumes_to_the_same_bits(tmp_path, number: int) -> None:
    """Its batches are bucketed."""
    run = tmp_path / "run"
    sizes = (
        "--backend numpy --num-samples 300 --latent-dim 16 --split grouped --batches bucketed "
        "--padding mask"
    )
    process = started("train", "--out", run, "--epochs", 100_000, "--threads", 1, *sizes.split())
    begun = lambda: (run / "config.json").exists() and len(RunDirectory.open(run).history()) >= 2  # noqa: E731
    wait_until(lambda: process.poll() is not None or begun())
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -number), said
    kept = RunDirectory.open(run).read_state("last")[1].epoch
    assert kept >= 1
    assert (f"keeps epoch {kept}. Go on with: rosetta train --out {run} --resume" in said) == (
        number == signal.SIGINT
    )
    assert "Traceback" not in said
    total = kept + 2
    resumed = resume(RunDirectory.open(run), "numpy", total)
    bucketed = TrainConfig(batches="bucketed")
    settings = TrainRequest(
        tmp_path / "whole", "numpy", total, DATA, bucketed, RUNTIME, 16, padding="mask"
    )
    whole = train_run(settings, unheard)
    first, *_, last = resumed.history()
    assert (last.epoch, resumed.train_config) == (total, bucketed)
    assert last.loss < first.loss
    assert same_training(resumed) == same_training(whole.run)
