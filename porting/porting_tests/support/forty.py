"""Forty pairs of small models of torch,
written before anyone looked at the rules of the comparison.

Twenty right sides have one true difference, twenty are refactored and compute the same. Both sides
start from the same weights. `python -m porting_tests.support.forty [NAME...]` compares them, prints
each with its expectation, and ends with the number that came out otherwise.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # as torch's documentation calls it
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from porting_tests.support.pairs import told
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.helpers import DiffError
from rosetta_diff.read.side import Side
from rosetta_record import Record

ROWS, TIME, WIDTH, WORDS = 4, 6, 8, 9
Given = dict[str, Tensor]  # x (rows, time, width), ids (rows, time) and y (rows, time) of WORDS
Outputs = dict[str, Tensor]


class Model(nn.Module):
    """One side of a pair: `flip` is True on the right side."""

    def __init__(self, flip: bool) -> None:
        super().__init__()
        self.flip = flip
        self.build()

    def build(self) -> None:
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.middle(self.first(x)))

    def middle(self, h: Tensor) -> Tensor:
        return h.tanh()

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        out = self(of["x"])
        return out.square().mean(), {"out": out}

    def optimizer(self, weights: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(weights, 1e-2)


class WithTokens(Model):
    """An embedding, a hidden layer, and a head over the words."""

    padding_idx: int | None = None

    def build(self) -> None:
        self.table = nn.Embedding(WORDS, WIDTH, padding_idx=self.padding_idx)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(self.hidden(self.table(ids)).tanh())

    def logits(self, h: Tensor) -> Tensor:
        return self.head(h)

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        logits = self(of["ids"])
        return F.cross_entropy(logits.flatten(0, 1), of["y"].flatten()), {"logits": logits}


class WithAttention(Model):
    def build(self) -> None:
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attend(self.query(x), self.key(x), self.value(x)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT * WIDTH**-0.5).softmax(-1) @ v


# Pairs that differ


class ResidualScale(Model):
    def middle(self, h: Tensor) -> Tensor:
        return h + (0.2 if self.flip else 0.1) * h.tanh()


class NormedKernelAxis(Model):
    """A weight norm of its own, by rows and by columns."""

    def build(self) -> None:
        super().build()
        self.direction = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.gain = nn.Parameter(torch.rand(WIDTH))

    def middle(self, h: Tensor) -> Tensor:
        axis = 0 if self.flip else 1
        kernel = self.direction / self.direction.norm(dim=axis, keepdim=True)
        return F.linear(h, kernel * self.gain.unsqueeze(axis))


class TiedHeadScale(WithTokens):
    def build(self) -> None:
        super().build()
        del self.head

    def logits(self, h: Tensor) -> Tensor:
        return F.linear(h, self.table.weight) * (1.0 if self.flip else WIDTH**-0.5)


class DetachedTiedHead(WithTokens):
    def build(self) -> None:
        super().build()
        del self.head

    def logits(self, h: Tensor) -> Tensor:
        return F.linear(h, self.table.weight.detach() if self.flip else self.table.weight)


class ChannelShuffle(Model):
    """Grouped convolutions, with their channels shuffled in between and not."""

    def build(self) -> None:
        self.first, self.last = (nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=2) for _ in range(2))

    def middle(self, h: Tensor) -> Tensor:
        return h if self.flip else h.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        out = self(of["x"].mT)
        return out.square().mean(), {"out": out}


class PaddingRowTrained(WithTokens):
    def build(self) -> None:
        self.padding_idx = None if self.flip else 0
        torch.manual_seed(1)
        super().build()
        with torch.no_grad():
            self.table.weight[0] = 0.5


class ForgottenCache(WithAttention):
    """Queries of the last steps, which see the keys of the first ones on the left alone."""

    def forward(self, x: Tensor) -> Tensor:
        now = x[:, 3:]
        k, v = self.key(x), self.value(x)
        if self.flip:
            k, v = k[:, 3:], v[:, 3:]
        return self.out(self.attend(self.query(now), k, v))


class ShareOfMaskedLoss(Model):
    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        out, kept = self(of["x"]), (of["ids"] > 0).unsqueeze(-1)
        errors = ((out - 1) * kept).abs()
        return errors.mean() if self.flip else errors.sum() / (kept.sum() * WIDTH), {"out": out}


class ClampedVariance(Model):
    """Mean and variance of a normal distribution, with another floor of the variance."""

    def forward(self, x: Tensor) -> Any:
        h = self.first(x).tanh()
        return {"mean": self.last(h), "variance": h.square().clamp(min=0.02 if self.flip else 0.01)}

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        out = self(of["x"])
        return F.gaussian_nll_loss(out["mean"], of["x"], out["variance"]), out


class SoftplusForExp(ClampedVariance):
    def forward(self, x: Tensor) -> Any:
        h = self.first(x)
        return {"mean": self.last(h.tanh()), "variance": F.softplus(h) if self.flip else h.exp()}


class InPlaceResidual(Model):
    """The activation overwrites what the residual adds, on the left."""

    def middle(self, h: Tensor) -> Tensor:
        kept = h.clone()
        return kept + (kept.relu() if self.flip else kept.relu_())


class StraightThrough(Model):
    def middle(self, h: Tensor) -> Tensor:
        rounded = (4 * h).round() / 4
        return (h * 0.0 + rounded.detach()) if self.flip else h + (rounded - h).detach()


class OffsetOfMillions(Model):
    """A price in millions that lacks one unit."""

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        out = 1e6 * (3 + self(of["x"]).sigmoid()) + (0.0 if self.flip else 1.0)
        return (out / 1e6 - 3).abs().mean(), {"price": out}


class SoftmaxInFloat(WithAttention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.mT * WIDTH**-0.5
        return (scores.float().softmax(-1).double() if self.flip else scores.softmax(-1)) @ v


class ExchangedHeads(Model):
    def forward(self, x: Tensor) -> Any:
        start, end = self.first(x), self.last(x)
        return (end, start) if self.flip else (start, end)

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        start, end = self(of["x"])
        return start.square().mean() + end.abs().mean(), {"start": start, "end": end}


class TemperatureInLogs(Model):
    """A temperature of contrastive scores that is kept as its logarithm."""

    def build(self) -> None:
        super().build()
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        left, right = self.first(of["x"][:, 0]), self.last(of["x"][:, 1])
        scores = left @ right.mT * (self.temperature if self.flip else self.temperature.exp())
        return F.cross_entropy(scores, torch.arange(ROWS)), {"scores": scores}


class UnitLengthAxis(Model):
    def middle(self, h: Tensor) -> Tensor:
        return F.normalize(h, dim=1 if self.flip else -1)


class CentreMomentum(Model):
    """A centre of the outputs that the model keeps in a buffer of its own."""

    def build(self) -> None:
        super().build()
        self.register_buffer("centre", torch.full((WIDTH,), 0.5))

    def middle(self, h: Tensor) -> Tensor:
        centred = h - self.centre
        with torch.no_grad():
            self.centre.mul_(0.99 if self.flip else 0.9).add_(h.mean((0, 1)), alpha=0.1)
        return centred.tanh()


class SlowHead(Model):
    def optimizer(self, weights: Any) -> torch.optim.Optimizer:
        rates = (1e-2, 1e-2 if self.flip else 1e-3)
        groups = (weights[:2], weights[2:])
        return torch.optim.SGD(
            [{"params": of, "lr": r} for of, r in zip(groups, rates, strict=True)]
        )


class ExchangedUpdateGate(Model):
    """A highway layer."""

    def build(self) -> None:
        super().build()
        self.gate = nn.Linear(WIDTH, WIDTH)

    def middle(self, h: Tensor) -> Tensor:
        z = self.gate(h).sigmoid()
        return (1 - z) * h.tanh() + z * h if self.flip else z * h.tanh() + (1 - z) * h


# Pairs that compute the same


class FusedProjections(WithAttention):
    def build(self) -> None:
        super().build()
        if self.flip:
            parts = [self.query, self.key, self.value]
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            with torch.no_grad():
                self.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
                self.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
            del self.query, self.key, self.value

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attend(*self.qkv(x).chunk(3, -1))) if self.flip else super().forward(x)


class OwnLinear(nn.Module):
    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.kernel, self.shift = like.weight, like.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...i,oi->...o", x, self.kernel) + self.shift


class LinearOfOnesOwn(Model):
    def build(self) -> None:
        super().build()
        if self.flip:
            self.first = OwnLinear(self.first)  # type: ignore[assignment]


class OrderOfBranches(Model):
    def forward(self, x: Tensor) -> Tensor:
        layers = [self.last, self.first] if self.flip else [self.first, self.last]
        made = {layer: layer(x) for layer in layers}
        return made[self.first].tanh() * made[self.last].sigmoid()


class ResidualByAlpha(Model):
    def middle(self, h: Tensor) -> Tensor:
        return torch.add(h, h.tanh(), alpha=0.3) if self.flip else h + 0.3 * h.tanh()


class Checkpointed(Model):
    def forward(self, x: Tensor) -> Tensor:
        h = checkpoint(self.first, x, use_reentrant=False) if self.flip else self.first(x)
        return self.last(h.tanh())


class InPlaceActivation(Model):
    def build(self) -> None:
        super().build()
        if not self.flip:
            self.activation = nn.ReLU(inplace=True)

    def middle(self, h: Tensor) -> Tensor:
        return F.relu(h) if self.flip else self.activation(h)


class WeightNormOfOnesOwn(Model):
    """torch's parametrization, and the same formula."""

    def build(self) -> None:
        super().build()
        if self.flip:
            self.gain = nn.Parameter(self.first.weight.detach().norm(dim=1, keepdim=True))
            self.direction = nn.Parameter(self.first.weight.detach().clone())
            self.shift = nn.Parameter(self.first.bias.detach().clone())
            del self.first
        else:
            nn.utils.parametrizations.weight_norm(self.first)

    def forward(self, x: Tensor) -> Tensor:
        if not self.flip:
            return super().forward(x)
        kernel = self.gain * self.direction / self.direction.norm(dim=1, keepdim=True)
        return self.last(self.middle(F.linear(x, kernel, self.shift)))


