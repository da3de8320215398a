"""Damages PyTorch's files at random, and makes hostile pickles of its kind; each is read or refused in one line.

The files are read in a process of their own, which has no other framework, and whose death is another outcome.
"""

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from backends.process.parent import PROJECT
from common.config import ModelConfig
from common.weights import initial_state, to_bytes
from tests.attack.damage_bytes import bit_flipped, damaged, layer_tensors, zipped
from tests.attack.limits import Target, attacked

MODEL = ModelConfig(7, 9, 0, 1, latent_dim=3)
READ = "import sys; from tests.attack.damaged_torch import read_damaged; read_damaged(*sys.argv[1:])"
BIT = "a bit of a model"  # which is refused, or read as it was
HARM = "open('harmed', 'w')"  # which would be left in the working folder
# What a pickle may ask to be called: module, name and arguments.
CALLS: list[tuple[str, str, tuple[Any, ...]]] = [
    ("os", "system", ("touch harmed",)),
    ("builtins", "eval", (HARM,)),
    ("builtins", "exec", (HARM,)),
    ("builtins", "bytearray", (1 << 40,)),
    ("torch.serialization", "load", ("model",)),
    ("torch.hub", "load", ("a", "b")),
    ("torch", "Size", ([1 << 62, 1 << 62],)),
    ("torch._utils", "_rebuild_tensor_v2", (1, 2, (3,), (1,), False, None)),
    ("torch._utils", "_rebuild_parameter", (None, True, {})),
    ("torch._utils", "_rebuild_sparse_tensor", (1, (2, 3, (4,)))),
    ("collections", "OrderedDict", ([("a", 1), ("a", [])],)),
    ("collections", "Counter", ("a",)),
    ("numpy.core.multiarray", "_reconstruct", (1, (0,), "b")),
]


def attack(count: int, start: int = 0) -> Counter[str]:
    """Damage files `count` times, at random from the seed `start`; returns how often they came to what."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-c", READ, folder, str(count), str(start)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode:
            if (input_ := Path(folder) / "damaged").exists():
                shutil.copy(input_, "damaged")
            raise AssertionError(f"status {done.returncode}: {done.stderr[-3000:]}")
        assert not (Path(folder) / "harmed").exists(), "what a file holds was run"
    return Counter(json.loads(done.stdout))


def read_damaged(folder: str, count: str, start: str) -> None:
    """Do it in this process, with the files in a folder; prints the outcomes as JSON."""
    from backends.native.torch import read_torch

    os.chdir(folder)
    whole, model = whole_files(), Path("model").absolute()
    model.write_bytes(whole["model"])

    expected = to_bytes(read_torch([model], MODEL, None), {})

    def read(path: Path, before: list[Path], kind: str) -> None:
        state = read_torch([*before, path], MODEL, None)
        assert kind != BIT or to_bytes(state, {}) == expected

    targets = {}
    for kind in [*whole, BIT, "pickle in a zip", "sizes in a pickle", "pickle that calls something"]:
        of_kind = partial(read, before=[model] if kind == "optimizer" else [], kind=kind)
        if kind in whole:
            Path("whole").write_bytes(whole[kind])
            of_kind(Path("whole"))
        targets[f"PyTorch's {kind}"] = Target(partial(made, kind, whole), of_kind)
    print(json.dumps(attacked(targets, int(count), int(start))))


def whole_files() -> dict[str, bytes]:
    """A model's file in both formats of PyTorch, and its optimizer's."""
    import torch

    state = initial_state(MODEL, 5)
    arrays = layer_tensors(state.weights)  # which torch names alike
    arrays["dense.weight"] = arrays["dense.weight"].T
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    trained = [tensor for name, tensor in tensors.items() if not name.endswith("bias_hh_l0")]
    slots = {number: {"step": torch.tensor(3.0), "square_avg": tensor.abs()} for number, tensor in enumerate(trained)}
    optimizer = {"state": slots, "param_groups": [{"lr": 0.1, "params": list(slots)}]}

    def saved(content: object, zipped: bool = True) -> bytes:
        torch.save(content, file := io.BytesIO(), _use_new_zipfile_serialization=zipped)
        return file.getvalue()

    return {"model": saved(tensors), "model without a zip": saved(tensors, False), "optimizer": saved(optimizer)}


def made(kind: str, whole: dict[str, bytes], rng: np.random.Generator) -> bytes:
    """A damaged file of this kind. The checksums of a zip fit to what is damaged within it."""
    if kind in whole:
        return damaged(whole[kind], rng)
    if kind == BIT:
        return bit_flipped(whole["model"], rng)
    with zipfile.ZipFile(io.BytesIO(whole["model"])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    if kind == "pickle in a zip":
        members[name] = damaged(members[name], rng)
    elif kind == "sizes in a pickle":
        small = [match.start() for match in re.finditer(rb"K.", members[name], re.DOTALL)]  # numbers of one byte
        place = small[rng.integers(len(small))]
        large = b"J" + [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x40"][rng.integers(3)]
        members[name] = members[name][:place] + large + members[name][place + 2 :]
    else:
        module, called, arguments = CALLS[rng.integers(len(CALLS))]
        call = f"c{module}\n{called}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"R"
        within = [call, b"}" + pickle.dumps("encoder.weight_ih_l0", 2)[2:-1] + call + b"s"][rng.integers(2)]
        members[name] = b"\x80\x02" + within + b"."
        if rng.integers(2):
            members[name] = damaged(members[name], rng)
    return zipped(members, zipfile.ZIP_STORED)
