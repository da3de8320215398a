"""`torch:bfloat16`: autocast runs matrix products and LSTMs in bfloat16; weights, optimizer and loss stay float32."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import CannotBeginError

Function = Callable[..., Any]


def in_bfloat16(functions: Sequence[Function], dtype: str, device: str) -> list[Function]:
    """The functions with their matrix products and LSTMs in bfloat16; tensors that they return come in float32.

    Raises CannotBeginError for weights other than float32, and on a GPU, where autocast runs LSTMs in float16.
    """
    if dtype != "float32":
        raise CannotBeginError(f"torch:bfloat16 has float32 weights; found dtype {dtype}, use --dtype float32")
    if device == "gpu":  # pytorch/pytorch 42385
        raise CannotBeginError(
            "torch:bfloat16 is for the CPU: on a GPU autocast runs LSTMs in float16; use --device cpu, or torch"
        )
    return [_autocasting(function) for function in functions]


def _autocasting(function: Function) -> Function:
    def call(*arguments: Any) -> Any:
        # Each call has an autocast of its own. Within one, autocast keeps the weights that it has cast, so that later
        # training steps would go on with the first step's weights.
        with torch.autocast("cpu", torch.bfloat16):
            result = function(*arguments)
        if isinstance(result, tuple):
            return tuple(part.float() if isinstance(part, Tensor) else part for part in result)
        return result

    return call
