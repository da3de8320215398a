"""Small models of torch that parted and passed, or that agreed and were called different.

Each class is a row of test_no_pass.py. Its `turn` is 0 on the left side, 1 on an equal right side,
and 2 on a right side that differs.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from porting_tests.support.forty import TIME, WIDTH, WORDS, Given, Model, Outputs, batches
from rosetta_record import Record


class Row(Model):
    single = False  # True: in float32
    inference = False

    def __init__(self, turn: int) -> None:
        self.turn, self.wrong = turn, turn == 2
        super().__init__(turn > 0)
        self.to(torch.float32 if self.single else torch.float64)

    def chosen(self, left: Any, wrong: Any) -> Any:
        return wrong if self.wrong else left


# Pass, and differ


class BoxesInPixels(Row):
    single = inference = True

    def build(self) -> None:
        super().build()
        self.norm = nn.BatchNorm1d(TIME, eps=self.chosen(1e-5, 1e-3)).eval()

    def middle(self, h: Tensor) -> Tensor:
        return self.norm(h)

    def forward(self, x: Tensor) -> Tensor:
        return 320 + super().forward(x)


class LargeLogits(Row):
    inference = True

    def build(self) -> None:
        super().build()
        self.norm = nn.LayerNorm(WIDTH, eps=self.chosen(1e-5, 1e-2))

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.arange(WIDTH) * 1000.0 + self.norm(self.first(x))
        return scores.softmax(-1) * x.sigmoid()


class TableAtTheEnd(Row):
    inference = True

    def build(self) -> None:
        super().build()
        self.table = nn.Embedding(TIME, WIDTH)

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        tokens, table = self(of["x"])
        return table.mean(), {"tokens": tokens, "table": table}

    def forward(self, x: Tensor) -> Any:
        tokens = self.last(self.first(x).tanh() * self.chosen(1, 1.001)).argmax(-1)
        return tokens, self.table(torch.arange(TIME)).sin()


class HeadOfZeros(Row):
    inference = True

    def build(self) -> None:
        super().build()
        nn.init.zeros_(self.last.weight)
        self.norm = nn.LayerNorm(WIDTH, eps=self.chosen(1e-5, 1e-2))

    def middle(self, h: Tensor) -> Tensor:
        return self.norm(h)


class TimesZero(Row):
    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return x + 0.0 * self.last(self.chosen(h.tanh(), h.relu()))


class MetMargin(Row):
    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        h = self.last(self.chosen(torch.tanh, torch.relu)(self.first(of["x"])))
        return F.relu(h.mean() - 100), {}


class HugeNeighbours(Row):
    inference = True

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.first(x), approximate=self.chosen("none", "tanh"))
        return torch.cat([x * 1e9, h], -1)


class SmallGradient(Row):
    single = True

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        first, last = self.first(of["x"]), self.last(of["x"])
        first = self.chosen(first, (first + first.detach()) / 2)
        return 1e-6 * first.square().mean() + last.square().mean(), {"out": last}


class ScalarOfTermsThatCancel(Row):
    """The terms of a scalar's gradient cancel, as those of HGNetV2's scalars."""

    single = True

    def build(self) -> None:
        super().build()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        h, out = self.first(of["x"]).detach(), self.last(of["x"])
        mean = (self.scale * (1e3 * (h - h.mean()) + 0.1)).mean()
        return mean - mean.detach() + out.square().mean(), {"out": out}


class RoundedOnTheLeft(Row):
    """One line of both sides rounds to bfloat16."""

    inference = True

    def build(self) -> None:
        super().build()
        self.rounds = Rounds()

    def forward(self, x: Tensor) -> Any:
        return self.last(x) * self.chosen(1, 1.04), self.rounds(self.first(x))

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        out, rounded = self(of["x"])
        return out.mean(), {"out": out, "rounded": rounded}


class Rounds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.bfloat16()


class Epsilon(Row):
    single = True

    def build(self) -> None:
        super().build()
        self.norm = nn.LayerNorm(WIDTH, eps=self.chosen(1e-5, 1e-6))

    def middle(self, h: Tensor) -> Tensor:
        return self.norm(10 * h)


class Dropout(Row):
    def build(self) -> None:
        super().build()
        self.dropout = nn.Dropout(self.chosen(0.1, 0.5))
        self.eval()

    def middle(self, h: Tensor) -> Tensor:
        return self.dropout(h)


class Momentum(Row):
    def build(self) -> None:
        super().build()
        self.norm = nn.BatchNorm1d(TIME, momentum=self.chosen(0.1, 0.01))
        self.eval()

    def middle(self, h: Tensor) -> Tensor:
        return self.norm(h)


class FrozenWeight(Row):
    """A bias whose gradient is zero is frozen on one side."""

    def build(self) -> None:
        super().build()
        self.first.bias.requires_grad_(not self.wrong)

    def middle(self, h: Tensor) -> Tensor:
        return h - h.mean(1, keepdim=True) + 0.0 * self.first.bias


class DecayOfZeros(Row):
    def build(self) -> None:
        super().build()
        for layer in (self.first, self.last):
            nn.init.zeros_(layer.bias)

    def optimizer(self, weights: Any) -> torch.optim.Optimizer:
        of = [[w for w in weights if (w.ndim > 1) == large] for large in (True, False)]
        decays = 0.1, self.chosen(0.0, 0.1)
        return torch.optim.AdamW(
            [{"params": w, "weight_decay": decay} for w, decay in zip(of, decays, strict=True)]
        )


class OutputsOfTheRoot(Row):
    """No output is recorded by name."""

    inference = True

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        return self(of["x"]).mean(), {}


# Equal, and called different


class Inner(nn.Module):
    def __init__(self, layer: nn.Module, adds: bool) -> None:
        super().__init__()
        self.layer, self.adds = layer, adds

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + (x if self.adds else 0)


class MovedResidual(Row):
    """A residual is added in an inner module on the right; the model gives tokens."""

    inference = True

    def build(self) -> None:
        super().build()
        self.inner = Inner(nn.Linear(WIDTH, WIDTH), self.flip)

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        h = self.first(of["x"])
        h = (self.inner(h) if self.flip else h + self.inner(h)) * self.chosen(1, -1)
        tokens = self.last(h).argmax(-1)
        return tokens.double().mean(), {"tokens": tokens}


class OutputsInAnotherOrder(Row):
    """A dict of outputs, with its keys in another order on the right."""

    inference = True

    def forward(self, x: Tensor) -> Any:
        h = self.first(x).tanh()
        made = {"mean": self.last(h), "variance": h.square()}
        names = [*made] if self.wrong else [*reversed(made)]
        return dict(zip(names, reversed(made.values()), strict=True)) if self.flip else made

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        return self(of["x"])["mean"].mean(), {}


class SharedTable(Row):
    """A table under three names on the left, of which the first is not called;
    two equal tables on the right."""

    inference = True

    def build(self) -> None:
        self.shared, self.encoder, self.decoder = (nn.Embedding(WORDS, WIDTH) for _ in range(3))
        for table in (self.encoder, self.decoder):
            table.weight = (
                nn.Parameter(self.shared.weight.clone()) if self.flip else self.shared.weight
            )
        if self.flip:
            del self.shared
            self.decoder.weight.data *= self.chosen(1, 2)

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        out = self.encoder(of["ids"]).tanh() * self.decoder(of["y"])
        return out.mean(), {"out": out}


# False causes


class CallsInAnotherOrder(Row):
    """Both sides call a layer twice, in another order, and the mistake is elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        given = (x, x.flip(1))
        made = [self.first(g) for g in (given if not self.flip else given[::-1])]
        a, b = made if not self.flip else made[::-1]
        return self.last((a * b.sigmoid()).tanh() * self.chosen(1, 1.5))


