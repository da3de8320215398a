"""`torch:compile`: the decoding of one sentence as one compiled loop.

Compiled, a product of one row takes half the time that it does by itself, and nothing goes back to Python between two
steps. In a batch, where products are what takes time, nothing is gained; nor in training, where compiling leaves
`nn.LSTM` out.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.config import ModelConfig
from common.errors import CannotBeginError

Decode = Callable[[Tensor, Tensor, int], NDArray[np.integer]]  # from states (N, H) and a length to ids (N, L)


def compiled_decode(model: nn.Module, config: ModelConfig, otherwise: Decode) -> Decode:
    """Greedy decoding in which one row by itself is decoded by the compiled loop, several rows by `otherwise`."""
    decoder, dense, greedy_loop = model.decoder, model.dense, compiled_greedy_loop()

    def decode(state_h: Tensor, state_c: Tensor, max_length: int) -> NDArray[np.integer]:
        if len(state_h) > 1:
            return otherwise(state_h, state_c, max_length)
        weights = decoder.weight_ih_l0, decoder.weight_hh_l0, decoder.bias_ih_l0
        length, ids = greedy_loop(
            state_h, state_c, weights, (dense.weight, dense.bias), config.start_token, config.stop_token, max_length
        )
        return ids.numpy(force=True)[None, :length]

    return decode


def compiled_greedy_loop() -> Callable[..., tuple[Tensor, Tensor]]:
    """`greedy_loop`, compiled when first called: ten seconds, or three where a process before has done it.

    Raises CannotBeginError where what is compiled cannot be kept.
    """
    import pooch  # which brings more than a backend that is not compiled needs

    # Beside the downloads; where torch would put it, temporary files, nothing outlives this process.
    beside = Path(pooch.os_cache("rosetta")) / "torchinductor"
    cache = Path(os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(beside)))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError as error:
        raise CannotBeginError(
            f"{cache}, where torch keeps what it compiles, cannot be written: {error.strerror}; name another folder "
            "in TORCHINDUCTOR_CACHE_DIR"
        ) from error
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
    positions = torch.arange(max_length, device=state_h.device)

    def going_on(length, sampled, state_h, state_c, ids):
        return (length < max_length) & (sampled[0] != stop_token)

    def step(length, sampled, state_h, state_c, ids):
        # The products of one row are sums: so each core has its part of the kernel, and finds it in its cache again.
        gates = kernel.T[sampled] + bias + (recurrent_kernel * state_h).sum(1)
        i, f, g, o = gates.chunk(4, dim=1)
        state_c = f.sigmoid() * state_c + i.sigmoid() * g.tanh()
        state_h = o.sigmoid() * state_c.tanh()
        sampled = ((dense_kernel * state_h).sum(1) + dense_bias).argmax(keepdim=True)
        ids = torch.where(positions == length, sampled, ids)
        return length + 1, sampled, state_h, state_c, ids

    length = torch.zeros((), dtype=torch.int64, device=state_h.device)
    sampled, ids = length.new_full((1,), start_token), torch.full_like(positions, stop_token)
    length, _, _, _, ids = torch.while_loop(going_on, step, (length, sampled, state_h, state_c, ids))
    return length, ids
