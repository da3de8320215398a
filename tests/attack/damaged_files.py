"""Damages corpora, runs, records, mappings, recordings and the frameworks' own files; each is read or refused.

Only what damages PyTorch's files loads a framework. Weights, pairs and vocabularies in which a bit has changed must
all be refused, or be read as they were.
"""

import io
import json
import pickle
import random
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import h5py

from backends.native.keras import FOLDERS, ROLES, SETTINGS, read_keras
from backends.native.paddle import NAME_TABLE, read_paddle
from benchmarks import commands
from benchmarks.compare.carry import carried
from benchmarks.compare.diff import compare_records
from benchmarks.compare.drafts import write_mapping
from benchmarks.compare.mapping import quoted, read_mapping
from benchmarks.compare.pairing import paired
from benchmarks.compare.record import Side
from benchmarks.measure.recording import Recording
from benchmarks.report import changes, page, render
from common.config import DataConfig, ModelConfig
from common.corpus import Material, read_corpus
from common.errors import RosettaError
from common.run_directory import STATE_FILES, RunDirectory
from common.text import LONGEST_LINE, LONGEST_SENTENCE, PIECE, lines_as_they_arrive, printable
from common.weights import from_bytes, initial_state, to_bytes, weight_shapes
from tests import records, small_run
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
from tests.attack.limits import HARMED, Target, inputs
from tests.recordings import COMMITTED, committed

MODEL = ModelConfig(7, 9, 0, 1, latent_dim=3)
STATE = initial_state(MODEL, 5)
LINES = b"".join(b"%d\t%d\xc3\xa9\n" % (i, i * i) for i in range(100))
# What separates, ends or combines, for Unicode, for Python or for somebody's editor, and what is no text.
ODD = "\u2028|\u2029|\x85|\x0b|\x0c|\x1c|\x1e|\r|\r\n|\x00|\ufeff|\u202e|\x1b[2J|\u0958|\ufb1d|👩\u200d🚀".split("|")
ODD += ["\u0301" * 40, "\U000e0001", "\uffff", "\ud800", "\udc80", "a" * 1100, "\u00a0"]
PIECES = [text.encode(errors="surrogatepass") for text in [*ODD, *"\t\t\t\t\t\n\n\nabcé 犬"]]
PIECES += [b"\xff\xfe", b"\xc3", b"\xf0\x9f", b"\xc0\x80", b"x" * 70_000, b"PK\x03\x04"]
# Of files whose values are damaged, too, each in the way of its kind.
DAMAGE_OF_VALUES = {".json": damaged_json, ".jsonl": damaged_json_lines, ".safetensors": odd_arrays}
# What lines of a hostile mapping file are made of; the names are those of records.cut.
NAMES = "b.0.qkv.weight b.{i}.qkv.weight b.*.qkv.weight moe.0.w out.weight _ b{i}/q/kernel b0/v/kernel".split()
NAMES += "b{i+1}/v/kernel moe/{e}/kernel out/kernel b.0.qkv b0/q out,out {i} * b.{i}{i}.qkv.weight".split()
NAMES += ["", "é" * 1000, "a\x1b[2J\n\u202e", "b{i+" + "9" * 900 + "}/q/kernel", "{i}" * 333, "*" * 1000]
NAMES += ["{a}1{b}1{c}1{d}1{e}1{f}1{g}1{h}x", "{i}" + "1" * 990]
AXES = "m n -> n m|parts m -> m parts|m parts -> parts m|parts|(g parts d) m -> m (g parts d)|1 m -> m|n m|()|((|->"
AXES += "|(h d two) m -> m (h two d)|parts n m -> m n|a->b->c|parts parts|é||" + "(" * 900 + "|" + "(a" * 300
AXES += "|" + " ".join(f"a{number}" for number in range(200))
SIZES = [0, -1, 1, 2, 3, 4, 6, 1 << 63, 10**30, -(10**30)]
ORDERS = [[0, 1, 2], [2, 0, 1], [1, 0], [0, 0], [-1], [1 << 70], list(range(18))[::-1], list(range(5000)), []]
NUMBERS = ["0", "-1", "2.5", "1e308", "nan", "inf", "9" * 99]


