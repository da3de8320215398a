"""Models of layers that a dict describes, in torch: how the layers are made, and a training by hand."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.porting_modules import Attention, ChannelsFirst, Dense, Model, Recurrent, Scale, small, squared, update  # noqa: F401
from tests.porting_side import Array, rows_of

RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
ACTIVATIONS = {"linear": lambda x: x, "relu": F.relu, "tanh": torch.tanh_, "gelu": F.gelu}  # tanh computes in place


def reset(dtype: str) -> None:
    torch.set_default_dtype(getattr(torch, dtype))
    torch.manual_seed(1)


def recurrent(width: int, kind: str, units: int, layers: int = 1, both: bool = False, **more: Any) -> Recurrent:
    batch_first = not more.get("time_first", False)
    inner = RECURRENT[kind](width, units, layers, bidirectional=both, batch_first=batch_first)
    return Recurrent(inner, layers * (1 + both), units, not batch_first, more.get("initial", 0.0))


def attention(width: int, heads: int, sign: int = 1) -> Attention:
    def mask(ids: torch.Tensor) -> dict[str, Any]:
        return {"key_padding_mask": (ids == 0) if sign > 0 else (ids != 0), "need_weights": False}

    return Attention(nn.MultiheadAttention(width, heads, batch_first=True), mask)


def dense(width: int, units: int, activation: str = "linear", approximate: bool = False) -> Dense:
    gelu = nn.GELU("tanh" if approximate else "none")
    return Dense(width, units, gelu if activation == "gelu" else ACTIVATIONS[activation])


MAKERS = {
    **{kind: partial(recurrent, kind=kind) for kind in RECURRENT},
    "attention": attention,
    "scale": lambda width, **more: Scale(**more),
    "dense": dense,
    "conv": lambda width, units: ChannelsFirst(nn.Conv1d(width, units, 3, padding=1)),
    "batchnorm": lambda width, epsilon, momentum: ChannelsFirst(nn.BatchNorm1d(width, epsilon, 1 - momentum)),
    "layernorm": lambda width, epsilon: nn.LayerNorm(width, epsilon),
    "dropout": lambda width, rate: nn.Dropout(rate),
}


def model_of(config: dict[str, Any], ids: np.ndarray) -> Model:
    reset(config["dtype"])
    model = Model(config, MAKERS, partial(nn.Linear, bias=False))
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


def small_trainings() -> dict[str, tuple[Any, Any, Any, Any]]:
    """By name: a model, a batch, a function of its loss, and an optimizer or what makes one."""
    makers = {
        "sgd": lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9),
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
