"""`torch:bfloat16`: matrix products and LSTMs run in bfloat16, while weights, optimizer and loss stay float32.

torch's autocast does this: within it, these operators convert to bfloat16 what they are given.
"""

from typing import final

import torch
from torch import Tensor

from backends.lesson_backend import TorchBackend
from backends.lessons.torch_lesson import Seq2Seq
from common.errors import CannotBeginError

# Each call of a method below has an autocast of its own. Within one, autocast keeps the weights that it has
# converted, so later training steps would still compute with the first step's weights.
in_bfloat16 = torch.autocast("cpu", torch.bfloat16)


@final
class TorchBfloat16(TorchBackend):
    own_precision = "bfloat16"

    def build(self) -> None:
        """Raises CannotBeginError for weights other than float32, and on a GPU."""
        dtype = self.config.dtype
        if dtype != "float32":
            raise CannotBeginError(f"torch:bfloat16 has float32 weights; found dtype {dtype}, use --dtype float32")
        if self.device == "gpu":  # pytorch/pytorch 42385
            raise CannotBeginError(
                "torch:bfloat16 is for the CPU: on a GPU autocast runs LSTMs in float16; use --device cpu, or torch"
            )
        super().build()

    def make_model(self, *sizes: int) -> "Bfloat16Seq2Seq":
        return Bfloat16Seq2Seq(*sizes)


class Bfloat16Seq2Seq(Seq2Seq):
    """Gives float32, of which the lesson computes the loss."""

    def encode(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        return self._rounded(super().encode, arguments)

    def decode(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        return self._rounded(super().decode, arguments)

    def _rounded(self, call, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with in_bfloat16:
            return tuple(tensor.float() for tensor in call(*arguments))
