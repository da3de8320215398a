"""`torch:compile`: the decoding of one sentence as one compiled loop.

Compiled, a product of one row takes half the time that it does by itself, and nothing goes back to Python between two
steps. In a batch, where products are what takes time, nothing is gained; nor in training, where compiling leaves
`nn.LSTM` out.
"""

import os
import shutil
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import CannotBeginError


def require_compiler(device: str) -> None:
    """Raises CannotBeginError for a GPU, and where there is no compiler for what torch.compile writes for a CPU."""
    if device == "gpu":
        raise CannotBeginError("torch:compile decodes on the CPU alone; found device gpu, use --backend torch")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise CannotBeginError(
            f"torch:compile needs a C++ compiler, and there is no {compiler}; install one, or use --backend torch"
        )


def greedy_loop(
    state_h: Tensor,
    state_c: Tensor,
    decoder: Sequence[Tensor],
    dense: Sequence[Tensor],
    start_token: int,
    stop_token: int,
    max_length: int,
) -> tuple[Tensor, Tensor]:
    """From states (1, H) how many characters follow, the stop token included, and their ids (max_length,).

    By the weights of an `nn.LSTM`, its first bias, and those of an `nn.Linear`. Written to be compiled.
    """
    kernel, recurrent_kernel, bias = decoder
    dense_kernel, dense_bias = dense

    def going_on(length, sampled, state_h, state_c, ids):
        return (length < max_length) & (sampled[0] != stop_token)

    def step(length, sampled, state_h, state_c, ids):
        # The products of one row are sums: so each core has its part of the kernel, and finds it in its cache again.
        gates = kernel.T[sampled] + bias + (recurrent_kernel * state_h).sum(1)
        i, f, g, o = gates.chunk(4, dim=1)
        state_c = f.sigmoid() * state_c + i.sigmoid() * g.tanh()
        state_h = o.sigmoid() * state_c.tanh()
        sampled = ((dense_kernel * state_h).sum(1) + dense_bias).argmax(keepdim=True)
        ids = torch.where(torch.arange(max_length) == length, sampled, ids)
        return length + 1, sampled, state_h, state_c, ids

    first = torch.tensor(0), torch.tensor([start_token]), state_h, state_c, torch.full((max_length,), stop_token)
    length, _, _, _, ids = torch.while_loop(going_on, step, first)
    return length, ids
