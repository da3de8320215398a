"""Sentence pairs from files and archives, and the split."""

import hashlib
import os
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import common.archives
import common.corpus
from common.config import DataConfig
from common.corpus import Corpus, read_corpus, references, split
from common.errors import CannotBeginError
from tests.attack.damage_bytes import zipped

LINES = b"Go.\tVa !\nRun!\tCours !\n"
PAIRS = [("Go.", "Va !"), ("Run!", "Cours !")]


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    return path


def read(path: Path, **options: object) -> Corpus:
    return read_corpus(DataConfig(data=str(path), **options))  # type: ignore[arg-type]


def refused(path: Path, **options: object) -> str:
    """The message of the CannotBeginError, which is one line and names the file."""
    with pytest.raises(CannotBeginError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES.removesuffix(b"\n"),
        b"\xef\xbb\xbf" + LINES,
        LINES.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
        b"Go.\tVa !\tCC-BY 2.0 (France)\nRun!\tCours !\n",
        b"Go.\tVa !\t\nRun!\tCours !\tCC-BY\r\n",
    ],
    ids=["plain", "no last newline", "BOM", "CRLF", "BOM, CRLF, no last newline", "third column", "mixed columns"],
)
def test_the_same_pairs_come_from_every_shape_of_file(tmp_path: Path, content: bytes) -> None:
    corpus = read(write(tmp_path, content))
    assert corpus == Corpus(PAIRS, hashlib.sha256(content).hexdigest())


BAD_LINES = {
    "empty": (b"", "empty"),
    "one column": (b"Go.", "1 column "),
    "empty source": (b"\tVa !", "source is empty"),
    "empty target": (b"Go.\t", "target is empty"),
    "four columns": (b"Go.\tVa !\tCC-BY\tmore", "4 columns"),
    "not UTF-8": (b"Go.\tVa\xff", "byte 7"),
    "long source": (b"a" * 1001 + b"\tVa !", "source has more than 1,000 characters"),
    "long target": (b"Go.\t" + "犬".encode() * 1001, "target has more than 1,000 characters"),
    "long in normal form": (b"Go.\t" + "\u0958".encode() * 501, "target has more than 1,000 characters"),
    "long line": (b"Go.\tVa !\t" + b"x" * 65_536, "more than 65,536 bytes"),
    "very long line": (b"x" * 1_000_000 + b"\tVa !", "more than 65,536 bytes"),
}


@pytest.mark.parametrize(("line", "complaint"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: bytes, complaint: str) -> None:
    message = refused(write(tmp_path, LINES + line + b"\n" + LINES))
    assert "line 3:" in message
    assert complaint in message


def test_bad_lines_are_skipped_and_counted_when_asked(tmp_path: Path) -> None:
    bad = b"".join(line + b"\n" for line, _ in BAD_LINES.values())
    corpus = read(write(tmp_path, b"Go.\tVa !\n" + bad + b"Run!\tCours !\n"), skip_bad_lines=True)
    assert corpus.pairs == PAIRS
    assert corpus.skipped_lines == len(BAD_LINES)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["LF", "CRLF", "none"])
def test_the_longest_line_and_the_longest_sentences_are_read(tmp_path: Path, end: bytes) -> None:
    source, target = "é" * 1000, "犬" * 1000
    line = f"{source}\t{target}\t".encode()
    assert read(write(tmp_path, line + b"x" * (65_536 - len(line)) + end)).pairs == [(source, target)]


@pytest.mark.parametrize("num_samples", [1, 2, 3])
def test_num_samples_takes_the_first_lines_and_reads_no_further(tmp_path: Path, num_samples: int) -> None:
    lines = [f"{i}\t{i}{i}\n".encode() for i in range(3)]
    content = b"".join(lines) + b"bad line\n"
    corpus = read(write(tmp_path, content), num_samples=num_samples)
    assert corpus.pairs == [(f"{i}", f"{i}{i}") for i in range(num_samples)]
    assert corpus.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"Go.\n\n"], ids=["no byte", "only a BOM", "bad lines"])
