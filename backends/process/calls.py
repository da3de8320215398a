"""How a call crosses from one process to another: as a function's name, and its arguments as plain values.

Arguments and results may be plain values, NumPy arrays, dataclasses and msgspec structs of these. They cross as JSON
and arrays; an argument that is an array stored on disk crosses as its path. The other side converts them to the types
with which the function is annotated, so both sides are typed.
"""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

import msgspec
import numpy as np

from common.stored import StoredArray, opened_array

STORED = "stored"  # the key of an object that stands for a stored array and has its path


def name_of(function: Callable[..., Any]) -> str:
    """The name by which a function is requested: "module:function"."""
    return f"{function.__module__}:{function.__qualname__}"


def function_named(name: str) -> Callable[..., Any]:
    """The inverse of `name_of`; imports the module."""
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def to_wire(value: Any) -> Any:
    """Convert a value to the form in which it crosses: plain JSON values and arrays."""
    return msgspec.to_builtins(value, builtin_types=(np.ndarray,), enc_hook=_plain)


def arguments_from_wire(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a function's keyword arguments back, each to the type with which the function annotates it.

    Raises TypeError, with the argument's name, for a value that does not fit its type.
    """
    hints, converted = _hints(function), {}
    for name, value in arguments.items():
        try:
            converted[name] = _from_wire(value, hints.get(name, Any), _array_or_stored)
        except msgspec.ValidationError as error:
            raise TypeError(f"argument {name} of {name_of(function)}: {error}") from error
    return converted


def result_from_wire(function: Callable[..., Any], result: Any) -> Any:
    """Convert what a function returned back to the type that it promises. Raises msgspec.ValidationError."""
    return _from_wire(result, _hints(function).get("return", Any), _array)


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function)


def _from_wire(value: Any, kind: Any, array: Callable[[Any, Any], Any]) -> Any:
    return msgspec.convert(value, type=kind, dec_hook=array)


def _array_or_stored(kind: Any, value: Any) -> Any:
    """Open an array that is stored. This is for arguments: what comes from a backend's process opens no file."""
    if isinstance(value, dict) and value.keys() == {STORED}:
        return opened_array(value[STORED])
    return _array(kind, value)


def _array(kind: Any, value: Any) -> Any:
    """Leave an array as it is. msgspec calls this for each type that it does not know, here for arrays alone."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"expected an array, found {type(value).__name__}")
    return value


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python number, and a stored array as the path that leads to it, or as a plain array."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, StoredArray):
        return {STORED: value.path} if value.path else np.asarray(value)
    raise TypeError(f"{type(value).__name__} cannot cross between processes")
