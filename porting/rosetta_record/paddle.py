"""Paddle, as a record needs it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .framework import Described, Framework, States


class Paddle(Framework):
    name, children, unsaved = "paddle", "_sub_layers", "_non_persistable_buffer_names_set"
    base, whole = "nn.Layer", ("nn.layer.rnn.RNNBase",)

    def exists(self, weight: Any) -> bool:
        """A computed tensor is no weight, such as the one that weight_norm makes of two others."""
        return bool(weight._is_initialized()) and weight.is_leaf

    def array(self, tensor: Any) -> NDArray[Any]:
        if tensor.is_selected_rows():  # the gradient of a sparse embedding
            rows, values = tensor.get_selected_rows(), tensor.numpy()
            array = np.zeros((rows.height(), *values.shape[1:]), values.dtype)
            np.add.at(array, rows.rows(), values)
            return array
        if tensor.dtype == self.api.bfloat16:  # which NumPy lacks
            tensor = tensor.astype("float32")
        return np.asarray(tensor.numpy())

    def trainable(self, weight: Any) -> bool:
        return not weight.stop_gradient

    def flows(self, tensor: Any) -> Any:
        return not tensor.stop_gradient

    def optimizer(self, optimizer: Any) -> Described:
        settings = dict(vars(optimizer), learning_rate=optimizer.get_lr())
        for name, part in (
            ("regularization", optimizer.regularization),
            ("clipping", optimizer._grad_clip),
        ):
            if part is not None:
                settings[name] = type(part).__name__
                settings.update({f"{name}.{key}": value for key, value in vars(part).items()})
        powers = [
            of.values()
            for slot, of in optimizer._accumulators.items()
            if slot.endswith("beta2_pow_acc")
        ]
        settings["beta2_pow_acc"] = sorted(
            {power.item() for of_slot in powers for power in of_slot}
        )
        groups = [group for group in optimizer._param_groups if isinstance(group, dict)]
        weights = [
            weight for group in groups for weight in group["params"]
        ] or optimizer._param_groups
        return Described(settings, weights, groups)

    def rate(self, optimizer: Any) -> Any:
        return optimizer.get_lr()

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.set_value(self.api.to_tensor(array, dtype=weight.dtype))

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        return self.api.to_tensor(array, like.dtype, like.place)

    def states(self, model: Any) -> States:
        return [(self.api.set_rng_state, self.api.get_rng_state())]

    def forget(self, model: Any) -> None:
        for weight in self.trained(model):
            weight.clear_gradient(False)  # which leaves none, rather than zeros


FRAMEWORK = Paddle()