def test_a_file_without_a_pair_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "no sentence pair" in refused(write(tmp_path, content), skip_bad_lines=True)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "missing.txt")
    assert "directory" in refused(tmp_path)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, LINES)
    monkeypatch.setattr(Path, "open", deny)
    assert "Permission denied" in refused(path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "~nosuchuser/corpus.txt"], ids=["NUL", "too long", "no user"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(CannotBeginError, match="cannot be read"):
        read_corpus(DataConfig(data=name))


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    for content in (LINES, zipped({"fra.txt": LINES})):
        reading, writing = os.pipe()
        with os.fdopen(reading), os.fdopen(writing, "wb") as writer:
            writer.write(content)
            writer.close()
            assert read(Path(f"/dev/fd/{reading}")) == Corpus(PAIRS, hashlib.sha256(LINES).hexdigest())


@pytest.mark.parametrize("skip_bad_lines", [False, True])
def test_a_corpus_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, skip_bad_lines: bool) -> None:
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", 10_000_000)
    expected = "more than 9 MiB" if skip_bad_lines else "line 1: the line has more than 65,536 bytes"
    assert expected in refused(Path("/dev/zero"), skip_bad_lines=skip_bad_lines)


def test_more_pairs_than_memory_may_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.corpus, "MOST_PAIRS", 2)
    path = write(tmp_path, LINES + LINES)
    assert "has more than 2 pairs; give --num-samples" in refused(path)
    assert read(path, num_samples=2).pairs == PAIRS


# Zips


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_manythings_zip_is_read_in_memory(tmp_path: Path, method: int) -> None:
    content = LINES.replace(b"\n", b"\tCC-BY 2.0\n")
    path = tmp_path / "fra-eng.zip"
    path.write_bytes(zipped({"_about.txt": b"about\n", "fra.txt": content}, method))
    assert read(path) == Corpus(PAIRS, hashlib.sha256(content).hexdigest())
    assert list(tmp_path.iterdir()) == [path]


def damaged_at(content: bytes, marker: bytes, offset: int) -> bytes:
    """`content` with 40 bytes after `marker` inverted."""
    start = content.index(marker) + len(marker) + offset
    return content[:start] + bytes(b ^ 0xFF for b in content[start : start + 40]) + content[start + 40 :]


def encrypted(content: bytes) -> bytes:
    """The flag that says that a member needs a password, set in both headers."""
    changed = bytearray(content)
    changed[6] |= 1
    changed[content.index(b"PK\1\2") + 8] |= 1
    return bytes(changed)


LONG = b"".join(b"%d\t%d\n" % (i, i * i) for i in range(200))
MANY = {f"{number}": b"" for number in range(20)}
HOSTILE = {
    "two texts": (zipped({"fra.txt": LINES, "deu.txt": LINES}), "2 text files"),
    "no text": (zipped({"_about.txt": b"", "fra.tsv": LINES}), "0 text files"),
    "no member": (zipped({}), "0 text files"),
    "corrupt stored": (damaged_at(zipped({"fra.txt": LONG}, zipfile.ZIP_STORED), b"fra.txt", 0), "unpacked"),
    "corrupt deflate": (damaged_at(zipped({"fra.txt": LONG}), b"fra.txt", 0), "unpacked"),
    "bzip2": (zipped({"fra.txt": LONG}, zipfile.ZIP_BZIP2), "packed by another method than deflate"),
    "lzma": (zipped({"_about.txt": LONG, "fra.txt": LONG}, zipfile.ZIP_LZMA), "packed by another method"),
    "many members": (zipped({"fra.txt": LINES} | MANY), "more than 20 members"),
    "large": (zipped({"fra.txt": LINES, "x": bytes(200_000)}, zipfile.ZIP_STORED), "an archive of more than 0 MiB"),
    "password": (encrypted(zipped({"fra.txt": LONG})), "unpacked"),
    "bomb": (zipped({"fra.txt": b"a\tb\n" * 20_000}), "more than"),
    "not UTF-8": (zipped({"fra.txt": b"Go.\tVa\xff\n"}), "line 1"),
    "truncated": (zipped({"fra.txt": LONG})[:-40], "unpacked"),
}


