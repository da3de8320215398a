"""Sentence pairs from the phrasebook, from manythings.org/anki or from a file,
made ready for a model and split."""

import hashlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from io import BytesIO
from itertools import chain, islice
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from common.errors import CannotBeginError, refusing
from common.files import (
    LARGEST_ARCHIVE,
    UNZIP_ERRORS,
    cache_folder,
    make_folder,
    open_archive,
    write_atomically,
)
from common.settings import LARGEST_TEXT, MOST_PAIRS, DataConfig, Padding, Precision
from common.tensors import START, STOP, Batch, CharVocabulary, vocabularies
from common.text import (
    LONGEST_LINE,
    LONGEST_SENTENCE,
    PIECE,
    count,
    normalize,
    some_of,
    split_lines,
)

PHRASEBOOK = Path(__file__).parent / "phrasebook" / "phrasebook.txt"
ANKI_URL = "https://www.manythings.org/anki"
ANKI_NAME = re.compile(r"[a-z]{3}-eng")  # a pair of languages as manythings.org/anki names it
# The first bytes of an archive, also of one that was cut short or is empty.
ZIPPED = b"PK\x03\x04", b"PK\x05\x06"
BYTES_A_NUMBER = 4  # of a float32
PAIRS_SHOWN = 5
BAD_LINES_NAMED = 10  # the others are counted

Pair = tuple[str, str]  # source, target


@dataclass(frozen=True)
class Corpus:
    """Sentence pairs and where they come from."""

    pairs: Sequence[Pair]
    # Of the whole text; published logs of the example come from different versions of its text.
    sha256: str
    skipped_lines: int = 0  # lines that were left out because they hold no pair
    cut_columns: int = 0  # columns of the pairs that had blanks at their ends


def read_corpus(config: DataConfig) -> Corpus:
    """The first `num_samples` pairs of the corpus that `config.data` names.
    Raises CannotBeginError.

    The text is read a piece at a time. Warns of lines that are skipped, and of blanks that are cut.
    """
    from common import terminal  # not needed where a run is only opened

    pairs, bad, cut_columns, digest = list[Pair](), list[str](), 0, hashlib.sha256()
    with _open_text(config.data) as text:
        pieces = _pieces(text, config.data, digest)
        lines = chain.from_iterable(split_lines(pieces))
        for number, line in enumerate(islice(lines, MOST_PAIRS + 1), 1):
            try:
                columns = _columns(line)
                pairs.append((_sentence("source", columns[0]), _sentence("target", columns[1])))
                cut_columns += sum(column != column.strip() for column in columns[:2])
            except ValueError as error:
                bad.append(f"line {number} ({error})")
            if len(pairs) == config.num_samples:
                break
        for _ in pieces:  # the rest, which is only hashed
            pass
    if bad:
        told = f"{count(len(bad), 'line')} without a pair: {some_of(bad, BAD_LINES_NAMED)}"
        if not config.skip_bad_lines:
            raise CannotBeginError(
                f"{config.data} has {told}; expected source, tab, target, as UTF-8. Mend the file, "
                "or leave such lines out with --skip-bad-lines"
            )
        terminal.warn(f"{config.data}: skipped {told}")
    if len(pairs) + len(bad) > MOST_PAIRS:
        raise CannotBeginError(
            f"{config.data} has more than {MOST_PAIRS:,} lines; give --num-samples"
        )
    if not pairs:
        raise CannotBeginError(
            f"{config.data} holds no sentence pair; expected lines of source, tab, target"
        )
    if cut_columns:
        terminal.warn(
            f"{config.data}: cut the blanks at the ends of {count(cut_columns, 'column')}"
        )
    return Corpus(pairs, digest.hexdigest(), len(bad), cut_columns)


def _pieces(text: IO[bytes], data: str, digest: "hashlib._Hash") -> Iterator[bytes]:
    """Read a text in pieces and update the digest with each.

    Raises CannotBeginError if it cannot be read or is too large.
    """
    left = LARGEST_TEXT
    try:
        while piece := text.read(PIECE):
            left -= len(piece)
            if left < 0:
                raise CannotBeginError(
                    f"{data} holds more than {LARGEST_TEXT >> 20:,} MiB of text; take its first "
                    "lines"
                )
            digest.update(piece)
            yield piece
    except UNZIP_ERRORS as error:
        raise CannotBeginError(
            f"{data} cannot be read to its end, or be unpacked: {error}"
        ) from error


