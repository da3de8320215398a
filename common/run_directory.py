"""A training run on disk. It is whole after every epoch, and every backend can read it and resume it to the bit.

config.json        the backend; the settings of model, training and data; the lengths of the longest sentences; the
                   SHA-256 of the corpus and of the two files that never change: vocabulary.json and pairs.tsv
vocabulary.json    the characters of both sides
pairs.tsv          the sentence pairs that are used
machine.json       the machine on which the run was begun
state.safetensors  weights and RMSprop slots of the last epoch; in its metadata the number of optimizer steps, the
                   figures of every epoch, and a checksum
best.safetensors   the same for the epoch with the lowest validation loss; from the first epoch on

An epoch is one rename, that of state.safetensors, so the weights and the history never disagree. best.safetensors is
written after it. Where a crash comes between the two, the history says that the last state is the best one: readers
take it from state.safetensors, and `RunDirectory.begin` writes best.safetensors before training goes on.

A run of weights alone has no best.safetensors, and its state has no slots; they are read as zeros. A file that
differs from its SHA-256 or checksum is refused. One process at a time writes a run: it holds the lock of the folder.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import numpy as np

from common.config import LARGEST, LARGEST_TEXT, MOST_PAIRS, DataConfig, ModelConfig, TrainConfig, require
from common.corpus import Pair, Pairs
from common.errors import CannotBeginError, RosettaError, why
from common.files import (
    LARGEST_JSON,
    UNFINISHED,
    locked,
    new_folder,
    open_at_most,
    read_at_most,
    write_atomically,
    write_json,
)
from common.machine import describe_machine
from common.tensors import START, STOP, CharVocabulary
from common.text import LONGEST_LINE, LONGEST_SENTENCE, PIECE, printable, quoted
from common.weights import ModelState, check_state, from_bytes, in_dtype, largest_block, to_bytes

FORMAT = "rosetta-run"
VERSION = 2
STATE_FILES = {"last": "state.safetensors", "best": "best.safetensors"}
REWRITTEN = ("config.json", *STATE_FILES.values())  # the files that training writes again
LARGEST_TEXTS = {"pairs.tsv": LARGEST_TEXT}  # bytes; the other files of text have LARGEST_JSON
LOCK_SECONDS = 3.0  # waited for the lock, since a process whose parent was just killed holds it until it notices
BUNDLED_RUN = Path(__file__).parent / "phrasebook" / "run"  # weights alone, trained on the phrasebook

Length = Annotated[int, msgspec.Meta(ge=1, le=LONGEST_SENTENCE + len(START + STOP))]
Character = Annotated[str, msgspec.Meta(min_length=1, max_length=1)]
# The SHA-256 of each file that never changes.
Digests = TypedDict("Digests", {"vocabulary.json": str, "pairs.tsv": str})


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch."""

    epoch: int  # counted from 1
    loss: float
    val_loss: float
    accuracy: float
    val_accuracy: float
    val_accuracy_real: float
    seconds: float  # duration of the training steps, without validation
    backend: str  # that trained it

    def __post_init__(self) -> None:
        finite = (-sys.float_info.max, sys.float_info.max)
        require(self, epoch=(1, LARGEST), loss=finite, val_loss=finite)


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far training had come when a state was written; the metadata of the state's file."""

    step: int  # optimizer steps taken
    history: tuple[Epoch, ...]  # all epochs, in order

    def __post_init__(self) -> None:
        require(self, step=(0, LARGEST))
        if [epoch.epoch for epoch in self.history] != list(range(1, self.epoch + 1)):
            raise ValueError(f"expected one entry of the history for each of the epochs 1 to {self.epoch}")

    @property
    def epoch(self) -> int:
        """The number of the last epoch; 0 before the first one."""
        return len(self.history)

    @property
    def best(self) -> int:
        """The number of the epoch with the lowest validation loss; 0 before the first one."""
        return min(self.history, key=lambda epoch: epoch.val_loss).epoch if self.history else 0


