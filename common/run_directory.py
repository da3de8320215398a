"""A training run on disk. It is whole after every epoch, and every backend can read it and resume it to the bit.

config.json        the backend, the settings of model, training and data, and the SHA-256 of the corpus and of the
                   two files that never change: vocabulary.json and pairs.tsv
vocabulary.json    the characters of both sides
pairs.tsv          the sentence pairs that are used
machine.json       the machine on which the run was begun
state.safetensors  weights and RMSprop slots of the last epoch; epoch, step, seed and a checksum in its metadata
best.safetensors   the same for the epoch with the lowest validation loss
history.jsonl      one line for each epoch
trouble.json       where training diverged, the batch's pairs and its largest gradients; only if it ever did

A run of weights alone has no best.safetensors, and its state has no slots; they are read as zeros.

A file that differs from its SHA-256 or checksum is refused. A run that was written before there were such digests has
none, and its files are read without that check.

One process at a time writes a run: it holds the lock of the folder. Whoever opens a run that nobody writes mends what
a killed process left half done; see `RunDirectory.open`.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from common.config import LARGEST, LARGEST_TEXT, MOST_PAIRS, DataConfig, ModelConfig, TrainConfig, require
from common.errors import CannotBeginError, RosettaError, why
from common.files import (
    LARGEST_JSON,
    UNFINISHED,
    locked,
    new_folder,
    open_at_most,
    read_at_most,
    read_json,
    remove_unfinished,
    write_atomically,
    write_json,
)
from common.machine import describe_machine
from common.stored import Pair, Pairs
from common.tensors import START, STOP
from common.text import LONGEST_LINE, LONGEST_SENTENCE, PIECE, printable, quoted
from common.vocabulary import PAD, CharVocabulary
from common.weights import ModelState, check_state, from_bytes, in_dtype, largest_block, to_bytes

FORMAT = "rosetta-run"
VERSION = 1
ADDED_LATER = {"batches": "shuffled"}  # settings that old runs do not name, with the value that they had
UNCHANGING = ("vocabulary.json", "pairs.tsv")  # the files whose SHA-256 is in config.json
STATE_FILES = {"last": "state.safetensors", "best": "best.safetensors"}
LARGEST_TEXTS = {"pairs.tsv": LARGEST_TEXT}  # bytes; the other files of text have LARGEST_JSON
LOCK_SECONDS = 3.0  # waited for the lock, since a process whose parent was just killed holds it until it notices
BEST_TRIES = 3  # times that the best state is looked for, since another process may write an epoch meanwhile
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

    def __post_init__(self) -> None:
        finite = (-sys.float_info.max, sys.float_info.max)
        require(self, epoch=(1, LARGEST), loss=finite, val_loss=finite)


@dataclass(frozen=True)
class Place:
    """How far training had come when a state was written."""

    epoch: int
    step: int  # optimizer steps taken
    seed: int

    def __post_init__(self) -> None:
        require(self, **dict.fromkeys(["epoch", "step", "seed"], (0, LARGEST)))


@dataclass(frozen=True)
class RunDirectory:
    """An opened run. Everything but `create` raises RosettaError for a run that is damaged."""

    path: Path
    backend: str  # the one that began it
    model_config: ModelConfig
    train_config: TrainConfig
    data_config: DataConfig
    sha256: str  # of the corpus's text
    digests: Mapping[str, str]  # SHA-256 of each of the UNCHANGING files; empty for a run from before they were kept

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
        with new_folder(path) as beside:
            sides = {"encoder": vocabularies[0].characters, "decoder": vocabularies[1].characters}
            write_json(beside / "vocabulary.json", {"version": VERSION} | sides)
            write_atomically(beside / "pairs.tsv", _lines_of(pairs))
            _check_size(beside / "pairs.tsv", len(pairs))
            run = cls(path, backend, *configs, sha256, _digests(beside))
            run._write_config(beside)
            write_json(beside / "machine.json", describe_machine())
            write_atomically(beside / "history.jsonl", "")
            block = to_bytes(state, asdict(Place(epoch=0, step=0, seed=run.train_config.seed)))
            for name in STATE_FILES.values():
                write_atomically(beside / name, block)
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Open the run at `path`. Raises CannotBeginError where there is no run at all.

        If no other process writes the run, what a killed process left is mended: temporary files are removed, and
        best.safetensors is written again if the last state is the best one and it is not in there. Where the folder
        cannot be written it is left as it is. Damage that cannot be mended is an error for whoever reads that file.
        """
        path = Path(path)
        if not (path / "config.json").exists():
            raise CannotBeginError(
                f"{path} is not a run (it has no config.json); `rosetta train --out {quoted(path)}` makes one"
            )
        config = read_json(path / "config.json")
        if config.get("format") != FORMAT or config.get("version") != VERSION:
            found = printable(f"{config.get('format')} version {config.get('version')}")
            raise RosettaError(f"{path / 'config.json'} is {found}, expected {FORMAT} version {VERSION}")
        try:
            digests = config.get("digests", {})
            if digests != {} and (not isinstance(digests, dict) or digests.keys() != set(UNCHANGING)):
                raise RosettaError(f"digests is {digests!r}")
            run = cls(
                path,
                _typed(config, "backend"),
                _read(ModelConfig, config.get("model")),
                _read(TrainConfig, config.get("train"), ADDED_LATER),
                _read(DataConfig, config.get("data")),
                _typed(config, "sha256"),
                digests,
            )
        except RosettaError as error:
            raise RosettaError(f"{path / 'config.json'} is damaged: {error}") from error
        remove_unfinished(path.resolve())
        with suppress(OSError, RosettaError), locked(path) as free:
            if free:
                run._mend()
        return run

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Hold the lock of the run while the block writes it. Raises CannotBeginError if another process has it."""
        with locked(self.path, LOCK_SECONDS) as free:
            if not free:
                raise CannotBeginError(
                    f"another process is training {self.path}; wait for its end, or train a copy of the folder"
                )
            yield

    def pairs(self) -> Pairs:
        """The sentence pairs of the run, those of training and of validation."""
        pairs, most = Pairs(), min(self.data_config.num_samples, MOST_PAIRS)
        with self._opened("pairs.tsv") as file:
            while line := file.readline(LONGEST_LINE):
                pair = tuple(self._decoded("pairs.tsv", line).removesuffix("\n").split("\t"))
                ends = line.endswith(b"\n") and len(pairs) < most
                if not ends or len(pair) != 2 or not all(0 < len(side) <= LONGEST_SENTENCE for side in pair):
                    break
                pairs.append(pair)
        if line or not pairs:
            raise RosettaError(
                f"{self.path / 'pairs.tsv'} is damaged: expected at most {most:,} lines of source, tab, target, each "
                f"of at most {LONGEST_SENTENCE:,} characters"
            )
        return pairs

    def vocabularies(self) -> tuple[CharVocabulary, CharVocabulary]:
        """The vocabularies of the encoder and of the decoder."""
        where = self.path / "vocabulary.json"
        self._text(where.name)  # compared with its digest
        content = read_json(where)
        sides = content.get("encoder"), content.get("decoder")
        model = self.model_config
        for side, size in zip(sides, (model.num_encoder_tokens, model.num_decoder_tokens), strict=True):
            characters = {c for c in side if isinstance(c, str) and len(c) == 1} if isinstance(side, list) else set()
            whole = isinstance(side, list) and len(side) == len(characters) == size and PAD in characters
            if content.get("version") != VERSION or not whole:
                raise RosettaError(f"{where} does not hold the {size} characters of the model")
        encoder, decoder = CharVocabulary(sides[0]), CharVocabulary(sides[1])  # type: ignore[arg-type]
        tokens = decoder.id_of.get(START), decoder.id_of.get(STOP)
        if tokens != (model.start_token, model.stop_token):
            raise RosettaError(
                f"{self.path / 'config.json'} does not fit its vocabulary: the tokens of start and stop are "
                f"{model.start_token} and {model.stop_token}, expected {tokens[0]} and {tokens[1]}"
            )
        return encoder, decoder

    def read_state(self, which: str, dtype: str | None = None) -> tuple[ModelState, Place]:
        """The `last` or `best` state, in the run's precision or in `dtype`, and its place in training.

        Raises RosettaError where best.safetensors is not that of the epoch which the history says is the best.
        """
        state, place = self._best_state() if which == "best" else self._state("last")
        return in_dtype(state, dtype or self.model_config.dtype), place

    def history(self) -> list[Epoch]:
        """The epochs up to that of the last state; a line written just before a crash is left out."""
        return self._history(self._state("last")[1].epoch)

    def kept(self, epochs: int, backend: str | None = None, workers: int = 1) -> str:
        """What the run has of the `epochs` that it is to have, and the command that goes on in the same way."""
        run, epoch = quoted(self.path), self.read_state("last")[1].epoch
        if epoch >= epochs:
            return f"{self.path} is whole. See it with: rosetta evaluate {run}"
        command = f"rosetta train --out {run} --resume --epochs {epochs}"
        command += f" --backend {backend}" if backend not in (None, self.backend) else ""
        command += f" --workers {workers}" if workers > 1 else ""
        return f"{self.path} keeps epoch {epoch}. Go on with: {command}"

    def begin(self) -> tuple[ModelState, Place]:
        """Mend what a crash left half done, and return the last state and its place, to train on from.

        Beside what `open` mends, the history is cut back to the last state, and a run of weights alone gets a best
        state if its weights are those of the best epoch.
        """
        return self._mend(training=True)

    def write_epoch(self, state: ModelState, epoch: Epoch, step: int) -> None:
        """Write the files of an epoch that is done, in an order in which a crash does no harm.

        The history comes first, then the last state, which makes the history's line count, then the best state, which
        can be mended from the last one.
        """
        check_state(state, self.model_config)
        with open(self.path / "history.jsonl", "a", encoding="utf-8") as log:
            log.write(_line(epoch))
            log.flush()
            os.fsync(log.fileno())
        block = to_bytes(state, asdict(Place(epoch.epoch, step, self.train_config.seed)))
        write_atomically(self.path / STATE_FILES["last"], block)
        if _best(self._history(epoch.epoch)) == epoch.epoch:
            write_atomically(self.path / STATE_FILES["best"], block)

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
        with new_folder(out) as beside:
            for name in UNCHANGING:
                with self._opened(name) as file:
                    write_atomically(beside / name, iter(partial(file.read, PIECE), b""))
            write_atomically(beside / "machine.json", self._text("machine.json"))
            replace(self, digests=_digests(beside))._write_config(beside)
            write_atomically(beside / "history.jsonl", "".join(map(_line, self.history()[: place.epoch])))
            write_atomically(beside / STATE_FILES["last"], to_bytes(ModelState(state.weights, {}), asdict(place)))

    def _write_config(self, folder: Path) -> None:
        config: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "backend": self.backend,
            "sha256": self.sha256,
            "digests": self.digests,
        }
        config |= {"model": asdict(self.model_config), "train": asdict(self.train_config)}
        write_json(folder / "config.json", config | {"data": asdict(self.data_config)})

    def _mend(self, training: bool = False) -> tuple[ModelState, Place]:
        """Do what `open` promises, or `begin` if the run is for `training`. The lock of the run must be held."""
        # The files that are written again and again.
        for name in ("config.json", "history.jsonl", "trouble.json", *STATE_FILES.values()):
            for unfinished in self.path.glob(f".{name}.*{UNFINISHED}"):
                unfinished.unlink()
        state, place = self._state("last")
        history = self._history(place.epoch)
        text = "".join(map(_line, history))
        # Whoever only reads leaves the history: a process on another machine, which has no part in the lock, may
        # just have written an epoch's line and not yet its state.
        if training and text != self._text("history.jsonl"):
            write_atomically(self.path / "history.jsonl", text)
        best = self.path / STATE_FILES["best"]
        if history and _best(history) == place.epoch and (training or best.exists()):
            block = self._block("last")
            if not best.exists() or self._block("best") != block:
                write_atomically(best, block)
        return state, place

    def _state(self, which: str) -> tuple[ModelState, Place]:
        """The state in the file of `which`, in the run's precision, and its place in training."""
        path = self.path / STATE_FILES[which]
        try:
            state, metadata = from_bytes(self._block(which))
            if not state.mean_squares:  # weights alone
                state = ModelState(state.weights, {name: np.zeros_like(w) for name, w in state.weights.items()})
            check_state(state, self.model_config)
            return state, _read(Place, metadata)
        except OSError as error:
            advice = "; a run of weights alone has the last state only" if which == "best" else ""
            raise RosettaError(f"{path} cannot be read: {error.strerror}{advice}") from error
        except RosettaError as error:
            raise RosettaError(f"{path} is damaged: {error}") from error

    def _block(self, which: str) -> bytes:
        return read_at_most(largest_block(self.model_config), self.path / STATE_FILES[which])

    def _best_state(self) -> tuple[ModelState, Place]:
        """The best state by the history. Between the two writes of an epoch, it is in the last state's file."""
        for _ in range(BEST_TRIES):
            last, last_place = self._state("last")
            best = _best(self._history(last_place.epoch))
            state, place = self._state("best")
            if place.epoch == best:
                return state, place
            if last_place.epoch == best:
                return last, last_place
        raise RosettaError(
            f"{self.path / STATE_FILES['best']} is of epoch {place.epoch}, and the history's lowest validation loss "
            f"is that of epoch {best}, whose state is lost; the last state can be used"
        )

    def _history(self, last: int) -> list[Epoch]:
        """The epochs 1 to `last`.

        An epoch may have several lines, if two processes trained the run before it had a lock; the last one counts.
        """
        found: dict[int, Epoch] = {}
        for line in self._text("history.jsonl").split("\n"):
            with suppress(ValueError, RecursionError, RosettaError):  # a line that is not needed may be anything
                epoch = _read(Epoch, json.loads(line))
                found[epoch.epoch] = epoch
        for number in range(1, last + 1):
            if number not in found:
                raise RosettaError(
                    f"{self.path / 'history.jsonl'} is damaged: epoch {number} has no line that can be read, "
                    f"expected one line for each of the epochs 1 to {last}"
                )
        return [found[number] for number in range(1, last + 1)]

    def _text(self, name: str) -> str:
        """The text of a file, compared with its digest if it has one."""
        with self._opened(name) as file:
            return self._decoded(name, file.read())

    @contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        """A file of text, opened and compared with its digest if it has one."""
        with ExitStack() as stack:
            try:
                file = stack.enter_context(open_at_most(LARGEST_TEXTS.get(name, LARGEST_JSON), self.path / name))
                digest = _digest(file)
                file.seek(0)
            except OSError as error:
                raise RosettaError(f"{self.path / name} cannot be read: {why(error)}") from error
            if self.digests.get(name, digest) != digest:
                raise RosettaError(f"{self.path / name} has changed since the run was begun: its SHA-256 is another")
            yield file

    def _decoded(self, name: str, content: bytes) -> str:
        """Text of the file of this name."""
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise RosettaError(f"{self.path / name} cannot be read: {error}") from error


