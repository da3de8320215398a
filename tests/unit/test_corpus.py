"""Sentence pairs from files and archives, and the split."""

import hashlib
import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import common.corpus
import common.files
from common.corpus import Corpus, corpus_statistics, prepare, read_corpus, split
from common.errors import CannotBeginError
from common.settings import DataConfig
from common.tensors import Batch, vocabularies
from tests.support.foreign_files import zipped

LINES = b"Go.\tVa !\nRun!\tCours !\n"
PAIRS = [("Go.", "Va !"), ("Run!", "Cours !")]


def read(path: Path, **options: object) -> Corpus:
    return read_corpus(DataConfig(data=str(path), **options))  # type: ignore[arg-type]


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    return path


def expected(text: bytes) -> Corpus:
    return Corpus(PAIRS, hashlib.sha256(text).hexdigest())


SOURCE, TARGET = "é" * 1000, "犬" * 1000  # the longest
LONGEST = f"{SOURCE}\t{TARGET}\t".encode()
LONGEST += b"x" * (65_536 - len(LONGEST))
SHAPES = [
    (LINES, PAIRS),
    (LINES.removesuffix(b"\n"), PAIRS),
    (b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"), PAIRS),
    (b"Go.\tVa !\tCC-BY 2.0 (France)\nRun!\tCours !\n", PAIRS),
    (b"Go.\tVa !\t\nRun!\tCours !\tCC-BY\r", PAIRS),
    *((LONGEST + end, [(SOURCE, TARGET)]) for end in (b"\n", b"\r\n", b"")),
    ("e\u0301\tA\u030a\n".encode() + LINES, [("\u00e9", "\u00c5"), PAIRS[0]]),  # composed
    (LINES + b"bad line\n", PAIRS),  # which comes after the pairs that are asked for
]


def test_pairs_come_from_every_shape_of_file_and_from_a_pipe(tmp_path: Path) -> None:
    for content, pairs in SHAPES:
        corpus = read(write(tmp_path, content), num_samples=2)
        assert corpus == Corpus(pairs, hashlib.sha256(content).hexdigest())
    for content in (LINES, zipped({"fra.txt": LINES})):
        reading, writing = os.pipe()
        with os.fdopen(reading), os.fdopen(writing, "wb") as writer:
            writer.write(content)
            writer.close()
            assert read(Path(f"/dev/fd/{reading}")) == expected(LINES)


def test_a_zip_is_unpacked_in_memory_whatever_it_calls_its_text(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    path = tmp_path / "inner" / "fra-eng.zip"
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for name in ("fra.txt", "../evil.txt", "..\\evil.txt"):
            path.write_bytes(zipped({"_about.txt": b"about\n", name: LINES}, method))
            assert read(path) == expected(LINES)
    assert sorted(tmp_path.rglob("*")) == [path.parent, path]


def test_more_text_or_pairs_than_memory_takes_are_refused(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path, 2 * LINES)
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", 2 * len(LINES))
    assert len(read(path, num_samples=5).pairs) == 4
    monkeypatch.setattr(common.corpus, "MOST_PAIRS", 2)
    with pytest.raises(CannotBeginError, match="more than 2 lines; give --num-samples"):
        read(path)
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", 2 * len(LINES) - 1)
    with pytest.raises(CannotBeginError, match="more than 0 MiB of text"):
        read(path, num_samples=2)


def test_a_small_zip_takes_little_memory(tmp_path: Path) -> None:
    """Memory is that of the pairs which are used; what comes after them is only hashed."""
    path, text = tmp_path / "bomb.zip", LINES + b"a\tb\n" * (1 << 22)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.txt", text)
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    try:
        corpus = read(path, num_samples=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert corpus == expected(text)
    assert peak < 4_000_000


BAD_LINES = {
    b"": "empty",
    b" \t": "source is empty",
    b"Go.": "1 column ",
    b"\tVa !": "source is empty",
    b"Go.\t": "target is empty",
    b"Go.\tVa !\tCC-BY\tmore": "4 columns",
    b"Go.\tVa\xff": "byte 7",
    b"a" * 1001 + b"\tVa !": "source has more than 1,000 characters",
    b"Go.\t" + "犬".encode() * 1001: "target has more than 1,000 characters",
    b"Go.\t" + "\u0958".encode() * 501: "target has more than 1,000 characters",
    b"Go.\tVa !\t" + b"x" * 65_536: "more than 65,536 bytes",
    b"x" * 1_000_000 + b"\tVa !": "more than 65,536 bytes",
}


def encrypted(content: bytes) -> bytes:
    """The flag that says that a member needs a password, set in both headers."""
    changed = bytearray(content)
    changed[6] |= 1
    changed[content.index(b"PK\1\2") + 8] |= 1
    return bytes(changed)


LONG = b"".join(b"%d\t%d\n" % (i, i * i) for i in range(200))
MANY = {f"{number}": b"" for number in range(20)}
DAMAGED = {  # what a file holds, and what must be named
    b"\xef\xbb\xbf": "no sentence pair",
    zipped({"fra.txt": LINES, "deu.txt": LINES}): "2 text files",
    zipped({"_about.txt": b"", "fra.tsv": LINES}): "0 text files",
    zipped({"fra.txt": LONG}, zipfile.ZIP_BZIP2): "packed by another method than deflate",
    zipped({"_about.txt": LONG, "fra.txt": LONG}, zipfile.ZIP_LZMA): "packed by another method",
    zipped({"fra.txt": LINES} | MANY): "more than 20 members",
    zipped({"fra.txt": LINES, "x": bytes(200_000)}, zipfile.ZIP_STORED): "an archive of more than "
    "0 MiB",
    encrypted(zipped({"fra.txt": LONG})): "unpacked",
    zipped({"fra.txt": LINES})[:-5]: "unpacked",
    zipped({"fra.txt": b"a\tb\n" * 20_000}): "more than 0 MiB of text",
}


def test_a_damaged_corpus_is_refused_in_one_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(common.corpus, "LARGEST_TEXT", 70_000)
    monkeypatch.setattr(common.corpus, "LARGEST_ARCHIVE", 100_000)
    monkeypatch.setattr(common.files, "MOST_MEMBERS", 20)
    monkeypatch.chdir(tmp_path)
    for content, complaint in DAMAGED.items():
        path = write(tmp_path, content)
        with pytest.raises(CannotBeginError) as caught:
            read(path, num_samples=30_000)
        message = str(caught.value)
        assert "\n" not in message
        assert str(path) in message
        assert complaint in message
        assert list(tmp_path.iterdir()) == [path]
    for name in ("/missing.txt", "/", "a\0b", "x" * 300, "~nosuchuser/corpus.txt"):
        with pytest.raises(CannotBeginError, match="cannot be read"):
            read_corpus(DataConfig(data=name))
    with pytest.raises(CannotBeginError, match="MiB of text"):
        read(Path("/dev/zero"))


def test_a_bad_line_is_named_by_number_or_skipped(tmp_path: Path) -> None:
    for line, complaint in BAD_LINES.items():
        path = write(tmp_path, LINES + line + b"\n" + LINES)
        with pytest.raises(CannotBeginError, match=f"line 3 .*{complaint}"):
            read(path)
        corpus = read(path, skip_bad_lines=True)
        assert (corpus.pairs, corpus.skipped_lines) == (2 * PAIRS, 1)


def test_all_bad_lines_are_told_at_once_ten_by_number(tmp_path: Path, capsys) -> None:
    path = write(tmp_path, (LINES + b"\nGo.\t\n") * 6)
    told = [
        f"line {4 * i + 3} (it is empty), line {4 * i + 4} (the target is empty)" for i in range(5)
    ]
    words = f"12 lines without a pair: {', '.join(told)} and 2 more"
    with pytest.raises(CannotBeginError) as caught:
        read(path)
    assert words in str(caught.value)
    assert read(path, skip_bad_lines=True).skipped_lines == 12
    assert f"skipped {words}\n" in capsys.readouterr().err


def test_blanks_at_the_ends_of_columns_are_cut_and_counted(tmp_path: Path, capsys) -> None:
    corpus = read(write(tmp_path, " Go. \tVa\u202f!\u00a0\t x\nRun!\tCours !\n".encode()))
    assert (corpus.pairs, corpus.cut_columns) == ([("Go.", "Va\u202f!"), PAIRS[1]], 2)
    assert "cut the blanks at the ends of 2 columns" in capsys.readouterr().err


def test_a_corpus_takes_memory_for_its_texts_and_an_id_a_position(tmp_path: Path) -> None:
    line = "Sentence number {} is as long as most of them.\tLa phrase numéro {} est assez longue.\n"
    path = write(tmp_path, "".join(line.format(row, row) for row in range(20_000)).encode())
    tracemalloc.start()
    try:
        material = prepare(DataConfig(str(path), 20_000), 0, "float32")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    ids = material.batch.encoder_ids.nbytes + material.batch.decoder_ids.nbytes
    assert ids == 20_000 * len("\t" + line.format(19_999, 19_999)), "a byte each"
    assert peak < ids + 20_000 * 500


# Split


def test_tail_holds_out_the_rows_that_keras_does() -> None:
    """1 - 0.9 is a little less than 0.1,
    so one row more is held out there than a percentage says."""
    for num_rows, share in [(2, 0.5), (5, 0.1), (999, 1 / 3), (10_000, 0.2), (1000, 0.9)]:
        training, validation = split(
            [("a", "b")] * num_rows, DataConfig(validation_split=share), seed=0
        )
        assert [*training, *validation] == list(range(num_rows))
        assert len(training) == (99 if share == 0.9 else int(num_rows * (1 - share)))


def test_grouped_holds_out_whole_sources_by_the_seed() -> None:
    pairs = [(f"source {i * i % 50}", f"target {i}") for i in range(300)]
    (training, validation), again, reseeded = (
        split(pairs, DataConfig(split="grouped"), seed) for seed in (3, 3, 4)
    )
    sides = [{pairs[row][0] for row in rows} for rows in (training, validation)]
    assert sides[0].isdisjoint(sides[1])
    assert sorted([*training, *validation]) == list(range(len(pairs)))
    assert np.all(np.diff(training) > 0)
    assert np.all(np.diff(validation) > 0)
    assert len(sides[1]) == int(0.2 * len({source for source, _ in pairs}))
    assert validation.tolist() == again[1].tolist() != reseeded[1].tolist()
    for how, share, num_sources in (
        ("tail", 0.0, 50),
        ("grouped", 0.0, 50),
        ("grouped", 1.0, 50),
        ("tail", 0.5, 1),
    ):
        with pytest.raises(CannotBeginError, match="at least one of each"):
            split(pairs[:num_sources], DataConfig(split=how, validation_split=share), seed=0)


def test_figures_are_of_the_tensors_and_samples_are_spread() -> None:
    pairs = [("Go.", "Va !"), ("Go.", "Bouge !"), ("Run!", "Cours !"), ("Go.", "Va !"), ("犬", "x")]
    batch = Batch.of_pairs(pairs, *vocabularies(pairs))
    tensors = batch.encoder_input_data, batch.decoder_input_data, batch.decoder_target_data
    assert corpus_statistics(Corpus(pairs, "ab" * 32, skipped_lines=3, cut_columns=4)) == {
        "num_samples": 5,
        "num_encoder_tokens": tensors[0].shape[2],
        "num_decoder_tokens": tensors[1].shape[2],
        "max_encoder_seq_length": tensors[0].shape[1],
        "max_decoder_seq_length": tensors[1].shape[1],
        "tensors": {
            name: {"shape": getattr(batch, name).shape, "dtype": str(getattr(batch, name).dtype)}
            for name in ("encoder_input_data", "decoder_input_data", "decoder_target_data")
        },
        "distinct_sources": 3,
        "duplicates": 1,
        "padding": pytest.approx(1 - float(batch.real_positions.mean(dtype="float64"))),
        "one_hot_bytes": sum(tensor.nbytes for tensor in tensors),
        "skipped_lines": 3,
        "cut_columns": 4,
        "sha256": "ab" * 32,
        "pairs": [{"source": source, "target": target} for source, target in pairs],
    }
    for count, rows in [(1, [0]), (2, [0, 1]), (101, [0, 25, 50, 75, 100])]:
        shown = corpus_statistics(
            Corpus([(f"source {row}", f"target {row}") for row in range(count)], "")
        )["pairs"]
        assert shown == [{"source": f"source {row}", "target": f"target {row}"} for row in rows]
