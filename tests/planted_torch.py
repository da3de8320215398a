"""Mistakes that porting to torch makes, planted in its lesson, and some of those of any framework."""

from typing import Any

import torch

from backends.lesson_backend import TorchBackend
from backends.variants.torch_bfloat16 import TorchBfloat16
from common.interface import Report
from common.tensors import Batches
from common.weights import ModelState
from tests.planted import load_again, planted_in


class SecondBiasTrained(TorchBackend):
    """Both of torch's biases are in the optimizer; their sum is what Keras's one is."""

    def build(self) -> None:
        super().build()
        self.second = {"encoder/bias": self.model.encoder.bias_hh_l0, "decoder/bias": self.model.decoder.bias_hh_l0}
        for bias in self.second.values():
            bias.requires_grad_(True)
        self.optimizer.weights += self.second.values()

    def load(self, state: ModelState) -> None:
        for bias in self.second.values():
            torch.nn.init.zeros_(bias)
        del self.optimizer.mean_squares[8:]
        super().load(state)
        self.optimizer.mean_squares += [super(SecondBiasTrained, self).mean_squares()[n].clone() for n in self.second]

    def mean_squares(self) -> dict[str, Any]:
        return dict(zip(self.weights(), self.optimizer.mean_squares, strict=False))

    def dump(self) -> ModelState:
        state = super().dump()
        summed = {name: state.weights[name] + bias.numpy(force=True) for name, bias in self.second.items()}
        return ModelState(state.weights | summed, state.mean_squares)


class EpsilonOutsideTheRoot(TorchBackend):
    """RMSprop is torch's own, with the constants of ours."""

    def build(self) -> None:
        super().build()
        ours = self.optimizer
        self.optimizer = torch.optim.RMSprop(ours.weights, lr=ours.learning_rate, alpha=ours.rho, eps=ours.epsilon)
        for weight, mean_square in zip(ours.weights, ours.mean_squares, strict=True):
            self.optimizer.state[weight] = {"step": torch.zeros(()), "square_avg": mean_square}
        self.optimizer.mean_squares = ours.mean_squares


class OtherLoss(TorchBackend):
    """Computes another loss than the lesson, whose functions look `loss_of` up."""

    def build(self) -> None:
        super().build()
        self.lesson = load_again(self.lesson)  # other backends in the process keep theirs
        loss_of = self.lesson.loss_of
        self.lesson.loss_of = lambda logits, batch: self.changed(loss_of, logits, batch)

    def changed(self, loss_of: Any, logits: Any, batch: Any) -> Any:
        raise NotImplementedError


class TargetsPaddedWithZeros(OtherLoss):
    """The target's one-hot rows are zero on padding, where the example has the space's."""

    def changed(self, loss_of: Any, logits: Any, batch: Any) -> Any:
        targets = batch.decoder_target_data * batch.real_positions[..., None]
        return loss_of(logits, batch._replace(decoder_target_data=targets))


class DividedByItsOwnPositions(OtherLoss):
    """The loss is a mean over the batch, so that a batch of short sentences teaches as much as one of long ones."""

    def changed(self, loss_of: Any, logits: Any, batch: Any) -> Any:
        return loss_of(logits, batch._replace(loss_positions=batch.target_weights.sum()))


class WeightsRoundedOnce(TorchBackend):
    """One autocast around all steps, which goes on with the rounded weights of the first."""

    def train(self, batches: Batches, report: Report):
        with torch.autocast("cpu", torch.bfloat16):
            return super().train(batches, report)


globals().update(planted_in(TorchBackend))
# torch:bfloat16 must be caught with mistakes, too.
globals().update(planted_in(TorchBfloat16, "InBfloat16"))
for mistake in (TargetsPaddedWithZeros, WeightsRoundedOnce):
    globals()[f"{mistake.__name__}InBfloat16"] = type(mistake.__name__, (mistake, TorchBfloat16), {})
