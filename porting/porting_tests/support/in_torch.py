"""Modules that only torch has, beside modules.py: its optimizers,
and small models that are recorded too."""

from typing import Any

import torch
from torch import nn

# The module is a framework's whole side for the tests.
from porting_tests.support.modules import *  # noqa: F403
from porting_tests.support.modules import autocast, small, squared, trainings


def optimizer(
    weights: Any, name: str, rate: float, decay: float = 0.0, clip: float = 0.0, **more: Any
) -> Any:
    weights = weights[more.get("unlisted", 0) :]
    if name == "sgd":
        made: Any = torch.optim.SGD(
            weights, rate, more["momentum"], nesterov=more.get("nesterov", False)
        )
    elif name == "rmsprop":
        made = torch.optim.RMSprop(weights, rate, more["momentum"], more["epsilon"])
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        made = kind(weights, rate, (more["momentum"], more["beta_2"]), more["epsilon"], decay)
        for weight in weights if more.get("counter") else ():  # counts its first step as its second
            zeros = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
            made.state[weight] = {"step": torch.ones(()), **zeros}
    if clip:
        made.register_step_pre_hook(
            lambda optimizer, *_: clipped(optimizer, clip, more.get("norm", "all"))
        )
    if more.get("warmup"):
        factors = more["warmup"]
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            made, lambda step: factors[min(step, len(factors) - 1)]
        )
        made.register_step_post_hook(lambda *_: scheduler.step())
    return made


def clipped(optimizer: Any, clip: float, norm: str) -> None:
    """Clip gradients to a norm of all, to which torch's own function adds 1e-6
    before it divides by it; or each."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    of_all = torch.stack([gradient.norm() for gradient in gradients]).norm()
    for gradient in gradients:
        if norm == "value":
            gradient.clamp_(-clip, clip)
        else:
            gradient.mul_(
                clip / torch.clamp(of_all if norm == "all" else gradient.norm(), min=clip)
            )


def small_trainings() -> dict[str, tuple[Any, Any, Any, Any]]:
    """By name: a model, a batch, a function of its loss, and an optimizer or what makes one."""
    makers = {
        "sgd": lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9),
        "rmsprop": lambda weights: torch.optim.RMSprop(weights, momentum=0.9, centered=True),
        "groups": lambda weights: torch.optim.SGD(
            [{"params": weights[:1], "weight_decay": 0.5}, {"params": weights[1:]}], 0.1
        ),
    }
    ones, constant = torch.ones(4, 3, dtype=torch.bfloat16), small()
    constant.register_buffer("table", torch.ones(3), persistent=False)
    return trainings(makers) | {
        "constant": (constant, ones.double(), squared, torch.optim.SGD),
        "bfloat16": (small().bfloat16(), ones, squared, torch.optim.SGD),
        "mixed": (small().float(), ones.float(), mixed, torch.optim.SGD),
    }


def mixed(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    with autocast("bfloat16"):
        return model(batch).float().square().mean()


def lazy() -> nn.Module:
    return nn.LazyLinear(2)
