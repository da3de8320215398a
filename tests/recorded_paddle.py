"""A tagger in Paddle; `python -m tests.recorded_paddle FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from rosetta_record import Record, arrays_in
from tests.recorded import BATCHES, STEPS, Arrays, leave, refused


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
        self.kept += [array.numpy().copy() for array in arrays_in(output).values()]
        return output

    def forward(self, ids: paddle.Tensor) -> dict[str, Any]:
        x, (_, state_c) = self.keep(self.lstm(self.keep(self.embedding(ids))))
        x = self.keep(self.norm(x.transpose([0, 2, 1]))).transpose([0, 2, 1])
        x = self.keep(self.dense(self.keep(self.dropout(x)))).tanh_()  # in place of what the layer gave
        x = self.keep(self.dense(x))
        x = self.keep(self.narrow(x))
        return self.keep({"logits": self.keep(self.out(x)), "states": (x, state_c)})


def made() -> Tagger:
    paddle.seed(1)
    return Tagger()


def loss_of(model: nn.Layer, batch: dict[str, Any]) -> tuple[paddle.Tensor, dict[str, Any]]:
    ids, targets = (paddle.to_tensor(batch[name]) for name in ("ids", "targets"))
    outputs = model(ids)
    return F.cross_entropy(outputs["logits"].flatten(0, 1), targets.flatten()), {"logits": outputs["logits"]}


def optimizer_of(parameters: Any) -> paddle.optimizer.Optimizer:
    clip = nn.ClipGradByGlobalNorm(0.5)
    return paddle.optimizer.AdamW(0.01, parameters=parameters, weight_decay=0.1, grad_clip=clip)


def arrays(model: nn.Layer) -> Arrays:
    """By the names of a state dict, without those that the LSTM's cells have beside its own."""
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items() if "cell" not in name}


def trained() -> tuple[dict[str, Arrays], list[float]]:
    """What Paddle itself has at each rung, and losses."""
    model = made()
    optimizer = optimizer_of(model.parameters())
    expected = {"weights": arrays(model)}
    losses = []
    for step in range(1, STEPS + 1):
        model.kept = []
        loss, outputs = loss_of(model, BATCHES[(step - 1) % 2])
        loss.backward()
        if step == 1:
            names = {name: weight for name, weight in model.state_dict().items() if name in expected["weights"]}
            names = {name: weight for name, weight in names.items() if not weight.stop_gradient}
            expected["layers"] = {f"{number}": array for number, array in enumerate(model.kept)}
            expected["outputs"] = {"logits": outputs["logits"].numpy().copy()}
            expected["gradients"] = {name: weight.grad.numpy().copy() for name, weight in names.items()}
        optimizer.step()
        optimizer.clear_grad()
        losses.append(loss.item())
        if step == 1:
            state = optimizer.state_dict()
            expected["slots"] = {
                f"{name}|{slot}": state[f"{weight.name}_{slot}_0"].numpy().copy()
                for name, weight in names.items()
                for slot in ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
            }
            expected["step-1"] = arrays(model)
    return {**expected, "step-last": arrays(model)}, losses


def record_call_by_call(folder: Path) -> None:
    model = made()
    optimizer = optimizer_of(model.parameters())
    record = Record(folder)
    record.inputs(**BATCHES[0])
    record.model(model)
    for step in range(1, STEPS + 1):
        loss, outputs = loss_of(model, BATCHES[(step - 1) % 2])
        loss.backward()
        if step == 1:
            record.forward(**outputs)
            record.loss(loss)
            record.gradients(model)
        optimizer.step()
        optimizer.clear_grad()
        if step == 1:
            record.optimizer(optimizer)
        record.step(step, loss)


def record_training(folder: Path) -> bool:
    """Whether the model is as it was, random numbers among it."""
    model = made()
    before = arrays(model)
    random = paddle.rand([4]).numpy()
    model = made()
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


def main(folder: Path) -> None:
    paddle.set_default_dtype("float64")
    expected, losses = trained()
    record_call_by_call(folder / "calls")
    facts: dict[str, Any] = {"losses": losses, "put back": record_training(folder / "training")}
    record_optimizers(folder)
    model, record = nn.Linear(3, 2), Record(folder / "refused")
    facts["step"] = refused(lambda: record.step(1, 0.5))
    record.model(model)
    facts["gradients"] = refused(lambda: record.gradients(model))
    facts["other model"] = refused(lambda: record.gradients(nn.Linear(3, 2)))
    facts["optimizer"] = refused(lambda: record.optimizer(object()))
    leave(folder, expected, facts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
