"""A training run on disk. It is whole after every epoch,
and every backend can read it and resume it to the bit.

config.json        the backend; the settings of model, training and data; the lengths of the longest
                   sentences; the SHA-256 of the corpus and of the two files that never change:
                   vocabulary.json and pairs.tsv
vocabulary.json    the characters of both sides
pairs.tsv          the sentence pairs that are used
machine.json       the machine on which the run was begun
state.safetensors  weights and RMSprop slots of the last epoch; under best/ the weights of the epoch
                   with the lowest validation loss, where that is not the last; in its metadata the
                   number of optimizer steps, the figures of every epoch, and a checksum

An epoch is one rename of state.safetensors, so a crash leaves the epoch before or this one. One
process at a time writes a run: it holds the lock of its file .lock. A file that differs from its
SHA-256 or checksum is refused.

A run of weights alone has no slots, which are read as zeros, and no best/.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from safetensors import SafetensorError

from common.corpus import Corpus, Material, Pair
from common.errors import CannotBeginError, RosettaError, refusing, why
from common.files import (
    LARGEST_JSON,
    new_folder,
    open_at_most,
    read_at_most,
    write_atomically,
    write_json,
)
from common.machine import describe_machine
from common.settings import LARGEST_TEXT, MOST_PAIRS, DataConfig, ModelConfig, TrainConfig
from common.tensors import START, STOP, CharVocabulary
from common.text import LONGEST_LINE, LONGEST_SENTENCE, PIECE, printable, quoted
from common.weights import (
    Checkpoint,
    Epoch,
    ModelState,
    Progress,
    check_state,
    in_dtype,
    largest_block,
)

STATE = "state.safetensors"
LOCK = ".lock"
# Bytes of a file of text that are read.
# Unicode's normal form may take three times the bytes of a corpus.
LARGEST_TEXTS = {
    "pairs.tsv": 3 * LARGEST_TEXT,
    "vocabulary.json": LARGEST_JSON,
    "machine.json": LARGEST_JSON,
}
# Waited for the lock, since a process whose parent was just killed holds it until it notices.
LOCK_SECONDS = 3.0
# Weights alone, trained on the phrasebook.
BUNDLED_RUN = Path(__file__).parent / "phrasebook" / "run"

Length = Annotated[int, msgspec.Meta(ge=1, le=LONGEST_SENTENCE + len(START + STOP))]
Character = Annotated[str, msgspec.Meta(min_length=1, max_length=1)]
# The SHA-256 of each file that never changes.
Digests = TypedDict("Digests", {"vocabulary.json": str, "pairs.tsv": str})


class _VocabularyFile(msgspec.Struct, frozen=True):
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
    max_decoder_seq_length: Length  # T_dec, the length of the longest target, with "\t" and "\n"
    sha256: str  # of the corpus's text
    digests: Digests  # of the files that never change
    format: Literal["rosetta-run"] = "rosetta-run"
    version: Literal[3] = 3

    @classmethod
    def create(
        cls,
        path: Path,
        backend: str,
        configs: tuple[ModelConfig, TrainConfig, DataConfig],
        material: Material,
        state: ModelState,
    ) -> "RunDirectory":
        """Write a new run, which is at `path` whole or not at all.
        Raises CannotBeginError where `path` exists."""
        refuse_existing(path)
        with new_folder(path) as beside:
            encoder = material.encoder_vocabulary.characters
            decoder = material.decoder_vocabulary.characters
            write_json(
                beside / "vocabulary.json", {"version": 1, "encoder": encoder, "decoder": decoder}
            )
            lines = (f"{source}\t{target}\n".encode() for source, target in material.pairs)
            write_atomically(beside / "pairs.tsv", lines)
            longest = material.max_encoder_seq_length, material.max_decoder_seq_length
            digests: Digests = {
                "vocabulary.json": _digest(beside / "vocabulary.json"),
                "pairs.tsv": _digest(beside / "pairs.tsv"),
            }
            run = cls(path, backend, *configs, *longest, material.sha256, digests)
            write_json(beside / "config.json", run._settings())
            write_json(beside / "machine.json", describe_machine())
            new = Checkpoint(state, state.weights, Progress(step=0, history=()))
            write_atomically(beside / STATE, new.to_pieces())
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Open the run at `path`; nothing is written, and only config.json is read now.

        Raises CannotBeginError where there is no run at all.
        Damage is an error for whoever reads the damaged file.
        """
        path = Path(path)
        file = path / "config.json"
        if not file.exists():
            raise CannotBeginError(
                f"{path} is not a run (it has no config.json); `rosetta train --out "
                f"{quoted(path)}` makes one"
            )
        with _refusing_damage(file):
            content = msgspec.json.decode(read_at_most(LARGEST_JSON, file), type=dict[str, Any])
            # Leaves a Path.
            run = msgspec.convert(
                {**content, "path": path}, cls, dec_hook=lambda kind, value: value
            )
            settings = run._settings()
            # Of a run older than the setting.
            for name in {"model", "max_length"} - content["model_config"].keys():
                del settings["model_config"][name]
            if settings != content:
                raise ValueError("a setting is missing, or it has one that is not known")
        return run

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Hold the lock of the run while the block writes it.
        Raises CannotBeginError if another process has it.

        The operating system frees the lock when its process ends, even when the process is killed.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / LOCK, timeout=LOCK_SECONDS)
        with refusing(f"{self.path} cannot be locked"):
            try:
                lock.acquire()
            except Timeout as error:
                raise CannotBeginError(
                    f"another process is training {self.path}; wait for its end, or train a copy "
                    "of the folder"
                ) from error
        try:
            yield
        finally:
            lock.release()

    def pairs(self) -> list[Pair]:
        """The sentence pairs of the run, for training and validation."""
        path, most = self._checked("pairs.tsv"), min(self.data_config.num_samples, MOST_PAIRS)
        pairs: list[Pair] = []
        with _refusing_damage(path), path.open("rb") as file:
            for line in iter(partial(file.readline, LONGEST_LINE), b""):
                source, target = line.decode().removesuffix("\n").split("\t")
                lengths_fit = (
                    0 < len(source) <= LONGEST_SENTENCE and 0 < len(target) <= LONGEST_SENTENCE
                )
                if not (lengths_fit and line.endswith(b"\n") and len(pairs) < most):
                    raise ValueError(
                        f"expected at most {most:,} lines of source, tab, target, each of at most "
                        f"{LONGEST_SENTENCE:,} characters"
                    )
                pairs.append((source, target))
            if not pairs:
                raise ValueError("it holds no pair")
        return pairs

    @cached_property
    def vocabularies(self) -> tuple[CharVocabulary, CharVocabulary]:
        """The vocabularies of the encoder and of the decoder,
        which go with the run to other processes."""
        path, model = self.path / "vocabulary.json", self.model_config
        with _refusing_damage(path):
            block = read_at_most(LARGEST_JSON, path)
            self._require_digest(path.name, hashlib.sha256(block).hexdigest())
            content = msgspec.json.decode(block, type=_VocabularyFile)
            encoder, decoder = CharVocabulary(content.encoder), CharVocabulary(content.decoder)
            tokens = decoder.id_of.get(START), decoder.id_of.get(STOP)
            # A vocabulary drops what it has twice, and adds the space.
            sizes = (len(content.encoder), len(encoder)), (len(content.decoder), len(decoder))
            expected = (model.num_encoder_tokens,) * 2, (model.num_decoder_tokens,) * 2
            if sizes != expected or tokens != (model.start_token, model.stop_token):
                raise ValueError("its characters are not those of the model in config.json")
        return encoder, decoder

    def material(self) -> Material:
        """The run's pairs made ready for its model.

        They have the same vocabularies and the same split as when the run was begun.
        """
        model = self.model_config
        settings = self.data_config, self.train_config.seed, model.dtype, model.padding
        return Material.of_corpus(Corpus(self.pairs(), self.sha256), *settings, self.vocabularies)

    def read(self) -> Checkpoint:
        """The last checkpoint, in the run's precision."""
        path = self.path / STATE
        with _refusing_damage(path):
            return Checkpoint.from_bytes(
                read_at_most(largest_block(self.model_config), path), self.model_config
            )

    def read_state(self, which: str, dtype: str | None = None) -> tuple[ModelState, Progress]:
        """The `last` or `best` state, in the run's precision or in `dtype`,
        and how far training had come.

        The slots of the best state are zeros, unless it is the last one. Raises RosettaError where
        the run was made of the weights of a later epoch alone.
        """
        checkpoint = self.read()
        if which == "best":
            if not checkpoint.best:
                raise RosettaError(
                    f"{self.path} has no weights of its best epoch, {checkpoint.progress.best}: it "
                    "was made of those of a later one alone; its last weights can be used"
                )
            checkpoint = checkpoint.at_best()
        return in_dtype(checkpoint.state, dtype or self.model_config.dtype), checkpoint.progress

    def history(self) -> tuple[Epoch, ...]:
        """The epochs of the run."""
        return self.read().progress.history

    def trained_in(self) -> str:
        """The backends with the epochs that each trained,
        such as "keras: 1 to 40, torch: 41 to 55"."""
        parts = []
        for backend, group in groupby(self.history(), key=lambda epoch: epoch.backend):
            epochs = [epoch.epoch for epoch in group]
            parts.append(
                f"{backend}: {epochs[0]}" + (f" to {epochs[-1]}" if len(epochs) > 1 else "")
            )
        return ", ".join(parts)

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint in place of the last one.
        Raises RosettaError for one that could not be read again."""
        check_state(checkpoint.state, self.model_config)
        pieces = checkpoint.to_pieces()
        if sum(memoryview(piece).nbytes for piece in pieces) > largest_block(self.model_config):
            raise RosettaError(
                f"{self.path} cannot keep epoch {checkpoint.progress.epoch}: its history is too "
                "long to be read"
            )
        write_atomically(self.path / STATE, pieces)

    def with_learning_rate(self, learning_rate: float) -> "RunDirectory":
        """The same run with another learning rate, a float32,
        which is written into its config.json."""
        train_config = replace(self.train_config, learning_rate=learning_rate)
        run = replace(self, train_config=train_config)
        write_json(run.path / "config.json", run._settings())
        return run

    def write_weights(self, which: str, out: Path) -> None:
        """Write the `last` or `best` weights as a new run,
        without RMSprop's slots: a third of a run's size.

        The history of the new run ends with the epoch of these weights.
        Raises CannotBeginError where `out` exists.
        """
        refuse_existing(out, "choose another --out")
        state, progress = self.read_state(which)
        with new_folder(out) as beside:
            for name in (*self.digests, "machine.json"):
                with self._checked(name).open("rb") as file:
                    write_atomically(beside / name, iter(partial(file.read, PIECE), b""))
            write_json(beside / "config.json", self._settings())
            write_atomically(
                beside / STATE, Checkpoint(ModelState(state.weights, {}), {}, progress).to_pieces()
            )

    def _settings(self) -> dict[str, Any]:
        """The content of config.json."""
        settings = asdict(self)
        del settings["path"]
        return settings

    def _checked(self, name: str) -> Path:
        """The path of a file of text, compared with its digest if it has one."""
        path = self.path / name
        digest = _digest(path)
        with _refusing_damage(path):
            self._require_digest(name, digest)
        return path

    def _require_digest(self, name: str, digest: str) -> None:
        """Raise ValueError where a file of text has another digest than when the run was begun."""
        if self.digests.get(name, digest) != digest:
            raise ValueError("it has changed since the run was begun: its SHA-256 is another")


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Raise RosettaError, which names the file,
    where the block cannot read it or finds that it is damaged."""
    try:
        yield
    except OSError as error:
        raise RosettaError(f"{path} cannot be read: {why(error)}") from error
    except (
        RosettaError,
        SafetensorError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise RosettaError(f"{path} is damaged: {printable(str(error))}") from error


def refuse_existing(
    path: Path,
    advice: str = "choose another --out, or go on with that run by --resume --epochs TOTAL",
) -> None:
    """Raise CannotBeginError where `path` exists, so that nothing is overwritten;
    also a link to nothing."""
    if os.path.lexists(path):  # False for a name that is too long, which is refused later
        raise CannotBeginError(f"{path} exists already; {advice}")


def _digest(path: Path) -> str:
    """The SHA-256 of a file of text. Raises RosettaError
    where the file cannot be read or is larger than is read."""
    with _refusing_damage(path), open_at_most(LARGEST_TEXTS[path.name], path) as file:
        # Its declared type is too narrow.
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
