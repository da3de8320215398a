"""Corpora, runs, measurements, records of models and the frameworks' files with damage:
each is read or refused.

Weights, pairs and vocabularies in which a bit has changed must all be refused, or be read as they
were. PyTorch's and Keras's files are read by a process of the framework, as `convert` reads them.
"""

import json
import pickle
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from unittest.mock import patch

import pytest
from rosetta_diff.carry import carry_weights
from rosetta_diff.commands import DEMO
from rosetta_diff.diff import compare_records
from rosetta_diff.helpers import DiffError
from rosetta_diff.pair.drafts import write_mapping
from rosetta_diff.pair.mapping import read_mapping
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.read.side import Side

from backends.native.paddle import NAME_TABLE, read_paddle
from backends.process.parent import BackendProcess, Runtime
from benchmarks.measure.measurement import Measurement
from benchmarks.report import page, render
from common.corpus import read_corpus
from common.errors import RosettaError
from common.run import RunDirectory
from common.settings import DataConfig, ModelConfig, TrainConfig
from common.text import LONGEST_LINE, LONGEST_SENTENCE, PIECE, lines_as_they_arrive, printable
from common.weights import initial_state
from tests.nightly.attack import attack
from tests.nightly.damage import bit_flipped, damaged_file
from tests.support import child, small_run
from tests.support.foreign_files import layer_tensors, zipped
from tests.support.measurements import COMMITTED, RACING, committed, reported

MODEL = ModelConfig(7, 9, 0, 1, latent_dim=3)
STATE = initial_state(MODEL, 5)
ENDLESS_SECONDS = 10.0  # timeout of reading a file
LINES = b"".join(b"%d\t%d\xc3\xa9\n" % (i, i * i) for i in range(100))


@dataclass(frozen=True)
class Victim:
    """Files in a folder, one of which is damaged in each case, after each has been read whole."""

    write: Callable[[Path], object]  # makes the folder
    read: Callable[[Path], object]  # reads the file that is damaged
    files: str = "*"  # pattern of the files to damage
    damage: Callable[[str, bytes, random.Random], bytes] = damaged_file  # of a name and content
    count: int = 800  # cases
    least: int = 2  # outcomes


def attack_files(victim: Victim, folder: Path) -> None:
    def copied(file: Path) -> Path:
        """Copy the folder of the victim, and return the path of a file in it."""
        # Some file systems wait where a file is overwritten.
        shutil.rmtree(folder / "copy", ignore_errors=True)
        return Path(shutil.copytree(folder / "whole", folder / "copy"), file)

    def case(rng: random.Random) -> object:
        path = copied(rng.choice(files))
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(victim.damage(path.name, content, rng))
        return victim.read(path)

    with patch("os.fsync"):  # which takes longer than all the rest
        victim.write(folder / "whole")
        paths = sorted(path for path in (folder / "whole").glob(victim.files) if path.is_file())
        files = [path.relative_to(folder / "whole") for path in paths]
        for file in files:
            victim.read(copied(file))
        attack(case, victim.count, victim.least)


def files_of(contents: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)


# Corpora and texts


def of_corpus(path: Path) -> None:
    for side in chain.from_iterable(
        read_corpus(DataConfig(str(path), 50, skip_bad_lines=True)).pairs
    ):
        assert 0 < len(side) <= LONGEST_SENTENCE
        assert not set(side) & {"\t", "\n"}
        side.encode()


def of_lines(path: Path) -> None:
    """Read the lines of a text as `translate --file` does."""
    with path.open("rb") as file:
        lines = list(chain.from_iterable(lines_as_they_arrive(file)))
    assert all(len(line) <= LONGEST_LINE + PIECE + 2 and "\n" not in line for line in lines)


# Frameworks' own files, of MODEL with STATE


def paddle_files(folder: Path) -> None:
    tensors = layer_tensors(STATE.weights)
    tensors[NAME_TABLE] = {name: name for name in tensors}
    files_of(
        {f"protocol-{number}.pdparams": pickle.dumps(tensors, number) for number in (2, 4)}, folder
    )


# Runs


def unchecked(function: Callable[[Path], object]) -> Callable[[Path], object]:
    """The function without checksums of a state and of texts,
    which would find damage before it is looked at."""
    return patch("common.weights._crc32", lambda *of: None)(
        patch("hashlib.file_digest", lambda *of: sha256())(function)
    )


def of_run(path: Path) -> None:
    """Read all that commands read of a run."""
    run = RunDirectory.open(path.parent)
    run.material()
    run.history()
    for which in ("last", "best"):
        run.read_state(which)
    run.write_weights("best", path.parent.with_name("weights"))
    shutil.rmtree(path.parent.with_name("weights"))
    run.read()


