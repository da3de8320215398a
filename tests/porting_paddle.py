"""What Paddle alone has of tests.porting_modules: its optimizers, and small models that are recorded too."""

import sys
from typing import Any

import paddle
from paddle import nn

from backends.process.parent import PROJECT
from tests.porting_modules import *  # noqa: F403  # the module is a framework's whole side for the tests
from tests.porting_modules import squared, trainings, weights

sys.path.insert(0, str(PROJECT / "docs" / "porting"))
from translator_paddle import RMSProp  # the one that computes as torch's


def optimizer(weights: Any, name: str, rate: float, decay: float = 0.0, clip: float = 0.0, **more: Any) -> Any:
    clips = {"all": paddle.nn.ClipGradByGlobalNorm, "each": paddle.nn.ClipGradByNorm}
    clipped = clips[more.get("norm", "all")](clip) if clip else None
    if name == "sgd":
        return paddle.optimizer.Momentum(rate, more["momentum"], weights, grad_clip=clipped)
    if name == "rmsprop":
        kind = paddle.optimizer.RMSProp if more.get("stock") else RMSProp
        own = {"momentum": more.get("heavy", 0.0), "parameters": weights, "grad_clip": clipped}
        return kind(rate, more["momentum"], more["epsilon"], **own)
    kind = {"adam": paddle.optimizer.Adam, "adamw": paddle.optimizer.AdamW}[name]
    return kind(rate, more["momentum"], more["beta_2"], more["epsilon"], weights, decay, grad_clip=clipped)


def load_optimizer(model: nn.Layer, optimizer: paddle.optimizer.Optimizer, path: str) -> None:
    optimizer.set_state_dict(paddle.load(path))


def slots(model: nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, paddle.Tensor]:
    state = optimizer.state_dict()
    return {
        f"{name}|{slot}": state[f"{weight.name}_{slot}_0"]
        for name, weight in weights(model).items()
        if not weight.stop_gradient
        for slot in ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
    }


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
        "adam": lambda weights: optimizers.Adam(optimizers.lr.StepDecay(0.25, 3), parameters=weights),
        "rmsprop": lambda weights: optimizers.RMSProp(0.1, parameters=weights),
        "groups": lambda weights: optimizers.Adam(
            0.1, parameters=[{"params": weights[:1], "weight_decay": 0.5}, {"params": weights[1:]}]
        ),
    }
    sparse, coarse = nn.Embedding(5, 3, sparse=True), OwnWeight()
    coarse.to(dtype="bfloat16")  # for which the CPU has few kernels
    sgd = optimizers.SGD(0.1, parameters=sparse.parameters())
    return trainings(makers) | {
        "sparse": (sparse, paddle.to_tensor([1, 2, 1]), squared, sgd),
        "bfloat16": (
            coarse,
            paddle.ones([4, 3], "bfloat16"),
            lambda model, x: model(x).sum(),
            lambda weights: optimizers.SGD(0.1, weights),
        ),
    }