class _Characters(msgspec.Struct, frozen=True):
    """The content of vocabulary.json."""

    version: Literal[1]
    encoder: list[Character]
    decoder: list[Character]


@dataclass(frozen=True)
class RunDirectory:
    """An opened run. Everything but `create` raises RosettaError for a run that is damaged."""

    path: Path
    # The rest is the content of config.json, by the same names.
    backend: str  # the one that began it
    model_config: ModelConfig
    train_config: TrainConfig
    data_config: DataConfig
    max_encoder_seq_length: Length  # T_enc, the length of the longest source
    max_decoder_seq_length: Length  # T_dec, that of the longest target, "\t" and "\n" counted
    sha256: str  # of the corpus's text
    digests: Digests  # of the files that never change

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
            write_json(beside / "vocabulary.json", {"version": 1} | sides)
            write_atomically(beside / "pairs.tsv", (f"{source}\t{target}\n".encode() for source, target in pairs))
            if (size := (beside / "pairs.tsv").stat().st_size) > (most := LARGEST_TEXTS["pairs.tsv"]):
                raise CannotBeginError(
                    f"the {len(pairs):,} pairs are {size:,} bytes of text, and a run keeps {most:,} at most; give a "
                    "smaller --num-samples"
                )
            longest = max(len(source) for source, _ in pairs), max(len(START + target + STOP) for _, target in pairs)
            digests: Digests = {
                "vocabulary.json": _digest(beside / "vocabulary.json"),
                "pairs.tsv": _digest(beside / "pairs.tsv"),
            }
            run = cls(path, backend, *configs, *longest, sha256, digests)
            write_json(beside / "config.json", run._settings())
            write_json(beside / "machine.json", describe_machine())
            write_atomically(beside / STATE_FILES["last"], _block(state, Progress(step=0, history=())))
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Open the run at `path`; nothing is written, and only config.json is read now.

        Raises CannotBeginError where there is no run at all. Damage is an error for whoever reads the damaged file.
        """
        path = Path(path)
        file = path / "config.json"
        if not file.exists():
            raise CannotBeginError(
                f"{path} is not a run (it has no config.json); `rosetta train --out {quoted(path)}` makes one"
            )
        with _reading(file):
            # A name that is not UTF-8 has lone surrogates, which msgspec reads from no JSON.
            content = msgspec.convert(json.loads(read_at_most(LARGEST_JSON, file)), dict[str, Any])
            if (content.get("format"), content.get("version")) != (FORMAT, VERSION):
                found = f"{content.get('format')} version {content.get('version')}"
                raise ValueError(f"it is {found}, expected {FORMAT} version {VERSION}")
            run = msgspec.convert(content | {"path": path}, cls, dec_hook=lambda kind, value: value)  # leaves a Path
            if run._settings() != content:
                raise ValueError("a setting is missing, or it has one that is not known")
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
        path, most = self._checked("pairs.tsv"), min(self.data_config.num_samples, MOST_PAIRS)
        pairs = Pairs()
        with _reading(path), path.open("rb") as file:
            for line in iter(partial(file.readline, LONGEST_LINE), b""):
                sides = line.decode().removesuffix("\n").split("\t")
                lengths_fit = all(0 < len(side) <= LONGEST_SENTENCE for side in sides)
                if not (lengths_fit and len(sides) == 2 and line.endswith(b"\n") and len(pairs) < most):
                    raise ValueError(
                        f"expected at most {most:,} lines of source, tab, target, each of at most "
                        f"{LONGEST_SENTENCE:,} characters"
                    )
                pairs.append((sides[0], sides[1]))
            if not pairs:
                raise ValueError("it holds no pair")
        return pairs

    def vocabularies(self) -> tuple[CharVocabulary, CharVocabulary]:
        """The vocabularies of the encoder and of the decoder."""
        path, model = self._checked("vocabulary.json"), self.model_config
        sizes = model.num_encoder_tokens, model.num_decoder_tokens
        with _reading(path):
            content = msgspec.json.decode(read_at_most(LARGEST_JSON, path), type=_Characters)
            encoder, decoder = CharVocabulary(content.encoder), CharVocabulary(content.decoder)
            # A vocabulary drops what it has twice, and adds the space.
            if not (len(content.encoder), len(content.decoder)) == (len(encoder), len(decoder)) == sizes:
                raise ValueError(f"expected the {sizes[0]} and {sizes[1]} characters of the model's two sides")
        tokens = decoder.id_of.get(START), decoder.id_of.get(STOP)
        if tokens != (model.start_token, model.stop_token):
            raise RosettaError(
                f"{self.path / 'config.json'} does not fit its vocabulary: the tokens of start and stop are "
                f"{model.start_token} and {model.stop_token}, expected {tokens[0]} and {tokens[1]}"
            )
        return encoder, decoder

    def read_state(self, which: str, dtype: str | None = None) -> tuple[ModelState, Progress]:
        """The `last` or `best` state, in the run's precision or in `dtype`, and how far training had come.

        Raises RosettaError where best.safetensors is not that of the epoch which the history says is the best.
        """
        state, progress = self._state("last")
        if which == "best" and progress.best != progress.epoch:
            best, last = progress.best, progress.epoch
            state, progress = self._state("best")
            # Another process may have written a later epoch since the last state was read.
            if progress.epoch != best and progress.epoch <= last:
                raise RosettaError(
                    f"{self.path / STATE_FILES['best']} is of epoch {progress.epoch}, and the history's lowest "
                    f"validation loss is that of epoch {best}, whose state is lost; the last state can be used"
                )
        return in_dtype(state, dtype or self.model_config.dtype), progress

    def history(self) -> tuple[Epoch, ...]:
        """The epochs of the run."""
        return self._state("last")[1].history

    def trained_in(self) -> str:
        """Which backend trained which epochs, such as "keras: 1 to 40, torch: 41 to 55"."""
        found = []
        for backend, group in groupby(self.history(), key=lambda epoch: epoch.backend):
            epochs = [epoch.epoch for epoch in group]
            found.append(f"{backend}: {epochs[0]}" + (f" to {epochs[-1]}" if len(epochs) > 1 else ""))
        return ", ".join(found)

    def kept(self, epochs: int, backend: str | None = None, workers: int = 1) -> str:
        """What the run has of the `epochs` that it is to have, and the command that goes on in the same way."""
        run, epoch = quoted(self.path), len(self.history())
        if epoch >= epochs:
            return f"{self.path} is whole. See it with: rosetta evaluate {run}"
        command = f"rosetta train --out {run} --resume --epochs {epochs}"
        command += f" --backend {backend}" if backend not in (None, self.backend) else ""
        command += f" --workers {workers}" if workers > 1 else ""
        return f"{self.path} keeps epoch {epoch}. Go on with: {command}"

    def begin(self) -> tuple[ModelState, Progress]:
        """Make the run ready to be trained on, and return its last state. The lock of the run must be held.

        Temporary files that killed processes left are removed. best.safetensors is written if the last state is the
        best one, since a crash may have come before it was, and since a run of weights alone has none.
        """
        for name in REWRITTEN:
            for unfinished in self.path.glob(f".{name}.*{UNFINISHED}"):
                unfinished.unlink()
        state, progress = self._state("last")
        if progress.epoch and progress.best == progress.epoch:
            write_atomically(self.path / STATE_FILES["best"], _block(state, progress))
        return state, progress

    def write_epoch(self, state: ModelState, progress: Progress) -> None:
        """Write the state after an epoch and, where its validation loss is the lowest, write it as the best one, too.

        See the head of this file for why a crash at any moment does no harm.
        """
        check_state(state, self.model_config)
        block = _block(state, progress)
        if len(block) > largest_block(self.model_config):
            raise RosettaError(f"{self.path} cannot keep epoch {progress.epoch}: its history is too long to be read")
        write_atomically(self.path / STATE_FILES["last"], block)
        if progress.best == progress.epoch:
            write_atomically(self.path / STATE_FILES["best"], block)

    def with_learning_rate(self, learning_rate: float) -> "RunDirectory":
        """The same run with another learning rate, a float32, which is written into its config.json."""
        run = replace(self, train_config=replace(self.train_config, learning_rate=learning_rate))
        write_json(run.path / "config.json", run._settings())
        return run

    def write_weights(self, which: str, out: Path) -> None:
        """Write the `last` or `best` weights as a new run, without RMSprop's slots: a third of a run's size.

        The history of the new run ends with the epoch of these weights. Raises CannotBeginError where `out` exists.
        """
        refuse_existing(out, "choose another --out")
        state, progress = self.read_state(which)
        with new_folder(out) as beside:
            for name in (*self.digests, "machine.json"):
                with self._checked(name).open("rb") as file:
                    write_atomically(beside / name, iter(partial(file.read, PIECE), b""))
            write_json(beside / "config.json", self._settings())
            write_atomically(beside / STATE_FILES["last"], _block(ModelState(state.weights, {}), progress))

    def _settings(self) -> dict[str, Any]:
        """The content of config.json."""
        settings = asdict(self)
        del settings["path"]
        return {"format": FORMAT, "version": VERSION} | settings

    def _state(self, which: str) -> tuple[ModelState, Progress]:
        """The state in the file of `which`, in the run's precision, and how far training had come."""
        path = self.path / STATE_FILES[which]
        with _reading(path, "; a run of weights alone has the last state only" if which == "best" else ""):
            state, metadata = from_bytes(read_at_most(largest_block(self.model_config), path))
            if not state.mean_squares:  # weights alone
                state = ModelState(state.weights, {name: np.zeros_like(w) for name, w in state.weights.items()})
            check_state(state, self.model_config)
            return state, msgspec.convert(metadata, Progress)

    def _checked(self, name: str) -> Path:
        """The path of a file of text, compared with its digest if it has one."""
        path = self.path / name
        digest = _digest(path)
        if self.digests.get(name, digest) != digest:
            raise RosettaError(f"{path} has changed since the run was begun: its SHA-256 is another")
        return path