def odd_text(whole: bytes, rng: random.Random) -> bytes:
    """A text of pieces at random, some of which are seldom."""
    begun = b"" if rng.random() < 0.5 else whole[: rng.randrange(20)]
    return begun + b"".join(rng.choices(PIECES, k=rng.randint(1, 60)))


def hostile_mapping(whole: bytes, rng: random.Random) -> bytes:
    """A mapping file with one to three more lines at random, a word in another place, and often fewer of its own."""
    kept = rng.choice([0, 1, 4])
    lines = [line for line in whole.decode().splitlines() if line.startswith("[") or (kept and rng.randrange(kept))]
    table = rng.choice(["weights", "weights", "weights", "layers", "skip"])
    for _ in range(rng.randint(1, 3)):
        left, right = (quoted(", ".join(rng.choices(NAMES, k=rng.choice([1, 1, 1, 2, 3])))) for _ in range(2))
        if table == "weights":
            axes = {rng.choice(["h", "d", "g", "two", "m", "n", "parts"]) for _ in range(2)}
            fields = {
                "axes": quoted(rng.choice(AXES.split("|"))),
                "sizes": "{" + ", ".join(f"{axis} = {rng.choice(SIZES)}" for axis in sorted(axes)) + "}",
                "order": rng.choice(ORDERS),
                rng.choice(["times", "add"]): rng.choice(NUMBERS),
            }
            to = rng.choice([right, f"[{', '.join(map(quoted, rng.choices(NAMES, k=rng.choice([2, 3, 500]))))}]"])
            chosen = [f"{name} = {fields[name]}" for name in rng.sample([*fields], rng.randrange(4))]
            right = "{" + ", ".join([f"to = {to}", *chosen]) + "}"
        lines.insert(lines.index(f"[{table}]") + 1, f"{left} = {right}")
    place = rng.randrange(len(lines))
    words = re.split(r"(\W+)", lines[place])
    if rng.randrange(2):
        words[rng.randrange(len(words))] = rng.choice([*words, *map(str, SIZES), "parts", "m", "(", "->"])
    lines[place] = "".join(words)
    return "\n".join(lines).encode(errors="surrogatepass")


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


@cache
def cut_records() -> tuple[dict[str, bytes], dict[str, bytes], bytes]:
    """Two records whose weights are cut otherwise, and a mapping of them."""
    with TemporaryDirectory() as folder:
        sides, mapping = records.cut(Path(folder)), Path(folder, "mapping.toml")
        write_mapping(mapping, paired(*map(Side, sides)))
        left, right = map(small_run.contents, sides)
        return left, right, mapping.read_bytes()


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


def reads_of(read: Callable[..., object]) -> Callable[[Path], None]:
    """What reads a framework's file of MODEL, and has no outcome of its own."""

    def reads(path: Path) -> None:
        read([path], MODEL, None)

    return reads


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
    """Errors have names out of records and mappings in them, and are told as common.terminal prints them."""
    try:
        yield
    except RosettaError as error:
        raise RosettaError(printable(str(error))) from error


def of_record(path: Path, name: str) -> None:
    """A record whose file `name` is the one at `path` is compared with itself as it was, on either side."""
    whole = folder_of(record_files(), path.with_name("whole"))
    with as_shown():
        sides = Side(folder_of(record_files(), path.with_name("found"), name, path)), Side(whole)
        compare_records(*sides).as_json()
        compare_records(*sides[::-1]).as_json()


def of_mapping(path: Path) -> None:
    """Two records are compared, and carried, with this mapping file."""
    sides = [folder_of(files, path.with_name(f"side-{n}")) for n, files in enumerate(cut_records()[:2])]
    with as_shown():
        mapping = read_mapping(path)
        left, right = map(Side, sides)
        carried(paired(left, right, mapping))
        compare_records(left, right, mapping).as_json()


