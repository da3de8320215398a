"""`torch:compile`: the decoding of one sentence as one compiled loop.

Compiled, a product of one row takes half the time that it does by itself, and nothing goes back to Python between two
steps. In a batch, where products are what takes time, nothing is gained; nor in training, where compiling leaves
`nn.LSTM` out.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.errors import CannotBeginError


def compiled_greedy_loop(device: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """`greedy_loop`, compiled when first called: ten seconds, or three where a process before has done it.

    Raises CannotBeginError for a GPU, and where there is no compiler for what torch.compile writes for a CPU.
    """
    import pooch  # which brings more than a backend that is not compiled needs

    if device == "gpu":
        raise CannotBeginError("torch:compile decodes on the CPU alone; found device gpu, use --backend torch")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise CannotBeginError(
            f"torch:compile needs a C++ compiler, and there is no {compiler}; install one, or use --backend torch"
        )
    # Beside the downloads; where torch would put it, temporary files, nothing outlives this process.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(pooch.os_cache("rosetta")) / "torchinductor"))
    options = {
        "cpp_wrapper": True,  # one in Python would run the loop, a third of the time
        "cpp_cache_precompile_headers": False,  # four seconds a process, which one small source does not win back
    }
    return torch.compile(greedy_loop, fullgraph=True, options=options)


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

    By the weights of an `nn.LSTM`, its first bias, and those of an `nn.Linear`.
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
