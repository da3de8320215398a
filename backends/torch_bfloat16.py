"""`torch:bfloat16`: matrix products and LSTMs run in bfloat16, while weights, optimizer and loss stay float32.

torch's autocast does this: within it, these operators convert to bfloat16 what they are given.
"""

from typing import final

import torch
from torch import Tensor

from backends.torch_backend import TorchBackend
from common.errors import CannotBeginError
from common.interface import BeamSearch
from common.tensors import Array, BatchTensors, Ids

# Each call of a method below has an autocast of its own. Within one, autocast keeps the weights that it has
# converted, so later training steps would still compute with the first step's weights.
in_bfloat16 = torch.autocast("cpu", torch.bfloat16)


@final
class TorchBfloat16(TorchBackend):
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

    @in_bfloat16
    def _run(self, batch: BatchTensors) -> tuple[Tensor, Tensor, Tensor]:
        logits, state_h, state_c = super()._run(batch)
        return logits.float(), state_h.float(), state_c.float()

    @in_bfloat16
    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        return super().translate(encoder_ids, encoder_lengths, max_length)

    @in_bfloat16
    def beam_search(self, encoder_ids: Ids, encoder_lengths: Ids, search: BeamSearch) -> None:
        super().beam_search(encoder_ids, encoder_lengths, search)

    def _kernels(self) -> tuple[Tensor, Tensor]:
        """Converted once: autocast keeps what it converts for parameters only, so not for these two."""
        kernel, recurrent_kernel = super()._kernels()
        return kernel.bfloat16(), recurrent_kernel.bfloat16()

    def _array(self, tensor: Tensor) -> Array:
        return super()._array(tensor.float())  # NumPy has no bfloat16
