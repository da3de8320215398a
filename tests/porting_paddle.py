"""Models of layers that a dict describes, in Paddle: how the layers are made, and a training by hand."""

import sys
from functools import partial
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from backends.process.parent import PROJECT
from tests.porting_modules import Attention, ChannelsFirst, Dense, Model, Recurrent, Scale, small, squared, update  # noqa: F401
from tests.porting_side import Array, rows_of

sys.path.insert(0, str(PROJECT / "docs" / "porting"))
from translator_paddle import RMSProp  # the one that computes as torch's

RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.SimpleRNN}
ACTIVATIONS = {"linear": lambda x: x, "relu": F.relu, "tanh": paddle.tanh_, "gelu": F.gelu}  # tanh computes in place


def reset(dtype: str) -> None:
    paddle.set_device("cpu")
    paddle.set_default_dtype(dtype)
    paddle.seed(1)
    paddle.utils.unique_name.switch()  # so that parameters are called as in a process of their own


def recurrent(width: int, kind: str, units: int, layers: int = 1, both: bool = False, **more: Any) -> Recurrent:
    direction, time_first = "bidirect" if both else "forward", more.get("time_first", False)
    inner = RECURRENT[kind](width, units, layers, direction=direction, time_major=time_first)
    return Recurrent(inner, layers * (1 + both), units, time_first, more.get("initial", 0.0))


def attention(width: int, heads: int, sign: int = 1) -> Attention:
    def mask(ids: paddle.Tensor) -> dict[str, Any]:
        padding = (ids == 0).astype(paddle.get_default_dtype())
        return {"attn_mask": padding[:, None, None] * (-1e9 * sign)}

    return Attention(nn.MultiHeadAttention(width, heads), mask)


def dense(width: int, units: int, activation: str = "linear", approximate: bool = False) -> Dense:
    return Dense(width, units, nn.GELU(approximate) if activation == "gelu" else ACTIVATIONS[activation])


MAKERS = {
    **{kind: partial(recurrent, kind=kind) for kind in RECURRENT},
    "attention": attention,
    "scale": lambda width, **more: Scale(**more),
    "dense": dense,
    "conv": lambda width, units: ChannelsFirst(nn.Conv1D(width, units, 3, padding=1)),
    "batchnorm": lambda width, epsilon, momentum: ChannelsFirst(nn.BatchNorm1D(width, momentum, epsilon)),
    "layernorm": lambda width, epsilon: nn.LayerNorm(width, epsilon),
    "dropout": lambda width, rate: nn.Dropout(rate),
}


def model_of(config: dict[str, Any], ids: np.ndarray) -> Model:
    reset(config["dtype"])
    model = Model(config, MAKERS, partial(nn.Linear, bias_attr=False))
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


def trained(model: Model) -> list[paddle.Tensor]:
    """Without second biases that are not trained: Paddle's recurrent layers want gradients of them all the same."""
    return [weight for weight in model.parameters() if not weight.stop_gradient and id(weight) not in model.frozen]


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


def load_optimizer(model: Model, optimizer: paddle.optimizer.Optimizer, path: str) -> None:
    optimizer.set_state_dict(paddle.load(path))


# A training by hand, and what Paddle itself has of it, by the names of a record


def backward(model: Model, batch: dict[str, np.ndarray], config: dict[str, Any]) -> tuple[Any, Any, None]:
    model.clear_gradients(set_to_zero=False)
    loss, logits = loss_of(model, batch["ids"], batch["targets"], config)
    loss.backward()
    return loss, logits, None


def weights(model: Model) -> dict[str, paddle.Tensor]:
    """By the names of a state dict, without those that a recurrent layer's cells have beside its own."""
    return {name: tensor for name, tensor in model.state_dict().items() if "cell" not in name}


def named_gradients(model: Model, gradients: None) -> dict[str, paddle.Tensor]:
    return {name: weight.grad for name, weight in weights(model).items() if weight.grad is not None}


def slots(model: Model, optimizer: paddle.optimizer.Optimizer) -> dict[str, paddle.Tensor]:
    state = optimizer.state_dict()
    return {
        f"{name}|{slot}": state[f"{weight.name}_{slot}_0"]
        for name, weight in weights(model).items()
        if not weight.stop_gradient
        for slot in ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
    }


def everything(model: Model) -> list[Any]:
    """All that a record puts back: weights, random numbers, gradients and hooks."""
    state = paddle.get_rng_state()
    random = paddle.rand([4]).numpy()
    paddle.set_rng_state(state)
    gradients = [weight for weight in model.parameters() if weight.grad is not None]
    hooks = [layer for layer in model.sublayers(include_self=True) if layer._forward_post_hooks]
    return [*(tensor.numpy().copy() for tensor in weights(model).values()), random, len(gradients), len(hooks)]


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
    models = {name: small() for name in makers}
    ones = paddle.ones([4, 3])
    found = {name: (models[name], ones, squared, maker(models[name].parameters())) for name, maker in makers.items()}
    sparse, coarse = nn.Embedding(5, 3, sparse=True), OwnWeight()
    coarse.to(dtype="bfloat16")  # for which the CPU has few kernels
    sgd = optimizers.SGD(0.1, parameters=sparse.parameters())
    return found | {
        "sparse": (sparse, paddle.to_tensor([1, 2, 1]), squared, sgd),
        "bfloat16": (
            coarse,
            ones.astype("bfloat16"),
            lambda model, x: model(x).sum(),
            lambda weights: optimizers.SGD(0.1, weights),
        ),
    }


def lstm_returns(a: dict[str, Array]) -> dict[str, list[Any]]:
    lstm = nn.LSTM(len(a["kernel"]), len(a["recurrent_kernel"]))  # as it is, batch first, as in Keras
    weights = [a["kernel"].T, a["recurrent_kernel"].T, a["bias"], np.zeros_like(a["bias"])]
    for name, array in zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), weights, strict=True):
        getattr(lstm, name).set_value(np.ascontiguousarray(array))
    x = paddle.to_tensor(a["x"])
    states = tuple(paddle.to_tensor(a[name]).unsqueeze(0) for name in ("state_h", "state_c"))  # (1, N, H)
    return rows_of(lstm(x), lstm(x, states), lstm(x[:, :1], states))
