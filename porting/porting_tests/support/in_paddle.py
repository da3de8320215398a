"""Modules that only Paddle has, beside modules.py: its optimizers,
and small models that are recorded too."""

import sys
from typing import Any

import paddle
from paddle import nn

from porting_tests.support import PORTING

# The module is a framework's whole side for the tests.
from porting_tests.support.modules import *  # noqa: F403
from porting_tests.support.modules import small, squared, trainings

sys.path.insert(0, str(PORTING / "ports"))
from translator_paddle import RMSProp  # the one that computes as torch's


def optimizer(
    weights: Any, name: str, rate: Any, decay: float = 0.0, clip: float = 0.0, **more: Any
) -> Any:
    own = paddle.nn
    clips = {
        "all": own.ClipGradByGlobalNorm,
        "each": own.ClipGradByNorm,
        "value": own.ClipGradByValue,
    }
    clipped = clips[more.get("norm", "all")](clip) if clip else None
    weights, schedule = weights[more.get("unlisted", 0) :], None
    if more.get("warmup"):
        factors = more["warmup"]
        rate = schedule = paddle.optimizer.lr.LambdaDecay(
            rate, lambda step: factors[min(step, len(factors) - 1)]
        )
    if name == "sgd":
        nesterov = more.get("nesterov", False)
        made = paddle.optimizer.Momentum(
            rate, more["momentum"], weights, nesterov, grad_clip=clipped
        )
    elif name == "rmsprop":
        kind = paddle.optimizer.RMSProp if more.get("stock") else RMSProp
        made = kind(rate, more["momentum"], more["epsilon"], parameters=weights, grad_clip=clipped)
    else:
        kind = {"adam": paddle.optimizer.Adam, "adamw": paddle.optimizer.AdamW}[name]
        adam = rate, more["momentum"], more["beta_2"], more["epsilon"]
        made = kind(*adam, weights, decay, grad_clip=clipped)
    if schedule:
        step = made.step
        made.step = lambda: (step(), schedule.step())
    return made


class OwnWeight(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter([3], default_initializer=nn.initializer.Normal())

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * self.scale


def small_trainings() -> dict[str, tuple[Any, Any, Any, Any]]:
    """By name: a model, a batch, a function of its loss, and an optimizer or what makes one."""
    optimizers = paddle.optimizer
    makers = {
        "sgd": lambda weights: optimizers.Momentum(0.1, parameters=weights, weight_decay=0.5),
        "adam": lambda weights: optimizers.Adam(
            optimizers.lr.StepDecay(0.25, 3), parameters=weights
        ),
        "rmsprop": lambda weights: optimizers.RMSProp(0.1, parameters=weights),
        "groups": lambda weights: optimizers.Adam(
            0.1, parameters=[{"params": weights[:1], "weight_decay": 0.5}, {"params": weights[1:]}]
        ),
    }
    sparse, coarse = nn.Embedding(5, 3, sparse=True), OwnWeight()
    coarse.to(dtype="bfloat16")  # for which the CPU has few kernels
    sgd = optimizers.SGD(0.1, parameters=sparse.parameters())
    constant = small()
    constant.register_buffer("table", paddle.ones([3]), persistable=False)
    return trainings(makers) | {
        "constant": (
            constant,
            paddle.ones([4, 3]),
            squared,
            lambda weights: optimizers.SGD(0.1, weights),
        ),
        "sparse": (sparse, paddle.to_tensor([1, 2, 1]), squared, sgd),
        "bfloat16": (
            coarse,
            paddle.ones([4, 3], "bfloat16"),
            lambda model, x: model(x).sum(),
            lambda weights: optimizers.SGD(0.1, weights),
        ),
    }
