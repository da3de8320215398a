"""Damages PyTorch's files, and makes hostile pickles of its kind; each is read or refused. This imports torch."""

import io
import pickle
import random
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from backends.native.torch import read_torch
from common.config import ModelConfig
from common.weights import initial_state, to_bytes
from tests.attack.damage_bytes import bit_flipped, damaged, layer_tensors, zipped
from tests.attack.limits import HARMED, Case, Target, inputs

MODEL = ModelConfig(7, 9, 0, 1, latent_dim=3)


def whole_files() -> dict[str, bytes]:
    """A model's file in both formats of PyTorch, and its optimizer's."""
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


def repacked(whole: bytes, rng: random.Random, change: Callable[[bytes, random.Random], bytes]) -> bytes:
    """A model's file whose pickle is changed, with checksums that fit to it."""
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
        ("builtins", "exec", (f"open({harm!r}, 'w')",)),
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
    module, called, arguments = rng.choice(calls)
    call = f"c{module}\n{called}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"R"
    within = rng.choice([call, b"}" + pickle.dumps("encoder.weight_ih_l0", 2)[2:-1] + call + b"s"])
    whole = b"\x80\x02" + within + b"."
    return damaged(whole, rng) if rng.random() < 0.5 else whole


def torch_files(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[Case]:
    warnings.filterwarnings("ignore", "Detected pickle protocol")  # by torch, of what it then refuses
    whole, model = whole_files(), folder / "model"
    model.write_bytes(whole["model"])

    def read(path: Path) -> str:
        return to_bytes(read_torch([path], MODEL, None), {}).hex()

    expected = read(model)

    def read_any(path: Path) -> None:
        read(path)

    def read_as_it_was(path: Path) -> None:
        assert read(path) == expected

    def read_optimizer(path: Path) -> None:
        read_torch([model, path], MODEL, None)

    of_pickle = {
        "pickle in a zip": damaged,
        "sizes in a pickle": with_other_sizes,
        "pickle that calls something": partial(calling, str(folder / HARMED)),
    }
    targets = {
        "model": Target(partial(damaged, whole["model"]), read_any),
        "model without a zip": Target(partial(damaged, whole["model without a zip"]), read_any),
        "optimizer": Target(partial(damaged, whole["optimizer"]), read_optimizer),
        "a bit of a model": Target(partial(bit_flipped, whole["model"]), read_as_it_was),
        **{
            name: Target(partial(repacked, whole["model"], change=change), read_any)
            for name, change in of_pickle.items()
        },
    }
    yield from inputs({name: targets[name] for name in names or targets}, rng, folder)
