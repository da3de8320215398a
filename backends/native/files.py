"""Reads weights from files that anybody may have written: within limits, and with names and shapes checked.

PyTorch and Paddle name an LSTM's tensors alike, and both have two biases where the canonical layout has one.
"""

import math
import pickle
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from common.config import ModelConfig
from common.errors import CannotBeginError, RosettaError
from common.files import UNZIP_ERRORS, read_at_most
from common.weights import ModelState, weight_shapes

# What the readers of zips, pickles and HDF5 raise when a file is cut, garbled or made to confuse them.
UNREADABLE = (
    *UNZIP_ERRORS,
    pickle.UnpicklingError,
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
)

# For each kind of canonical weight the tensors of torch and Paddle whose sum it is.
LSTM = {"kernel": ["weight_ih_l0"], "recurrent_kernel": ["weight_hh_l0"], "bias": ["bias_ih_l0", "bias_hh_l0"]}
LINEAR = {"kernel": ["weight"], "bias": ["bias"]}
ROLES = {"encoder": LSTM, "decoder": LSTM, "dense": LINEAR}

LARGEST_LATENT_DIM = 1024  # units that a model may have when nobody says how many it has; bounds what is read
MOST_MEMORY = 1 << 28  # bytes that reading a file may take beside four times the file's own
MOST_SECONDS = 20.0  # of computing that reading a file may take


