"""A GRU encoder and decoder with attention in torch, to be ported to Paddle:
`python SCRIPT RECORD [OPTIMIZER]`."""

import sys

import torch
from shared import BETA_2, DECAY, EPSILON, FAST, MOMENTUM, RATE, RHO, TAGS, WORDS, batches
from torch import nn
from torch.nn import functional as F

from rosetta_record import Record

OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, FAST, MOMENTUM),
    "adam": lambda weights: torch.optim.Adam(weights, RATE, (MOMENTUM, BETA_2), EPSILON, DECAY),
    "adamw": lambda weights: torch.optim.AdamW(weights, RATE, (MOMENTUM, BETA_2), EPSILON, DECAY),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, RATE, RHO, EPSILON),
}


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 8, padding_idx=0)
        self.encoder = nn.GRU(8, 12)  # both have time first
        self.tags = nn.Embedding(TAGS, 8)
        self.decoder = nn.GRU(8, 12)
        self.attention = nn.Linear(12, 12, bias=False)
        self.both = nn.Linear(24, 12)
        self.logits = nn.Linear(12, TAGS)

    def forward(self, ids: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:  # (batch, time) both
        source, state = self.encoder(self.words(ids.T))
        target, _ = self.decoder(self.tags(tags.T), state)
        source, target = source.transpose(0, 1), target.transpose(0, 1)  # (batch, time, units)
        # (batch, target time, source time)
        scores = self.attention(target) @ source.transpose(1, 2)
        scores = scores.masked_fill((ids == 0)[:, None], -torch.inf)
        context = scores.softmax(-1) @ source
        return self.logits(torch.tanh(self.both(torch.cat([context, target], -1))))


def loss_of(model: Translator, batch: dict) -> tuple:
    ids, tags, before = (torch.from_numpy(batch[name]) for name in ("ids", "tags", "before"))
    logits = model(ids, before)
    return F.cross_entropy(logits.flatten(0, 1), tags.flatten()), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    Record(folder).training(Translator(), batches(), loss_of, OPTIMIZERS[optimizer])