def _columns(line: bytes) -> list[str]:
    """The columns of a line, two at least. Raises ValueError where it holds no pair."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"more than {LONGEST_LINE:,} bytes")
    try:
        columns = line.decode().split("\t")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from error
    if columns == [""]:
        raise ValueError("it is empty")
    if not 2 <= len(columns) <= 3:
        raise ValueError(f"{count(len(columns), 'column')} instead of 2 or 3")
    return columns


def _sentence(side: str, text: str) -> str:
    """The text without blanks at its ends, in normal form, which may be longer.

    Raises ValueError where it is empty or too long.
    """
    text = text.strip()
    normal = normalize(text[: LONGEST_SENTENCE + 1])
    if not normal:
        raise ValueError(f"the {side} is empty")
    if max(len(text), len(normal)) > LONGEST_SENTENCE:
        raise ValueError(f"the {side} has more than {LONGEST_SENTENCE:,} characters")
    return normal


@contextmanager
def _open_text(data: str) -> Iterator[IO[bytes]]:
    """Open the text of a corpus, inside its archive if it has one."""
    try:
        path = PHRASEBOOK if data == "phrasebook" else Path(data).expanduser()
        if not path.exists() and ANKI_NAME.fullmatch(data):
            path = download(data)
        file = path.open("rb")
    # The last two come from names that no file can have.
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CannotBeginError(
            f"{data} cannot be read ({reason}); expected a text file, a manythings zip, a pair of "
            'manythings.org such as "fra-eng", or "phrasebook"'
        ) from error
    with file:
        if file.peek(len(ZIPPED[0])).startswith(ZIPPED):
            pieces = islice(iter(partial(file.read, PIECE), b""), LARGEST_ARCHIVE // PIECE + 1)
            with _member(data, b"".join(pieces)) as text:
                yield text
        else:
            yield file


def _member(data: str, content: bytes) -> IO[bytes]:
    """The only text file in a zip of manythings.org, unpacked in memory:
    no name in a zip decides where we write."""
    if len(content) > LARGEST_ARCHIVE:
        raise CannotBeginError(
            f"{data} is an archive of more than {LARGEST_ARCHIVE >> 20} MiB; unpack it first"
        )
    try:
        archive = open_archive(content)
        texts = [
            i
            for i in archive.infolist()
            if i.filename.endswith(".txt") and i.filename != "_about.txt"
        ]
        if len(texts) != 1:
            raise CannotBeginError(
                f"{data} holds {len(texts)} text files, expected one beside _about.txt"
            )
        return archive.open(texts[0])
    except UNZIP_ERRORS as error:
        raise CannotBeginError(f"{data} is not a zip that can be unpacked: {error}") from error


def split(
    pairs: Sequence[Pair], config: DataConfig, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the training rows and of the validation rows, both in the order of the corpus.

    `tail` holds out the last rows, as Keras's `validation_split` does; `grouped` holds out all
    pairs of randomly chosen sources, so that no sentence is on both sides. Raises CannotBeginError
    when a side would be empty.
    """
    if config.split == "grouped":
        sources = sorted({source for source, _ in pairs})
        chosen = np.random.default_rng(seed).permutation(len(sources))[
            : int(len(sources) * config.validation_split)
        ]
        held_out = {sources[number] for number in chosen}
        is_held_out = np.array([source in held_out for source, _ in pairs])
    else:
        is_held_out = np.arange(len(pairs)) >= int(len(pairs) * (1 - config.validation_split))
    training, validation = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if not len(training) or not len(validation):
        raise CannotBeginError(
            f"{len(pairs)} pairs with --validation-split {config.validation_split} give "
            f"{len(training)} to train on and {len(validation)} to validate on; expected at least "
            "one of each"
        )
    return training, validation


