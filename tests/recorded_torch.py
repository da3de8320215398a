"""A tagger in PyTorch; `python -m tests.recorded_torch FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rosetta_record import Record, arrays_in
from tests.recorded import BATCHES, STEPS, Arrays, leave, refused


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 4, batch_first=True, bidirectional=True)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.25)
        self.dense = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.narrow = nn.Linear(8, 4)
        self.out = nn.Linear(4, 7)
        self.out.weight = self.embedding.weight
        self.narrow.bias.requires_grad_(False)
        self.kept: list[Any] = []

    def keep(self, output: Any) -> Any:
        self.kept += [array.numpy(force=True).copy() for array in arrays_in(output).values()]
        return output

    def forward(self, ids: torch.Tensor) -> dict[str, Any]:
        x, (_, state_c) = self.keep(self.lstm(self.keep(self.embedding(ids))))
        x = self.keep(self.norm(x.transpose(1, 2))).transpose(1, 2)
        x = self.keep(self.dense(self.keep(self.dropout(x)))).tanh_()  # in place of what the layer gave
        x = self.keep(self.dense(x))
        x = self.keep(self.narrow(self.keep(self.attention(x, x, x))[0]))
        return self.keep({"logits": self.keep(self.out(x)), "states": (x, state_c)})


def made() -> Tagger:
    torch.manual_seed(1)
    return Tagger()


def loss_of(model: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
    ids, targets = (torch.from_numpy(batch[name]) for name in ("ids", "targets"))
    outputs = model(ids)
    return F.cross_entropy(outputs["logits"].flatten(0, 1), targets.flatten()), {"logits": outputs["logits"]}


def optimizer_of(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01, weight_decay=0.1)


def arrays(model: nn.Module) -> Arrays:
    return {name: tensor.numpy(force=True).copy() for name, tensor in model.state_dict().items()}


def trained() -> tuple[dict[str, Arrays], list[float]]:
    """What PyTorch itself has at each rung, and losses."""
    model = made()
    optimizer = optimizer_of(model.parameters())
    expected = {"weights": arrays(model)}
    losses = []
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        model.kept = []
        loss, outputs = loss_of(model, BATCHES[(step - 1) % 2])
        loss.backward()
        if step == 1:
            names = dict(model.named_parameters(remove_duplicate=False))
            expected["layers"] = {f"{number}": array for number, array in enumerate(model.kept)}
            expected["outputs"] = {"logits": outputs["logits"].numpy(force=True).copy()}
            gradients = {name: weight.grad for name, weight in names.items() if weight.grad is not None}
            expected["gradients"] = {name: gradient.numpy().copy() for name, gradient in gradients.items()}
        optimizer.step()
        losses.append(loss.item())
        if step == 1:
            slots = {name: optimizer.state[weight] for name, weight in names.items() if weight.requires_grad}
            expected["slots"] = {
                f"{name}|{slot}": value.numpy().copy() for name, of in slots.items() for slot, value in of.items()
            }
            expected["step-1"] = arrays(model)
    return {**expected, "step-last": arrays(model)}, losses


def record_call_by_call(folder: Path) -> Record:
    model = made()
    optimizer = optimizer_of(model.parameters())
    record = Record(folder)
    record.inputs(**BATCHES[0])
    record.model(model)
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        loss, outputs = loss_of(model, BATCHES[(step - 1) % 2])
        loss.backward()
        if step == 1:
            record.forward(**outputs)
            record.loss(loss)
            record.gradients(model)
        optimizer.step()
        if step == 1:
            record.optimizer(optimizer)
        record.step(step, loss)
    return record


def record_training(folder: Path) -> bool:
    """Whether the model is as it was, random numbers among it."""
    model = made()
    before, random = arrays(model), torch.get_rng_state()
    Record(folder).training(model, BATCHES, loss_of, optimizer_of, STEPS)
    same = all(np.array_equal(array, before[name]) for name, array in arrays(model).items())
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    hooks = [module for module in model.modules() if module._forward_hooks]
    return same and torch.equal(torch.get_rng_state(), random) and not gradients and not hooks


def squared(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch).square().mean()


def record_optimizers(folder: Path) -> None:
    makers = {
        "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9),
        "adamw": torch.optim.AdamW,
        "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, momentum=0.9, centered=True),
        "groups": lambda parameters: torch.optim.SGD(
            [{"params": parameters[:1], "weight_decay": 0.5}, {"params": parameters[1:]}], 0.1
        ),
    }
    for name, maker in makers.items():
        model = nn.Linear(3, 2)
        Record(folder / name).training(model, [torch.ones(4, 3)], squared, maker(list(model.parameters())), 1)
    model = nn.Linear(3, 2).bfloat16()
    Record(folder / "bfloat16").training(model, [torch.ones(4, 3).bfloat16()], squared, torch.optim.SGD, 1)


def main(folder: Path) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
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
    facts["lazy"] = refused(lambda: Record(folder / "lazy").model(nn.LazyLinear(2)))
    leave(folder, expected, facts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
