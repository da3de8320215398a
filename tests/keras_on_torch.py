"""Records one model in torch, in Keras on torch, and in torch with another epsilon, each into a folder."""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
import torch

from rosetta_record import Record

CLASSES, UNITS = 4, 6


class Net(torch.nn.Module):
    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(5, UNITS)
        self.norm = torch.nn.LayerNorm(UNITS, eps=epsilon)
        self.logits = torch.nn.Linear(UNITS, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(torch.tanh(self.norm(self.hidden(x))))


rng = np.random.default_rng(0)
batches = [{"x": rng.normal(size=(8, 5)), "y": rng.integers(0, CLASSES, 8)} for _ in range(3)]
torch.set_default_dtype(torch.float64)
keras.config.set_floatx("float64")
nets = [Net(1e-5), Net(1e-2)]
model = keras.Sequential(
    [
        keras.Input((5,)),
        keras.layers.Dense(UNITS, name="hidden"),
        keras.layers.LayerNormalization(epsilon=1e-5, name="norm"),
        keras.layers.Activation("tanh"),
        keras.layers.Dense(CLASSES, name="logits"),
    ]
)
with torch.no_grad():
    for theirs, *ours in zip(model.weights, *(net.parameters() for net in nets), strict=True):
        array = rng.normal(size=theirs.shape)
        theirs.assign(array)
        for weight in ours:
            weight.copy_(torch.tensor(array.T))

for net, folder in zip(nets, (sys.argv[1], sys.argv[3]), strict=True):
    Record(folder).training(
        net,
        batches,
        lambda net, batch: torch.nn.functional.cross_entropy(net(torch.tensor(batch["x"])), torch.tensor(batch["y"])),
        torch.optim.SGD(net.parameters(), lr=0.125),
        steps=3,
    )
Record(sys.argv[2]).training(
    model,
    batches,
    lambda model, batch: keras.losses.SparseCategoricalCrossentropy(from_logits=True)(batch["y"], model(batch["x"])),
    keras.optimizers.SGD(0.125),
    steps=3,
)