def corpus_statistics(corpus: Corpus) -> dict[str, Any]:
    """The five figures that the example prints, by its names, and further ones.

    `tensors` are the shapes and types of the three one-hot tensors, and `one_hot_bytes` is the
    memory that they would take. `padding` is the share of target positions that are padding.
    `pairs` are the first, the last, and some at equal distances between them. No tensor is made, so
    this costs little at any size.
    """
    pairs = corpus.pairs
    encoder, decoder = vocabularies(pairs)
    figures = {
        "num_samples": len(pairs),
        "num_encoder_tokens": len(encoder),
        "num_decoder_tokens": len(decoder),
        "max_encoder_seq_length": max(len(source) for source, _ in pairs),
        "max_decoder_seq_length": max(len(START + target + STOP) for _, target in pairs),
    }
    num_samples, encoder_tokens, decoder_tokens, encoder_length, decoder_length = figures.values()
    decoder_shape = num_samples, decoder_length, decoder_tokens
    shapes = {
        "encoder_input_data": (num_samples, encoder_length, encoder_tokens),
        "decoder_input_data": decoder_shape,
        "decoder_target_data": decoder_shape,
    }
    real = sum(len(target) + len(STOP) for _, target in pairs)
    rows_shown = sorted(
        {number * (num_samples - 1) // (PAIRS_SHOWN - 1) for number in range(PAIRS_SHOWN)}
    )
    return figures | {
        "tensors": {name: {"shape": shape, "dtype": "float32"} for name, shape in shapes.items()},
        "distinct_sources": len({source for source, _ in pairs}),
        "duplicates": num_samples - len(set(pairs)),
        "padding": 1 - real / (num_samples * decoder_length),
        "one_hot_bytes": sum(BYTES_A_NUMBER * prod(shape) for shape in shapes.values()),
        "skipped_lines": corpus.skipped_lines,
        "cut_columns": corpus.cut_columns,
        "sha256": corpus.sha256,
        "pairs": [
            {"source": source, "target": target}
            for source, target in map(pairs.__getitem__, rows_shown)
        ],
    }


@dataclass(frozen=True)
class Material:
    """Sentence pairs made ready for a model."""

    sha256: str  # of the text of the whole corpus
    pairs: Sequence[Pair]
    encoder_vocabulary: CharVocabulary
    decoder_vocabulary: CharVocabulary
    batch: Batch  # all of the pairs
    training_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]

    @classmethod
    def of_corpus(
        cls,
        corpus: Corpus,
        config: DataConfig,
        seed: int,
        dtype: Precision,
        padding: Padding = "space",
        known: tuple[CharVocabulary, CharVocabulary] | None = None,
    ) -> "Material":
        """Encode a corpus, with `known` vocabularies or those of its pairs,
        and split it as `config` says."""
        pairs = corpus.pairs
        encoder, decoder = known or vocabularies(pairs)
        batch = Batch.of_pairs(pairs, encoder, decoder, dtype, padding)
        return cls(corpus.sha256, pairs, encoder, decoder, batch, *split(pairs, config, seed))

    @property
    def max_encoder_seq_length(self) -> int:
        """T_enc, the length of the longest source"""
        return int(self.batch.encoder_ids.shape[1])

    @property
    def max_decoder_seq_length(self) -> int:
        """T_dec, the length of the longest target, "\\t" and "\\n" counted"""
        return int(self.batch.decoder_input_ids.shape[1])


def prepare(
    config: DataConfig, seed: int, dtype: Precision, padding: Padding = "space"
) -> Material:
    """Read a corpus and make it ready."""
    return Material.of_corpus(read_corpus(config), config, seed, dtype, padding)


def download(name: str) -> Path:
    """Return the path of the zip of a language pair such as "fra-eng".

    The site publishes no checksum, so the checksum of the first download is kept and later ones are
    compared. Raises CannotBeginError when the zip cannot be downloaded or kept.
    """
    url, archive = f"{ANKI_URL}/{name}.zip", cache_folder() / f"{name}.zip"
    checksum = archive.with_name(f"{archive.name}.sha256")
    with refusing(f"{archive} cannot be written"):
        known = checksum.read_text(encoding="utf-8").strip() if checksum.exists() else ""
        if known and archive.exists() and hashlib.sha256(archive.read_bytes()).hexdigest() == known:
            return archive
        content = _downloaded(url, name)
        digest = hashlib.sha256(content).hexdigest()
        if known not in ("", digest):
            raise CannotBeginError(
                f"{url} is not the file that was downloaded first; to accept the new one, delete "
                f"{checksum}"
            )
        make_folder(archive.parent)
        write_atomically(archive, content)
        write_atomically(checksum, f"{digest}\n")
    return archive


def _downloaded(url: str, name: str) -> bytes:
    """Download the zip at this address.
    Raises CannotBeginError with the steps to fetch it by hand."""
    import requests

    from common import terminal

    terminal.say(f"downloading {url}", terminal.err)
    # The site answers 406 to the user agents of Python's libraries.
    headers, content = {"User-Agent": f"rosetta-s2s/{version('rosetta-s2s')}"}, bytearray()
    try:
        with requests.get(url, headers=headers, timeout=60, stream=True) as answer:
            answer.raise_for_status()
            for piece in answer.iter_content(PIECE):
                content += piece
                if len(content) > LARGEST_ARCHIVE:
                    raise requests.RequestException(
                        f"the site sends more than {LARGEST_ARCHIVE >> 20} MiB"
                    )
        if not zipfile.is_zipfile(BytesIO(content)):  # a page that asks to log in, for one
            raise requests.RequestException("the answer is no zip")
    except requests.RequestException as error:
        reason = str(error) if type(error) is requests.RequestException else ""
        if error.response is not None:
            status = error.response.status_code
            reason = (
                "the site has no such pair"
                if status == 404
                else (f"the site answers with status {status}")
            )
        raise CannotBeginError(
            f"{url} cannot be downloaded: "
            f"{reason or f'the connection failed ({type(error).__name__})'}; to fetch it by hand, "
            f"open {url} in a browser, save the file, and give its path: --data {name}.zip"
        ) from error
    return bytes(content)
