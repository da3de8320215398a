"""A small Transformer encoder in torch, to be ported to Keras:
`python SCRIPT RECORD [OPTIMIZER]` records it."""

import sys

import torch
from shared import BETA_2, DECAY, EPSILON, FAST, LONGEST, MOMENTUM, RATE, RHO, TAGS, WORDS, batches
from torch import nn
from torch.nn import functional as F

from rosetta_record import Record

OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, FAST, MOMENTUM),
    "adam": lambda weights: torch.optim.Adam(weights, RATE, (MOMENTUM, BETA_2), EPSILON),
    "adamw": lambda weights: torch.optim.AdamW(weights, RATE, (MOMENTUM, BETA_2), EPSILON, DECAY),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, RATE, RHO, EPSILON),
}


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 8)
        self.positions = nn.Embedding(LONGEST, 8)
        layer = nn.TransformerEncoderLayer(
            8, nhead=2, dim_feedforward=16, dropout=0.0, activation="gelu", batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers=2)
        self.tags = nn.Linear(8, TAGS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        embedded = self.words(ids) + self.positions(torch.arange(LONGEST))
        return self.tags(self.layers(embedded, src_key_padding_mask=ids == 0))


def loss_of(model: Encoder, batch: dict) -> tuple:
    ids, tags = torch.from_numpy(batch["ids"]), torch.from_numpy(batch["tags"])
    logits = model(ids)
    real = ids != 0
    return F.cross_entropy(logits[real], tags[real]), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    Record(folder).training(Encoder(), batches(), loss_of, OPTIMIZERS[optimizer])
