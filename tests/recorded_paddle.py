"""A tagger in Paddle; `python -m tests.recorded_paddle FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from rosetta_record import Record, arrays_in
from tests.recorded import BATCHES, STEPS, Arrays, main


def set_up() -> None:
    paddle.set_default_dtype("float64")


def array_of(tensor: paddle.Tensor) -> np.ndarray:
    return tensor.numpy().copy()


class Tagger(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 4, direction="bidirect")
        self.norm = nn.BatchNorm1D(8)
        self.dropout = nn.Dropout(0.25)
        self.dense = nn.Linear(8, 8)
        self.narrow = nn.Linear(8, 8)
        self.out = nn.Linear(8, 7)
        self.narrow.weight = self.dense.weight
        self.narrow.bias.stop_gradient = True
        self.kept: list[Any] = []

    def keep(self, output: Any) -> Any:
        self.kept += [array_of(array) for array in arrays_in(output).values()]
        return output

    def forward(self, ids: paddle.Tensor) -> dict[str, Any]:
        x, (_, state_c) = self.keep(self.lstm(self.keep(self.embedding(ids))))
        x = self.keep(self.norm(x.transpose([0, 2, 1]))).transpose([0, 2, 1])
        x = self.keep(self.dense(self.keep(self.dropout(x)))).tanh_()  # in place of what the layer gave
        x = self.keep(self.dense(x))
        x = self.keep(self.narrow(x))
        return self.keep({"logits": self.keep(self.out(x)), "states": (x, state_c)})


def made() -> tuple[Tagger, paddle.optimizer.Optimizer]:
    paddle.seed(1)
    model = Tagger()
    return model, optimizer_of(model.parameters())


def loss_of(model: nn.Layer, batch: dict[str, Any]) -> tuple[paddle.Tensor, dict[str, Any]]:
    ids, targets = (paddle.to_tensor(batch[name]) for name in ("ids", "targets"))
    outputs = model(ids)
    return F.cross_entropy(outputs["logits"].flatten(0, 1), targets.flatten()), {"logits": outputs["logits"]}


def optimizer_of(parameters: Any) -> paddle.optimizer.Optimizer:
    clip = nn.ClipGradByGlobalNorm(0.5)
    return paddle.optimizer.AdamW(0.01, parameters=parameters, weight_decay=0.1, grad_clip=clip)


def named(model: nn.Layer) -> dict[str, paddle.Tensor]:
    """By the names of a state dict, without those that the LSTM's cells have beside its own."""
    return {name: tensor for name, tensor in model.state_dict().items() if "cell" not in name}


def arrays(model: nn.Layer) -> Arrays:
    return {name: array_of(tensor) for name, tensor in named(model).items()}


def backward(model: nn.Layer, optimizer: paddle.optimizer.Optimizer, batch: dict[str, Any]) -> tuple[Any, Any, None]:
    optimizer.clear_grad()
    loss, outputs = loss_of(model, batch)
    loss.backward()
    return loss, outputs, None


def gradients_by_name(model: nn.Layer, _: None) -> Arrays:
    return {name: array_of(weight.grad) for name, weight in named(model).items() if not weight.stop_gradient}


def update(model: nn.Layer, optimizer: paddle.optimizer.Optimizer, _: None) -> None:
    optimizer.step()


def slots_by_name(model: nn.Layer, optimizer: paddle.optimizer.Optimizer) -> Arrays:
    state = optimizer.state_dict()
    return {
        f"{name}|{slot}": array_of(state[f"{weight.name}_{slot}_0"])
        for name, weight in named(model).items()
        if not weight.stop_gradient
        for slot in ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
    }


def record_training(folder: Path) -> bool:
    """Whether the model is as it was, random numbers among it."""
    model, _ = made()
    before = arrays(model)
    random = paddle.rand([4]).numpy()
    model, _ = made()
    Record(folder).training(model, BATCHES, loss_of, optimizer_of, STEPS)
    same = all(np.array_equal(array, before[name]) for name, array in arrays(model).items())
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    hooks = [layer for layer in model.sublayers(include_self=True) if layer._forward_post_hooks]
    return same and np.array_equal(paddle.rand([4]).numpy(), random) and not gradients and not hooks


class Scale(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter([3], default_initializer=nn.initializer.Normal())

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * self.scale


def squared(model: nn.Layer, batch: paddle.Tensor) -> paddle.Tensor:
    return model(batch).square().mean()


def record_optimizers(folder: Path) -> None:
    optimizers = paddle.optimizer
    makers = {
        "sgd": lambda parameters: optimizers.Momentum(0.1, parameters=parameters, weight_decay=0.5),
        "adam": lambda parameters: optimizers.Adam(optimizers.lr.StepDecay(0.25, 3), parameters=parameters),
        "rmsprop": lambda parameters: optimizers.RMSProp(0.1, parameters=parameters),
        "groups": lambda parameters: optimizers.Adam(
            0.1, parameters=[{"params": parameters[:1], "weight_decay": 0.5}, {"params": parameters[1:]}]
        ),
    }
    for name, maker in makers.items():
        model = nn.Linear(3, 2)
        Record(folder / name).training(model, [paddle.ones([4, 3])], squared, maker(model.parameters()), 1)
    model = Scale()
    model.to(dtype="bfloat16")  # for which the CPU has few kernels
    batches = [paddle.ones([4, 3]).astype("bfloat16")]
    record = Record(folder / "bfloat16")
    record.training(model, batches, lambda model, x: model(x).sum(), lambda weights: optimizers.SGD(0.1, weights), 1)
    sparse = nn.Embedding(5, 3, sparse=True)
    sgd = optimizers.SGD(0.1, parameters=sparse.parameters())
    Record(folder / "sparse").training(sparse, [paddle.to_tensor([1, 2, 1])], squared, sgd, 1)


def small() -> nn.Layer:
    return nn.Linear(3, 2)


if __name__ == "__main__":
    main(sys.modules[__name__])
