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
from common.corpus import Corpus, corpus_statistics, read_corpus, split
from common.errors import CannotBeginError
from common.tensors import Batch, CharVocabulary
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
        b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"),
        b"Go.\tVa !\tCC-BY 2.0 (France)\nRun!\tCours !\n",
        b"Go.\tVa !\t\nRun!\tCours !\tCC-BY\r",
    ],
    ids=["plain", "no last newline", "BOM, CRLF", "third column", "mixed columns"],
)
def test_the_same_pairs_come_from_every_shape_of_file(tmp_path: Path, content: bytes) -> None:
    assert read(write(tmp_path, content)) == Corpus(PAIRS, hashlib.sha256(content).hexdigest())


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
def test_a_bad_line_is_named_by_its_number_or_skipped_and_counted(
    tmp_path: Path, line: bytes, complaint: str
) -> None:
    path = write(tmp_path, LINES + line + b"\n" + LINES)
    message = refused(path)
    assert "line 3:" in message
    assert complaint in message
    corpus = read(path, skip_bad_lines=True)
    assert (corpus.pairs, corpus.skipped_lines) == (2 * PAIRS, 1)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["LF", "CRLF", "none"])
def test_the_longest_line_and_the_longest_sentences_are_read(tmp_path: Path, end: bytes) -> None:
    source, target = "é" * 1000, "犬" * 1000
    line = f"{source}\t{target}\t".encode()
    assert read(write(tmp_path, line + b"x" * (65_536 - len(line)) + end)).pairs == [(source, target)]


def test_num_samples_takes_the_first_lines_and_reads_no_further(tmp_path: Path) -> None:
    corpus = read(write(tmp_path, LINES + b"bad line\n"), num_samples=2)
    assert corpus == Corpus(PAIRS, hashlib.sha256(LINES + b"bad line\n").hexdigest())


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b"Go.\n\n"], ids=["only a BOM", "bad lines"])
def test_a_file_without_a_pair_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "no sentence pair" in refused(write(tmp_path, content), skip_bad_lines=True)


@pytest.mark.parametrize("name", ["/missing.txt", "/", "a\0b", "x" * 300, "~nosuchuser/corpus.txt"], ids=ascii)
def test_what_cannot_be_opened_is_refused(name: str) -> None:
    with pytest.raises(CannotBeginError, match="cannot be read"):
        read_corpus(DataConfig(data=name))


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    for content in (LINES, zipped({"fra.txt": LINES})):
        reading, writing = os.pipe()
        with os.fdopen(reading), os.fdopen(writing, "wb") as writer:
            writer.write(content)
            writer.close()
            assert read(Path(f"/dev/fd/{reading}")) == Corpus(PAIRS, hashlib.sha256(LINES).hexdigest())


def test_a_corpus_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", 10_000_000)
    assert "more than 9 MiB" in refused(Path("/dev/zero"))


def test_more_pairs_than_memory_may_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.corpus, "MOST_PAIRS", 2)
    path = write(tmp_path, LINES + LINES)
    assert "has more than 2 pairs; give --num-samples" in refused(path)
    assert read(path, num_samples=2).pairs == PAIRS


# Zips


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_manythings_zip_is_read_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: int) -> None:
    """Up to exactly the largest size, and whatever the name in the archive is."""
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", len(LINES))
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    path = tmp_path / "inner" / "fra-eng.zip"
    for name in ("fra.txt", "../evil.txt", "/tmp/rosetta-evil.txt", "..\\evil.txt"):
        path.write_bytes(zipped({"_about.txt": b"about\n", name: LINES}, method))
        assert read(path) == Corpus(PAIRS, hashlib.sha256(LINES).hexdigest())
    assert sorted(tmp_path.rglob("*")) == [path.parent, path]
    assert not Path("/tmp/rosetta-evil.txt").exists()
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", len(LINES) - 1)
    assert "more than" in refused(path)


def inverted(content: bytes) -> bytes:
    """A zip with the first 40 bytes of its first member inverted."""
    start = content.index(b"fra.txt") + len(b"fra.txt")
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
    "corrupt stored": (inverted(zipped({"fra.txt": LONG}, zipfile.ZIP_STORED)), "unpacked"),
    "corrupt deflate": (inverted(zipped({"fra.txt": LONG})), "unpacked"),
    "bzip2": (zipped({"fra.txt": LONG}, zipfile.ZIP_BZIP2), "packed by another method than deflate"),
    "lzma": (zipped({"_about.txt": LONG, "fra.txt": LONG}, zipfile.ZIP_LZMA), "packed by another method"),
    "many members": (zipped({"fra.txt": LINES} | MANY), "more than 20 members"),
    "large": (zipped({"fra.txt": LINES, "x": bytes(200_000)}, zipfile.ZIP_STORED), "an archive of more than 0 MiB"),
    "password": (encrypted(zipped({"fra.txt": LONG})), "unpacked"),
    "bomb": (zipped({"fra.txt": b"a\tb\n" * 20_000}), "more than"),
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


