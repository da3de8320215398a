"""A small run of three pairs and three units,
whose epochs have states and figures that are made up."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.corpus import Corpus, Material
from common.run import LOCK, STATE, RunDirectory
from common.settings import DataConfig, ModelConfig, TrainConfig
from common.tensors import vocabularies
from common.weights import (
    BEST_PREFIX,
    Arrays,
    Epoch,
    ModelState,
    initial_state,
    prefixed,
    to_pieces,
)

PAIRS = [("Go.", "Va !"), ("Go.", "Bouge\u2028!"), ("犬 \r", "é")]
VOCABULARIES = vocabularies(PAIRS)
MODEL = ModelConfig(len(VOCABULARIES[0]), len(VOCABULARIES[1]), 0, 1, latent_dim=3)
CONFIGS = MODEL, TrainConfig(batch_size=2, seed=9), DataConfig("fra-eng", 3, 0.5, "grouped", True)
FILES = sorted(["config.json", "vocabulary.json", "pairs.tsv", "machine.json", STATE])


def state_of(epoch: int) -> ModelState:
    weights = initial_state(MODEL, epoch).weights
    return ModelState(weights, {name: np.abs(w) + epoch for name, w in weights.items()})


def create(path: Path, dtype: str = "float32") -> RunDirectory:
    configs = replace(MODEL, dtype=dtype), *CONFIGS[1:]
    state = initial_state(configs[0], 0)
    material = Material.of_corpus(
        Corpus(PAIRS, "ab" * 32), CONFIGS[2], CONFIGS[1].seed, dtype, known=VOCABULARIES
    )
    return RunDirectory.create(path, "keras:example", configs, material, state)


def epoch_of(number: int, val_loss: float) -> Epoch:
    return Epoch(number, 1 / number, val_loss, 0.5, 0.25, 0.125, 1.5, "keras:example")


def write(run: RunDirectory, val_losses: Sequence[float]) -> None:
    """Write all epochs after those that the run has."""
    checkpoint = run.read()
    for number, val_loss in [*enumerate(val_losses, 1)][checkpoint.progress.epoch :]:
        checkpoint = checkpoint.after(state_of(number), 10, epoch_of(number, val_loss))
        run.write(checkpoint)


def three_epochs(path: Path) -> None:
    """Make a run of three epochs, of which the second is the best."""
    write(create(path), [3.0, 1.0, 2.0])


def assert_state(run: RunDirectory, which: str, epoch: int) -> None:
    """Assert that `which` is the state written after `epoch`, to the bit."""
    state, progress = run.read_state(which)
    expected = state_of(epoch)
    assert (progress.epoch, progress.step) == (epoch, 10 * epoch)
    assert_same(state.weights, expected.weights)
    if epoch == len(run.history()) > 0:  # the slots of other epochs are not kept
        assert_same(state.mean_squares, expected.mean_squares)


def to_bytes(arrays: Arrays, metadata: dict[str, Any]) -> bytes:
    """The arrays as a run keeps them."""
    return b"".join(to_pieces(arrays, metadata))


def assert_same(arrays: Arrays, expected: Arrays) -> None:
    assert to_bytes(arrays, {}) == to_bytes(expected, {})


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != LOCK]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def same_training(run: RunDirectory) -> tuple[object, ...]:
    """All that two runs of the same training must share to the bit:
    everything but the time of an epoch."""
    checkpoint = run.read()
    arrays = to_bytes(checkpoint.state.arrays() | prefixed(BEST_PREFIX, checkpoint.best), {})
    # In which NaN is like NaN.
    timeless = [repr(replace(epoch, seconds=0)) for epoch in checkpoint.progress.history]
    kept = ((run.path / name).read_bytes() for name in FILES if name not in (STATE, "machine.json"))
    return arrays, checkpoint.progress.step, timeless, *kept
