"""A small run of three pairs and three units, whose epochs have states and figures that are made up."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.config import DataConfig, ModelConfig, TrainConfig
from common.files import UNFINISHED
from common.run_directory import STATE_FILES, Epoch, Progress, RunDirectory
from common.tensors import vocabularies
from common.weights import ModelState, initial_state, to_bytes

PAIRS = [("Go.", "Va !"), ("Go.", "Bouge\u2028!"), ("犬 \r", "é")]
VOCABULARIES = vocabularies(PAIRS)
MODEL = ModelConfig(len(VOCABULARIES[0]), len(VOCABULARIES[1]), 0, 1, latent_dim=3)
CONFIGS = MODEL, TrainConfig(batch_size=2, seed=9), DataConfig("fra-eng", 3, 0.5, "grouped", True)
NEW_FILES = sorted(["config.json", "vocabulary.json", "pairs.tsv", "machine.json", "state.safetensors"])
FILES = sorted([*NEW_FILES, "best.safetensors"])  # from the first epoch on


def state_of(epoch: int) -> ModelState:
    state = initial_state(MODEL, epoch)
    return ModelState(state.weights, {name: np.abs(w) + epoch for name, w in state.weights.items()})


def create(path: Path, dtype: str = "float32") -> RunDirectory:
    configs = replace(MODEL, dtype=dtype), *CONFIGS[1:]
    state = initial_state(configs[0], 0)
    return RunDirectory.create(path, "torch:compile", configs, "ab" * 32, PAIRS, VOCABULARIES, state)


def epoch_of(number: int, val_loss: float) -> Epoch:
    return Epoch(number, 1 / number, val_loss, 0.5, 0.25, 0.125, 1.5, "torch:compile")


def progress_of(val_losses: Sequence[float]) -> Progress:
    return Progress(10 * len(val_losses), tuple(epoch_of(*numbered) for numbered in enumerate(val_losses, 1)))


def write(run: RunDirectory, val_losses: Sequence[float], done: int = 0) -> None:
    """Write all epochs after that of the number `done`."""
    for number in range(done + 1, len(val_losses) + 1):
        run.write_epoch(state_of(number), progress_of(val_losses[:number]))


def assert_state(run: RunDirectory, which: str, epoch: int) -> None:
    """That `which` is the state written after `epoch`, to the bit."""
    state, progress = run.read_state(which)
    expected = state_of(epoch) if epoch else initial_state(MODEL, 0)
    assert (progress.epoch, progress.step) == (epoch, 10 * epoch)
    assert to_bytes(state, {}) == to_bytes(expected, {})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same_training(run: RunDirectory) -> tuple[object, ...]:
    """What must be the same in two runs of the same training: all but how long an epoch took, to the bit."""
    states = []
    for which in STATE_FILES:
        state, progress = run.read_state(which)
        timeless = [repr(replace(epoch, seconds=0)) for epoch in progress.history]  # in which NaN is like NaN
        states.append((to_bytes(state, {}), progress.step, timeless))
    kept = [name for name in NEW_FILES if name not in ("state.safetensors", "machine.json")]
    return *states, *((run.path / name).read_bytes() for name in kept)


def names(run: Path) -> list[str]:
    """The names of a run's files, without what killed processes left, which goes when training goes on."""
    return sorted(path.name for path in run.iterdir() if path.suffix != UNFINISHED)
