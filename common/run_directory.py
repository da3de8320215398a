"""A training run on disk. It is whole after every epoch, and every backend can read it and resume it to the bit.

config.json        the backend, the settings of model, training and data, and the SHA-256 of the corpus
vocabulary.json    the characters of both sides
pairs.tsv          the sentence pairs that are used
machine.json       the machine on which the run was begun
state.safetensors  weights and RMSprop slots of the last epoch; epoch, step and seed in its metadata
best.safetensors   the same for the epoch with the lowest validation loss
history.jsonl      one line for each epoch
trouble.json       where training diverged, the batch's pairs and its largest gradients; only if it ever did

A run of weights alone has no best.safetensors, and its state has no slots; they are read as zeros.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

import numpy as np

from common.config import DataConfig, ModelConfig, TrainConfig
from common.corpus import Pair
from common.errors import CannotBeginError, RosettaError
from common.files import new_folder, read_json, write_atomically, write_json
from common.machine import describe_machine
from common.vocabulary import PAD, CharVocabulary
from common.weights import ModelState, check_state, from_bytes, in_dtype, to_bytes

FORMAT = "rosetta-run"
VERSION = 1
ADDED_LATER = {"batches": "shuffled"}  # settings that old runs do not name, with the value that they had
STATE_FILES = {"last": "state.safetensors", "best": "best.safetensors"}
BUNDLED_RUN = Path(__file__).parent / "phrasebook" / "run"  # weights alone, trained on the phrasebook

Config = TypeVar("Config", ModelConfig, TrainConfig, DataConfig, "Epoch", "Place")


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch, a line of history.jsonl."""

    epoch: int  # counted from 1
    loss: float
    val_loss: float
    accuracy: float
    val_accuracy: float
    val_accuracy_real: float
    seconds: float  # duration of the training steps, without validation


@dataclass(frozen=True)
class Place:
    """How far training had come when a state was written."""

    epoch: int
    step: int  # optimizer steps taken
    seed: int


