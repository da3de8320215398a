"""The GRU encoder and decoder with attention in Paddle, ported from torch:
`python SCRIPT RECORD [OPTIMIZER]`."""

import sys
from pathlib import Path

import paddle
from paddle import nn
from paddle.nn import functional as F
from shared import BETA_2, DECAY, EPSILON, FAST, MOMENTUM, RATE, RHO, TAGS, WORDS, batches

from rosetta_record import Record

CARRIED = Path("translator.pdparams")  # the weights of the torch side


class RMSProp(paddle.optimizer.RMSProp):
    """RMSprop with epsilon where torch has it: added to the root, and not within it."""

    @paddle.no_grad()
    def _append_optimize_op(self, block: object, weight_and_gradient: tuple) -> None:
        weight, gradient = weight_and_gradient
        mean_square = self._get_accumulator(self._mean_square_acc_str, weight)
        mean_square.set_value(self._rho * mean_square + (1 - self._rho) * gradient**2)
        weight.set_value(weight - self.get_lr() * gradient / (mean_square.sqrt() + self._epsilon))


OPTIMIZERS = {
    "sgd": lambda weights: paddle.optimizer.Momentum(FAST, MOMENTUM, weights),
    "adam": lambda weights: paddle.optimizer.Adam(RATE, MOMENTUM, BETA_2, EPSILON, weights, DECAY),
    "adamw": lambda weights: paddle.optimizer.AdamW(
        RATE, MOMENTUM, BETA_2, EPSILON, weights, DECAY
    ),
    "rmsprop": lambda weights: RMSProp(RATE, RHO, EPSILON, parameters=weights),
}


class Translator(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 8, padding_idx=0)
        self.encoder = nn.GRU(8, 12, time_major=True)
        self.tags = nn.Embedding(TAGS, 8)
        self.decoder = nn.GRU(8, 12, time_major=True)
        self.attention = nn.Linear(12, 12, bias_attr=False)
        self.both = nn.Linear(24, 12)
        self.logits = nn.Linear(12, TAGS)

    def forward(
        self, ids: paddle.Tensor, tags: paddle.Tensor
    ) -> paddle.Tensor:  # (batch, time) both
        source, state = self.encoder(self.words(ids.T))
        target, _ = self.decoder(self.tags(tags.T), state)
        # (batch, time, units)
        source, target = source.transpose([1, 0, 2]), target.transpose([1, 0, 2])
        # (batch, target time, source time)
        scores = self.attention(target) @ source.transpose([0, 2, 1])
        scores = scores - 1e9 * (ids == 0).astype(scores.dtype).unsqueeze(1)
        context = F.softmax(scores) @ source
        return self.logits(paddle.tanh(self.both(paddle.concat([context, target], -1))))


def loss_of(model: Translator, batch: dict) -> tuple:
    ids, tags, before = (paddle.to_tensor(batch[name]) for name in ("ids", "tags", "before"))
    logits = model(ids, before)
    return F.cross_entropy(logits, tags), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    paddle.set_device("cpu")
    paddle.set_default_dtype("float64")
    paddle.seed(1)
    model = Translator()
    if CARRIED.exists():
        model.set_state_dict(paddle.load(str(CARRIED)))
    Record(folder).training(model, batches(), loss_of, OPTIMIZERS[optimizer])