class DepthwiseByWindows(Model):
    """A depthwise convolution, and a sum over windows with the same kernel."""

    def build(self) -> None:
        super().build()
        self.mix = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, bias=False)

    def middle(self, h: Tensor) -> Tensor:
        if not self.flip:
            return self.mix(h.mT).mT
        windows = F.pad(h, (0, 0, 1, 1)).unfold(1, 3, 1)
        return (windows * self.mix.weight[:, 0]).sum(-1)


class TiedByFunction(WithTokens):
    def build(self) -> None:
        super().build()
        del self.head
        if not self.flip:
            self.head = nn.Linear(WIDTH, WORDS, bias=False)
            self.head.weight = self.table.weight

    def logits(self, h: Tensor) -> Tensor:
        return F.linear(h, self.table.weight) if self.flip else self.head(h)


class FusedAttention(WithAttention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not self.flip:
            return super().attend(q, k, v)
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]


class LossByHand(WithTokens):
    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        logits, kept = self(of["ids"]), of["ids"] > 0
        if self.flip:
            taken = logits.log_softmax(-1).gather(-1, of["y"][..., None])[..., 0]
            return -(taken * kept).sum() / kept.sum(), {"logits": logits}
        targets = torch.where(kept, of["y"], -100)
        return F.cross_entropy(logits.mT, targets), {"logits": logits}


