"""The block in Paddle, ported with two mistakes: `python SCRIPT RECORD` records it.
make.py runs it and mends it."""

import sys
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from rosetta_record import Record

WORDS, UNITS, HEADS = 12, 4, 2
EPSILON = 2**-17  # a number that Paddle, which rounds it to float32, has exactly
IDS = np.random.default_rng(0).integers(0, WORDS, (2, 2, 5))  # (steps, batch, time)
# torch's weights; the inputs of torch's layers
CARRIED, FEED = Path("block.pdparams"), Path("feed")


class Block(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(UNITS, EPSILON), nn.LayerNorm(UNITS, EPSILON)
        self.q, self.k, self.v, self.out = (
            nn.Linear(UNITS, UNITS, bias_attr=False) for _ in range(4)
        )
        self.up, self.down = nn.Linear(UNITS, 2 * UNITS), nn.Linear(2 * UNITS, UNITS)
        self.gelu = nn.GELU(approximate=True)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:  # (batch, time, units)
        normed = self.norm1(x)
        q, k, v = (layer(normed).reshape([0, 0, HEADS, -1]) for layer in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(attended.flatten(2))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class Model(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, UNITS)
        self.block = Block()
        self.logits = nn.Linear(UNITS, WORDS)

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:  # (batch, time)
        return self.logits(self.block(self.words(ids)))


def loss_of(model: Model, ids: np.ndarray) -> tuple:
    tokens = paddle.to_tensor(ids)
    logits = model(tokens)
    loss = F.cross_entropy(logits[:, :-1], tokens[:, 1:])
    return loss, {"logits": logits}


paddle.set_device("cpu")
paddle.set_default_dtype("float64")
model = Model()
if CARRIED.exists():
    model.set_state_dict(paddle.load(str(CARRIED)))
record = Record(sys.argv[1], feed=FEED if FEED.exists() else None)
record.training(
    model, list(IDS), loss_of, lambda weights: paddle.optimizer.Momentum(0.125, 0.5, weights)
)
