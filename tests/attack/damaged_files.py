"""Damages corpora, runs, records, recordings, Paddle's pickles and Keras's archives; each is read or refused.

No framework is loaded. Weights, pairs and vocabularies in which a bit has changed must all be refused, or be read as
they were.
"""

import io
import json
import pickle
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import h5py

from backends.native.keras import FOLDERS, ROLES, SETTINGS, read_keras
from backends.native.paddle import NAME_TABLE, read_paddle
from benchmarks.compare.carry import carried
from benchmarks.compare.diff import compare_records
from benchmarks.compare.drafts import write_mapping
from benchmarks.compare.mapping import quoted, read_mapping
from benchmarks.compare.pairing import paired
from benchmarks.compare.record import Side
from common.config import DataConfig, ModelConfig
from common.corpus import read_corpus
from common.errors import RosettaError
from common.material import Material
from common.run_directory import STATE_FILES, RunDirectory
from common.text import LONGEST_LINE, LONGEST_SENTENCE, PIECE, lines_as_they_arrive, printable
from common.weights import from_bytes, initial_state, to_bytes, weight_shapes
from tests import damage, records, small_run
from tests.attack.damage_bytes import (
    Damage,
    bit_flipped,
    damaged,
    damaged_json,
    damaged_json_lines,
    layer_tensors,
    odd_arrays,
    zipped,
)
from tests.attack.limits import Case, Target, inputs

MODEL = ModelConfig(7, 9, 0, 1, latent_dim=3)
STATE = initial_state(MODEL, 5)
LINES = b"".join(b"%d\t%d\xc3\xa9\n" % (i, i * i) for i in range(100))
# What separates, ends or combines, for Unicode, for Python or for somebody's editor, and what is no text.
ODD = "\u2028|\u2029|\x85|\x0b|\x0c|\x1c|\x1e|\r|\r\n|\x00|\ufeff|\u202e|\x1b[2J|\u0958|\ufb1d|👩\u200d🚀".split("|")
ODD += ["\u0301" * 40, "\U000e0001", "\uffff", "\ud800", "\udc80", "a" * 1100, "\u00a0"]
PIECES = [text.encode(errors="surrogatepass") for text in [*ODD, *"\t\t\t\t\t\n\n\nabcé 犬"]]
PIECES += [b"\xff\xfe", b"\xc3", b"\xf0\x9f", b"\xc0\x80", b"x" * 70_000, b"PK\x03\x04"]


def odd_text(whole: bytes, rng: random.Random) -> bytes:
    """A text of pieces at random, some of which are seldom."""
    begun = b"" if rng.random() < 0.5 else whole[: rng.randrange(20)]
    return begun + b"".join(rng.choices(PIECES, k=rng.randint(1, 60)))


def pickled(protocol: int) -> bytes:
    """A state dict of MODEL, as Paddle saves it."""
    tensors = layer_tensors(STATE.weights)
    return pickle.dumps(tensors | {NAME_TABLE: {name: name for name in tensors}}, protocol)


def keras_members() -> tuple[bytes, bytes]:
    """The configuration and the arrays of MODEL in Keras's archive."""
    layers = [("InputLayer", {"name": "a"}), ("InputLayer", {"name": "b"})]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for kind, roles in ROLES.items():
            settings = {name: allowed[0] for name, allowed in SETTINGS[kind].items()}
            for role, folder in zip(roles, FOLDERS[kind], strict=True):
                layers.append((kind.rpartition(".")[2], settings | {"name": role}))
                names = [name for name in weight_shapes(MODEL) if name.startswith(f"{role}/")]
                for number, name in enumerate(names):
                    file[f"{folder}/vars/{number}"] = STATE.weights[name]
    described = [{"module": "keras.layers", "class_name": name, "config": config} for name, config in layers]
    config = {"config": {"layers": described}, "compile_config": {"optimizer": "rmsprop"}}
    return json.dumps(config).encode(), buffer.getvalue()


