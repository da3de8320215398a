"""A script of a race: attention in torch or NumPy, forward and backward. `python attention.py own`
is written by hand, `compiled` is the same by torch.compile, `framework` is torch's own, and `numpy`
does without torch."""

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rosetta_record import Record, take_turns

BATCH, HEADS, TIME, WIDTH = 8, 8, 256, 64
NAMES = ("query", "key", "value")
# A position sees itself and what is before it.
MASK = np.triu(np.full((TIME, TIME), -np.inf, np.float32), 1)

which = sys.argv[1]
rng = np.random.default_rng(0)
inputs = [rng.standard_normal((BATCH, HEADS, TIME, WIDTH), dtype=np.float32) for _ in NAMES]


def step_of_torch() -> Callable[[], list]:
    """A step, which gives the output and the gradients of its mean square by query,
    key and value."""
    import torch
    from torch.nn import functional as F

    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    mask = torch.from_numpy(MASK)

    def handwritten(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        scores = query @ key.transpose(2, 3) / WIDTH**0.5 + mask
        return scores.softmax(-1) @ value

    def framework(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)

    attention = {
        "own": handwritten,
        "framework": framework,
        "compiled": torch.compile(handwritten),
    }[which]

    def step() -> list:
        for tensor in tensors:
            tensor.grad = None
        output = attention(*tensors)
        output.square().mean().backward()
        return [output.detach(), *(tensor.grad for tensor in tensors)]

    return step


def step_of_numpy() -> list[NDArray[np.float32]]:
    query, key, value = inputs
    scale = np.float32(WIDTH**-0.5)
    scores = query @ key.swapaxes(2, 3) * scale + MASK
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    output = weights @ value
    by_output = output * np.float32(2 / output.size)
    by_weights = by_output @ value.swapaxes(2, 3)
    by_scores = weights * (by_weights - (by_weights * weights).sum(-1, keepdims=True)) * scale
    return [
        output,
        by_scores @ key,
        by_scores.swapaxes(2, 3) @ query,
        weights.swapaxes(2, 3) @ by_output,
    ]


step = step_of_numpy if which == "numpy" else step_of_torch()
record = Record(f"attention-{which}")
record.inputs(**dict(zip(NAMES, inputs, strict=True)))
record.forward(
    **dict(zip(("output", *(f"{name}_gradient" for name in NAMES)), step(), strict=True))
)
take_turns(step, batch=BATCH * TIME, after=record)
