"""Models of layers that a dict describes, in torch; there is such a module for Paddle and for Keras, too."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
ACTIVATIONS = {"linear": lambda x: x, "relu": F.relu, "tanh": torch.tanh, "gelu": F.gelu}


def reset() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)


class Recurrent(nn.Module):
    def __init__(self, width: int, kind: str, units: int, layers: int = 1, both: bool = False, **more: Any) -> None:
        super().__init__()
        self.time_first, self.initial = more.get("time_first", False), more.get("initial", 0.0)
        self.inner = RECURRENT[kind](width, units, layers, bidirectional=both, batch_first=not self.time_first)
        self.is_lstm, self.states, self.units = kind == "lstm", layers * (1 + both), units

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.full((self.states, x.shape[1 if self.time_first else 0], self.units), self.initial)
        return self.inner(x, (state, state) if self.is_lstm else state)[0]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, sign: int = 1) -> None:
        super().__init__()
        self.inner, self.sign = nn.MultiheadAttention(width, heads, batch_first=True), sign

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.inner(x, x, x, key_padding_mask=(ids == 0) if self.sign > 0 else (ids != 0), need_weights=False)[
            0
        ]


class Scale(nn.Module):
    def __init__(self, factor: float, dtype: str = "float64") -> None:
        super().__init__()
        self.factor = float(np.dtype(dtype).type(factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class ChannelsFirst(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


class Dense(nn.Module):
    def __init__(self, width: int, units: int, activation: str = "linear", approximate: bool = False) -> None:
        super().__init__()
        self.inner = nn.Linear(width, units)
        self.activation = ACTIVATIONS[activation]
        if activation == "gelu":
            self.activation = nn.GELU("tanh" if approximate else "none")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.inner(x))


LAYERS = {
    **{kind: partial(Recurrent, kind=kind) for kind in RECURRENT},
    "attention": Attention,
    "scale": lambda width, **more: Scale(**more),
    "dense": Dense,
    "conv": lambda width, units: ChannelsFirst(nn.Conv1d(width, units, 3, padding=1)),
    "batchnorm": lambda width, epsilon, momentum: ChannelsFirst(nn.BatchNorm1d(width, epsilon, 1 - momentum)),
    "layernorm": lambda width, epsilon: nn.LayerNorm(width, epsilon),
    "dropout": lambda width, rate: nn.Dropout(rate),
}


class Model(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["width"]
        self.embedding = nn.Embedding(config["words"], width, padding_idx=config.get("padding_idx"))
        self.layers = nn.ModuleList()
        for one in config["layers"]:
            kind, own = one["kind"], {name: one[name] for name in one if name != "kind"}
            self.layers.append(LAYERS[kind](width, **own))
            width = one["units"] * (1 + one.get("both", False)) if "units" in one else width
        self.logits = nn.Linear(width, config["words"], bias=False)
        if config.get("tied"):
            self.logits.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        for one in self.layers:
            x = one(x, ids) if isinstance(one, Attention) else one(x)
        return self.logits(x)


class Uncorrected(torch.optim.Adam):
    """Adam without the correction of the bias of its means."""

    taken = 0

    def step(self) -> None:
        self.taken += 1
        group = self.param_groups[0]
        own = {name: group[name] for name in ("lr", "eps")}
        first, second = (1 - beta**self.taken for beta in group["betas"])
        group.update(lr=own["lr"] * first / second**0.5, eps=own["eps"] / second**0.5)
        super().step()
        group.update(own)


def optimizer(model: Model, name: str, rate: float, decay: float = 0.0, clip: float = 0.0, **more: Any) -> Any:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if name == "sgd":
        made: Any = torch.optim.SGD(weights, rate, more["momentum"])
    elif name == "rmsprop":
        made = torch.optim.RMSprop(weights, rate, more["momentum"], more["epsilon"])
    else:
        kind = (
            Uncorrected if more.get("uncorrected") else {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        )
        made = kind(weights, rate, (more["momentum"], more["beta_2"]), more["epsilon"], decay)
    if clip:
        made.register_step_pre_hook(lambda optimizer, *_: clipped(optimizer.param_groups[0]["params"], clip))
    return made


def clipped(weights: Any, clip: float) -> None:
    """Clip gradients to a norm of all, to which torch's own function adds 1e-6 before it divides by it."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    for gradient in gradients:
        gradient.mul_(clip / torch.clamp(norm, min=clip))


def model_of(config: dict[str, Any], ids: np.ndarray) -> Model:
    torch.set_default_dtype(getattr(torch, config["dtype"]))
    model = Model(config).train(config["training"])
    if config.get("one_bias"):
        for module in model.modules():
            for name, weight in module.named_parameters() if isinstance(module, nn.LSTM | nn.RNN) else ():
                if "bias_hh" in name:
                    weight.requires_grad_(False).zero_()
    return model


def load(model: Model, weights: dict[str, np.ndarray]) -> None:
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})


def loss_of(model: Model, ids: np.ndarray, targets: np.ndarray, config: dict[str, Any]) -> tuple[Any, Any]:
    logits = model(torch.from_numpy(ids))
    smoothing = config.get("smoothing", 0.0)
    return F.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(targets).flatten(), label_smoothing=smoothing
    ), logits
