"""Models of layers that a dict describes, in Paddle; there is such a module for torch and for Keras, too."""

import sys
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F
from safetensors.numpy import load_file

from backends.process.parent import PROJECT
from rosetta_record import Record

sys.path.insert(0, str(PROJECT / "docs" / "porting"))
from translator_paddle import RMSProp  # the one that computes as torch's

RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.SimpleRNN}
ACTIVATIONS = {"linear": lambda x: x, "relu": F.relu, "tanh": paddle.tanh, "gelu": F.gelu}


def reset() -> None:
    paddle.set_device("cpu")
    paddle.set_default_dtype("float64")
    paddle.seed(1)


class Recurrent(nn.Layer):
    def __init__(self, width: int, kind: str, units: int, layers: int = 1, both: bool = False, **more: Any) -> None:
        super().__init__()
        self.time_first, self.initial = more.get("time_first", False), more.get("initial", 0.0)
        direction = "bidirect" if both else "forward"
        self.inner = RECURRENT[kind](width, units, layers, direction=direction, time_major=self.time_first)
        self.is_lstm, self.states, self.units = kind == "lstm", layers * (1 + both), units

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        state = paddle.full((self.states, x.shape[1 if self.time_first else 0], self.units), self.initial)
        return self.inner(x, (state, state) if self.is_lstm else state)[0]


class Attention(nn.Layer):
    def __init__(self, width: int, heads: int, sign: int = 1) -> None:
        super().__init__()
        self.inner, self.sign = nn.MultiHeadAttention(width, heads), sign

    def forward(self, x: paddle.Tensor, ids: paddle.Tensor) -> paddle.Tensor:
        mask = (ids == 0).astype(x.dtype)[:, None, None] * (-1e9 * self.sign)
        return self.inner(x, x, x, attn_mask=mask)


class Scale(nn.Layer):
    def __init__(self, factor: float, dtype: str = "float64") -> None:
        super().__init__()
        self.factor = float(np.dtype(dtype).type(factor))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * self.factor


class ChannelsFirst(nn.Layer):
    def __init__(self, inner: nn.Layer) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.inner(x.transpose([0, 2, 1])).transpose([0, 2, 1])


class Dense(nn.Layer):
    def __init__(self, width: int, units: int, activation: str = "linear", approximate: bool = False) -> None:
        super().__init__()
        self.inner = nn.Linear(width, units)
        self.activation = nn.GELU(approximate) if activation == "gelu" else ACTIVATIONS[activation]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.activation(self.inner(x))


def layer(kind: str, width: int, **more: Any) -> nn.Layer:
    if kind in RECURRENT:
        return Recurrent(width, kind, **more)
    if kind == "attention":
        return Attention(width, **more)
    if kind == "scale":
        return Scale(**more)
    if kind == "dense":
        return Dense(width, **more)
    if kind == "conv":
        return ChannelsFirst(nn.Conv1D(width, more["units"], 3, padding=1))
    if kind == "batchnorm":
        return ChannelsFirst(nn.BatchNorm1D(width, more["momentum"], more["epsilon"]))
    if kind == "layernorm":
        return nn.LayerNorm(width, more["epsilon"])
    return nn.Dropout(more["rate"])


class Model(nn.Layer):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["width"]
        self.embedding = nn.Embedding(config["words"], width, padding_idx=config.get("padding_idx"))
        self.layers = nn.LayerList()
        for one in config["layers"]:
            self.layers.append(layer(**one, width=width))
            width = one["units"] * (1 + one.get("both", False)) if "units" in one else width
        self.logits = None if config.get("tied") else nn.Linear(width, config["words"], bias_attr=False)

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:
        x = self.embedding(ids)
        for one in self.layers:
            x = one(x, ids) if isinstance(one, Attention) else one(x)
        return self.logits(x) if self.logits else x @ self.embedding.weight.T


def optimizer(weights: Any, name: str, rate: float, decay: float = 0.0, clip: float = 0.0, **more: Any) -> Any:
    clips = {"all": paddle.nn.ClipGradByGlobalNorm, "each": paddle.nn.ClipGradByNorm}
    clipped = clips[more.get("norm", "all")](clip) if clip else None
    if name == "sgd":
        return paddle.optimizer.Momentum(rate, more["momentum"], weights, grad_clip=clipped)
    if name == "rmsprop":
        kind = paddle.optimizer.RMSProp if more.get("stock") else RMSProp
        return kind(rate, more["momentum"], more["epsilon"], parameters=weights, grad_clip=clipped)
    kind = {"adam": paddle.optimizer.Adam, "adamw": paddle.optimizer.AdamW}[name]
    return kind(rate, more["momentum"], more["beta_2"], more["epsilon"], weights, decay, grad_clip=clipped)


def record(folder: str, config: dict[str, Any], batches: str, weights: str = "", steps: int = 3) -> None:
    paddle.set_default_dtype(config["dtype"])
    model = Model(config)
    model.train() if config["training"] else model.eval()
    trained = {id(weight): weight for weight in model.parameters()}
    if config.get("one_bias"):
        for module in model.sublayers():
            for name, weight in module.named_parameters() if isinstance(module, nn.LSTM | nn.SimpleRNN) else ():
                if "bias_hh" in name:
                    weight.set_value(paddle.zeros_like(weight))
                    trained.pop(id(weight), None)
    if weights:
        arrays = load_file(weights)
        for name, weight in model.state_dict().items():
            if name in arrays:
                weight.set_value(arrays[name])
    if not steps:
        return Record(folder).model(model)
    arrays = load_file(batches)
    order = config.get("order", [0, 1])

    def loss_of(model: nn.Layer, batch: dict[str, Any]) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        logits = model(paddle.to_tensor(batch["ids"]))
        smoothing = config.get("smoothing", 0.0)  # Paddle's own is in float32
        targets = F.one_hot(paddle.to_tensor(batch["targets"]), config["words"]).astype(logits.dtype)
        targets = targets * (1 - smoothing) + smoothing / config["words"]
        return F.cross_entropy(logits, targets, soft_label=True), {"logits": logits}

    fed = [{name: arrays[f"{name}{number}"] for name in ("ids", "targets")} for number in order]
    Record(folder).training(model, fed, loss_of, optimizer(list(trained.values()), **config["optimizer"]), steps)