def keras_archive(config: bytes, arrays: bytes) -> bytes:
    return zipped({"config.json": config, "model.weights.h5": arrays}, zipfile.ZIP_STORED)


@cache
def run_files(old: bool) -> dict[str, bytes]:
    """The files of a run of three epochs. An `old` one is of version 1, and has neither digests nor checksums, which
    find most damage before it is looked at."""
    with TemporaryDirectory() as folder, patch("common.run_directory.describe_machine", dict):
        run = small_run.create(Path(folder) / "run")
        small_run.write(run, [3.0, 1.0, 2.0])
        return small_run.contents((small_run.as_version_1(run, digests=False) if old else run).path)


@cache
def record_files() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        return small_run.contents(records.write(Path(folder) / "record", "torch", records.tagger()))


def of_corpus(path: Path) -> None:
    for side in chain.from_iterable(read_corpus(DataConfig(str(path), 50, skip_bad_lines=True)).pairs):
        assert 0 < len(side) <= LONGEST_SENTENCE
        assert not set(side) & {"\t", "\n"}
        side.encode()


def of_lines(path: Path) -> None:
    """The lines of a text as `translate --file` reads them."""
    with path.open("rb") as file:
        lines = list(chain.from_iterable(lines_as_they_arrive(file)))
    assert all(len(line) <= LONGEST_LINE + PIECE + 2 and "\n" not in line for line in lines)


def of_paddle(path: Path) -> None:
    read_paddle([path], MODEL, None)


def of_keras(path: Path) -> None:
    read_keras([path], MODEL, None)


def folder_of(files: dict[str, bytes], folder: Path, name: str = "", path: Path = Path()) -> Path:
    """A new folder of these files, of which `name` is the one at `path`."""
    shutil.rmtree(folder, ignore_errors=True)  # some file systems wait for the disk where a file is overwritten
    folder.mkdir()
    for other, content in files.items():
        (folder / other).write_bytes(path.read_bytes() if other == name else content)
    return folder


def of_run(path: Path, name: str, old: bool, flipped: bool = False) -> None:
    """All that commands read of a run whose file `name` is the one at `path`: where a bit of it was `flipped`, what
    is read is what was written."""
    files = run_files(old)
    run = RunDirectory.open(folder_of(files, path.with_name("folder"), name, path))
    Material.of_run(run)
    run.history()
    states = [to_bytes(run.read_state(which)[0], {}) for which in STATE_FILES]
    run.write_weights("best", weights := path.with_name("weights"))
    shutil.rmtree(weights)
    run.begin()
    if flipped:
        assert run.pairs() == small_run.PAIRS
        assert states == [to_bytes(from_bytes(files[file])[0], {}) for file in STATE_FILES.values()]


@contextmanager
def as_shown() -> Iterator[None]:
    """Errors have names out of records and mappings in them, and are told as common.ending prints them."""
    try:
        yield
    except RosettaError as error:
        raise RosettaError(printable(str(error))) from error


def of_record(path: Path, name: str) -> None:
    """A record whose file `name` is the one at `path` is compared with itself as it was, on either side."""
    found = folder_of(record_files(), path.with_name("found"), name, path)
    whole = folder_of(record_files(), path.with_name("whole"))
    with as_shown():
        for sides in ((found, whole), (whole, found)):
            compare_records(*map(Side, sides)).as_json()


