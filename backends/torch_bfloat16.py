"""`torch:bfloat16`: matrix products and LSTMs run in bfloat16, while weights, optimizer and loss stay float32.

torch's autocast does this: within it, these operators convert to bfloat16 what they are given.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import CannotBeginError

Function = Callable[..., Any]


def in_bfloat16(functions: Sequence[Function], dtype: str, device: str) -> list[Function]:
    """The same functions, with their matrix products and LSTMs in bfloat16. Tensors that they return are float32.

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
        # Each call has an autocast of its own. Within one, autocast keeps the weights that it has converted, so later
        # training steps would still compute with the first step's weights.
        with torch.autocast("cpu", torch.bfloat16):
            result = function(*arguments)
        if isinstance(result, tuple):
            return tuple(part.float() if isinstance(part, Tensor) else part for part in result)
        return result

    return call
