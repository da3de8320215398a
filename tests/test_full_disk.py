"""A disk that is full: one line says so, where, and what is kept; and nothing that was there is lost."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from backends.process.in_child import TrainingData, fit
from backends.process.parent import PROJECT
from benchmarks.commands import _measuring
from common import run_directory
from common.config import DataConfig, TrainConfig
from common.errors import RosettaError
from common.files import write_atomically
from common.material import prepare
from common.run_directory import RunDirectory
from common.tensors import Batch, model_config
from common.weights import initial_state
from tests.small_run import CONFIGS, MODEL, PAIRS, VOCABULARIES, create

REASON = "the largest size that a file may have is reached (`ulimit -f` shows and sets it)"
LIMIT = 40_000  # bytes that a file may have; a disk that is full stops a write in its midst, too


def trained(run: RunDirectory, epochs: int) -> None:
    """Train a small run on in this process, as a backend's process does."""
    rows = np.arange(len(PAIRS))
    fit(
        NumpyBackend(MODEL, CONFIGS[1]),
        lambda **event: None,
        run=run.path,
        name="numpy",
        learning_rate=CONFIGS[1].learning_rate,
        epochs=epochs,
        data=TrainingData(Batch.of_pairs(PAIRS, *VOCABULARIES), rows, rows),
    )


@pytest.mark.parametrize(("file", "kept"), [("state.safetensors", 1), ("best.safetensors", 2)])
def test_training_tells_which_epoch_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, kept: int
) -> None:
    run = create(tmp_path / "run")
    trained(run, 1)
    full = OSError(28, "No space left on device")

    def write_or_not(path: Path, content: bytes | str) -> None:
        if path.name == file:
            raise OSError(full.errno, full.strerror, str(path))
        write_atomically(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(run_directory, "write_atomically", write_or_not)
        with pytest.raises(RosettaError) as caught:
            trained(run, 3)
    assert str(caught.value) == f"{run.path / file} cannot be written: the disk is full. Mend that first"
    assert RunDirectory.open(run.path).kept(3) == (  # which the command adds
        f"{run.path} keeps epoch {kept}. Go on with: rosetta train --out {run.path} --resume --epochs 3"
    )
    assert RunDirectory.open(run.path).read_state("last")[1].epoch == kept
    trained(run, 3)
    assert len(RunDirectory.open(run.path).history()) == 3


def limited(*arguments: object) -> tuple[int, str]:
    """Exit status and standard error of `rosetta` where no file may become larger than LIMIT."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    command = [sys.executable, "-m", "rosetta", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, preexec_fn=limit, check=False, timeout=300
    )
    return done.returncode, done.stderr


def test_a_run_that_cannot_be_begun_leaves_nothing(tmp_path: Path) -> None:
    options = ["--num-samples", 300, "--latent-dim", 64, "--epochs", 1]
    status, said = limited("train", "--backend", "numpy", "--out", tmp_path / "run", *options)
    assert status == 1
    assert said.strip() == f"rosetta: {tmp_path / 'run'} cannot be written: {REASON}; nothing is left of it"
    assert list(tmp_path.iterdir()) == []


def test_measuring_tells_what_is_kept_and_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "my results.jsonl"
    with pytest.raises(RosettaError) as caught, _measuring("bench", path, json=False):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == (
        f"{path}: the disk is full; {path} keeps what was measured before; go on with: rosetta bench --out '{path}' "
        "--resume"
    )


def larger_run(path: Path) -> RunDirectory:
    """A run whose weights are more than LIMIT."""
    data, settings = DataConfig(num_samples=100), TrainConfig()
    material, sha256 = prepare(data, settings.seed, "float32")
    vocabularies = material.encoder_vocabulary, material.decoder_vocabulary
    model = model_config(material.batch, vocabularies[1], 64, "float32")
    state = initial_state(model, settings.seed)
    return RunDirectory.create(path, "numpy", (model, settings, data), sha256, material.pairs, vocabularies, state)


@pytest.mark.parametrize("backend", ["torch", "paddle", "keras"])
def test_files_of_a_framework_that_cannot_be_written_leave_nothing(tmp_path: Path, backend: str) -> None:
    run, before = larger_run(tmp_path / "run"), sorted(tmp_path.rglob("*"))
    status, said = limited("convert", run.path, "--to", backend, "--out", tmp_path / "files")
    assert status == 1, said
    assert len(said.splitlines()) == 1
    assert f"{tmp_path} cannot be written: {REASON}; nothing is kept there" in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("argument", ["data", "--version"])
def test_an_output_that_takes_nothing_is_one_line(argument: str, unbuffered: str) -> None:
    command = [sys.executable, "-m", "rosetta", argument]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            command, cwd=PROJECT, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    assert done.stderr == "rosetta: standard output or a temporary file: the disk is full\n"
    assert done.returncode == 1
