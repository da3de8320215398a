"""Counts a training step's operations; runs in PyTorch's process."""

import numpy as np

from common.decoding import Emit
from common.interface import Backend
from common.tensors import Batch, Batches
from common.weights import initial_state


def counted(backend: Backend, emit: Emit, *, batch: Batch) -> int:
    """The floating-point operations of one step, by PyTorch's own counter."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    backend.load(initial_state(backend.config, 0))
    # The counter knows matrix products, and not the one operator that oneDNN makes of a whole layer.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        backend.train(Batches(batch, np.arange(len(batch)), len(batch)), lambda step, loss: None)
    return int(counter.get_total_flops())
