"""Damages corpora, runs, Paddle's pickles and Keras's archives at random; each is read or refused in one line.

    python -m tests.attack.damaged_files COUNT [SEED]

It ends at the first input that has any other outcome, which it leaves in the working folder, and with an error if
too much memory was taken. No framework is loaded. Weights, pairs and vocabularies in which a bit has changed must
all be refused, or be read as they were.
"""

import io
import json
import pickle
import shutil
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import h5py
import numpy as np

from backends.native.keras import FOLDERS, ROLES, SETTINGS, read_keras
from backends.native.paddle import NAME_TABLE, read_paddle
from common.config import DataConfig, ModelConfig
from common.corpus import read_corpus
from common.errors import RosettaError
from common.material import Material
from common.run_directory import STATE_FILES, RunDirectory
from common.stored import Pair
from common.text import LONGEST_LINE, LONGEST_SENTENCE, PIECE, lines_as_they_arrive
from common.weights import from_bytes, initial_state, to_bytes, weight_shapes
from tests import small_run
from tests.attack.damage_bytes import bit_flipped, damaged, damaged_json, damaged_json_lines, zipped
from tests.attack.limits import left_behind, little_memory, little_time, one_line

MODEL = ModelConfig(7, 9, 0, 1, latent_dim=3)
STATE = initial_state(MODEL, 5)


