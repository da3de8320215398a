"""A contestant of a race: attention in torch, written by hand or the framework's own. `python attention.py own`, or
`framework`."""

import sys

import torch
from torch.nn import functional as F

from rosetta_record import Record, take_turns

BATCH, HEADS, TIME, WIDTH = 8, 8, 256, 64
NAMES = ("query", "key", "value")
MASK = torch.full((TIME, TIME), -torch.inf).triu(1)  # a position sees itself and what is before it


def own(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:  # each (batch, head, time, width)
    scores = query @ key.transpose(2, 3) / WIDTH**0.5 + MASK
    return scores.softmax(-1) @ value


def framework(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


attention = {"own": own, "framework": framework}[sys.argv[1]]
torch.manual_seed(0)
inputs = [torch.randn(BATCH, HEADS, TIME, WIDTH, requires_grad=True) for _ in range(3)]


def step() -> torch.Tensor:
    for tensor in inputs:
        tensor.grad = None
    output = attention(*inputs)
    output.square().mean().backward()
    return output.detach()


record = Record(f"attention-{sys.argv[1]}")
record.inputs(**dict(zip(NAMES, inputs, strict=True)))
record.forward(output=step(), **{f"{name}_gradient": tensor.grad for name, tensor in zip(NAMES, inputs, strict=True)})
take_turns(step, batch=BATCH * TIME, after=record)
