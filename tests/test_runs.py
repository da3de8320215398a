"""Runs: trained by each backend, translated by every other, gone on with, killed, interrupted."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from backends import session
from backends.process import PROJECT
from common.config import DataConfig, TrainConfig, as_float32
from common.errors import CannotBeginError
from common.run_directory import RunDirectory
from tests.conftest import FRAMEWORKS
from tests.near_ties import differences

RUNTIME = session.Runtime(threads=1)  # models this small gain nothing from more
DATA = DataConfig(num_samples=2400, split="grouped")
# Small and hasty, so that decoding comes to mean something within seconds.
SETTINGS = TrainConfig(batch_size=16, learning_rate=as_float32(4e-3), seed=7)
LATENT_DIM, EPOCHS = 64, 6


def train(backend: str, out: Path, epochs: int, dtype: str = "float32", data: DataConfig = DATA) -> RunDirectory:
    return session.train(backend, data, SETTINGS, LATENT_DIM, dtype, epochs, out, RUNTIME, lambda event: None).run


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> dict[str, RunDirectory]:
    """One run of six epochs a backend."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: train(name, folder / name, EPOCHS) for name in ["numpy", *FRAMEWORKS]}


def test_all_backends_begin_alike_and_stay_close(runs) -> None:
    """Float32 rounding is amplified by RMSprop, so epochs are compared, the first one tightly."""
    expected = runs["numpy"].history()
    for name, run in runs.items():
        history = run.history()
        assert history[0].loss == pytest.approx(expected[0].loss, rel=5e-3), name
        assert history[-1].loss == pytest.approx(expected[-1].loss, rel=5e-2), name
        assert history[-1].loss < history[0].loss / 2


def test_in_float64_two_epochs_agree_to_ten_digits(tmp_path) -> None:
    data = replace(DATA, num_samples=400)
    histories = {name: train(name, tmp_path / name, 2, "float64", data).history() for name in ["numpy", *FRAMEWORKS]}
    for name, history in histories.items():
        for epoch, expected in zip(history, histories["numpy"], strict=True):
            assert epoch.loss == pytest.approx(expected.loss, rel=1e-10), name
            assert epoch.val_loss == pytest.approx(expected.val_loss, rel=1e-10), name


@pytest.mark.parametrize("reader", ["numpy", *FRAMEWORKS])
def test_a_run_says_the_same_in_every_backend(runs, reader) -> None:
    for writer, run in runs.items():
        with session.open_translator(run, reader, "last", None, RUNTIME) as translator:
            material = translator.material
            sources = list(dict.fromkeys(material.pairs[row][0] for row in material.validation_rows))[:100]
            got = translator(sources)
        with session.open_translator(run, "numpy", "last", "float64", RUNTIME) as translator:
            expected = translator(sources)
        assert len(set(expected)) > 5, "decoding must mean something"
        assert differences(run, material, sources, got, expected) <= 1, f"{writer} read by {reader}"


@pytest.mark.parametrize("name", ["numpy", *FRAMEWORKS])
def test_a_sentence_alone_says_what_it_says_in_a_batch(runs, name) -> None:
    with session.open_translator(runs[name], None, "last", None, RUNTIME) as translator:
        material = translator.material
        sources = [material.pairs[row][0] for row in material.validation_rows[:60:6]]
        longest = "x" * (material.max_encoder_seq_length + 5)  # must not change how the others are padded
        together = translator([*sources, longest.replace("x", "e"), ""])
        alone = [translator([source])[0] for source in sources]
    assert together[-1] == ""
    assert differences(runs[name], material, sources, alone, together[:-2]) <= 1


def test_the_official_examples_way_is_keras_own(runs) -> None:
    with session.open_translator(runs["keras"], "keras:example", "last", None, RUNTIME) as translator:
        material = translator.material
        sources = [material.pairs[row][0] for row in material.validation_rows[:3]]
        by_example = translator(sources)
    with session.open_translator(runs["keras"], "keras", "last", None, RUNTIME) as translator:
        assert differences(runs["keras"], material, sources, by_example, translator(sources)) == 0


@pytest.mark.parametrize("name", ["numpy", *FRAMEWORKS])
def test_resumed_equals_uninterrupted_to_the_bit(runs, tmp_path, name) -> None:
    run = train(name, tmp_path / name, 1)
    session.resume(run, None, EPOCHS, RUNTIME, lambda event: None)
    assert (run.path / "state.safetensors").read_bytes() == (runs[name].path / "state.safetensors").read_bytes()
    assert (run.path / "best.safetensors").read_bytes() == (runs[name].path / "best.safetensors").read_bytes()
    for got, expected in zip(run.history(), runs[name].history(), strict=True):
        assert replace(got, seconds=0) == replace(expected, seconds=0)


def test_a_run_goes_on_in_another_backend(tmp_path) -> None:
    data = replace(DATA, num_samples=300)
    run = train("torch", tmp_path / "relay", 1, "float64", data)
    session.resume(run, "paddle", 2, RUNTIME, lambda event: None)
    expected = train("numpy", tmp_path / "numpy", 2, "float64", data).history()
    assert [e.loss for e in run.history()] == pytest.approx([e.loss for e in expected], rel=1e-9)


def test_a_run_that_is_done_is_not_trained_again(runs) -> None:
    with pytest.raises(CannotBeginError, match="has 6 epochs already"):
        session.resume(runs["numpy"], None, EPOCHS, RUNTIME, lambda event: None)


def start_training(out: Path) -> subprocess.Popen:
    """`rosetta train` for very many epochs, once it has written two of them."""
    command = [sys.executable, "-m", "rosetta", "train", "--backend", "numpy", "--out", str(out)]
    options = [
        "--num-samples",
        "300",
        "--latent-dim",
        "16",
        "--epochs",
        "100000",
        "--split",
        "grouped",
        "--threads",
        "1",
    ]
    process = subprocess.Popen(
        [*command, *options], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while not (out / "history.jsonl").exists() or (out / "history.jsonl").read_text().count("\n") < 2:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_ctrl_c_keeps_the_last_finished_epoch_and_says_how_to_go_on(tmp_path) -> None:
    process = start_training(tmp_path / "run")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    kept = RunDirectory.open(tmp_path / "run").read_state("last")[1].epoch
    assert kept >= 1
    assert f"keeps epoch {kept}. Go on with: rosetta train --out" in said
    assert "Traceback" not in said


def test_a_killed_run_resumes_to_the_bits_of_one_that_was_not(tmp_path) -> None:
    process = start_training(tmp_path / "killed")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(1)  # its child hears of it and ends
    run = RunDirectory.open(tmp_path / "killed")
    total = run.read_state("last")[1].epoch + 2
    session.resume(run, None, total, RUNTIME, lambda event: None)
    data = replace(DATA, num_samples=300)
    whole = session.train(
        "numpy", data, TrainConfig(), 16, "float32", total, tmp_path / "whole", RUNTIME, lambda event: None
    )
    assert (run.path / "state.safetensors").read_bytes() == (whole.run.path / "state.safetensors").read_bytes()
    assert len(run.history()) == total
