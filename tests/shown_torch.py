"""Mistakes of porting, made in torch and called in its process by name. Each takes a backend of its own."""

from dataclasses import dataclass

import numpy as np
import torch

from backends.torch_backend import TorchBackend
from benchmarks.parity.child import Gradients
from common.decoding import Emit
from common.interface import Backend
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState


@dataclass(frozen=True, eq=False)
class Mistaken:
    """What a backend gives that makes the mistake."""

    loss: float
    gradients: Arrays
    weights: Arrays  # after one step


def stock_rmsprop(backend: Backend, emit: Emit, *, state: ModelState, batch: Batch) -> Arrays:
    """The weights after one step of torch's own RMSprop with the constants of ours."""
    mistaken = _loaded(backend, state)
    trained = [parameter for parameter, _ in mistaken.parameters.values()]
    train = mistaken.train_config
    mistaken._optimizer = torch.optim.RMSprop(trained, lr=train.learning_rate, alpha=train.rho, eps=train.epsilon)
    _step(mistaken, batch)
    return mistaken.dump().weights


def two_biases(backend: Backend, emit: Emit, *, state: ModelState, batch: Batch) -> Mistaken:
    """Loss, gradients, and the weights after one step in which torch's second biases were trained too."""
    mistaken = _loaded(backend, state)
    lstms = {"encoder": mistaken.model.encoder, "decoder": mistaken.model.decoder}
    seconds = {f"{name}/bias": lstm.bias_hh_l0.requires_grad_(True) for name, lstm in lstms.items()}
    trained = [parameter for parameter, _ in mistaken.parameters.values()]
    train = mistaken.train_config
    mistaken._optimizer = type(mistaken._optimizer)(
        [*trained, *seconds.values()], lr=train.learning_rate, alpha=train.rho, eps=train.epsilon
    )
    loss, gradients = mistaken.gradients(batch)
    _step(mistaken, batch)
    weights = mistaken.dump().weights
    sums = {name: weights[name] + second.numpy(force=True) for name, second in seconds.items()}
    return Mistaken(loss, gradients, weights | sums)


def zero_padded_targets(backend: Backend, emit: Emit, *, state: ModelState, batch: Batch) -> Gradients:
    """Loss and gradients where the targets are padded with rows of zeros instead of spaces."""
    return Gradients(*_loaded(backend, state).gradients(ZeroPadded(**vars(batch))))


class ZeroPadded(Batch):
    """No target on the padding."""

    @property
    def decoder_target_data(self) -> np.ndarray:
        return super().decoder_target_data * self.real_positions[..., None]


def _loaded(backend: Backend, state: ModelState) -> TorchBackend:
    own = TorchBackend(backend.config, backend.train_config)
    own.load(state)
    return own


def _step(backend: TorchBackend, batch: Batch) -> None:
    backend.train(Batches(batch, np.arange(len(batch)), len(batch)), lambda step, loss: None)