def reported(path: Path) -> str:
    """All that a report makes of a recording."""
    found = commands.report_of([path])
    return render.html(found.page, found.charts) + render.markdown(found.page) + found.summary


def of_recording(path: Path) -> None:
    assert "<!doctype html>" in reported(path)


def of_recording_and_another(path: Path) -> None:
    """A recording is compared with another one, on either side, and stands beside it on a page."""
    one, other = Recording.read(path, "rosetta-benchmark"), committed("intel")
    for sides in ((one, other), (other, one)):
        changes.page(changes.compare(*sides))
    both = page.machines([("damaged", one), ("whole", other)]).page
    render.html(both, {}), render.markdown(both)


def damaging(
    whole: bytes, read: Callable[[Path], str | None], *damages: Damage, packed: Callable[[bytes], bytes] = bytes
) -> Target:
    """What is damaged, what reads the file, in which ways it is damaged, and what makes a file of it. The file is
    read whole before."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "whole-file"
        path.write_bytes(packed(whole))
        read(path)
    return Target(lambda rng: packed(rng.choice(damages or [damaged])(whole, rng)), read)


def files(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
    """The checksums of a zip would find damage to its members, so these are damaged before they are packed, too."""
    config, arrays = keras_members()
    with_arrays, with_config = partial(keras_archive, arrays=arrays), partial(keras_archive, config)
    of_keras, of_paddle = (reads_of(read) for read in (read_keras, read_paddle))
    tensors = layer_tensors(STATE.weights)
    tensors[NAME_TABLE] = {name: name for name in tensors}
    with patch("os.fsync"):  # which takes longer than all the rest
        targets = {
            "text": damaging(LINES, of_corpus, damaged, odd_text),
            "lines to translate": damaging(LINES, of_lines, odd_text),
            "zip": damaging(zipped({"_about.txt": b"", "fra.txt": LINES}), of_corpus),
            "text in a zip": damaging(LINES, of_corpus, packed=lambda text: zipped({"fra.txt": text})),
            "pickle of protocol 2": damaging(pickle.dumps(tensors, 2), of_paddle),
            "pickle of protocol 4": damaging(pickle.dumps(tensors, 4), of_paddle),
            "Keras's archive": damaging(keras_archive(config, arrays), of_keras),
            "arrays in Keras's archive": damaging(arrays, of_keras, packed=with_config),
            "configuration in Keras's archive": damaging(config, of_keras, damaged, damaged_json, packed=with_arrays),
            "a mapping file": damaging(cut_records()[2], of_mapping, damaged, hostile_mapping),
        }
        kinds: dict[str, tuple[dict[str, bytes], Callable[..., None]]] = {
            "a run": (run_files(False), partial(of_run, old=False)),
            "an old run": (run_files(True), partial(of_run, old=True)),
            "a record": (record_files(), of_record),
        }
        for owner, (members, read) in kinds.items():
            for file, content in members.items():
                of_values = [way for kind, way in DAMAGE_OF_VALUES.items() if file.endswith(kind)]
                targets[f"{file} of {owner}"] = damaging(content, partial(read, name=file), damaged, *of_values)
        for file in ("pairs.tsv", "vocabulary.json", *STATE_FILES.values()):
            read = partial(of_run, name=file, old=False, flipped=True)
            targets[f"a bit of {file}"] = damaging(run_files(False)[file], read, bit_flipped)
        yield from inputs(targets, names, rng, folder)


def lines_of(name: str) -> bytes:
    """A committed recording, of which each round has two cycles; of a benchmark two rounds."""
    lines = [json.loads(line) for line in (COMMITTED / name).read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["kind"] == "round":
            line["cycles"] = line["cycles"][:2]
    lines = [line for line in lines if name != "intel.jsonl" or line.get("number", 0) < 3]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def recordings(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
    ways = damaged, damaged_json_lines
    each = ("intel.jsonl", "scaling.jsonl", "workers.jsonl")
    targets = {name: damaging(lines_of(name), of_recording, *ways) for name in each}
    targets["intel.jsonl and another"] = damaging(lines_of("intel.jsonl"), of_recording_and_another, *ways)
    yield from inputs(targets, names, rng, folder)


def repacked(whole: bytes, rng: random.Random, change: Damage) -> bytes:
    """A model's file of PyTorch whose pickle is changed, with checksums that fit to it."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    return zipped(members | {name: change(members[name], rng)}, zipfile.ZIP_STORED)


