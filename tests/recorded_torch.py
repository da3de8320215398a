"""A tagger in PyTorch; `python -m tests.recorded_torch FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rosetta_record import Record, arrays_in
from tests.recorded import BATCHES, STEPS, Arrays, main


def set_up() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


def array_of(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy(force=True).copy()


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
        self.kept += [array_of(array) for array in arrays_in(output).values()]
        return output

    def forward(self, ids: torch.Tensor) -> dict[str, Any]:
        x, (_, state_c) = self.keep(self.lstm(self.keep(self.embedding(ids))))
        x = self.keep(self.norm(x.transpose(1, 2))).transpose(1, 2)
        x = self.keep(self.dense(self.keep(self.dropout(x)))).tanh_()  # in place of what the layer gave
        x = self.keep(self.dense(x))
        x = self.keep(self.narrow(self.keep(self.attention(x, x, x))[0]))
        return self.keep({"logits": self.keep(self.out(x)), "states": (x, state_c)})


def made() -> tuple[Tagger, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = Tagger()
    return model, optimizer_of(model.parameters())


def loss_of(model: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
    ids, targets = (torch.from_numpy(batch[name]) for name in ("ids", "targets"))
    outputs = model(ids)
    return F.cross_entropy(outputs["logits"].flatten(0, 1), targets.flatten()), {"logits": outputs["logits"]}


def optimizer_of(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01, weight_decay=0.1)


def arrays(model: nn.Module) -> Arrays:
    return {name: array_of(tensor) for name, tensor in model.state_dict().items()}


def backward(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Any]) -> tuple[Any, Any, None]:
    optimizer.zero_grad()
    loss, outputs = loss_of(model, batch)
    loss.backward()
    return loss, outputs, None


def gradients_by_name(model: nn.Module, _: None) -> Arrays:
    names = model.named_parameters(remove_duplicate=False)
    return {name: array_of(weight.grad) for name, weight in names if weight.grad is not None}


def update(model: nn.Module, optimizer: torch.optim.Optimizer, _: None) -> None:
    optimizer.step()


def slots_by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> Arrays:
    names = model.named_parameters(remove_duplicate=False)
    slots = {name: optimizer.state[weight] for name, weight in names if weight.requires_grad}
    return {f"{name}|{slot}": array_of(value) for name, of in slots.items() for slot, value in of.items()}


def record_training(folder: Path) -> bool:
    """Whether the model is as it was, random numbers among it."""
    model, _ = made()
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


def small() -> nn.Module:
    return nn.Linear(3, 2)


def lazy() -> nn.Module:
    return nn.LazyLinear(2)


if __name__ == "__main__":
    main(sys.modules[__name__])
