"""Arrays, types and settings: what is written of a framework's values."""

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
    from .watching import Framework

# The file for each package of a framework; Keras uses the tensors of TensorFlow and JAX.
FRAMEWORKS = {name: name for name in ("torch", "paddle", "keras", "flax")}
FRAMEWORKS.update(tensorflow="keras", jax="keras", jaxlib="keras", optax="flax")
DIGITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}  # binary ones behind a number's first


@functools.lru_cache(maxsize=None)
def framework_named(name: str) -> Framework:
    """The framework that this file is of."""
    framework: Framework = import_module(f".{name}", __package__).FRAMEWORK
    return framework


def framework_of(value: Any) -> Framework | None:
    """The framework from one of whose classes the value's class inherits."""
    packages = (package(kind.__module__) for kind in type(value).__mro__)
    return next((framework_named(FRAMEWORKS[name]) for name in packages if name in FRAMEWORKS), None)


def qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def first_names(weights: Mapping[str, Any]) -> dict[int, str]:
    """The name of each weight by its id, and of a tied one the first of its names."""
    return {id(weight): name for name, weight in reversed(list(weights.items()))}


def package(module: Any) -> str:
    return str(module).partition(".")[0]


def is_symbolic(value: Any) -> bool:
    """Whether it has tensors of Keras, TensorFlow or JAX that stand for values to come."""
    kinds = {kind.__name__ for array in arrays_in(value).values() for kind in type(array).__mro__}
    return bool(kinds & {"KerasTensor", "SymbolicTensor", "Tracer"})


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def arrays_in(value: Any, name: str = "") -> dict[str, Any]:
    """The arrays and tensors in dicts, lists, tuples and dataclasses, by keys, indices and fields joined by dots."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return {name: value}
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        pairs = ((field, getattr(value, field)) for field in fields_of(value))
    return {inner: array for key, part in pairs for inner, array in arrays_in(part, joined(name, str(key))).items()}


def replaced(value: Any, arrays: Iterator[Any]) -> Any:
    """The value with these in place of its arrays, in the order in which `arrays_in` has them."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return next(arrays)
    if isinstance(value, Mapping):
        made: Any = copy.copy(value)
        for key, part in value.items():
            made[key] = replaced(part, arrays)
        return made
    if isinstance(value, (list, tuple)):
        parts = [replaced(part, arrays) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    fields = fields_of(value)
    if fields:
        made = copy.copy(value)
        for field in fields:
            object.__setattr__(made, field, replaced(getattr(value, field), arrays))  # it may be frozen
        return made
    return value


def fields_of(value: Any) -> list[str]:
    """Names of the fields of an object that dataclasses or attrs made; none for one of a framework's own classes."""
    kind = type(value)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else getattr(kind, "__attrs_attrs__", ())
    return [field.name for field in fields if hasattr(value, field.name)] if framework_of(value) is None else []


def named_arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if not arrays_in(value):
            raise RecordError(
                f"{name!r} is of {qualified(type(value))}; expected arrays, or dicts, tuples or dataclasses of them"
            )
    return arrays_in(values)


def array_of(value: Any) -> NDArray[Any]:
    framework = framework_of(value)
    return framework.array(value) if framework else np.asarray(value)


def writable(value: Any, what: str) -> NDArray[Any]:
    """The value as safetensors needs it, which writes an array's memory as if its rows followed one another."""
    array = array_of(value)
    if not is_numeric(array):
        raise RecordError(f"{what} is of type {array.dtype}; expected numbers")
    return np.asarray(array.astype(np.float32) if array.dtype.name == "bfloat16" else array, order="C")


def is_numeric(array: NDArray[Any]) -> bool:
    """Whether it can be written; bfloat16 is of the ml_dtypes package, which TensorFlow and JAX use."""
    return array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"


def loss_in(computed: Any) -> Any:
    """The loss of what `loss_of` gave: the loss, or the loss and outputs."""
    return computed[0] if isinstance(computed, tuple) else computed


def number_in(loss: Any) -> Any:
    array = array_of(loss)
    if array.size != 1:
        raise RecordError(f"the loss has shape {array.shape}; expected one number, such as its mean")
    return plain_value(array.item())


def plain_value(value: Any) -> Any:
    """The value as JSON has it, or an ellipsis for anything but numbers, strings, None and lists of numbers. What
    JSON has no number for becomes "inf", "-inf" or "nan"."""
    if isinstance(value, (list, tuple)):
        values = [plain_value(part) for part in value if not isinstance(part, str)]
        return values if len(values) == len(value) and ... not in values else ...
    if getattr(value, "shape", None) == ():  # a learning rate may be a tensor
        value = array_of(value).item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else ...


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are plain values."""
    found = {name: plain_value(value) for name, value in settings.items()}
    return {name: value for name, value in found.items() if value is not ...}


def precision_of(tensor: Any) -> str:
    """The name of the tensor's type, such as float32."""
    return name_of(tensor.dtype)


def name_of(dtype: Any) -> str:
    """A type's own name in what a framework writes for it, such as torch.float32 or <dtype: 'float32'>."""
    return str(re.findall(r"\w+", str(dtype))[-1])


def one_unit_moved(array: NDArray[Any], precision: str, rng: np.random.Generator) -> NDArray[Any]:
    """Each number moved by one unit in the last place of a precision, up or down by chance; zeros stay."""
    if array.dtype.kind != "f":
        return array
    # Of a coarser precision than the array's, the unit is where that one has its last digit.
    unit = 1 << max(0, DIGITS[array.dtype.name] - DIGITS.get(precision, 52))
    bits = array.view(f"u{array.itemsize}")
    moved = np.asarray(rng.integers(0, 2, array.shape, bits.dtype))
    moved *= 2 * unit
    moved -= unit  # unsigned integers wrap around, and back again
    moved *= array != 0
    moved += bits
    return moved.view(array.dtype)
