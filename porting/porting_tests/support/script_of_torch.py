"""A script of torch, which Paddle runs too where `paddle.enable_compat()` has `import torch` give
Paddle. Arguments are the folder of its record, and perhaps "wrong"."""

import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rosetta_record import Record

RATE = 0.1


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
        self.norm = nn.LayerNorm(6)
        self.hidden = nn.Linear(6, 6)
        self.logits = nn.Linear(6, 9)

    def forward(self, ids):
        x = self.embedding(ids)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.logits(torch.tanh(self.hidden(x)))


rng = np.random.default_rng(0)
ids, targets = (torch.tensor(rng.integers(0, 9, (4, 5))) for _ in range(2))
torch.set_default_dtype(torch.float64)
model = Tagger()
with torch.no_grad():
    for name, weight in sorted(model.named_parameters()):
        array = rng.normal(size=tuple(weight.shape))
        if sys.argv[2:] == ["wrong"] and name == "hidden.weight":
            array = np.ascontiguousarray(array.T)
        weight.copy_(torch.tensor(array))

record = Record(sys.argv[1])
record.inputs(ids=ids, targets=targets)
record.model(model)
logits = model(ids)
record.forward(logits=logits)
loss = F.cross_entropy(logits.reshape([-1, 9]), targets.reshape([-1]))
record.loss(loss)
loss.backward()
record.gradients(model)
with torch.no_grad():
    for weight in model.parameters():
        weight.copy_(weight - RATE * weight.grad)
record.optimizer("SGD", {"learning_rate": RATE})
record.step(1, loss)
