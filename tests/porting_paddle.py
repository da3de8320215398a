"""Models of layers that a dict describes, in Paddle; there is such a module for torch and for Keras, too."""

import sys
from functools import partial
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from backends.process.parent import PROJECT

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


LAYERS = {
    **{kind: partial(Recurrent, kind=kind) for kind in RECURRENT},
    "attention": Attention,
    "scale": lambda width, **more: Scale(**more),
    "dense": Dense,
    "conv": lambda width, units: ChannelsFirst(nn.Conv1D(width, units, 3, padding=1)),
    "batchnorm": lambda width, epsilon, momentum: ChannelsFirst(nn.BatchNorm1D(width, momentum, epsilon)),
    "layernorm": lambda width, epsilon: nn.LayerNorm(width, epsilon),
    "dropout": lambda width, rate: nn.Dropout(rate),
}


class Model(nn.Layer):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["width"]
        self.embedding = nn.Embedding(config["words"], width, padding_idx=config.get("padding_idx"))
        self.layers = nn.LayerList()
        for one in config["layers"]:
            kind, own = one["kind"], {name: one[name] for name in one if name != "kind"}
            self.layers.append(LAYERS[kind](width, **own))
            width = one["units"] * (1 + one.get("both", False)) if "units" in one else width
        self.logits = None if config.get("tied") else nn.Linear(width, config["words"], bias_attr=False)

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:
        x = self.embedding(ids)
        for one in self.layers:
            x = one(x, ids) if isinstance(one, Attention) else one(x)
        return self.logits(x) if self.logits else x @ self.embedding.weight.T


def optimizer(model: Model, name: str, rate: float, decay: float = 0.0, clip: float = 0.0, **more: Any) -> Any:
    weights = [weight for weight in model.parameters() if id(weight) not in model.frozen]
    clips = {"all": paddle.nn.ClipGradByGlobalNorm, "each": paddle.nn.ClipGradByNorm}
    clipped = clips[more.get("norm", "all")](clip) if clip else None
    if name == "sgd":
        return paddle.optimizer.Momentum(rate, more["momentum"], weights, grad_clip=clipped)
    if name == "rmsprop":
        kind = paddle.optimizer.RMSProp if more.get("stock") else RMSProp
        return kind(rate, more["momentum"], more["epsilon"], parameters=weights, grad_clip=clipped)
    kind = {"adam": paddle.optimizer.Adam, "adamw": paddle.optimizer.AdamW}[name]
    return kind(rate, more["momentum"], more["beta_2"], more["epsilon"], weights, decay, grad_clip=clipped)


def model_of(config: dict[str, Any], ids: np.ndarray) -> Model:
    paddle.set_default_dtype(config["dtype"])
    model = Model(config)
    model.train() if config["training"] else model.eval()
    model.frozen = set()
    if config.get("one_bias"):
        for module in model.sublayers():
            for name, weight in module.named_parameters() if isinstance(module, nn.LSTM | nn.SimpleRNN) else ():
                if "bias_hh" in name:
                    weight.set_value(paddle.zeros_like(weight))
                    model.frozen.add(id(weight))
    return model


def load(model: Model, weights: dict[str, np.ndarray]) -> None:
    for name, weight in model.state_dict().items():
        if name in weights:
            weight.set_value(weights[name])


def loss_of(model: Model, ids: np.ndarray, targets: np.ndarray, config: dict[str, Any]) -> tuple[Any, Any]:
    logits = model(paddle.to_tensor(ids))
    smoothing = config.get("smoothing", 0.0)  # Paddle's own is in float32
    wanted = F.one_hot(paddle.to_tensor(targets), config["words"]).astype(logits.dtype)
    wanted = wanted * (1 - smoothing) + smoothing / config["words"]
    return F.cross_entropy(logits, wanted, soft_label=True), logits
