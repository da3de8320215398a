"""Damages corpora, Paddle's pickles and Keras's archives at random; each is read or refused in one line.

    python -m tests.attack.damaged_files COUNT [SEED]

It ends at the first input that has any other outcome, which it leaves in the working folder, and with an error if
more memory than MOST_MEMORY was taken. No framework is loaded.
"""

import io
import json
import pickle
import resource
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

from backends.native.keras import FOLDERS, ROLES, SETTINGS, read_keras
from backends.native.paddle import NAME_TABLE, read_paddle
from common.config import DataConfig, ModelConfig
from common.corpus import read_corpus
from common.errors import RosettaError
from common.weights import initial_state, weight_shapes

MODEL = ModelConfig(7, 9, 0, 1, latent_dim=3)
STATE = initial_state(MODEL, 5)
MOST_MEMORY = 1 << 30  # bytes
LENGTHS = [
    b"\xff" * 4,
    b"\xff" * 8,
    (1 << 31).to_bytes(8, "little"),
    b"\xff\xff\xff\x0f",
]  # as a format may have them


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


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


def of_corpus(path: Path) -> object:
    return read_corpus(DataConfig(str(path), 50, skip_bad_lines=True))


def of_paddle(path: Path) -> object:
    return read_paddle([path], MODEL, None)


def of_keras(path: Path) -> object:
    return read_keras([path], MODEL, None)


def as_it_is(content: bytes) -> bytes:
    return content


LINES = b"".join(b"%d\t%d\xc3\xa9\n" % (i, i * i) for i in range(100))
CONFIG, ARRAYS = keras_members()
# What is damaged, what makes a file of it, and what reads the file. The checksums of a zip would find most damage to
# its members, so that these are damaged before they are packed, too.
WHOLE: dict[str, tuple[bytes, Callable[[bytes], bytes], Callable[[Path], object]]] = {
    "text": (LINES, as_it_is, of_corpus),
    "zip": (zipped({"_about.txt": b"", "fra.txt": LINES}), as_it_is, of_corpus),
    "text in a zip": (LINES, lambda text: zipped({"fra.txt": text}), of_corpus),
    "pickle of protocol 2": (pickled(2), as_it_is, of_paddle),
    "pickle of protocol 4": (pickled(4), as_it_is, of_paddle),
    "Keras's archive": (keras_archive(CONFIG, ARRAYS), as_it_is, of_keras),
    "arrays in Keras's archive": (ARRAYS, lambda arrays: keras_archive(CONFIG, arrays), of_keras),
    "configuration in Keras's archive": (CONFIG, lambda config: keras_archive(config, ARRAYS), of_keras),
}


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to four changes: of a byte, of a length, of a piece that goes, comes twice or moves."""
    content = bytearray(whole)
    for _ in range(rng.integers(1, 5)):
        first, second = sorted(rng.integers(0, len(content) + 1, 2))
        piece = content[first : min(second, first + 64)]
        match rng.integers(0, 6):
            case 0 | 1:
                content[first : first + 1] = rng.bytes(1)
            case 2:
                length = LENGTHS[rng.integers(len(LENGTHS))]
                content[first : first + len(length)] = length
            case 3:
                del content[first : first + len(piece)]
            case 4:
                content[second:second] = bytes(piece) * int(rng.integers(1, 100))
            case 5:
                del content[second:]
    return bytes(content)


def attack(count: int, start: int = 0) -> Counter[str]:
    """Damage files `count` times in all, at random from the seed `start`; returns how often they came to what."""
    outcomes: Counter[str] = Counter()
    rng, before = np.random.default_rng(start), resident()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        for number in range(count):
            name, (whole, packed, read) = list(WHOLE.items())[number % len(WHOLE)]
            path.write_bytes(content := packed(damaged(whole, rng)))
            try:
                read(path)
                outcomes[f"{name}: read"] += 1
            except RosettaError as error:
                outcomes[f"{name}: refused in one line"] += 1
                if "\n" in str(error):
                    raise AssertionError(f"two lines: {error}") from error
            except BaseException:
                Path("damaged").write_bytes(content)
                raise
    if resident() - before > MOST_MEMORY:
        raise AssertionError(f"{resident() - before:,} bytes of memory were taken")
    return outcomes


def resident() -> int:
    """The most bytes of memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    warnings.simplefilter("error")
    print(json.dumps(attack(*map(int, sys.argv[1:]))))
