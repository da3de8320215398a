"""Runs: trained by each backend, translated by every other, gone on with, killed, interrupted."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from backends.commands.training import resume, train
from backends.commands.translating import Opener
from backends.numpy_backend import NumpyBackend
from backends.process import in_child
from backends.process.in_child import GROWN
from backends.process.parent import Runtime
from benchmarks.compare.bounds import NEAR_TIE
from benchmarks.compare.course import first_margin
from common.config import DataConfig, TrainConfig, as_float32
from common.errors import CannotBeginError, RosettaError
from common.interface import unreported
from common.material import Material, prepare
from common.run_directory import RunDirectory
from common.tensors import STOP, epoch_batches, model_config
from common.weights import initial_state
from tests.conftest import FRAMEWORKS
from tests.program import refusal, started, wait_until
from tests.small_run import same_training

RUNTIME = Runtime(threads=1)  # models this small gain nothing from more
DATA = DataConfig(num_samples=1200, split="grouped")
# Small and hasty, so that decoding comes to mean something within seconds.
SETTINGS = TrainConfig(batch_size=8, learning_rate=as_float32(4e-3), seed=7)
LATENT_DIM, EPOCHS = 64, 4
BACKENDS = ["numpy", *FRAMEWORKS]


def trained_run(
    backend: str,
    out: Path,
    epochs: int,
    dtype: str = "float32",
    data: DataConfig = DATA,
    padding: str = "space",
    train_config: TrainConfig = SETTINGS,
) -> RunDirectory:
    settings = train_config, LATENT_DIM, dtype, padding, epochs
    return train(backend, data, *settings, out, RUNTIME, lambda event: None).run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, RunDirectory]:
    """One run a backend."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: trained_run(name, folder / name, EPOCHS) for name in BACKENDS}


def test_all_backends_learn(runs) -> None:
    """How near they stay to one another is the ladder's and the relay's; these settings are too hasty for that."""
    for name, run in runs.items():
        history = run.history()
        assert history[-1].loss < history[0].loss / 2, name


def differences(run: RunDirectory, material: Material, sources: Sequence[str], a: Sequence[str], b: Sequence[str]):
    """How many of two lists of translations differ, all of them where the referee itself hardly decides."""
    referee = NumpyBackend(replace(run.model_config, dtype="float64"), TrainConfig())
    referee.load(run.read_state("last", "float64")[0])
    count = 0
    for source, one, other in zip(sources, a, b, strict=True):
        if one != other:
            count += 1
            row = next(row for row, pair in enumerate(material.pairs) if pair[0] == source)
            batch = replace(material.batch.take([row]), dtype="float64")
            ids, _ = material.decoder_vocabulary.encode([one + STOP, other + STOP])
            start_token = run.model_config.start_token
            gap = first_margin(lambda batch: referee.forward(batch).probabilities, batch, start_token, *ids)
            assert gap <= NEAR_TIE["float32"], (
                f"{source!r}: {one!r} and {other!r}; the referee's margin there is {gap:.1e}"
            )
    return count


@pytest.mark.parametrize(("writer", "reader"), list(zip(BACKENDS, BACKENDS[1:] + BACKENDS[:1], strict=True)))
def test_a_run_says_the_same_in_another_backend_in_a_batch_and_alone(runs, writer: str, reader: str) -> None:
    run = runs[writer]
    with Opener(run, "last", None, RUNTIME).open(reader) as translator:
        material = Material.of_run(run)
        sources = list(dict.fromkeys(material.pairs[row][0] for row in material.validation_rows))[:100]
        longest = "e" * (material.max_encoder_seq_length + 5)  # must not change how the others are padded
        *together, _, of_nothing = translator([*sources, longest, ""])
        alone = [translator([source])[0] for source in sources[:60:6]]
    with Opener(run, "last", "float64", RUNTIME).open("numpy") as translator:
        expected = translator(sources)
    assert len(set(expected)) > 5, "decoding must mean something"
    assert of_nothing == ""
    assert differences(run, material, sources, together, expected) <= 1
    assert differences(run, material, sources[:60:6], alone, together[:60:6]) <= 1


