"""A small Transformer in torch, made of modules: `python SCRIPT RECORD` records it."""

import sys

import torch
from shared import FAST, MOMENTUM, TAGS, WORDS, batches
from torch import nn
from torch.nn import functional as F

from rosetta_record import Record, tap

HEADS, SIZE = 2, 4


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, HEADS * SIZE)
        self.query, self.key, self.value, self.out = (
            nn.Linear(HEADS * SIZE, HEADS * SIZE) for _ in range(4)
        )
        self.wide, self.narrow = nn.Linear(HEADS * SIZE, 16), nn.Linear(16, HEADS * SIZE)
        self.tags = nn.Linear(HEADS * SIZE, TAGS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:  # (batch, time)
        x = self.words(ids)
        q, k, v = (
            layer(x).unflatten(-1, (HEADS, SIZE)) for layer in (self.query, self.key, self.value)
        )
        scores = torch.einsum("nthd,nshd->nhts", q, k)
        scores = tap("scores", scores / SIZE**0.5)
        scores = tap("masked scores", scores.masked_fill((ids == 0)[:, None, None], -torch.inf))
        context = tap("context", torch.einsum("nhts,nshd->nthd", scores.softmax(-1), v))
        x = x + self.out(context.flatten(-2))
        wide = self.wide(x)
        wide = tap("activated", F.gelu(wide))
        return self.tags(x + self.narrow(wide))


def loss_of(model: nn.Module, batch: dict) -> tuple:
    ids, tags = torch.from_numpy(batch["ids"]), torch.from_numpy(batch["tags"])
    logits = model(ids)
    return F.cross_entropy(logits[ids != 0], tags[ids != 0]), {"logits": logits}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    Record(sys.argv[1]).training(
        Transformer(), batches(), loss_of, lambda own: torch.optim.SGD(own, FAST, MOMENTUM)
    )