def pickled(protocol: int) -> bytes:
    """A state dict of MODEL, as Paddle saves it."""
    tensors = {}
    for role in ("encoder", "decoder"):
        for kind, tensor in {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"}.items():
            tensors[f"{role}.{tensor}_l0"] = STATE.weights[f"{role}/{kind}"].T
        tensors[f"{role}.bias_hh_l0"] = np.zeros_like(STATE.weights[f"{role}/bias"])
    tensors |= {"dense.weight": STATE.weights["dense/kernel"], "dense.bias": STATE.weights["dense/bias"]}
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
    """The files of a run of three epochs. An `old` one has neither digests nor checksums, which find most damage
    before it is looked at."""
    with TemporaryDirectory() as folder, patch("common.run_directory.describe_machine", dict):
        run = small_run.create(Path(folder) / "run")
        small_run.write(run, [3.0, 1.0, 2.0])
        files = small_run.contents(run.path)
    if old:
        config = json.loads(files["config.json"])
        del config["digests"]
        files["config.json"] = json.dumps(config).encode()
        for name in STATE_FILES.values():
            files[name] = without_checksum(files[name])
    return files


def without_checksum(block: bytes) -> bytes:
    header = 8 + int.from_bytes(block[:8], "little")
    content = json.loads(block[8:header])
    metadata = json.loads(content["__metadata__"]["rosetta"])
    del metadata["crc32"]
    content["__metadata__"]["rosetta"] = json.dumps(metadata)
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + block[header:]


def of_corpus(path: Path) -> object:
    pairs = read_corpus(DataConfig(str(path), 50, skip_bad_lines=True)).pairs
    for side in chain.from_iterable(pairs):
        assert 0 < len(side) <= LONGEST_SENTENCE
        assert not set(side) & {"\t", "\n"}
        side.encode()
    return pairs


def of_lines(path: Path) -> object:
    """The lines of a text as `translate --file` reads them."""
    with path.open("rb") as file:
        lines = list(chain.from_iterable(lines_as_they_arrive(file)))
    assert all(len(line) <= LONGEST_LINE + PIECE + 2 and "\n" not in line for line in lines)
    return lines


def of_paddle(path: Path) -> object:
    return read_paddle([path], MODEL, None)


def of_keras(path: Path) -> object:
    return read_keras([path], MODEL, None)


def of_run(path: Path, name: str, old: bool) -> tuple[list[Pair], list[bytes]]:
    """All that commands read of a run whose file `name` is the one at `path`: its pairs and its states."""
    folder, weights = path.with_name("run"), path.with_name("weights")
    for made in (folder, weights):  # some file systems wait for the disk where a file is overwritten
        shutil.rmtree(made, ignore_errors=True)
    folder.mkdir()
    for other, content in run_files(old).items():
        (folder / other).write_bytes(path.read_bytes() if other == name else content)
    run = RunDirectory.open(folder)
    Material.of_run(run)
    run.history()
    states = [to_bytes(run.read_state(which)[0], {}) for which in STATE_FILES]
    run.write_weights("best", weights)
    run.begin()
    return run.pairs(), states


def of_flipped(path: Path, name: str) -> object:
    """The same of a run in which a bit of a file has changed: what is read is what was written."""
    pairs, states = of_run(path, name, old=False)
    assert pairs == small_run.PAIRS
    files = run_files(old=False)
    assert states == [to_bytes(from_bytes(files[file])[0], {}) for file in STATE_FILES.values()]
    return pairs


# What separates, ends or combines, for Unicode, for Python or for somebody's editor, and what is no text.
ODD = "\u2028|\u2029|\x85|\x0b|\x0c|\x1c|\x1e|\r|\r\n|\x00|\ufeff|\u202e|\x1b[2J|\u0958|\ufb1d|👩\u200d🚀".split("|")
ODD += ["\u0301" * 40, "\U000e0001", "\uffff", "\ud800", "\udc80", "a" * 1100, "\u00a0"]
PIECES = [text.encode(errors="surrogatepass") for text in [*ODD, *"\t\t\t\t\t\n\n\nabcé 犬"]]
PIECES += [b"\xff\xfe", b"\xc3", b"\xf0\x9f", b"\xc0\x80", b"x" * 70_000, b"PK\x03\x04"]


def odd_text(whole: bytes, rng: np.random.Generator) -> bytes:
    """A text of pieces at random, some of which are seldom."""
    begun = b"" if rng.integers(2) else whole[: rng.integers(20)]
    return begun + b"".join(PIECES[place] for place in rng.integers(0, len(PIECES), rng.integers(1, 60)))


def as_it_is(content: bytes) -> bytes:
    return content


@dataclass(frozen=True)
class Target:
    """What is damaged and how, what makes a file of it, and what reads the file."""

    whole: bytes
    read: Callable[[Path], object]
    packed: Callable[[bytes], bytes] = as_it_is
    damage: Callable[[bytes, np.random.Generator], bytes] = damaged


LINES = b"".join(b"%d\t%d\xc3\xa9\n" % (i, i * i) for i in range(100))
CONFIG, ARRAYS = keras_members()
# The checksums of a zip would find most damage to its members, so that these are damaged before they are packed, too.
WHOLE = {
    "text": Target(LINES, of_corpus),
    "odd text": Target(LINES, of_corpus, damage=odd_text),
    "lines to translate": Target(LINES, of_lines, damage=odd_text),
    "zip": Target(zipped({"_about.txt": b"", "fra.txt": LINES}), of_corpus),
    "text in a zip": Target(LINES, of_corpus, lambda text: zipped({"fra.txt": text})),
    "pickle of protocol 2": Target(pickled(2), of_paddle),
    "pickle of protocol 4": Target(pickled(4), of_paddle),
    "Keras's archive": Target(keras_archive(CONFIG, ARRAYS), of_keras),
    "arrays in Keras's archive": Target(ARRAYS, of_keras, lambda arrays: keras_archive(CONFIG, arrays)),
    "configuration in Keras's archive": Target(CONFIG, of_keras, lambda config: keras_archive(config, ARRAYS)),
    "values in Keras's configuration": Target(
        CONFIG, of_keras, lambda config: keras_archive(config, ARRAYS), damaged_json
    ),
}
for file, content in run_files(old=False).items():
    for age, old in (("a run", False), ("an old run", True)):
        reader = partial(of_run, name=file, old=old)
        WHOLE[f"{file} of {age}"] = Target(run_files(old)[file], reader)
        if file.endswith((".json", ".jsonl")):
            damage = damaged_json if file.endswith(".json") else damaged_json_lines
            WHOLE[f"values in {file} of {age}"] = Target(run_files(old)[file], reader, damage=damage)
    if file in ("pairs.tsv", "vocabulary.json", *STATE_FILES.values()):
        WHOLE[f"a bit of {file}"] = Target(content, partial(of_flipped, name=file), damage=bit_flipped)


def attack(count: int, start: int = 0) -> Counter[str]:
    """Damage files `count` times in all, at random from the seed `start`; returns how often they came to what."""
    outcomes: Counter[str] = Counter()
    rng = np.random.default_rng(start)
    with TemporaryDirectory() as folder, little_memory(), patch("os.fsync"):  # which takes longer than all the rest
        path = Path(folder) / "damaged"
        for number in range(count):
            name, target = list(WHOLE.items())[number % len(WHOLE)]
            path.unlink(missing_ok=True)
            path.write_bytes(content := target.packed(target.damage(target.whole, rng)))
            with left_behind(content):
                try:
                    with little_time():
                        target.read(path)
                    outcomes[f"{name}: read"] += 1
                except RosettaError as error:
                    one_line(error)
                    outcomes[f"{name}: refused in one line"] += 1
    return outcomes


if __name__ == "__main__":
    warnings.simplefilter("error")
    print(json.dumps(attack(*map(int, sys.argv[1:]))))