@cache
def cut_records() -> tuple[dict[str, bytes], dict[str, bytes], bytes]:
    """Two records whose weights are cut otherwise, and a mapping of them."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        sides = records.cut(folder)
        write_mapping(folder / "mapping.toml", paired(*map(Side, sides)))
        left, right = map(small_run.contents, sides)
        return left, right, (folder / "mapping.toml").read_bytes()


def of_mapping(path: Path) -> None:
    """Two records are compared, and carried, with this mapping file."""
    left, right, _ = cut_records()
    sides = [path.with_name(name) for name in ("left", "right")]
    for side, files in zip(sides, (left, right), strict=True):
        if not side.exists():
            folder_of(files, side)
    with as_shown():
        mapping = read_mapping(path)
        one, other = map(Side, sides)
        carried(paired(one, other, mapping))
        compare_records(one, other, mapping).as_json()


# What lines of a hostile mapping file are made of; the names are those of records.cut.
NAMES = ["b.0.qkv.weight", "b.1.qkv.weight", "b.{i}.qkv.weight", "b.*.qkv.weight", "moe.0.w", "out.weight", "_"]
NAMES += ["b{i}/q/kernel", "b{i}/k/kernel", "b0/v/kernel", "b{i+1}/v/kernel", "moe/{e}/kernel", "out/kernel"]
NAMES += [
    "b.0.qkv",
    "b0/q",
    "out, out",
    "",
    "{i}",
    "*",
    "é" * 1000,
    "a\x1b[2J\n\u202e",
    "b{i+" + "9" * 900 + "}/q/kernel",
]
NAMES += ["{i}" * 333, "*" * 1000, "b.{i}{i}.qkv.weight", "{a}1{b}1{c}1{d}1{e}1{f}1{g}1{h}x", "{i}" + "1" * 990]
AXES = [
    "m n -> n m",
    "parts m -> m parts",
    "m parts -> parts m",
    "parts",
    "(g parts d) m -> m (g parts d)",
    "1 m -> m",
]
AXES += ["(h d two) m -> m (h two d)", "parts n m -> m n", "n m", "()", "((", "->", "a->b->c", "parts parts", "é", ""]
AXES += [" ".join(f"a{number}" for number in range(200)), "(" * 900, "(a" * 300]
SIZES = [0, -1, 1, 2, 3, 4, 6, 1 << 63, 10**30, -(10**30)]
ORDERS = [[0, 1, 2], [2, 0, 1], [1, 0], [0, 0], [-1], [1 << 70], list(range(18))[::-1], list(range(5000)), []]


def hostile_mapping(whole: bytes, rng: random.Random) -> bytes:
    """One to three lines of names, axes, sizes and orders at random, perhaps beside those of the whole file."""
    beside = rng.randrange(2)
    kept = [line for line in whole.decode().splitlines() if line.startswith("[") or (beside and rng.randrange(4))]
    made = []
    for _ in range(rng.randint(1, 3)):
        to = rng.choice(NAMES) if rng.randrange(2) else rng.choices(NAMES, k=rng.choice([1, 2, 3, 500]))
        fields = {"to": quoted(to), "axes": quoted(rng.choice(AXES))}
        axes = rng.choices(["h", "d", "g", "two", "m", "n", "parts"], k=2)
        fields["sizes"] = "{" + ", ".join(f"{axis} = {rng.choice(SIZES)}" for axis in {*axes}) + "}"
        fields["order"], number = (
            str(rng.choice(ORDERS)),
            rng.choice(["0", "-1", "2.5", "1e308", "nan", "inf", "9" * 99]),
        )
        fields[rng.choice(["times", "add"])] = number
        own = {"to": fields["to"]} | {name: fields[name] for name in fields if rng.randrange(3) == 0}
        left = ", ".join(rng.choices(NAMES, k=rng.choice([1, 1, 1, 2, 3])))
        made.append(f"{quoted(left)} = {{{', '.join(f'{name} = {value}' for name, value in own.items())}}}")
    for line in [line for line in whole.decode().splitlines() if "axes" in line and line not in kept]:
        words = re.split(r"(\W+)", line)  # a line that was right, with a word or what is between two in another place
        place, other = rng.randrange(len(words)), rng.randrange(len(words))
        words[place] = words[other] if rng.randrange(3) else rng.choice([*map(str, SIZES), "parts", "m", "(", "->"])
        made += ["".join(words)] if rng.randrange(2) else []
    table = rng.choice(["weights", "weights", "weights", "layers", "skip"])
    if table != "weights":
        made = [f"{quoted(rng.choice(NAMES))} = {quoted(rng.choice(NAMES))}"]
    place = kept.index(f"[{table}]") + 1
    return "\n".join([*kept[:place], *made, *kept[place:]]).encode(errors="surrogatepass")


def of_recording(path: Path) -> str:
    """A recording gets a page, is compared with another one, and stands beside it, or is refused in one line."""
    page = "<!doctype html>" in damage.reported(path)
    damage.compared_with(path, damage.another())
    damage.beside_another(path)
    return "pages" if page else "refused in one line"


def damaging(
    whole: bytes,
    read: Callable[[Path], str | None],
    packed: Callable[[bytes], bytes] = bytes,
    damage: Damage = damaged,
) -> Target:
    """What is damaged and how, what makes a file of it, and what reads the file. The file is read whole before."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "whole-file"
        path.write_bytes(packed(whole))
        read(path)
    return Target(lambda rng: packed(damage(whole, rng)), read)