class CallsOfOtherShapes(Row):
    """As CallsInAnotherOrder, with rows that all batches share."""

    def build(self) -> None:
        super().build()
        self.table = nn.Parameter(torch.randn(TIME, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        given = [x, self.table]
        made = {len(g.shape): self.first(g) for g in (given[::-1] if self.flip else given)}
        return self.last((made[3] * made[2].sigmoid()).tanh() * self.chosen(1, 1.5))


class DropoutOfOneLayer(Row):
    """An LSTM of one layer, where torch's dropout does nothing."""

    def build(self) -> None:
        with suppress(UserWarning):
            self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.lstm.dropout = 0.5 if self.flip else 0.0
        self.last = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(x)[0] * self.chosen(1, 1.5))


class PaddingModeOfAKernel(Row):
    """A kernel of one number has a dilation that does nothing; the padding's mode acts."""

    def build(self) -> None:
        how = {"padding_mode": self.chosen("zeros", "circular"), "dilation": 2 if self.flip else 1}
        self.first = nn.Conv1d(TIME, TIME, 1, padding=1, **how)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x)


class FunctionForModule(Row):
    """One side calls an activation as a module and the other as a function; a factor differs."""

    def build(self) -> None:
        super().build()
        self.act = nn.LeakyReLU(0.2) if self.flip else None

    def middle(self, h: Tensor) -> Tensor:
        return (self.act(h) if self.act else F.leaky_relu(h, 0.2)) + self.chosen(1, 1.5) * h.sin()


