"""Arrays, types and settings as a record has them, read from the values of any framework."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from . import RecordError

if TYPE_CHECKING:
    from .framework import Framework

# Package -> the file of this folder that knows its objects.
# Keras computes with tensors of TensorFlow and JAX.
FRAMEWORKS = {name: name for name in ("torch", "paddle", "keras", "flax", "onnx")}
FRAMEWORKS.update(tensorflow="keras", jax="keras", jaxlib="keras", optax="flax")


@functools.lru_cache(maxsize=None)
def import_framework(name: str) -> Framework:
    """Import the file of a framework; the framework itself stays unimported."""
    framework: Framework = import_module(f".{name}", __package__).FRAMEWORK
    return framework


def framework_of(value: Any) -> Framework | None:
    """Return the framework from one of whose classes the value's class inherits, or None."""
    packages = (package(kind.__module__) for kind in type(value).__mro__)
    return next(
        (import_framework(FRAMEWORKS[name]) for name in packages if name in FRAMEWORKS), None
    )


# Names


def package(module: Any) -> str:
    return str(module).partition(".")[0]


def class_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def first_names(weights: Mapping[str, Any]) -> dict[int, str]:
    """Return the name of each weight by the weight's id;
    of a tied weight the first of its names."""
    return {id(weight): name for name, weight in reversed(list(weights.items()))}


# Arrays


def is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def arrays_in(value: Any, name: str = "") -> dict[str, Any]:
    """Return the arrays and tensors in dicts, lists, tuples and dataclasses, by their keys, indices
    and fields, joined by dots."""
    if is_array(value):
        return {name: value}
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        pairs = ((field, getattr(value, field)) for field in fields_of(value))
    return {
        inner: array
        for key, part in pairs
        for inner, array in arrays_in(part, join(name, str(key))).items()
    }


def named_arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `arrays_in(values)`. Raises RecordError for a value without arrays."""
    for name, value in values.items():
        if not arrays_in(value):
            raise RecordError(
                f"{name!r} is of {class_name(type(value))}; expected arrays, or dicts, tuples or "
                "dataclasses of them"
            )
    return arrays_in(values)


def replace_arrays(value: Any, arrays: Iterator[Any]) -> Any:
    """Return the value with `arrays` in place of its own, in the order of `arrays_in`."""
    if is_array(value):
        return next(arrays)
    if isinstance(value, Mapping):
        mapping: Any = copy.copy(value)
        for key, part in value.items():
            mapping[key] = replace_arrays(part, arrays)
        return mapping
    if isinstance(value, (list, tuple)):
        parts = [replace_arrays(part, arrays) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    fields = fields_of(value)
    if fields:
        value = copy.copy(value)
        for field in fields:
            # It may be frozen.
            object.__setattr__(value, field, replace_arrays(getattr(value, field), arrays))
    return value


def fields_of(value: Any) -> list[str]:
    """Return the fields of an object that dataclasses or attrs made;
    none for a framework's own class."""
    kind = type(value)
    fields = (
        dataclasses.fields(kind)
        if dataclasses.is_dataclass(kind)
        else getattr(kind, "__attrs_attrs__", ())
    )
    return (
        [field.name for field in fields if hasattr(value, field.name)]
        if framework_of(value) is None
        else []
    )


def is_symbolic(value: Any) -> bool:
    """True if the value has tensors of Keras, TensorFlow or JAX that stand for values to come."""
    kinds = {kind.__name__ for array in arrays_in(value).values() for kind in type(array).__mro__}
    return bool(kinds & {"KerasTensor", "SymbolicTensor", "Tracer"})


def array_of(value: Any) -> NDArray[Any]:
    framework = framework_of(value)
    return framework.array(value) if framework else np.asarray(value)


def is_numeric(array: NDArray[Any]) -> bool:
    """True for numbers that can be written; bfloat16 is of ml_dtypes,
    which TensorFlow and JAX use."""
    return array.dtype.kind in "biufc" or array.dtype.name == "bfloat16"


def writable(value: Any, what: str) -> NDArray[Any]:
    """Return the value as safetensors takes it: contiguous, since it writes an array's memory as if
    rows followed one another; bfloat16 as float32, complex numbers along a last axis of two. Raises
    RecordError, which names `what`, for anything but numbers."""
    array = array_of(value)
    if not is_numeric(array):
        raise RecordError(f"{what} is of type {array.dtype}; expected numbers")
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag], -1)
    return np.asarray(
        array.astype(np.float32) if array.dtype.name == "bfloat16" else array, order="C"
    )


# Types

# Binary ones behind a number's first.
DIGITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}


def precision_of(tensor: Any) -> str:
    """Return the name of a tensor's type, such as float32."""
    return name_of(tensor.dtype)


def name_of(dtype: Any) -> str:
    """Return a type's name without what frameworks write around it,
    as in torch.float32 or <dtype: 'float32'>."""
    return str(re.findall(r"\w+", str(dtype))[-1])


def coarsest(*precisions: str | None) -> str:
    """Return the type with the fewest digits, "" where none is known."""
    known = [name for name in precisions if name in DIGITS]
    return min(known, key=lambda name: DIGITS[name], default="")


def move_one_unit(array: NDArray[Any], precision: str, rng: np.random.Generator) -> NDArray[Any]:
    """Return an array with each number moved up or down, by chance, by one unit in the last place
    of `precision`, or of the array's type if that is coarser. Zeros stay, and so do arrays of whole
    numbers."""
    if array.dtype.kind != "f":
        return array
    unit = 1 << max(0, DIGITS[array.dtype.name] - DIGITS.get(precision, 52))
    bits = array.view(f"u{array.itemsize}")
    moved = np.asarray(rng.integers(0, 2, array.shape, bits.dtype))
    moved *= 2 * unit
    moved -= unit  # unsigned integers wrap around, and back again
    moved *= array != 0
    moved += bits
    return moved.view(array.dtype)


# Plain values


def loss_in(computed: Any) -> Any:
    """Return the loss of what `loss_of` gave: the loss, or the loss and outputs."""
    return computed[0] if isinstance(computed, tuple) else computed


def number_in(loss: Any) -> Any:
    """Return a loss as JSON has it. Raises RecordError for more than one number."""
    array = array_of(loss)
    if array.size != 1:
        raise RecordError(
            f"the loss has shape {array.shape}; expected one number, such as its mean"
        )
    return plain_value(array.item())


def plain_value(value: Any) -> Any:
    """Return the value as JSON has it, or an ellipsis for anything but numbers, strings, None and
    lists of numbers. Numbers that JSON lacks become "inf", "-inf" or "nan"."""
    if isinstance(value, (list, tuple)):
        values = [plain_value(part) for part in value if not isinstance(part, str)]
        return values if len(values) == len(value) and ... not in values else ...
    if getattr(value, "shape", None) == ():  # a learning rate may be a tensor
        value = array_of(value).item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else ...


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are plain values."""
    values = {name: plain_value(value) for name, value in settings.items()}
    return {name: value for name, value in values.items() if value is not ...}
