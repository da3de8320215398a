"""The Llama-like decoder in Paddle, ported from torch:
`python SCRIPT RECORD [OPTIMIZER]` records it."""

import sys
from pathlib import Path

import paddle
from paddle import nn
from paddle.nn import functional as F
from shared import BETA_2, DECAY, EPSILON, FAST, LONGEST, MOMENTUM, RATE, WORDS, batches

from rosetta_record import Record

CARRIED = Path("decoder.pdparams")  # the weights of the torch side
FEED = Path("decoder.feed")  # what the torch side's layers were given

OPTIMIZERS = {
    "sgd": lambda weights: paddle.optimizer.Momentum(FAST, MOMENTUM, weights),
    "adam": lambda weights: paddle.optimizer.Adam(RATE, MOMENTUM, BETA_2, EPSILON, weights),
    "adamw": lambda weights: paddle.optimizer.AdamW(
        RATE, MOMENTUM, BETA_2, EPSILON, weights, DECAY
    ),
}
UNITS, HEADS, SIZE = 16, 2, 8  # SIZE is that of a head


def rotated(x: paddle.Tensor) -> paddle.Tensor:  # (batch, time, heads, size)
    """Rotary embedding: unit j of a head turns with unit j + SIZE / 2."""
    angles = paddle.arange(LONGEST, dtype=x.dtype)[:, None, None] * 10_000.0 ** (
        -paddle.arange(0, SIZE, 2, dtype=x.dtype) / SIZE
    )
    one, other = x.chunk(2, axis=-1)
    turned = [one * angles.cos() - other * angles.sin(), other * angles.cos() + one * angles.sin()]
    return paddle.concat(turned, axis=-1)


class Norm(nn.Layer):
    """The units divided by the root of their mean square."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter(
            [UNITS], default_initializer=nn.initializer.Constant(1.0)
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * paddle.rsqrt((x**2).mean(-1, keepdim=True) + 1e-5) * self.scale


class Attention(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (
            nn.Linear(UNITS, UNITS, bias_attr=False) for _ in range(4)
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:  # (batch, time, units)
        q, k, v = (layer(x).reshape([0, 0, HEADS, SIZE]) for layer in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        return self.o(attended.flatten(2))


class MLP(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(UNITS, 24, bias_attr=False) for _ in range(2))
        self.down = nn.Linear(24, UNITS, bias_attr=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.input_norm = Norm()
        self.attention = Attention()
        self.post_norm = Norm()
        self.mlp = MLP()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = x + self.attention(self.input_norm(x))
        return x + self.mlp(self.post_norm(x))


class Decoder(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, UNITS)
        self.blocks = nn.LayerList([Block(), Block()])
        self.norm = Norm()
        self.logits = nn.Linear(UNITS, WORDS, bias_attr=False)

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:
        x = self.words(ids)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x))


def loss_of(model: Decoder, batch: dict) -> tuple:
    ids = paddle.to_tensor(batch["ids"])
    logits = model(ids)
    return F.cross_entropy(logits[:, :-1], ids[:, 1:]), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    paddle.set_device("cpu")
    paddle.set_default_dtype("float64")
    paddle.seed(1)
    model = Decoder()
    if CARRIED.exists():
        model.set_state_dict(paddle.load(str(CARRIED)))
    Record(folder, feed=FEED if FEED.exists() else None).training(
        model, batches(), loss_of, OPTIMIZERS[optimizer]
    )
