"""Records models of torch in the folder that is named, and exports them."""

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rosetta_record import Record

IDS = np.random.default_rng(0).integers(1, 20, (4, 7))
X = np.random.default_rng(1).standard_normal((4, 5, 6))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.gru = nn.GRU(8, 6, batch_first=True)
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(10)
        self.act = nn.GELU()
        self.tags = nn.Linear(10, 5)

    def forward(self, ids):
        outputs, _ = self.lstm(self.gru(self.words(ids))[0])
        return self.tags(self.act(self.norm(outputs)))


class Image(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.tags = nn.Linear(4, 3)

    def forward(self, image):
        return self.tags(self.norm(self.conv(image)).relu().mean((2, 3)))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.soft, self.last = nn.Linear(6, 6), nn.Softmax(-1), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.soft(self.first(x)) * 0.1)


class Mean(nn.Module):
    def __init__(self, traced=False):
        super().__init__()
        self.first, self.last, self.traced = nn.Linear(6, 6), nn.Linear(6, 3), traced

    def forward(self, x):
        return self.last(self.first(x).sum(1) / (5 if self.traced else x.shape[1]))


def export(model, batch, file, dynamic, dynamo):
    names = ["x"]
    axes = dict(enumerate(("rows", "length")[:dynamic]))
    if dynamo:
        torch.onnx.export(
            model,
            (batch,),
            file,
            input_names=names,
            dynamic_shapes=[axes],
            dynamo=True,
            verbose=False,
        )
    else:
        torch.onnx.export(
            model, (batch,), file, input_names=names, dynamic_axes={"x": axes}, dynamo=False
        )


warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
torch.set_default_dtype(torch.float32)
folder = Path(sys.argv[1])
ids, x = torch.from_numpy(IDS), torch.from_numpy(X).float()
image = torch.from_numpy(np.random.default_rng(2).standard_normal((2, 3, 6, 6))).float()
torch.manual_seed(0)
mean = Mean()
for name, model, batches, dynamic in (
    ("tagger", Tagger(), [ids, ids[1:]], 2),
    ("image", Image(), [image, image[1:]], 1),
    ("scaled", Scaled(), [x], 1),
    ("scaled64", Scaled().double(), [x.double()], 1),
    ("mean", mean, [x, x[:, 2:]], 2),
):
    for weight in model.state_dict().values():  # so that none is as it is at first
        if weight.is_floating_point():
            weight.add_(0.1 * torch.rand(weight.shape))
    Record(folder / name).inference(model.eval(), batches)
    export(model, batches[0], folder / f"{name}.onnx", dynamic, dynamo=name != "mean")
    if name in ("tagger", "image"):
        export(model, batches[0], folder / f"{name}-old.onnx", dynamic, dynamo=False)
wrong = Mean(traced=True)
wrong.load_state_dict(mean.state_dict())
export(wrong.eval(), x, folder / "mean5.onnx", 2, dynamo=False)
