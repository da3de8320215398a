"""A small Llama-like decoder in torch, to be ported to Paddle:
`python SCRIPT RECORD [OPTIMIZER]` records it."""

import sys

import torch
from shared import BETA_2, DECAY, EPSILON, FAST, LONGEST, MOMENTUM, RATE, WORDS, batches
from torch import nn
from torch.nn import functional as F

from rosetta_record import Record

OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, FAST, MOMENTUM),
    "adam": lambda weights: torch.optim.Adam(weights, RATE, (MOMENTUM, BETA_2), EPSILON),
    "adamw": lambda weights: torch.optim.AdamW(weights, RATE, (MOMENTUM, BETA_2), EPSILON, DECAY),
}
UNITS, HEADS, SIZE = 16, 2, 8  # SIZE is that of a head


def rotated(x: torch.Tensor) -> torch.Tensor:  # (batch, heads, time, size)
    """Rotary embedding: unit j of a head turns with unit j + SIZE / 2."""
    angles = torch.arange(LONGEST)[:, None] * 10_000.0 ** (-torch.arange(0, SIZE, 2) / SIZE)
    one, other = x.chunk(2, dim=-1)
    turned = [one * angles.cos() - other * angles.sin(), other * angles.cos() + one * angles.sin()]
    return torch.cat(turned, dim=-1)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(UNITS, eps=1e-5)
        self.qkv = nn.Linear(UNITS, 3 * UNITS, bias=False)
        self.out = nn.Linear(UNITS, UNITS, bias=False)
        self.norm = nn.RMSNorm(UNITS, eps=1e-5)
        self.gate_up = nn.Linear(UNITS, 2 * 24, bias=False)
        self.down = nn.Linear(24, UNITS, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (batch, time, units)
        parts = self.qkv(self.attention_norm(x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, UNITS)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm = nn.RMSNorm(UNITS, eps=1e-5)
        self.logits = nn.Linear(UNITS, WORDS, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x))


def loss_of(model: Decoder, batch: dict) -> tuple:
    ids = torch.from_numpy(batch["ids"])
    logits = model(ids)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    Record(folder).training(Decoder(), batches(), loss_of, OPTIMIZERS[optimizer])