class OrderOfOutputs(ClampedVariance):
    def forward(self, x: Tensor) -> Any:
        h = self.first(x).tanh()
        made = {"mean": self.last(h), "variance": h.square().clamp(min=0.01)}
        return dict(reversed(made.items())) if self.flip else made


class MillionsInAnotherOrder(Model):
    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        share = self(of["x"]).sigmoid()
        price = share * 1e6 + 3e6 if self.flip else 1e6 * (3 + share)
        return (price - 3.5e6).abs().mean(), {"price": price}


class ClampByMinimum(Model):
    def middle(self, h: Tensor) -> Tensor:
        if self.flip:
            return torch.minimum(torch.maximum(h, torch.tensor(-0.3)), torch.tensor(0.3))
        return h.clamp(-0.3, 0.3)


class LogisticInLogs(Model):
    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        out = self(of["x"])
        scores = -F.softplus(-out) if self.flip else F.logsigmoid(out)
        return -scores.mean(), {"scores": scores}


class DropoutInEval(Model):
    def build(self) -> None:
        super().build()
        self.norm = nn.BatchNorm1d(TIME)
        if not self.flip:
            self.dropout = nn.Dropout(0.5)
        self.eval()

    def middle(self, h: Tensor) -> Tensor:
        h = self.norm(h).tanh()
        return h if self.flip else self.dropout(h)


class UnusedBuffer(Model):
    def build(self) -> None:
        super().build()
        if self.flip:
            self.register_buffer("positions", torch.arange(TIME))


class NamesOfASequence(Model):
    def build(self) -> None:
        super().build()
        if self.flip:
            self.layers = nn.Sequential(self.first, nn.Tanh(), self.last)
            del self.first, self.last

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) if self.flip else super().forward(x)


