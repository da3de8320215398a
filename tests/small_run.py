"""A small run of three pairs and three units, whose epochs have states and figures that are made up."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from common.config import DataConfig, ModelConfig, TrainConfig
from common.run_directory import Epoch, Place, RunDirectory
from common.vocabulary import CharVocabulary
from common.weights import ModelState, initial_state, to_bytes

PAIRS = [("Go.", "Va !"), ("Go.", "Bouge\u2028!"), ("犬 \r", "é")]
VOCABULARIES = CharVocabulary.of(s for s, _ in PAIRS), CharVocabulary.of(f"\t{t}\n" for _, t in PAIRS)
MODEL = ModelConfig(len(VOCABULARIES[0]), len(VOCABULARIES[1]), 0, 1, latent_dim=3)
CONFIGS = MODEL, TrainConfig(batch_size=2, seed=9), DataConfig("fra-eng", 3, 0.5, "grouped", True)
FILES = ["config.json", "vocabulary.json", "pairs.tsv", "machine.json", "state.safetensors", "best.safetensors"]
FILES = sorted([*FILES, "history.jsonl"])


def state_of(epoch: int) -> ModelState:
    state = initial_state(MODEL, epoch)
    return ModelState(state.weights, {name: np.abs(w) + epoch for name, w in state.weights.items()})


def create(path: Path, dtype: str = "float32") -> RunDirectory:
    configs = replace(MODEL, dtype=dtype), *CONFIGS[1:]
    state = initial_state(configs[0], 0)
    return RunDirectory.create(path, "torch:compile", configs, "ab" * 32, PAIRS, VOCABULARIES, state)


def epoch_of(number: int, val_loss: float) -> Epoch:
    return Epoch(number, 1 / number, val_loss, 0.5, 0.25, 0.125, 1.5)


def write(run: RunDirectory, val_losses: list[float]) -> None:
    for number, val_loss in enumerate(val_losses, 1):
        run.write_epoch(state_of(number), epoch_of(number, val_loss), step=10 * number)


def assert_state(run: RunDirectory, which: str, epoch: int) -> None:
    """That `which` is the state written after `epoch`, to the bit."""
    state, place = run.read_state(which)
    expected = state_of(epoch) if epoch else initial_state(MODEL, 0)
    assert place == Place(epoch, 10 * epoch, seed=9)
    assert to_bytes(state, {}) == to_bytes(expected, {})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
