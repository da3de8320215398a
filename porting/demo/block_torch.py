"""A Transformer's block in torch: `python SCRIPT RECORD` records it. make.py runs it."""

import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rosetta_record import Record

WORDS, UNITS, HEADS = 12, 4, 2
EPSILON = 2**-17  # a number that Paddle, which rounds it to float32, has exactly
IDS = np.random.default_rng(0).integers(0, WORDS, (2, 2, 5))  # (steps, batch, time)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(UNITS, EPSILON), nn.LayerNorm(UNITS, EPSILON)
        self.q, self.k, self.v, self.out = (nn.Linear(UNITS, UNITS, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(UNITS, 2 * UNITS), nn.Linear(2 * UNITS, UNITS)
        self.gelu = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (batch, time, units)
        normed = self.norm1(x)
        q, k, v = (
            layer(normed).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, UNITS)
        self.block = Block()
        self.logits = nn.Linear(UNITS, WORDS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:  # (batch, time)
        return self.logits(self.block(self.words(ids)))


def loss_of(model: Model, ids: np.ndarray) -> tuple:
    tokens = torch.from_numpy(ids)
    logits = model(tokens)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    return loss, {"logits": logits}


torch.set_default_dtype(torch.float64)
torch.manual_seed(1)
Record(sys.argv[1]).training(
    Model(), list(IDS), loss_of, lambda weights: torch.optim.SGD(weights, 0.125, 0.5)
)
