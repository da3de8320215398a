"""The LSTM tagger in Paddle, ported from Keras: `python SCRIPT RECORD [OPTIMIZER]` records it."""

import sys
from pathlib import Path

import paddle
from shared import BETA_2, DECAY, EPSILON, FAST, MOMENTUM, RATE, RHO, TAGS, WORDS, batches

from rosetta_record import Record

CARRIED = Path("tagger.pdparams")  # the weights of the Keras side


class AsKeras:
    """Adam with epsilon where Keras has it: added to the root before its bias is corrected."""

    steps = 0

    def step(self) -> None:
        self.steps += 1
        epsilon = self._epsilon
        self._epsilon = epsilon / (1 - self._beta2**self.steps) ** 0.5
        super().step()
        self._epsilon = epsilon


class Adam(AsKeras, paddle.optimizer.Adam): ...


class AdamW(AsKeras, paddle.optimizer.AdamW): ...


OPTIMIZERS = {
    "sgd": lambda weights: paddle.optimizer.Momentum(FAST, MOMENTUM, weights),
    "adam": lambda weights: Adam(RATE, MOMENTUM, BETA_2, EPSILON, weights),
    "adamw": lambda weights: AdamW(RATE, MOMENTUM, BETA_2, EPSILON, weights, DECAY),
    "rmsprop": lambda weights: paddle.optimizer.RMSProp(RATE, RHO, EPSILON, parameters=weights),
}


class Tagger(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = paddle.nn.Embedding(WORDS, 8)
        self.lstm = paddle.nn.LSTM(8, 8, num_layers=2, direction="bidirect")
        self.tags = paddle.nn.Linear(16, TAGS)

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:
        sequence, _ = self.lstm(self.embedding(ids))
        return self.tags(sequence)


def loss_of(model: Tagger, batch: dict) -> tuple:
    ids, tags = paddle.to_tensor(batch["ids"]), paddle.to_tensor(batch["tags"])
    logits = model(ids)
    real = ids != 0
    return paddle.nn.functional.cross_entropy(logits[real], tags[real]), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    paddle.set_device("cpu")
    paddle.set_default_dtype("float64")
    paddle.seed(1)
    model = Tagger()
    if CARRIED.exists():
        model.set_state_dict(paddle.load(str(CARRIED)))
    # Keras has one bias
    trained = [weight for name, weight in model.named_parameters() if "bias_hh" not in name]
    Record(folder).training(
        model, batches(), loss_of, lambda weights: OPTIMIZERS[optimizer](trained)
    )