@pytest.mark.parametrize(("content", "complaint"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_zip_is_one_error_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, complaint: str
) -> None:
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", 50_000)
    monkeypatch.setattr(common.corpus, "LARGEST_ARCHIVE", 100_000)
    monkeypatch.setattr(common.archives, "MOST_MEMBERS", 20)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.zip"
    path.write_bytes(content)
    assert complaint in refused(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("after", [b"a\tb\n" * (1 << 18), b"x" * (1 << 20)], ids=["pairs", "one line"])
def test_a_small_zip_takes_little_memory(tmp_path: Path, after: bytes) -> None:
    """Memory is that of the pairs which are used; what comes after them is only hashed."""
    path, digest = tmp_path / "bomb.zip", hashlib.sha256(LINES)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.txt", "w") as text,
    ):
        text.write(LINES)
        for _ in range(64):
            text.write(after)
            digest.update(after)
    assert path.stat().st_size < 600_000
    tracemalloc.start()
    try:
        corpus = read(path, num_samples=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert corpus == Corpus(PAIRS, digest.hexdigest())
    assert peak < 4_000_000


def test_a_text_of_exactly_the_largest_size_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fra.zip"
    path.write_bytes(zipped({"fra.txt": LINES}))
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", len(LINES))
    assert read(path).pairs == PAIRS
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", len(LINES) - 1)
    assert "more than" in refused(path)


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/rosetta-evil.txt", "a/../../evil.txt", "..\\evil.txt"])
def test_a_name_in_an_archive_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    path = inner / "evil.zip"
    path.write_bytes(zipped({name: LINES}))
    assert read(path).pairs == PAIRS
    assert sorted(tmp_path.rglob("*")) == [inner, path]
    assert not Path("/tmp/rosetta-evil.txt").exists()


# Property

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\ufeff"), min_size=1)


@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), newline=st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read_in_nfc(tmp_path: Path, pairs: list[tuple[str, str]], newline: str) -> None:
    text = "".join(f"{source}\t{target}{newline}" for source, target in pairs)
    composed = [(unicodedata.normalize("NFC", s), unicodedata.normalize("NFC", t)) for s, t in pairs]
    assert read(write(tmp_path, text.encode())).pairs == composed


# Split


@pytest.mark.parametrize("num_rows", [2, 5, 10, 999, 10_000])
@pytest.mark.parametrize("share", [0.1, 0.2, 1 / 3, 0.5])
def test_tail_holds_out_the_rows_that_keras_does(num_rows: int, share: float) -> None:
    boundary = int(num_rows * (1 - share))
    training, validation = split([("a", "b")] * num_rows, DataConfig(validation_split=share), seed=0)
    assert training.tolist() == list(range(boundary))
    assert validation.tolist() == list(range(boundary, num_rows))


def test_tail_rounds_as_keras_does() -> None:
    """1 - 0.9 is a little less than 0.1, so one row more is held out than a percentage says."""
    assert len(split([("a", "b")] * 1000, DataConfig(validation_split=0.9), seed=0)[0]) == 99


def grouped(seed: int, share: float = 0.2) -> tuple[list[tuple[str, str]], np.ndarray, np.ndarray]:
    pairs = [(f"source {i * i % 50}", f"target {i}") for i in range(300)]
    return pairs, *split(pairs, DataConfig(split="grouped", validation_split=share), seed)


def test_grouped_holds_out_whole_sources() -> None:
    pairs, training, validation = grouped(seed=3)
    sides = [{pairs[row][0] for row in rows} for rows in (training, validation)]
    assert sides[0].isdisjoint(sides[1])
    assert sorted([*training, *validation]) == list(range(len(pairs)))
    assert np.all(np.diff(training) > 0)
    assert np.all(np.diff(validation) > 0)
    assert len(sides[1]) == int(0.2 * len({source for source, _ in pairs}))


def test_grouped_is_a_function_of_the_seed() -> None:
    chosen = [grouped(seed)[2].tolist() for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


@pytest.mark.parametrize(
    ("how", "share", "num_sources"),
    [
        ("tail", 0.0, 50),
        ("tail", 1.0, 50),
        ("tail", 0.2, 1),
        ("grouped", 0.0, 50),
        ("grouped", 1.0, 50),
        ("grouped", 0.5, 1),
    ],
)
def test_an_empty_side_is_refused(how: str, share: float, num_sources: int) -> None:
    pairs = [(str(source), "b") for source in range(num_sources)]
    with pytest.raises(CannotBeginError, match="at least one of each"):
        split(pairs, DataConfig(split=how, validation_split=share), seed=0)


def test_references_are_the_distinct_targets_in_order() -> None:
    pairs = [("Run!", "Courez !"), ("Go.", "Va !"), ("Run!", "Cours !"), ("Run!", "Courez !")]
    assert references(pairs, ["Run!", "Go."]) == {"Run!": ["Courez !", "Cours !"], "Go.": ["Va !"]}
    assert references(pairs, ["Go."]) == {"Go.": ["Va !"]}
