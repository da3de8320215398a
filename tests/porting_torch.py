"""Models of layers that a dict describes, in torch; there is such a module for Paddle and for Keras, too."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.porting_side import Array, keep, rows_of

RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
ACTIVATIONS = {"linear": lambda x: x, "relu": F.relu, "tanh": torch.tanh_, "gelu": F.gelu}  # tanh computes in place


def reset(dtype: str) -> None:
    torch.set_default_dtype(getattr(torch, dtype))
    torch.manual_seed(1)


class Recurrent(nn.Module):
    def __init__(self, width: int, kind: str, units: int, layers: int = 1, both: bool = False, **more: Any) -> None:
        super().__init__()
        self.time_first, self.initial = more.get("time_first", False), more.get("initial", 0.0)
        self.inner = RECURRENT[kind](width, units, layers, bidirectional=both, batch_first=not self.time_first)
        self.is_lstm, self.states, self.units = kind == "lstm", layers * (1 + both), units

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.full((self.states, x.shape[1 if self.time_first else 0], self.units), self.initial)
        return keep(self.inner(x, (state, state) if self.is_lstm else state))[0]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, sign: int = 1) -> None:
        super().__init__()
        self.inner, self.sign = nn.MultiheadAttention(width, heads, batch_first=True), sign

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        left_out = (ids == 0) if self.sign > 0 else (ids != 0)
        return keep(self.inner(x, x, x, key_padding_mask=left_out, need_weights=False))[0]


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
        return keep(self.inner(x.transpose(1, 2))).transpose(1, 2)


class Dense(nn.Module):
    def __init__(self, width: int, units: int, activation: str = "linear", approximate: bool = False) -> None:
        super().__init__()
        self.inner = nn.Linear(width, units)
        self.activation = ACTIVATIONS[activation]
        if activation == "gelu":
            self.activation = nn.GELU("tanh" if approximate else "none")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(keep(self.inner(x)))


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
            own = {name: one[name] for name in one if name not in ("kind", "frozen", "weight_of")}
            self.layers.append(LAYERS[one["kind"]](width, **own))
            if "weight_of" in one:
                self.layers[-1].inner.weight = self.layers[one["weight_of"]].inner.weight
            self.layers[-1].requires_grad_(not one.get("frozen"))
            width = one["units"] * (1 + one.get("both", False)) if "units" in one else width
        self.calls = config.get("calls", range(len(self.layers)))
        self.logits = nn.Linear(width, config["words"], bias=False)
        if config.get("tied"):
            self.logits.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = keep(self.embedding(ids))
        for number in self.calls:
            one = self.layers[number]
            x = keep(one(x, ids) if isinstance(one, Attention) else one(x))
        return keep(self.logits(x))


def model_of(config: dict[str, Any], ids: np.ndarray) -> Model:
    reset(config["dtype"])
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
    logits, wanted = model(torch.from_numpy(ids)), torch.from_numpy(targets).flatten()
    return F.cross_entropy(logits.flatten(0, 1), wanted, label_smoothing=config.get("smoothing", 0.0)), logits


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


def trained(model: Model) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def optimizer(weights: Any, name: str, rate: float, decay: float = 0.0, clip: float = 0.0, **more: Any) -> Any:
    if name == "sgd":
        made: Any = torch.optim.SGD(weights, rate, more["momentum"])
    elif name == "rmsprop":
        made = torch.optim.RMSprop(weights, rate, more["momentum"], more["epsilon"], momentum=more.get("heavy", 0.0))
    else:
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        kind = Uncorrected if more.get("uncorrected") else kinds[name]
        made = kind(weights, rate, (more["momentum"], more["beta_2"]), more["epsilon"], decay)
    if clip:
        made.register_step_pre_hook(lambda optimizer, *_: clipped(optimizer.param_groups[0]["params"], clip))
    return made


def load_optimizer(model: Model, optimizer: torch.optim.Optimizer, path: str) -> None:
    optimizer.load_state_dict(torch.load(path, weights_only=True))


def clipped(weights: Any, clip: float) -> None:
    """Clip gradients to a norm of all, to which torch's own function adds 1e-6 before it divides by it."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    for gradient in gradients:
        gradient.mul_(clip / torch.clamp(norm, min=clip))


# A training by hand, and what torch itself has of it, by the names of a record


def backward(model: Model, batch: dict[str, np.ndarray], config: dict[str, Any]) -> tuple[Any, Any, None]:
    model.zero_grad()
    loss, logits = loss_of(model, batch["ids"], batch["targets"], config)
    loss.backward()
    return loss, logits, None


def update(model: Model, optimizer: torch.optim.Optimizer, gradients: None) -> None:
    optimizer.step()


def weights(model: Model) -> dict[str, torch.Tensor]:
    return model.state_dict()


def named_gradients(model: Model, gradients: None) -> dict[str, torch.Tensor]:
    names = model.named_parameters(remove_duplicate=False)
    return {name: weight.grad for name, weight in names if weight.grad is not None}


def slots(model: Model, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names = model.named_parameters(remove_duplicate=False)
    of = {name: optimizer.state[weight] for name, weight in names if weight.requires_grad}
    return {f"{name}|{slot}": value for name, slots in of.items() for slot, value in slots.items()}


def everything(model: Model) -> list[Any]:
    """All that a record puts back: weights, random numbers, gradients and hooks."""
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    hooks = [module for module in model.modules() if module._forward_hooks]
    copies = [tensor.clone() for tensor in model.state_dict().values()]
    return [*copies, torch.get_rng_state(), len(gradients), len(hooks)]


def squared(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch).square().mean()


def small_trainings() -> dict[str, tuple[Any, Any, Any, Any]]:
    """By name: a model, a batch, a function of its loss, and an optimizer or what makes one."""
    makers = {
        "sgd": lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9),
        "adam": lambda weights: torch.optim.Adam(weights, weight_decay=0.1),
        "rmsprop": lambda weights: torch.optim.RMSprop(weights, momentum=0.9, centered=True),
        "groups": lambda weights: torch.optim.SGD(
            [{"params": weights[:1], "weight_decay": 0.5}, {"params": weights[1:]}], 0.1
        ),
    }
    models = {name: small() for name in makers}
    found = {
        name: (models[name], torch.ones(4, 3), squared, maker(list(models[name].parameters())))
        for name, maker in makers.items()
    }
    ones = torch.ones(4, 3, dtype=torch.bfloat16)
    return found | {"bfloat16": (small().bfloat16(), ones, squared, torch.optim.SGD)}


def small() -> nn.Module:
    return nn.Linear(3, 2)


def lazy() -> nn.Module:
    return nn.LazyLinear(2)


def lstm_returns(a: dict[str, Array]) -> dict[str, list[Any]]:
    lstm = nn.LSTM(len(a["kernel"]), len(a["recurrent_kernel"]), batch_first=True)
    weights = [a["kernel"].T, a["recurrent_kernel"].T, a["bias"], np.zeros_like(a["bias"])]
    for weight, array in zip(lstm.parameters(), weights, strict=True):
        weight.data.copy_(torch.from_numpy(np.ascontiguousarray(array)))
    x = torch.from_numpy(a["x"])
    states = tuple(torch.from_numpy(a[name]).unsqueeze(0) for name in ("state_h", "state_c"))  # (1, N, H)
    return rows_of(lstm(x), lstm(x, states), lstm(x[:, :1], states))