def with_other_sizes(pickled: bytes, rng: random.Random) -> bytes:
    place = rng.choice([match.start() for match in re.finditer(rb"K.", pickled, re.DOTALL)])  # numbers of one byte
    large = rng.choice([b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"J\x00\x00\x00\x40"])
    return pickled[:place] + large + pickled[place + 2 :]


def calling(harm: str, pickled: bytes, rng: random.Random) -> bytes:
    """A pickle that asks to call something, by itself or in a state dict."""
    calls: list[tuple[str, str, tuple[Any, ...]]] = [  # module, name and arguments
        ("os", "system", (f"touch {harm}",)),
        ("builtins", "eval", (f"open({harm!r}, 'w')",)),
        ("builtins", "bytearray", (1 << 40,)),
        ("torch.serialization", "load", ("model",)),
        ("torch", "Size", ([1 << 62, 1 << 62],)),
        ("torch._utils", "_rebuild_tensor_v2", (1, 2, (3,), (1,), False, None)),
        ("torch._utils", "_rebuild_parameter", (None, True, {})),
        ("torch._utils", "_rebuild_sparse_tensor", (1, (2, 3, (4,)))),
        ("collections", "OrderedDict", ([("a", 1), ("a", [])],)),
        ("numpy.core.multiarray", "_reconstruct", (1, (0,), "b")),
    ]
    module, called, arguments = rng.choice(calls)
    call = f"c{module}\n{called}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"R"
    within = rng.choice([call, b"}" + pickle.dumps("encoder.weight_ih_l0", 2)[2:-1] + call + b"s"])
    whole = b"\x80\x02" + within + b"."
    return damaged(whole, rng) if rng.random() < 0.5 else whole


def torch_files(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
    """A model's file in both formats of PyTorch, and its optimizer's."""
    import torch

    from backends.native.torch import read_torch

    def saved(content: object, zipped: bool = True) -> bytes:
        torch.save(content, file := io.BytesIO(), _use_new_zipfile_serialization=zipped)
        return file.getvalue()

    warnings.filterwarnings("ignore", "Detected pickle protocol")  # by torch, of what it then refuses
    arrays = layer_tensors(STATE.weights)  # which torch names alike
    arrays["dense.weight"] = arrays["dense.weight"].T
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    trained = [tensor for name, tensor in tensors.items() if not name.endswith("bias_hh_l0")]
    slots = {number: {"step": torch.tensor(3.0), "square_avg": tensor.abs()} for number, tensor in enumerate(trained)}
    optimizer = {"state": slots, "param_groups": [{"lr": 0.1, "params": list(slots)}]}
    whole, model = saved(tensors), folder / "model"
    model.write_bytes(whole)

    def read_as_it_was(path: Path) -> None:
        assert to_bytes(read_torch([path], MODEL, None), {}) == expected

    expected, of_model = to_bytes(read_torch([model], MODEL, None), {}), reads_of(read_torch)
    targets = {
        "model": damaging(whole, of_model),
        "model without a zip": damaging(saved(tensors, False), of_model),
        "optimizer": damaging(saved(optimizer), reads_of(lambda paths, *of: read_torch([model, *paths], *of))),
        "a bit of a model": damaging(whole, read_as_it_was, bit_flipped),
    }
    of_pickle = {
        "pickle in a zip": damaged,
        "sizes in a pickle": with_other_sizes,
        "pickle that calls something": partial(calling, str(folder / HARMED)),
    }
    for name, change in of_pickle.items():
        targets[name] = damaging(whole, of_model, partial(repacked, change=change))
    yield from inputs(targets, names, rng, folder)
