"""Mistakes that porting to torch makes, planted in its model file."""

from typing import Any

import torch

from backends.interface import Backend
from common.weights import ModelState
from tests.support.planted import ChangedFile


class SecondBiasTrained(Backend):
    """Both of torch's biases are in the optimizer; their sum is what Keras's one is."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
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


class EpsilonOutsideTheRoot(Backend):
    """RMSprop is torch's own, with the constants of ours."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        ours = self.optimizer
        self.optimizer = torch.optim.RMSprop(ours.weights, lr=ours.learning_rate, alpha=ours.rho, eps=ours.epsilon)
        for weight, mean_square in zip(ours.weights, ours.mean_squares, strict=True):
            self.optimizer.state[weight] = {"step": torch.zeros(()), "square_avg": mean_square}
        self.optimizer.mean_squares = ours.mean_squares


class EncoderNotTaught(ChangedFile):
    """No gradient goes through the states, so the encoder keeps its weights."""

    @staticmethod
    def change(file: Any) -> None:
        class Seq2Seq(file.Seq2Seq):
            def encode(self, *arguments):
                # Gradients that are zero, where torch by itself has none.
                return tuple(state.detach() + 0 * state for state in super().encode(*arguments))

        file.Seq2Seq = Seq2Seq