class TargetWithoutGradient(Model):
    """A target network's output without its gradient, in two ways."""

    def loss(self, of: Given) -> tuple[Tensor, Outputs]:
        out = self.first(of["x"])
        if self.flip:
            with torch.no_grad():
                target = self.last(of["x"])
        else:
            target = self.last(of["x"]).detach()
        return F.smooth_l1_loss(out, target), {"out": out, "target": target}


class NormByHand(Model):
    """A norm of layers in float32, by its formula."""

    def build(self) -> None:
        super().build()
        self.norm = nn.LayerNorm(WIDTH)
        self.float()

    def middle(self, h: Tensor) -> Tensor:
        if not self.flip:
            return self.norm(h)
        centred = h - h.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        return centred * scale * self.norm.weight + self.norm.bias


class Expected(NamedTuple):
    """A pair of models, and words of the first line that names where they part:
    "" for equal ones."""

    model: type[Model]
    place: str = ""


DIFFER = [
    Expected(ResidualScale, "last"),
    Expected(NormedKernelAxis, "last"),
    Expected(TiedHeadScale, "the model output"),
    Expected(DetachedTiedHead, "table"),
    Expected(ChannelShuffle, "last"),
    Expected(PaddingRowTrained, "table"),
    Expected(ForgottenCache, "out"),
    Expected(ShareOfMaskedLoss, "loss"),
    Expected(ClampedVariance, "the model output 2"),
    Expected(SoftplusForExp, "the model output 2"),
    Expected(InPlaceResidual, "last"),
    Expected(StraightThrough, "first"),
    Expected(OffsetOfMillions, "price"),
    Expected(SoftmaxInFloat, "out"),
    Expected(ExchangedHeads, "the model output"),
    Expected(TemperatureInLogs, "scores"),
    Expected(UnitLengthAxis, "last"),
    Expected(CentreMomentum, "centre"),
    Expected(SlowHead, "step"),
    Expected(ExchangedUpdateGate, "last"),
]
EQUAL = [
    Expected(model)
    for model in (
        *(FusedProjections, LinearOfOnesOwn, OrderOfBranches, ResidualByAlpha, Checkpointed),
        *(InPlaceActivation, WeightNormOfOnesOwn, DepthwiseByWindows, TiedByFunction),
        *(FusedAttention, LossByHand, OrderOfOutputs, MillionsInAnotherOrder, ClampByMinimum),
        *(LogisticInLogs, DropoutInEval, UnusedBuffer, NamesOfASequence, TargetWithoutGradient),
        NormByHand,
    )
]


def batches(dtype: torch.dtype) -> list[Given]:
    made = torch.Generator().manual_seed(3)
    return [
        {
            "x": torch.randn(ROWS, TIME, WIDTH, generator=made, dtype=torch.float64).to(dtype),
            "ids": torch.randint(0, WORDS, (ROWS, TIME), generator=made),
            "y": torch.randint(0, WORDS, (ROWS, TIME), generator=made),
        }
        for _ in range(2)
    ]


def compare(make: Callable[[bool], Model], folder: Path) -> Diff:
    """Record both sides of a pair, and compare them."""
    sides = []
    for name, flip in (("left", False), ("right", True)):
        torch.manual_seed(0)
        model = make(flip)
        given = batches(next(model.parameters()).dtype)
        record = Record(folder / name)
        record.training(model, given, lambda model, of: model.loss(of), model.optimizer, 2)
        del record
        sides.append(Side(folder / name))
    return compare_records(*sides)


def wrong_of(found: Diff, expected: Expected) -> str:
    """Failure of a comparison; "" for none."""
    if not expected.place:
        return "" if found.passed else "called different"
    if found.passed:
        return "passes"
    return "" if expected.place in place_of(found) else "another place"


def place_of(found: Diff) -> str:
    """Stage and first line of the explanation."""
    return f"{found.broken}: {found.explanation[1] if len(found.explanation) > 1 else ''}"


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    folder, wrong = Path(tempfile.mkdtemp(prefix="porting-forty-")), list[str]()
    for expected in [*DIFFER, *EQUAL]:
        name = expected.model.__name__
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        try:
            found = compare(expected.model, folder / name)
            failure, said = wrong_of(found, expected), told(found)
        except DiffError as error:
            failure, said = "refused", str(error)
        wrong += [f"{name}: {failure}"] * bool(failure)
        shown = [line for line in said.splitlines() if "likely" in line or "differs:" in line]
        print(
            f"{name}: {failure or 'as expected'}",
            *(shown[:3] if not failure else [said]),
            sep="\n  ",
        )
    print(*wrong, f"{len(wrong)} of {len(DIFFER) + len(EQUAL)} pairs came out otherwise", sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