def as_it_was(path: Path) -> None:
    """Fail unless the run is read as it was,
    or refused by the one message of damaged files of ours."""
    try:
        of_run(path)
    except RosettaError as error:
        if " is damaged: " not in str(error):
            raise AssertionError(str(error)) from error
        raise
    run = RunDirectory.open(path.parent)
    assert run.pairs() == small_run.PAIRS
    small_run.assert_state(run, "last", 3)
    small_run.assert_state(run, "best", 2)


# Records of models, which are the bundled ones, and a mapping of them


def two_records(folder: Path) -> None:
    for side, name in (("left", "torch-block"), ("right", "mended-block")):
        shutil.copytree(DEMO / name, folder / side)
    write_mapping(
        folder / "mapping.toml", pair_sides(Side(folder / "left"), Side(folder / "right"))
    )


def compared(folder: Path, mapping_file: Path | None = None) -> None:
    """Compare the records, and with a mapping file carry them, too.
    Errors are as the terminal prints them."""
    try:
        sides = Side(folder / "left"), Side(folder / "right")
        mapping = read_mapping(mapping_file) if mapping_file else None
        if mapping:
            carry_weights(pair_sides(*sides, mapping))
        compare_records(*sides, mapping).as_json()
    except DiffError as error:
        raise RosettaError(printable(str(error))) from error


# Measurements


def short_measurements(folder: Path) -> None:
    """Write committed measurements with two cycles a round;
    of a benchmark and of a race two rounds."""
    contents = {}
    for path in (
        COMMITTED / "demo-1.jsonl",
        RACING / "threads.jsonl",
    ):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            if line["kind"] == "round":
                line["cycles"] = line["cycles"][:2]
        kept = [line for line in lines if line.get("number", 0) < 3]
        contents[path.name] = "".join(json.dumps(line) + "\n" for line in kept).encode()
    files_of(contents, folder)


def of_measurement(path: Path) -> None:
    assert "<!doctype html>" in reported(path)


def of_measurement_and_another(path: Path) -> None:
    """Put the measurement and another one on one page."""
    damaged, whole = Measurement.read(path), committed("demo-1")
    both = page.report_of_several([("damaged", damaged), ("whole", whole)]).page
    render.html(both, {}), render.markdown(both)


TEXTS = {"pairs.txt": LINES, "pairs.zip": zipped({"_about.txt": b"", "fra.txt": LINES})}
VICTIMS = {
    "a corpus": Victim(partial(files_of, TEXTS), of_corpus),
    # All of them are read.
    "sentences": Victim(partial(files_of, {"lines.txt": LINES}), of_lines, least=1),
    "Paddle": Victim(paddle_files, lambda path: read_paddle([path], MODEL)),
    "a record": Victim(two_records, lambda path: compared(path.parent.parent), "left/*"),
    "a mapping": Victim(two_records, lambda path: compared(path.parent, path), "*.toml"),
    "a run": Victim(unchecked(small_run.three_epochs), unchecked(of_run)),
    # But of config.json and machine.json, where a bit may say something else.
    "a run, by a bit": Victim(small_run.three_epochs, as_it_was, "[!cm]*", bit_flipped, least=1),
    "a report": Victim(short_measurements, of_measurement),
    "a comparison": Victim(short_measurements, of_measurement_and_another, "demo-1.jsonl"),
}


@pytest.mark.parametrize("name", VICTIMS)
def test_a_damaged_file_is_read_or_refused(folder: Path, name: str) -> None:
    attack_files(VICTIMS[name], folder)


@pytest.mark.parametrize(("name", "pattern"), [("torch", "*.pt"), ("keras", "*.h5")])
def test_a_damaged_file_of_a_framework_is_read_or_refused(
    folder: Path, name: str, pattern: str
) -> None:
    """HDF5's library reads some damaged files without end.
    The timeout ends that process; another is started."""
    process = start(name)

    def write(folder: Path) -> None:
        folder.mkdir()
        process.call(child.save, state=STATE, folder=folder)

    def read(path: Path) -> None:
        nonlocal process
        optimizer = [path] if path.stem == "optimizer" else []
        paths = [path.with_name("model.pt") if optimizer else path, *optimizer]
        try:
            answer = process.call(child.read, None, ENDLESS_SECONDS, paths=paths)
        except RosettaError:
            process.close()
            process = start(name)
            raise
        if answer.refusal:
            raise RosettaError(answer.refusal)

    try:
        attack_files(Victim(write, read, pattern), folder)
    finally:
        process.close()


def start(name: str) -> BackendProcess:
    return BackendProcess(name, MODEL, TrainConfig(), Runtime(threads=1))
