"""Mistakes that porting to torch makes, planted in its backend, and some of those of any framework."""

from functools import cached_property

import torch

from backends.torch_backend import TorchBackend
from backends.torch_bfloat16 import TorchBfloat16
from backends.torch_rmsprop import RMSprop
from common.interface import Report
from common.tensors import Batches, BatchTensors
from common.weights import ModelState
from tests.planted import planted_in


class SecondBiasTrained(TorchBackend):
    """Both of torch's biases are in the optimizer; their sum is what Keras's one is."""

    def build(self) -> None:
        super().build()
        self.second = {"encoder/bias": self.model.encoder.bias_hh_l0, "decoder/bias": self.model.decoder.bias_hh_l0}
        for bias in self.second.values():
            bias.requires_grad_(True)

    @cached_property
    def optimizer(self) -> RMSprop:
        optimizer = super().optimizer
        for name, bias in self.second.items():
            optimizer.add_param_group({"params": [bias]})
            optimizer.state[bias]["square_avg"] = self.slots[name].clone()
        return optimizer

    def load(self, state: ModelState) -> None:
        super().load(state)
        for name, bias in self.second.items():
            torch.nn.init.zeros_(bias)
            self.optimizer.state[bias]["square_avg"].copy_(self.slots[name])

    def dump(self) -> ModelState:
        state = super().dump()
        summed = {name: state.weights[name] + bias.numpy(force=True) for name, bias in self.second.items()}
        return ModelState(state.weights | summed, state.mean_squares)


class EpsilonOutsideTheRoot(TorchBackend):
    """RMSprop is torch's own, with the constants of ours."""

    @cached_property
    def optimizer(self) -> torch.optim.RMSprop:
        ours = super().optimizer
        stock = torch.optim.RMSprop(ours.param_groups[0]["params"])
        stock.load_state_dict(ours.state_dict())
        self.slots = {name: stock.state[parameter]["square_avg"] for name, parameter in self.parameters.items()}
        return stock


class TargetsPaddedWithZeros(TorchBackend):
    """The target's one-hot rows are zero on padding, where the example has the space's."""

    def _loss(self, batch: BatchTensors):
        targets = batch.decoder_target_data * batch.real_positions[..., None]
        return super()._loss(batch._replace(decoder_target_data=targets))


class DividedByItsOwnPositions(TorchBackend):
    """The loss is a mean over the batch, so that a batch of short sentences teaches as much as one of long ones."""

    def _loss(self, batch: BatchTensors):
        loss, counts = super()._loss(batch)
        return loss * batch.loss_positions / batch.target_weights.sum(), counts


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