# Property

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\ufeff"), min_size=1)


@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), newline=st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read_in_nfc(tmp_path: Path, pairs: list[tuple[str, str]], newline: str) -> None:
    text = "".join(f"{source}\t{target}{newline}" for source, target in pairs)
    composed = [(unicodedata.normalize("NFC", s), unicodedata.normalize("NFC", t)) for s, t in pairs]
    assert read(write(tmp_path, text.encode())).pairs == composed


# Split


@pytest.mark.parametrize(("num_rows", "share"), [(2, 0.5), (5, 0.1), (999, 1 / 3), (10_000, 0.2), (1000, 0.9)])
def test_tail_holds_out_the_rows_that_keras_does(num_rows: int, share: float) -> None:
    """1 - 0.9 is a little less than 0.1, so one row more is held out there than a percentage says."""
    training, validation = split([("a", "b")] * num_rows, DataConfig(validation_split=share), seed=0)
    assert [*training, *validation] == list(range(num_rows))
    assert len(training) == (99 if share == 0.9 else int(num_rows * (1 - share)))


def test_grouped_holds_out_whole_sources_as_the_seed_says() -> None:
    pairs = [(f"source {i * i % 50}", f"target {i}") for i in range(300)]
    (training, validation), again, other = (split(pairs, DataConfig(split="grouped"), seed) for seed in (3, 3, 4))
    sides = [{pairs[row][0] for row in rows} for rows in (training, validation)]
    assert sides[0].isdisjoint(sides[1])
    assert sorted([*training, *validation]) == list(range(len(pairs)))
    assert np.all(np.diff(training) > 0)
    assert np.all(np.diff(validation) > 0)
    assert len(sides[1]) == int(0.2 * len({source for source, _ in pairs}))
    assert validation.tolist() == again[1].tolist() != other[1].tolist()


@pytest.mark.parametrize("how", ["tail", "grouped"])
@pytest.mark.parametrize(("share", "num_sources"), [(0.0, 50), (1.0, 50), (0.5, 1)])
def test_an_empty_side_is_refused(how: str, share: float, num_sources: int) -> None:
    pairs = [(str(source), "b") for source in range(num_sources)]
    with pytest.raises(CannotBeginError, match="at least one of each"):
        split(pairs, DataConfig(split=how, validation_split=share), seed=0)


# Figures


def test_figures_are_those_of_the_tensors() -> None:
    pairs = [("Go.", "Va !"), ("Go.", "Bouge !"), ("Run!", "Cours !"), ("Go.", "Va !"), ("犬", "x")]
    encoder, decoder = CharVocabulary.of(s for s, _ in pairs), CharVocabulary.of(f"\t{t}\n" for _, t in pairs)
    batch = Batch.of_pairs(pairs, encoder, decoder)
    tensors = batch.encoder_input_data, batch.decoder_input_data, batch.decoder_target_data
    assert corpus_statistics(Corpus(pairs, "ab" * 32, skipped_lines=3)) == {
        "num_samples": 5,
        "num_encoder_tokens": len(encoder),
        "num_decoder_tokens": len(decoder),
        "max_encoder_seq_length": tensors[0].shape[1],
        "max_decoder_seq_length": tensors[1].shape[1],
        "distinct_sources": 3,
        "duplicates": 1,
        "padding": pytest.approx(1 - float(batch.real_positions.mean(dtype="float64"))),
        "one_hot_bytes": sum(tensor.nbytes for tensor in tensors),
        "skipped_lines": 3,
        "sha256": "ab" * 32,
        "pairs": [{"source": source, "target": target} for source, target in pairs],
    }


@pytest.mark.parametrize(("count", "rows"), [(1, [0]), (2, [0, 1]), (101, [0, 25, 50, 75, 100])])
def test_the_pairs_shown_are_spread_over_the_corpus(count: int, rows: list[int]) -> None:
    figures = corpus_statistics(Corpus([(f"source {row}", f"target {row}") for row in range(count)], ""))
    assert figures["pairs"] == [{"source": f"source {row}", "target": f"target {row}"} for row in rows]
