"""Names the tensors of a framework's model, and checks weights that anybody may have written, after
their framework has read them: names, shapes and dtypes.

PyTorch and Paddle name tensors alike, and an LSTM of theirs has two biases where the canonical
layout has one.
"""

import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import CannotBeginError, RosettaError, refusing
from common.files import size_of
from common.models import axis_of_units, model_of
from common.settings import MOST_UNITS, ModelConfig
from common.weights import ModelState, check_state, zeros_like

# What PyTorch and Paddle call the tensors of an LSTM, and that of any other layer.
LSTM = {
    "kernel": ["weight_ih_l0"],
    "recurrent_kernel": ["weight_hh_l0"],
    "bias": ["bias_ih_l0", "bias_hh_l0"],
}
LAYER = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
# Layers that a model file does not call by their canonical names.
ATTRIBUTES = {
    "encoder/attention": "encoder_attention",
    "encoder/feed_forward": "encoder_feed_forward",
    "decoder/attention": "decoder_attention",
    "decoder/cross_attention": "cross_attention",
    "decoder/feed_forward": "decoder_feed_forward",
}

LARGEST_FILE = 1 << 30  # bytes; an LSTM's weights of MOST_UNITS take half of it in float32
# Bytes of the description of a PyTorch file's tensors, unpacked; that of ours has 2 kB.
LARGEST_PICKLE = 1 << 20


@contextmanager
def reading(paths: Sequence[Path], expected: str, most: int = 2) -> Iterator[None]:
    """Name the files in errors of the block that reads them: the model's and,
    where there is one, the optimizer's.

    Raises CannotBeginError for more than `most` files and where one cannot be read; RosettaError
    for a file of more than LARGEST_FILE bytes, and where the block finds no model. Where the block
    cannot read a file, the message ends with what is `expected`.
    """
    if len(paths) > most:
        raise CannotBeginError(
            f"{len(paths)} files were given, expected at most {most}: {expected}"
        )
    for path in paths:
        with refusing(f"{path} cannot be read"):
            size = size_of(path)
        if size > LARGEST_FILE:
            raise RosettaError(f"{path} has {size:,} bytes, expected at most {LARGEST_FILE:,}")
    names = " and ".join(map(str, paths))
    try:
        # What a library warns of in a damaged file helps nobody.
        with warnings.catch_warnings(action="ignore"):
            yield
    except RosettaError as error:
        raise RosettaError(f"{names}: {error}") from error
    # A file that is cut, garbled or made to confuse may have a library raise anything.
    except Exception as error:
        raise RosettaError(f"{names}: not readable or damaged; expected {expected}") from error


def refuse_inflated(path: Path) -> None:
    """Raise RosettaError for a PyTorch file whose zip unpacks to more
    than LARGEST_FILE or LARGEST_PICKLE bytes."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # as of PyTorch's files before 1.6
            return
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
    pickled = max((size for name, size in sizes.items() if name.endswith(".pkl")), default=0)
    if pickled > LARGEST_PICKLE or sum(sizes.values()) > LARGEST_FILE:
        raise RosettaError(
            f"its data.pkl unpacks to {pickled:,} bytes, and all of it to {sum(sizes.values()):,}; "
            f"expected at most {LARGEST_PICKLE:,} and {LARGEST_FILE:,}"
        )


def tensors_of(
    config: ModelConfig,
    lstm: Mapping[str, Sequence[str]] = LSTM,
    layer: Mapping[str, str] = LAYER,
) -> dict[str, list[str]]:
    """For each canonical weight the tensors of a model file's model whose sum it is. Their names
    end with those that the framework has for the tensors of an `lstm`, or of another `layer`."""
    names, weights = {}, model_of(config).weights(config)
    for name in weights:
        path, _, kind = name.rpartition("/")
        ends = lstm[kind] if f"{path}/recurrent_kernel" in weights else [layer[kind]]
        for canonical, attribute in ATTRIBUTES.items():
            path = path.replace(canonical, attribute)
        names[name] = [f"{path}.{end}".replace("/", ".") for end in ends]
    return names


def with_units(config: ModelConfig, units: int) -> ModelConfig:
    """The settings with as many units as a file claims. Raises RosettaError for more than
    MOST_UNITS, or none, and where the weights would take more than LARGEST_FILE bytes."""
    if not 1 <= units <= MOST_UNITS:
        raise RosettaError(f"the model has {units} units, expected 1 to {MOST_UNITS:,}")
    config = replace(config, latent_dim=units)
    shapes = [weight.shape for weight in model_of(config).weights(config).values()]
    size = sum(map(prod, shapes)) * np.dtype(config.dtype).itemsize
    if size > LARGEST_FILE:
        raise RosettaError(
            f"the model has {units} units and {size:,} bytes of weights, expected at most "
            f"{LARGEST_FILE:,}"
        )
    return config


def canonical_state(
    tensors: Mapping[str, NDArray[Any]],
    slots: Mapping[str, NDArray[Any]],
    names: Mapping[str, Sequence[str]],
    config: ModelConfig,
) -> ModelState:
    """The state made of a framework's tensors and RMSprop slots, both in canonical shapes.

    `names` has for each canonical weight those of the `tensors` whose sum it is. The first of them
    may have one of the `slots`, by the same name. Without any slots those of the state are zero.
    The number of units is that of the tensors, and the rest is as in `config`. Raises RosettaError
    for tensors that are not this model's, and for slots of a second bias.
    """
    expected = [part for parts in names.values() for part in parts]
    if tensors.keys() != set(expected):
        raise RosettaError(
            f"it holds {escaped(tensors)}; expected {', '.join(expected)}, and nothing else"
        )
    name, axis = axis_of_units(config)
    shape = tensors[names[name][0]].shape
    config = with_units(config, shape[axis] if axis < len(shape) else 0)
    if second_bias := [part for parts in names.values() for part in parts[1:] if part in slots]:
        raise RosettaError(
            f"there is a slot for {second_bias[0]}: both biases of an LSTM were trained, so their "
            "sum moved twice in a step, and Rosetta's one bias cannot go on like that. Leave the "
            "optimizer's file out; slots then start at zero"
        )
    weights, mean_squares = {}, {}
    for name, (shape, *_) in model_of(config).weights(config).items():
        first, *second = names[name]
        weights[name] = _checked(first, tensors[first], shape, config)
        for part in second:
            bias = _checked(part, tensors[part], shape, config)
            if bias.any():  # zeros are not added, since that would make 0.0 of a -0.0
                weights[name] = weights[name] + bias
        if slots and first not in slots:
            raise RosettaError(f"there is no slot for {first}, expected one for each weight")
        if slots:
            mean_squares[name] = _checked(f"the slot of {first}", slots[first], shape, config)
    state = ModelState(weights, mean_squares or zeros_like(weights))
    check_state(state, config)
    return state


def _checked(
    what: str, array: NDArray[Any], shape: tuple[int, ...], config: ModelConfig
) -> NDArray[np.floating]:
    """The array in one piece. Raises RosettaError for another shape before it is copied:
    few bytes may claim a huge one."""
    if array.shape != shape or array.dtype != config.dtype:
        raise RosettaError(
            f"{what} is {array.dtype} {array.shape}, expected {config.dtype} {shape}; --dtype and "
            "the corpus must be those that it was trained with"
        )
    return np.ascontiguousarray(array)


def escaped(names: Iterable[object]) -> str:
    """Names that stand in a file, escaped and shortened
    so that they fit into one line of a message."""
    return shorten(", ".join(ascii(name) for name in names), 300, placeholder=" ...") or "nothing"