@contextmanager
def _reading(path: Path, advice: str = "") -> Iterator[None]:
    """Raise RosettaError, which names the file, where the block cannot read it or finds that it is damaged."""
    try:
        yield
    except OSError as error:
        if error.filename is None:  # of a temporary file
            raise
        raise RosettaError(f"{path} cannot be read: {why(error)}{advice}") from error
    except (RosettaError, KeyError, TypeError, ValueError, RecursionError) as error:
        words = str(error)  # which name the file where it is too large
        raise RosettaError(
            words if words.startswith(str(path)) else f"{path} is damaged: {printable(words)}"
        ) from error


def refuse_existing(
    path: Path, advice: str = "choose another --out, or go on with that run by --resume --epochs TOTAL"
) -> None:
    """Raise CannotBeginError where `path` exists, so that nothing is overwritten; also a link to nothing."""
    if os.path.lexists(path):  # False for a name that is too long, which is refused later
        raise CannotBeginError(f"{path} exists already; {advice}")


def _block(state: ModelState, progress: Progress) -> bytes:
    """The content of a state's file."""
    return to_bytes(state, msgspec.to_builtins(progress))


def _digest(path: Path) -> str:
    """The SHA-256 of a file of text. Raises RosettaError where the file cannot be read or is larger than is read."""
    with _reading(path), open_at_most(LARGEST_TEXTS.get(path.name, LARGEST_JSON), path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # whose type is too narrow