@dataclass(frozen=True)
class RunDirectory:
    """An opened run. Everything but `create` raises RosettaError for a run that is damaged."""

    path: Path
    backend: str  # the one that began it
    model_config: ModelConfig
    train_config: TrainConfig
    data_config: DataConfig
    sha256: str  # of the corpus's text

    @classmethod
    def create(
        cls,
        path: Path,
        backend: str,
        configs: tuple[ModelConfig, TrainConfig, DataConfig],
        sha256: str,
        pairs: Sequence[Pair],
        vocabularies: tuple[CharVocabulary, CharVocabulary],
        state: ModelState,
    ) -> "RunDirectory":
        """Write a new run, which is at `path` whole or not at all. Raises CannotBeginError where `path` exists."""
        refuse_existing(path)
        run = cls(path, backend, *configs, sha256)
        with new_folder(path) as beside:
            run._write_config(beside)
            sides = {"encoder": vocabularies[0].characters, "decoder": vocabularies[1].characters}
            write_json(beside / "vocabulary.json", {"version": VERSION} | sides)
            write_atomically(beside / "pairs.tsv", "".join(f"{s}\t{t}\n" for s, t in pairs))
            write_json(beside / "machine.json", describe_machine())
            write_atomically(beside / "history.jsonl", "")
            block = to_bytes(state, asdict(Place(epoch=0, step=0, seed=run.train_config.seed)))
            for name in STATE_FILES.values():
                write_atomically(beside / name, block)
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Open the run at `path`. Raises CannotBeginError where there is no run at all."""
        path = Path(path)
        if not (path / "config.json").exists():
            raise CannotBeginError(
                f"{path} is not a run (it has no config.json); `rosetta train --out {quote(str(path))}` makes one"
            )
        config = read_json(path / "config.json")
        if config.get("format") != FORMAT or config.get("version") != VERSION:
            found = f"{config.get('format')} version {config.get('version')}"
            raise RosettaError(f"{path / 'config.json'} is {found}, expected {FORMAT} version {VERSION}")
        where = path / "config.json"
        return cls(
            path,
            _typed(config, "backend", where),
            _read(ModelConfig, config.get("model"), where),
            _read(TrainConfig, config.get("train"), where, ADDED_LATER),
            _read(DataConfig, config.get("data"), where),
            _typed(config, "sha256", where),
        )

    def pairs(self) -> list[Pair]:
        """The sentence pairs of the run, those of training and of validation."""
        text = self._text("pairs.tsv")
        *lines, rest = text.split("\n")
        pairs = [tuple(line.split("\t")) for line in lines]
        if not pairs or rest or any(len(pair) != 2 or not all(pair) for pair in pairs):
            raise RosettaError(f"{self.path / 'pairs.tsv'} is damaged: expected lines of source, tab, target")
        return pairs  # type: ignore[return-value]

    def vocabularies(self) -> tuple[CharVocabulary, CharVocabulary]:
        """The vocabularies of the encoder and of the decoder."""
        content = read_json(self.path / "vocabulary.json")
        sides = content.get("encoder"), content.get("decoder")
        sizes = self.model_config.num_encoder_tokens, self.model_config.num_decoder_tokens
        for side, size in zip(sides, sizes, strict=True):
            characters = {c for c in side if isinstance(c, str) and len(c) == 1} if isinstance(side, list) else set()
            whole = isinstance(side, list) and len(side) == len(characters) == size and PAD in characters
            if content.get("version") != VERSION or not whole:
                raise RosettaError(
                    f"{self.path / 'vocabulary.json'} does not hold the {size} characters of the model"
                )
        return CharVocabulary(sides[0]), CharVocabulary(sides[1])  # type: ignore[arg-type]

    def read_state(self, which: str, dtype: str | None = None) -> tuple[ModelState, Place]:
        """The `last` or `best` state, in the run's precision or in `dtype`, and its place in training."""
        path = self.path / STATE_FILES[which]
        try:
            state, metadata = from_bytes(path.read_bytes())
            if not state.mean_squares:  # weights alone
                state = ModelState(state.weights, {name: np.zeros_like(w) for name, w in state.weights.items()})
            check_state(state, self.model_config)
            place = _read(Place, metadata, path)
        except OSError as error:
            advice = "; a run of weights alone has the last state only" if which == "best" else ""
            raise RosettaError(f"{path} cannot be read: {error.strerror}{advice}") from error
        except RosettaError as error:
            raise RosettaError(f"{path} is damaged: {error}") from error
        return in_dtype(state, dtype or self.model_config.dtype), place

    def history(self) -> list[Epoch]:
        """The epochs up to that of the last state; a line written just before a crash is left out."""
        lines = self._text("history.jsonl").split("\n")[:-1]
        last = self.read_state("last")[1].epoch
        where = self.path / "history.jsonl"
        try:
            epochs = [_read(Epoch, json.loads(line), where) for line in lines[:last]]
        except (ValueError, RecursionError) as error:
            raise RosettaError(f"{where} is damaged: {error}") from error
        if [epoch.epoch for epoch in epochs] != list(range(1, last + 1)):
            raise RosettaError(f"{where} is damaged: expected one line for each of the epochs 1 to {last}")
        return epochs

    def begin(self) -> tuple[ModelState, Place]:
        """Undo what a crash may have left half done, and return the last state and its place, to train on from."""
        state, place = self.read_state("last")
        history = self.history()
        lines = (json.dumps(asdict(epoch)) + "\n" for epoch in history)
        write_atomically(self.path / "history.jsonl", "".join(lines))
        if history and _best(history) == place.epoch:
            self._write_state("best", state, place)
        return state, place

    def write_epoch(self, state: ModelState, epoch: Epoch, step: int) -> None:
        """Write the files of an epoch that is done, in an order in which a crash does no harm.

        The history comes first, then the last state, which makes the history's line count, then the best state, which
        `begin` can repair.
        """
        check_state(state, self.model_config)
        with open(self.path / "history.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(epoch)) + "\n")
            log.flush()
            os.fsync(log.fileno())
        place = Place(epoch.epoch, step, self.train_config.seed)
        self._write_state("last", state, place)
        if _best(self.history()) == epoch.epoch:
            self._write_state("best", state, place)

    def with_learning_rate(self, learning_rate: float) -> "RunDirectory":
        """The same run with another learning rate, a float32, which is written into its config.json."""
        run = replace(self, train_config=replace(self.train_config, learning_rate=learning_rate))
        run._write_config(run.path)
        return run

    def write_weights(self, which: str, out: Path) -> None:
        """Write the `last` or `best` weights as a new run, without RMSprop's slots: a third of a run's size.

        The history of the new run ends with the epoch of these weights. Raises CannotBeginError where `out` exists.
        """
        refuse_existing(out, "choose another --out")
        state, place = self.read_state(which)
        lines = (json.dumps(asdict(epoch)) + "\n" for epoch in self.history()[: place.epoch])
        with new_folder(out) as beside:
            for name in ("config.json", "vocabulary.json", "pairs.tsv", "machine.json"):
                write_atomically(beside / name, (self.path / name).read_bytes())
            write_atomically(beside / "history.jsonl", "".join(lines))
            write_atomically(beside / STATE_FILES["last"], to_bytes(ModelState(state.weights, {}), asdict(place)))

    def _write_config(self, folder: Path) -> None:
        config: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "backend": self.backend,
            "sha256": self.sha256,
        }
        config |= {"model": asdict(self.model_config), "train": asdict(self.train_config)}
        write_json(folder / "config.json", config | {"data": asdict(self.data_config)})

    def _write_state(self, which: str, state: ModelState, place: Place) -> None:
        write_atomically(self.path / STATE_FILES[which], to_bytes(state, asdict(place)))

    def _text(self, name: str) -> str:
        try:
            return (self.path / name).read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise RosettaError(f"{self.path / name} cannot be read: {error}") from error


def refuse_existing(
    path: Path, advice: str = "choose another --out, or go on with that run by --resume --epochs TOTAL"
) -> None:
    """Raise CannotBeginError where `path` exists, so that nothing is overwritten."""
    if path.exists():
        raise CannotBeginError(f"{path} exists already; {advice}")


def _best(history: Sequence[Epoch]) -> int:
    """The number of the epoch with the lowest validation loss."""
    return min(history, key=lambda epoch: epoch.val_loss).epoch


def _read(kind: type[Config], values: Any, where: Path, added_later: Mapping[str, Any] | None = None) -> Config:
    """A dataclass made from a JSON object, in which each field is present or in `added_later`, and of its type."""
    names = {field.name: field.type for field in fields(kind)}
    values = {**(added_later or {}), **values} if isinstance(values, dict) else {}
    if values.keys() != names.keys():
        raise RosettaError(f"{where} is damaged: expected the fields {', '.join(names)}")
    for name, expected in names.items():
        accepted = (int, float) if expected is float else expected
        value_is_bool = isinstance(values[name], bool)  # Python counts a bool among the ints
        if not isinstance(values[name], accepted) or value_is_bool != (expected is bool):  # type: ignore[arg-type]
            raise RosettaError(f"{where} is damaged: {name} is {values[name]!r}")
    return kind(**values)


def _typed(config: dict[str, Any], name: str, where: Path) -> str:
    """The string that stands under `name`. Raises RosettaError where there is none."""
    if not isinstance(config.get(name), str):
        raise RosettaError(f"{where} is damaged: {name} is {config.get(name)!r}")
    return str(config[name])
