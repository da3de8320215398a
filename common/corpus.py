"""Sentence pairs from the bundled phrasebook, from manythings.org/anki or from a file, and how they are split."""

import codecs
import hashlib
import io
import lzma
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config import DataConfig
from common.download import download
from common.errors import CannotBeginError

PHRASEBOOK = Path(__file__).parent / "phrasebook" / "phrasebook.txt"
ANKI_NAME = re.compile(r"[a-z]{3}-eng")  # a pair of languages as manythings.org/anki names it
LARGEST_TEXT = 1 << 30  # the most bytes that an archive may unpack to
ZIPPED = b"PK\x03\x04"  # the first bytes of an archive, also of one that was cut short

# The exceptions with which zipfile answers to an archive that it cannot unpack.
UNZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,  # an unknown method of compression
    RuntimeError,  # an archive with a password
    EOFError,
    ValueError,
    OSError,
)

Pair = tuple[str, str]  # source, target


@dataclass(frozen=True)
class Corpus:
    """Sentence pairs and where they come from."""

    pairs: list[Pair]
    sha256: str  # of the whole text file; published logs of the example come from different versions of it
    skipped_lines: int = 0  # lines that were left out because they hold no pair


def normalize(text: str) -> str:
    """The text in Unicode's normal form NFC, so that a character is the same character however it was typed."""
    return unicodedata.normalize("NFC", text)


def read_corpus(config: DataConfig) -> Corpus:
    """The first `num_samples` pairs of the corpus that `config.data` names. Raises CannotBeginError."""
    text = _read_text(config.data)
    pairs: list[Pair] = []
    skipped = 0
    for number, line in enumerate(_lines(text), 1):
        if len(pairs) == config.num_samples:
            break
        try:
            pairs.append(_pair(line))
        except ValueError as error:
            if not config.skip_bad_lines:
                raise CannotBeginError(
                    f"{config.data}, line {number}: {error}; expected source, tab, target, as UTF-8. "
                    "Mend the line, or leave out all such lines with --skip-bad-lines"
                ) from error
            skipped += 1
    if not pairs:
        raise CannotBeginError(f"{config.data} holds no sentence pair; expected lines of source, tab, target")
    return Corpus(pairs, hashlib.sha256(text).hexdigest(), skipped)


def _lines(text: bytes) -> list[bytes]:
    """The lines without their line feeds. What follows the last line feed is a line only if it is not empty."""
    lines = text.removeprefix(codecs.BOM_UTF8).split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _pair(line: bytes) -> Pair:
    try:
        columns = line.removesuffix(b"\r").decode().split("\t")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} of the line is not UTF-8") from error
    if columns == [""]:
        raise ValueError("the line is empty")
    if not 2 <= len(columns) <= 3:
        raise ValueError(f"{len(columns)} column{'s' * (len(columns) > 1)} instead of 2 or 3")
    source, target = normalize(columns[0]), normalize(columns[1])
    if not source or not target:
        raise ValueError(f"the {'target' if source else 'source'} is empty")
    return source, target


def _read_text(data: str) -> bytes:
    if data == "phrasebook":
        return PHRASEBOOK.read_bytes()
    try:
        path = Path(data).expanduser()
        if not path.exists() and ANKI_NAME.fullmatch(data):
            path = download(data)
        content = path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # the last two come from names that no file can have
        reason = error.strerror if isinstance(error, OSError) else error
        raise CannotBeginError(
            f"{data} cannot be read ({reason}); expected a text file, a manythings zip, a pair of "
            'manythings.org such as "fra-eng", or "phrasebook"'
        ) from error
    zipped = content.startswith(ZIPPED) or zipfile.is_zipfile(io.BytesIO(content))
    return _unpack(data, content) if zipped else content


def _unpack(data: str, content: bytes) -> bytes:
    """The only text file in a zip of manythings.org, unpacked in memory: no name in a zip decides where we write."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            texts = [i for i in archive.infolist() if i.filename.endswith(".txt") and i.filename != "_about.txt"]
            if len(texts) != 1:
                raise CannotBeginError(f"{data} holds {len(texts)} text files, expected one beside _about.txt")
            with archive.open(texts[0]) as member:
                text = member.read(LARGEST_TEXT + 1)
    except UNZIP_ERRORS as error:
        raise CannotBeginError(f"{data} is not a zip that can be unpacked: {error}") from error
    if len(text) > LARGEST_TEXT:
        raise CannotBeginError(f"{data} unpacks to more than {LARGEST_TEXT >> 30} GiB, which no corpus here needs")
    return text


def split(pairs: Sequence[Pair], config: DataConfig, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the training rows and of the validation rows, both in the order of the corpus.

    `tail` holds out the last rows, as Keras's `validation_split` does; `grouped` holds out all pairs of randomly
    chosen sources, so that no sentence is on both sides. Raises CannotBeginError when a side would be empty.
    """
    if config.split == "grouped":
        sources = sorted({source for source, _ in pairs})
        held_out = np.random.default_rng(seed).permutation(len(sources))[
            : int(len(sources) * config.validation_split)
        ]
        chosen = {sources[i] for i in held_out}
        is_held_out = np.array([source in chosen for source, _ in pairs])
    else:
        is_held_out = np.arange(len(pairs)) >= int(len(pairs) * (1 - config.validation_split))
    training, validation = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if not len(training) or not len(validation):
        raise CannotBeginError(
            f"{len(pairs)} pairs with --validation-split {config.validation_split} give {len(training)} to train on "
            f"and {len(validation)} to validate on; expected at least one of each"
        )
    return training, validation


def references(pairs: Sequence[Pair]) -> dict[str, list[str]]:
    """For each source its distinct targets, in the order of the corpus."""
    found: dict[str, list[str]] = {}
    for source, target in pairs:
        targets = found.setdefault(source, [])
        if target not in targets:
            targets.append(target)
    return found
