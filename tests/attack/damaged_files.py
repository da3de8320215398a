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
from contextlib import ExitStack
from functools import cache, partial
from hashlib import sha256
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
from benchmarks.compare.mapping import read_mapping
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
# What stands in a line of a mapping file, and what takes the place of a word there.
NAMES = ["b.0.qkv.weight", "b.{i}.qkv.weight", "b{i}/q/kernel", "b0/v/kernel", "moe.0.w", "moe/{e}/kernel"]
FIELDS = [
    'axes = "m n -> n m"',
    'axes = "(h d two) m -> m (h two d)"',
    "sizes = {h = 2, parts = 3}",
    "order = [2, 0, 1]",
]
FIELDS += ["times = 2.5", "add = -1", 'axes = "parts m -> m parts"']
WORDS = "-1 0 1e308 nan {i} {i+1} * _ [0,0] parts m h two ( () -> = , \" ' axes order".split()
WORDS += [str(1 << 63), "9" * 900, "é" * 1000, "\x1b[2J\u202e", "{i}" * 333, "(" * 900, "a " * 200, "*" * 1000]


def odd_text(whole: bytes, rng: random.Random) -> bytes:
    """A text of pieces at random, some of which are seldom."""
    begun = b"" if rng.random() < 0.5 else whole[: rng.randrange(20)]
    return begun + b"".join(rng.choices(PIECES, k=rng.randint(1, 60)))


def hostile_mapping(whole: bytes, rng: random.Random) -> bytes:
    """A mapping file with one more line, often fewer of its own, and up to three words that are other ones."""
    lines = [line for line in whole.decode().splitlines() if line.startswith("[") or rng.randrange(3)]
    left, right = rng.choices(NAMES, k=2)
    fields = ", ".join([f'to = "{right}"', *rng.sample(FIELDS, rng.randrange(4))])
    lines.insert(lines.index("[weights]") + 1, f'"{left}" = {{{fields}}}')
    words = re.findall(r"\w+|\W", "\n".join(lines))
    for _ in range(rng.randrange(4)):
        words[rng.randrange(len(words))] = rng.choice([rng.choice(WORDS), rng.choice(words)])
    return "".join(words).encode()


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
def run_files(checked: bool) -> dict[str, bytes]:
    """The files of a run of three epochs. Without checksums, damage to a state is looked at and not found at once."""
    with TemporaryDirectory() as folder, patch("common.run_directory.describe_machine", dict), ExitStack() as stack:
        if not checked:
            stack.enter_context(patch("common.weights._crc32", lambda *of: None))
        run = small_run.create(Path(folder) / "run")
        small_run.write(run, [3.0, 1.0, 2.0])
        return small_run.contents(run.path)


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


def read_one(read: Callable[..., object], path: Path) -> None:
    """Read a framework's file of MODEL."""
    read([path], MODEL, None)


def folder_of(files: dict[str, bytes], folder: Path, name: str = "", path: Path = Path()) -> Path:
    """A new folder of these files, of which `name` is the one at `path`."""
    shutil.rmtree(folder, ignore_errors=True)  # some file systems wait for the disk where a file is overwritten
    folder.mkdir()
    for other, content in files.items():
        (folder / other).write_bytes(path.read_bytes() if other == name else content)
    return folder


def of_run(path: Path, name: str, flipped: bool = False) -> None:
    """All that commands read of a run whose file `name` is the one at `path`: where a bit of it was `flipped`, what
    is read is what was written; else its digest is written anew, as somebody who wants to deceive would."""
    files = run_files(checked=flipped)
    folder = folder_of(files, path.with_name("folder"), name, path)
    if not flipped and name in (settings := json.loads(files["config.json"]))["digests"]:
        settings["digests"][name] = sha256(path.read_bytes()).hexdigest()
        (folder / "config.json").write_text(json.dumps(settings))
    run = RunDirectory.open(folder)
    Material.of_run(run)
    run.history()
    states = [to_bytes(run.read_state(which)[0], {}) for which in STATE_FILES]
    run.write_weights("best", weights := path.with_name("weights"))
    shutil.rmtree(weights)
    run.begin()
    if flipped:
        assert run.pairs() == small_run.PAIRS
        assert states == [to_bytes(from_bytes(files[file])[0], {}) for file in STATE_FILES.values()]


def compared(left: Path, right: Path, mapping_file: Path | None = None) -> None:
    """Two records are compared; with a mapping file carried, too. Errors have names out of all three in them, and are
    told as common.terminal prints them."""
    try:
        sides, mapping = (Side(left), Side(right)), read_mapping(mapping_file) if mapping_file else None
        if mapping:
            carried(paired(*sides, mapping))
        compare_records(*sides, mapping).as_json()
    except RosettaError as error:
        raise RosettaError(printable(str(error))) from error


def of_record(path: Path, name: str) -> None:
    """A record whose file `name` is the one at `path` is compared with itself as it was, on either side."""
    whole = folder_of(record_files(), path.with_name("whole"))
    found = folder_of(record_files(), path.with_name("found"), name, path)
    compared(found, whole)
    compared(whole, found)


def of_mapping(path: Path) -> None:
    left, right = (folder_of(files, path.with_name(f"side-{n}")) for n, files in enumerate(cut_records()[:2]))
    compared(left, right, path)


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
    whole: bytes, read: Callable[[Path], object], *damages: Damage, packed: Callable[[bytes], bytes] = bytes
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
    of_keras, of_paddle = (partial(read_one, read) for read in (read_keras, read_paddle))
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
            "a run": (run_files(checked=False), of_run),
            "a record": (record_files(), of_record),
        }
        for owner, (members, read) in kinds.items():
            for file, content in members.items():
                of_values = [way for kind, way in DAMAGE_OF_VALUES.items() if file.endswith(kind)]
                targets[f"{file} of {owner}"] = damaging(content, partial(read, name=file), damaged, *of_values)
        for file in ("pairs.tsv", "vocabulary.json", *STATE_FILES.values()):
            read = partial(of_run, name=file, flipped=True)
            targets[f"a bit of {file}"] = damaging(run_files(checked=True)[file], read, bit_flipped)
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
        ("torch", "Size", ([1 << 62, 1 << 62],)),
        ("torch._utils", "_rebuild_tensor_v2", (1, 2, (3,), (1,), False, None)),
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

    expected, of_model = to_bytes(read_torch([model], MODEL, None), {}), partial(read_one, read_torch)
    targets = {
        "model": damaging(whole, of_model),
        "model without a zip": damaging(saved(tensors, False), of_model),
        "optimizer": damaging(saved(optimizer), lambda path: read_torch([model, path], MODEL, None)),
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