def refuse_existing(
    path: Path, advice: str = "choose another --out, or go on with that run by --resume --epochs TOTAL"
) -> None:
    """Raise CannotBeginError where `path` exists, so that nothing is overwritten."""
    if path.exists():
        raise CannotBeginError(f"{path} exists already; {advice}")


def _digest(file: BinaryIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # whose type is too narrow


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each of the UNCHANGING files in a folder."""
    digests = {}
    for name in UNCHANGING:
        with open(folder / name, "rb") as file:
            digests[name] = _digest(file)
    return digests


def _lines_of(pairs: Sequence[Pair]) -> Iterator[bytes]:
    """The lines of pairs.tsv."""
    return (f"{source}\t{target}\n".encode() for source, target in pairs)


def _check_size(path: Path, count: int) -> None:
    """Raise CannotBeginError where a new pairs.tsv is larger than can be read again."""
    size = path.stat().st_size
    if size > LARGEST_TEXTS["pairs.tsv"]:
        raise CannotBeginError(
            f"the {count:,} pairs are {size:,} bytes of text, and a run keeps "
            f"{LARGEST_TEXTS['pairs.tsv']:,} at most; give a smaller --num-samples"
        )


def _line(epoch: Epoch) -> str:
    """An epoch's line of history.jsonl."""
    return json.dumps(asdict(epoch)) + "\n"


def _best(history: Sequence[Epoch]) -> int:
    """The number of the epoch with the lowest validation loss; 0 before the first epoch."""
    return min(history, key=lambda epoch: epoch.val_loss).epoch if history else 0


def _read(kind: type[Config], values: Any, added_later: Mapping[str, Any] | None = None) -> Config:
    """A dataclass made from a JSON object, in which each field is present or in `added_later`, and of its type.

    Raises RosettaError for an object that is not like that, and for a value that the dataclass refuses.
    """
    names = {field.name: field.type for field in fields(kind)}
    values = {**(added_later or {}), **values} if isinstance(values, dict) else {}
    if values.keys() != names.keys():
        raise RosettaError(f"expected the fields {', '.join(names)}")
    for name, expected in names.items():
        accepted = (int, float) if expected is float else expected
        value_is_bool = isinstance(values[name], bool)  # Python counts a bool among the ints
        if not isinstance(values[name], accepted) or value_is_bool != (expected is bool):  # type: ignore[arg-type]
            raise RosettaError(f"{name} is {values[name]!r}")
    return kind(**values)


def _typed(config: dict[str, Any], name: str) -> str:
    """The string that stands under `name`. Raises RosettaError where there is none."""
    if not isinstance(config.get(name), str):
        raise RosettaError(f"{name} is {config.get(name)!r}")
    return str(config[name])
