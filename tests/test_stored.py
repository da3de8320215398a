"""What is stored on disk: pairs and arrays, which cross to another process without being read."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backends.process.wire import Wire, arguments_for
from common import stored as module
from common.errors import UnknownCharactersError
from common.stored import Pairs, in_order, opened_array, stored
from common.tensors import Batch
from tests.small_run import PAIRS, VOCABULARIES

MANY = [(f"é{row % 97}", f"\u2028\r{row}") for row in range(3 * module.ITEMS_AT_ONCE + 5)]


def test_pairs_on_disk_are_those_that_were_given_and_are_sorted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = Pairs(MANY)
    assert pairs == MANY
    assert [pairs[row] for row in (0, np.int64(5000), -1)] == [MANY[row] for row in (0, 5000, -1)]
    assert pairs[1:9:3] == MANY[1:9:3]
    pairs.append(PAIRS[0])
    assert pairs == [*MANY, PAIRS[0]] != MANY
    with pytest.raises(IndexError):
        pairs[len(pairs)]
    monkeypatch.setattr(module, "PAIRS_SORTED", 1000)
    assert list(in_order(MANY)) == sorted(MANY)


def test_a_stored_array_is_read_alone_has_no_name_and_goes_with_its_last_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    array = stored([np.arange(6).reshape(2, 3), np.arange(3)], (3, 3), np.uint16)
    for part, expected in ((array[[2, 0]], [[0, 1, 2], [0, 1, 2]]), (array[1:], [[3, 4, 5], [0, 1, 2]])):
        assert type(part) is np.ndarray
        assert part.tolist() == expected
    with pytest.raises(ValueError, match="read-only"):
        array[1:][:] = 0
    opened, descriptor = opened_array(array.path), Path(array.path)
    assert list(tmp_path.iterdir()) == []
    assert descriptor.exists()
    del array, part
    assert not descriptor.exists()
    assert opened.tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]


def test_a_stored_corpus_crosses_as_paths_and_its_rows_as_arrays() -> None:
    corpus = Batch.of_pairs(PAIRS, *VOCABULARIES)
    sent = {"corpus": corpus, "rows": corpus.take([2, 0]), "first": corpus.take(slice(2))}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Wire(ours).send("call", sent)
        crossed = arguments_for(_three_batches, Wire(theirs, opens_files=True).receive()[1])
    for name, expected in sent.items():
        for field, value in vars(crossed[name]).items():
            np.testing.assert_array_equal(value, getattr(expected, field), strict=True)
        assert crossed[name].encoder_ids.flags.writeable == (name != "corpus"), "a file is mapped to be read"


def _three_batches(corpus: Batch, rows: Batch, first: Batch) -> None: ...


def test_a_corpus_that_cannot_be_encoded_or_kept_is_one_error_and_leaves_no_file_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnknownCharactersError):
        Batch.of_pairs([("Go.", "ß")], *VOCABULARIES)
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.setattr(module.tempfile, "TemporaryFile", lambda: open("/dev/full", "r+b"))  # noqa: SIM115
    with pytest.raises(OSError, match="No space left"):
        Pairs(MANY)  # what it could not write is not tried again when it goes
    with pytest.raises(OSError, match="No space left"):
        stored([np.arange(3)], (3,), np.int64)


def test_a_large_corpus_takes_memory_for_places_alone(tmp_path: Path) -> None:
    """Seventeen numbers of a byte for each pair, and some more for a moment, whatever the sentences' length; for
    the figures pairs are sorted, too."""
    path = tmp_path / "large.txt"
    line = "Sentence number {} is as long as most of them.\tLa phrase numéro {} est assez longue.\n"
    path.write_text("".join(line.format(row, row) for row in range(100_000)), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=True)
    few, prepared, figures = map(int, done.stdout.split())
    assert prepared - few < 14 << 10, done.stdout
    assert figures - few < 45 << 10, done.stdout


# Prints the most memory in KiB that the process has had: with few pairs, with many prepared, and for their figures.
MEASURED = """
import sys
from common.config import DataConfig
from common.corpus import corpus_statistics, prepare, read_corpus

def tell():
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))

few, many = (DataConfig(sys.argv[1], count) for count in (1000, 100_000))
prepare(few, 0, "float32")
corpus_statistics(read_corpus(few))
tell()
prepare(many, 0, "float32")
tell()
corpus_statistics(read_corpus(many))
tell()
"""