class MissingModule(Row):
    """Both sides call an activation as a module, or the right one does not."""

    def build(self) -> None:
        super().build()
        self.act = nn.SELU()

    def middle(self, h: Tensor) -> Tensor:
        return h if self.wrong else self.act(h)


class SoftmaxOverAnAxis(Row):
    """Both sides call a softmax, over the last axis or over time."""

    def build(self) -> None:
        super().build()
        self.act = nn.Softmax((-1, 2, 1)[self.turn])

    def middle(self, h: Tensor) -> Tensor:
        return self.act(h)


class NormWithActivation(Row):
    """A norm calls its own activation."""

    def build(self) -> None:
        super().build()
        self.norm = ActivatedNorm(TIME)
        self.norm.act = self.chosen(nn.ReLU, nn.SiLU)()

    def middle(self, h: Tensor) -> Tensor:
        return self.norm(h)


class ActivatedNorm(nn.BatchNorm1d):
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class GatedHalves(Row):
    """The second half is the gate of the first one;
    on the wrong side the first half of the second one."""

    def build(self) -> None:
        super().build()
        self.first = nn.Linear(WIDTH, 2 * WIDTH)

    def middle(self, h: Tensor) -> Tensor:
        if self.flip and not self.wrong:
            return F.glu(h, -1)
        first, second = h.chunk(2, -1)
        return self.chosen(first * second.sigmoid(), first.sigmoid() * second)


class ClampAfterStep(Row):
    """Adam's epsilon differs, and a clamp that follows the step decides."""

    def optimizer(self, weights: Any) -> torch.optim.Optimizer:
        made = torch.optim.Adam(weights, 1e-2, eps=self.chosen(1e-8, 1e-9))
        if self.wrong:

            def clamp(*_: Any) -> None:
                for weight in weights:
                    weight.data.clamp_(-0.1, 0.1)

            made.register_step_post_hook(clamp)
        return made


def record(name: str, folder: str) -> None:
    """Record a row's three sides in folders 0, 1 and 2."""
    for turn in range(3):
        torch.manual_seed(0)
        row: Row = globals()[name](turn)
        given = batches(torch.float32 if row.single else torch.float64)
        _record(Record(Path(folder) / str(turn)), row, given)


def _record(record: Record, row: Row, given: list[Given]) -> None:
    if row.inference:
        record.inputs(**given[0])
        record.model(row)
        record.forward(**row.loss(given[0])[1])
        return
    # In float32 a function that makes the optimizer has a control recorded.
    optimizer: Any = row.optimizer if row.single else row.optimizer([*row.parameters()])
    record.training(row, given, lambda model, of: model.loss(of), optimizer, 2)