@contextmanager
def opened(path: Path, config: ModelConfig, latent_dim: int | None, expected: str) -> Iterator[bytes]:
    """The bytes of a file that holds a model of `latent_dim` units, or of LARGEST_LATENT_DIM at most.

    The block that makes arrays of them is held to MOST_MEMORY and MOST_SECONDS. Raises CannotBeginError where nothing
    can be read; RosettaError for a file that is too large, and where the block finds it unreadable: the message ends
    with what is `expected`.
    """
    config = replace(config, latent_dim=latent_dim or LARGEST_LATENT_DIM)
    numbers = sum(math.prod(shape) for shape in weight_shapes(config).values())
    largest = 4 * 8 * numbers + (1 << 24)  # bytes of weights and three slots in float64, and 16 MiB for the rest
    try:
        content = read_at_most(largest, path)
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be read: {error.strerror}") from error
    except RosettaError as error:
        raise RosettaError(
            f"{error} for a model of {config.latent_dim:,} units and these vocabularies; --latent-dim tells how many "
            "units it has"
        ) from error
    # These are the last words of a process that a signal ends.
    print(f"reading {path} for at most {MOST_SECONDS:.0f} s; expected {expected}", file=sys.stderr, flush=True)
    try:
        with _limits(len(content)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a library warns of in a damaged file helps nobody
            yield content
    except UNREADABLE as error:
        raise RosettaError(f"{path} is not {expected}") from error


@contextmanager
def _limits(size: int) -> Iterator[None]:
    """Bound what this process takes for a file of `size` bytes: few may claim a huge array, or compute for years.

    Where the system refuses more memory, a library raises MemoryError or an error of its own. SIGPROF ends the
    process after MOST_SECONDS, since Python cannot interrupt code in C.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + 4 * size + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most if soft == resource.RLIM_INFINITY else min(soft, most), hard))
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def model_and_optimizer(paths: Sequence[Path]) -> tuple[Path, Path | None]:
    """The model's file, and the optimizer's or None. Raises CannotBeginError for more than two files."""
    if len(paths) > 2:
        raise CannotBeginError(f"{len(paths)} files were given, expected the model's and at most the optimizer's")
    return paths[0], paths[1] if len(paths) == 2 else None


def canonical_state(
    paths: tuple[Path, Path | None],
    tensors: Mapping[str, Any],
    names: Mapping[str, Sequence[str]],
    slots: Mapping[str, Any],
    config: ModelConfig,
    latent_dim: int | None,
    transposed: Container[str],
) -> ModelState:
    """The state made of a framework's tensors and RMSprop slots, which are arrays, or are read when they are indexed.

    `names` has for each canonical weight those of the `tensors` whose sum it is, of which the first may have one of
    the `slots`, by the same name. The tensors of the roles that are `transposed` have the canonical shapes backwards.
    The number of units is `latent_dim`, or without it that of the tensors. Without slots those of the state are zero.
    Raises RosettaError for tensors that are not this model's, and for slots of a second bias.
    """
    model, optimizer = paths
    if missing := [part for parts in names.values() for part in parts if part not in tensors]:
        raise RosettaError(f"{model} has no {missing[0]}, expected an array in one piece")
    shape = tensors[names["encoder/recurrent_kernel"][0]].shape
    units = min(shape, default=0)
    if latent_dim not in (None, units):
        raise RosettaError(
            f"{model} has LSTMs of {units} units, and --latent-dim is {latent_dim}; leave out --latent-dim"
        )
    if latent_dim is None and not 1 <= units <= LARGEST_LATENT_DIM:
        raise RosettaError(
            f"{model} has LSTMs of {units} units, expected 1 to {LARGEST_LATENT_DIM}; more are read when "
            "--latent-dim tells of them"
        )
    if second_bias := [part for parts in names.values() for part in parts[1:] if part in slots]:
        raise RosettaError(
            f"{optimizer} has a slot for {second_bias[0]}: both biases of an LSTM were trained, so their sum moved "
            "twice in a step, and Rosetta's one bias cannot go on like that. Leave the optimizer's file out; slots "
            "then start at zero"
        )
    weights, mean_squares = {}, {}
    for name, shape in weight_shapes(replace(config, latent_dim=units)).items():
        turned, parts = name.partition("/")[0] in transposed, names[name]
        arrays = [_read(tensors[part], shape, config, turned, f"{model}: {part}") for part in parts]
        # A second bias of zeros is not added, since that would make 0.0 of a -0.0.
        with np.errstate(invalid="ignore"):  # of NaN in a damaged file
            weights[name] = sum(arrays[1:], arrays[0]) if arrays[-1].any() else arrays[0]
        if not slots:
            mean_squares[name] = np.zeros_like(weights[name])
        elif parts[0] in slots:
            what = f"{optimizer}: the slot of {parts[0]}"
            mean_squares[name] = _read(slots[parts[0]], shape, config, turned, what)
        else:
            raise RosettaError(f"{optimizer} has no slot for {parts[0]}, expected one for each weight")
    return ModelState(weights, mean_squares)


def _read(
    array: Any, shape: tuple[int, ...], config: ModelConfig, transposed: bool, what: str
) -> NDArray[np.floating]:
    """The array in this shape, which a file has backwards if it is `transposed`. Raises RosettaError for another one,
    before it is read: few bytes may claim a huge shape."""
    expected = shape[::-1] if transposed else shape
    if array.shape != expected or array.dtype != config.dtype:
        raise RosettaError(
            f"{what} is {array.dtype} {array.shape}, expected {config.dtype} {expected}; "
            "--dtype and the corpus must be those that it was trained with"
        )
    numbers = array[()]
    return np.ascontiguousarray(numbers.T if transposed else numbers)


def names_in_layers(path: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """For each canonical weight the names of its tensors in torch and Paddle.

    A layer is found by its role's name, or by its place among all.
    """
    layers: dict[str, set[str]] = {}
    for name in names:
        prefix, _, tensor = name.rpartition(".")
        layers.setdefault(prefix, set()).add(tensor)
    prefixes = list(ROLES) if layers.keys() == ROLES.keys() else list(layers)
    expected = [{*chain(*kinds.values())} for kinds in ROLES.values()]
    if [layers[prefix] for prefix in prefixes] != expected:
        raise RosettaError(
            f"{path} holds {listed(names)}; expected encoder and decoder, each an LSTM of one layer with "
            f"{', '.join(sorted(expected[0]))}, and dense with weight, bias; or three such layers in this order"
        )
    return {
        f"{role}/{kind}": [f"{prefix}.{tensor}" for tensor in tensors]
        for prefix, (role, kinds) in zip(prefixes, ROLES.items(), strict=True)
        for kind, tensors in kinds.items()
    }


def listed(names: Iterable[object]) -> str:
    """Names that stand in a file, escaped and shortened so that they fit into one line of a message."""
    return shorten(", ".join(ascii(name) for name in names), 300, placeholder=" ...") or "nothing"