def files(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[Case]:
    """The checksums of a zip would find damage to its members, so these are damaged before they are packed, too."""
    config, arrays = keras_members()
    with patch("os.fsync"):  # which takes longer than all the rest
        found = {
            "text": damaging(LINES, of_corpus),
            "odd text": damaging(LINES, of_corpus, damage=odd_text),
            "lines to translate": damaging(LINES, of_lines, damage=odd_text),
            "zip": damaging(zipped({"_about.txt": b"", "fra.txt": LINES}), of_corpus),
            "text in a zip": damaging(LINES, of_corpus, lambda text: zipped({"fra.txt": text})),
            "pickle of protocol 2": damaging(pickled(2), of_paddle),
            "pickle of protocol 4": damaging(pickled(4), of_paddle),
            "Keras's archive": damaging(keras_archive(config, arrays), of_keras),
            "arrays in Keras's archive": damaging(arrays, of_keras, partial(keras_archive, config)),
            "configuration in Keras's archive": damaging(config, of_keras, partial(keras_archive, arrays=arrays)),
            "values in Keras's configuration": damaging(
                config, of_keras, partial(keras_archive, arrays=arrays), damaged_json
            ),
        }
        kinds: dict[str, tuple[dict[str, bytes], Callable[..., None]]] = {
            "a run": (run_files(False), partial(of_run, old=False)),
            "an old run": (run_files(True), partial(of_run, old=True)),
            "a record": (record_files(), of_record),
        }
        for owner, (members, read) in kinds.items():
            for file, content in members.items():
                found[f"{file} of {owner}"] = damaging(content, partial(read, name=file))
                if file.endswith((".json", ".jsonl")):
                    damage_ = damaged_json if file.endswith(".json") else damaged_json_lines
                    found[f"values in {file} of {owner}"] = damaging(
                        content, partial(read, name=file), damage=damage_
                    )
        for file, content in record_files().items():
            if file.endswith(".safetensors"):
                read = partial(of_record, name=file)
                found[f"arrays in {file} of a record"] = damaging(content, read, damage=odd_arrays)
        found["a mapping file"] = damaging(cut_records()[2], of_mapping)
        found["lines of a mapping file"] = damaging(cut_records()[2], of_mapping, damage=hostile_mapping)
        for file in ("pairs.tsv", "vocabulary.json", *STATE_FILES.values()):
            read = partial(of_run, name=file, old=False, flipped=True)
            found[f"a bit of {file}"] = damaging(run_files(False)[file], read, damage=bit_flipped)
        yield from inputs({name: found[name] for name in names or found}, rng, folder)


def recordings(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[Case]:
    targets = {}
    for name in names or ("intel.jsonl", "scaling.jsonl", "workers.jsonl"):
        lines = "".join(json.dumps(line) + "\n" for line in damage.lines_of(name)).encode()
        targets[name] = damaging(lines, of_recording, damage=damaged_json_lines)
        targets[f"bytes of {name}"] = damaging(lines, of_recording)
    yield from inputs(targets, rng, folder)