# Variants train as others here: torch:compile as torch, keras:jit as keras:fast, whose loops have their own test.
@pytest.mark.parametrize("name", BACKENDS)
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, name) -> None:
    """The same seed and two threads give the same bytes in two processes, one of which ends training in the middle
    and goes on from the disk."""
    material, sha256 = prepare(replace(DATA, num_samples=120), SETTINGS.seed, "float32")
    config = model_config(material.batch, material.decoder_vocabulary, LATENT_DIM, "float32")

    def written(out: Path, totals: list[int]) -> RunDirectory:
        configs, vocabularies = (config, SETTINGS, DATA), (material.encoder_vocabulary, material.decoder_vocabulary)
        run = RunDirectory.create(
            out, name, configs, sha256, material.pairs, vocabularies, initial_state(config, SETTINGS.seed)
        )
        data = in_child.TrainingData(material.batch, material.training_rows, material.validation_rows)
        fixed = {"run": out, "name": name, "learning_rate": SETTINGS.learning_rate, "data": data}
        with Runtime(threads=2).start(name, config, SETTINGS) as process:
            for epochs in totals:
                process.call(in_child.fit, epochs=epochs, **fixed)
        return run

    whole, stopped = written(tmp_path / "whole", [2]), written(tmp_path / "stopped", [1, 2])
    assert same_training(stopped) == same_training(whole)
    assert [epoch.backend for epoch in whole.history()] == [name] * 2


def test_bucketed_batches_resume_to_the_bit_and_learn(tmp_path) -> None:
    bucketed = replace(SETTINGS, batches="bucketed")

    def begun(name: str, epochs: int) -> RunDirectory:
        data = replace(DATA, num_samples=400)
        return trained_run("numpy", tmp_path / name, epochs, data=data, padding="mask", train_config=bucketed)

    whole, run = begun("whole", 3), begun("stopped", 1)
    resume(RunDirectory.open(run.path), None, 3, RUNTIME, lambda event: None)
    assert same_training(run) == same_training(whole)
    history = whole.history()
    assert history[-1].loss < history[0].loss
    assert RunDirectory.open(run.path).train_config == bucketed


def test_another_learning_rate_is_the_runs_own_from_then_on(tmp_path) -> None:
    data, slower = replace(DATA, num_samples=400), as_float32(1e-3)
    run = trained_run("numpy", tmp_path / "run", 1, data=data)
    copied = RunDirectory.open(shutil.copytree(run.path, tmp_path / "copied"))
    resume(run, None, 3, RUNTIME, lambda event: None, slower)
    assert RunDirectory.open(run.path).train_config == replace(SETTINGS, learning_rate=slower)
    for total in (2, 3):  # as after a kill
        rate = slower if total == 2 else None
        resume(RunDirectory.open(copied.path), None, total, RUNTIME, lambda event: None, rate)
    assert same_training(run) == same_training(copied)
    unchanged = trained_run("numpy", tmp_path / "unchanged", 3, data=data)
    assert same_training(unchanged)[0] != same_training(run)[0]


def test_a_rate_that_cannot_be_used_leaves_the_run_as_it_was(runs) -> None:
    before = (runs["numpy"].path / "config.json").read_bytes()
    for backend, total in (("numpy", EPOCHS), ("jax", EPOCHS + 1)):
        with pytest.raises(CannotBeginError):
            resume(runs["numpy"], backend, total, RUNTIME, lambda event: None, 0.5)
    assert (runs["numpy"].path / "config.json").read_bytes() == before


@pytest.mark.parametrize(("dtype", "rate"), [("float64", 1e3), ("float32", 1e38)])
def test_a_training_that_diverges_tells_its_batch_and_keeps_the_epoch_before(tmp_path, dtype, rate) -> None:
    """A loss of some thousand at the first rate, and NaN at the second."""
    data = replace(DATA, num_samples=300)
    run = trained_run("numpy", tmp_path / "run", 1, dtype, data)
    material, kept = Material.of_run(run), (run.path / "state.safetensors").read_bytes()
    with pytest.raises(RosettaError) as caught:
        resume(run, None, 3, RUNTIME, lambda event: None, rate)
    assert (run.path / "state.safetensors").read_bytes() == kept
    assert len(run.history()) == 1
    told = json.loads((run.path / "trouble.json").read_text())
    # The same by single steps.
    backend = NumpyBackend(run.model_config, replace(SETTINGS, learning_rate=rate))
    backend.load(run.read_state("last")[0])
    most = GROWN * np.log(run.model_config.num_decoder_tokens)
    batches = epoch_batches(material.batch, material.training_rows, SETTINGS, 2)
    with np.errstate(all="ignore"):
        for number in range(len(batches)):
            step = batches.part(number, number + 1)
            loss, gradients = backend.gradients(step.whole())
            if not loss <= most:
                break
            backend.train(step, unreported)
    assert (told["epoch"], told["batches"], told["number"]) == (2, "training", number + 1)
    assert [tuple(pair) for pair in told["pairs"]] == [material.pairs[row] for row in step.rows]
    sizes = {name: float(np.abs(gradient).max()) for name, gradient in gradients.items()}
    expected = {name: pytest.approx(size, rel=1e-5) if np.isfinite(size) else None for name, size in sizes.items()}
    assert told["gradients"] == expected
    largest = next(iter(told["gradients"]))
    said = f"in training step {number + 1} of epoch 2, where the largest gradients are {largest} "
    assert said in str(caught.value)
    assert "The run keeps epoch 1" in str(caught.value)
    # And on from there, as if nothing had happened.
    resume(run, None, 2, RUNTIME, lambda event: None, SETTINGS.learning_rate)
    assert same_training(run) == same_training(trained_run("numpy", tmp_path / "whole", 2, dtype, data))


def test_weights_that_an_epochs_last_step_ruined_are_not_kept(tmp_path) -> None:
    """Its batches had sensible losses, and the validation has none."""
    data, settings = replace(DATA, num_samples=300), replace(SETTINGS, batch_size=300, learning_rate=1e3)
    with pytest.raises(RosettaError, match=r"in validation step 1 of epoch 1, .*The run keeps epoch 0"):
        trained_run("numpy", tmp_path / "run", 1, data=data, train_config=settings)
    run = RunDirectory.open(tmp_path / "run")
    assert run.read_state("last")[1].epoch == 0


def test_a_relay_of_three_frameworks_is_one_run(tmp_path) -> None:
    """Begun in one and gone on with in others, it is the referee's run, at the example's settings but its size."""
    data, settings = replace(DATA, num_samples=640), TrainConfig(seed=7)
    whole = trained_run("numpy", tmp_path / "whole", 6, "float64", data, train_config=settings)
    passed_on = trained_run("keras", tmp_path / "relay", 2, "float64", data, train_config=settings)
    for backend, total in (("paddle", 4), ("torch", 6)):
        resume(passed_on, backend, total, RUNTIME, lambda event: None)
    assert [epoch.backend for epoch in passed_on.history()] == ["keras"] * 2 + ["paddle"] * 2 + ["torch"] * 2
    for epoch, expected in zip(passed_on.history(), whole.history(), strict=True):
        assert epoch.loss == pytest.approx(expected.loss, rel=1e-9)
        assert epoch.val_loss == pytest.approx(expected.val_loss, rel=1e-9)


def test_a_run_that_is_done_is_not_trained_again(runs) -> None:
    with pytest.raises(CannotBeginError, match=f"has {EPOCHS} epochs already"):
        resume(runs["numpy"], None, EPOCHS, RUNTIME, lambda event: None)


def start_training(out: Path) -> subprocess.Popen:
    """`rosetta train` for very many epochs, once it has written two of them."""
    options = "--num-samples 300 --latent-dim 16 --epochs 100000 --split grouped --threads 1".split()
    process = started("train", "--backend", "numpy", "--out", out, *options)
    begun = out / "config.json"
    wait_until(lambda: process.poll() is not None or (begun.exists() and len(RunDirectory.open(out).history()) >= 2))
    assert process.poll() is None, process.communicate()
    return process


def test_ctrl_c_keeps_the_last_finished_epoch_and_says_how_to_go_on(tmp_path) -> None:
    process = start_training(tmp_path / "run")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    kept = RunDirectory.open(tmp_path / "run").read_state("last")[1].epoch
    assert kept >= 1
    assert f"keeps epoch {kept}. Go on with: rosetta train --out" in said
    assert "Traceback" not in said


def test_a_killed_run_resumes_to_the_bits_of_one_that_was_not(tmp_path) -> None:
    """Before the kill, another process cannot resume it; after the kill, nothing is left of its lock."""
    process = start_training(tmp_path / "killed")
    said = refusal(2, "train", "--out", tmp_path / "killed", "--resume", "--epochs", 200_000)
    assert f"another process is training {tmp_path / 'killed'}; wait for its end" in said
    children = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=10)  # they hear of it and end
    assert all(child.status() == psutil.STATUS_ZOMBIE for child in alive)
    run = RunDirectory.open(tmp_path / "killed")
    total = run.read_state("last")[1].epoch + 2
    resume(run, None, total, RUNTIME, lambda event: None)
    data = replace(DATA, num_samples=300)
    whole = train(
        "numpy", data, TrainConfig(), 16, "float32", "space", total, tmp_path / "whole", RUNTIME, lambda event: None
    )
    assert len(run.history()) == total
    assert same_training(run) == same_training(whole.run)
