"""Keras 3 on any of its backends, as a record needs it."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import nullcontext
from typing import Any, Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from .framework import Described, Framework, Layer, States
from .values import first_names, import_framework, loss_in


class Keras(Framework):
    name, entry, base = "keras", "call", "layers.Layer"

    def facts(self) -> dict[str, Any]:
        return dict(super().facts(), backend=self.api.backend.backend())

    def array(self, tensor: Any) -> NDArray[Any]:
        if self.api is None:  # a tensor of TensorFlow or JAX alone
            return np.asarray(tensor)
        value = tensor.value if isinstance(tensor, self.api.Variable) else tensor
        if "bfloat16" in str(value.dtype):  # which NumPy lacks
            value = self.api.ops.cast(value, "float32")
        return np.asarray(self.api.ops.convert_to_numpy(value))

    def weights(self, model: Any) -> dict[str, Any]:
        owned = (weights for _, layer in self._reach(model) for weights in self._variables(layer))
        once = {id(weight): weight for weights in owned for weight in weights}.values()
        return dict(zip(number_names(weight.path for weight in once), once))

    def layers(self, model: Any) -> list[Layer]:
        names = first_names(self.weights(model))
        paths, layers = zip(*self._reach(model))
        described = []
        for path, layer in zip(number_names(paths), layers):
            parameters, buffers = (
                dict(
                    zip(
                        number_names(weight.name for weight in weights),
                        [names[id(weight)] for weight in weights],
                    )
                )
                for weights in self._variables(layer)
            )
            described.append(Layer(path, layer, parameters, buffers))
        return described

    def loaded(self, model: Any) -> list[list[str]]:
        names, of_model = first_names(self.weights(model)), self._variables(model)
        of_layers = (  # a functional model's are in another order than its _layers
            [*layer.trainable_weights, *layer.non_trainable_weights]
            for layer in getattr(model, "layers", [])
        )
        listed = [[*of_model[0], *of_model[1]], *of_layers]
        return [
            [names[id(weight)] for weight in weights if id(weight) in names] for weights in listed
        ]

    def settings(self, layer: Any) -> dict[str, Any]:
        try:
            return flatten(layer.get_config())
        except Exception:  # of a person's own layer, which may raise anything
            return {}

    def training(self, layer: Any, options: Mapping[str, Any]) -> Any:
        return options.get("training")

    def trainable(self, weight: Any) -> bool:
        return bool(weight.trainable)

    def trained(self, model: Any) -> list[Any]:
        return list(model.trainable_variables)

    def computes_in(self, precision: str | None) -> str | None:
        # On torch and on JAX it is float32 for weights of float64, too (keras-team/keras#23704).
        return precision and self.api.backend.result_type(precision, precision)

    def autocast(self, layer: Any) -> str | None:
        return str(layer.compute_dtype) if layer.compute_dtype != layer.variable_dtype else None

    def gradients(self, model: Any) -> list[Any]:
        # Held by the torch backend.
        return [getattr(weight.value, "grad", None) for weight in self.trained(model)]

    def optimizer(self, optimizer: Any) -> Described:
        settings = dict(self.settings(optimizer), iterations=int(self.array(optimizer.iterations)))
        return Described(settings, optimizer._trainable_variables)

    def rate(self, optimizer: Any) -> Any:
        return optimizer.learning_rate

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.assign(array)

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        return self.api.ops.convert_to_tensor(array, self.api.backend.standardize_dtype(like.dtype))

    def states(self, model: Any) -> States:
        weights = first_names(self.weights(model))
        seeds = [state for state in model.variables if id(state) not in weights]
        of_torch = (
            import_framework("torch").states(model) if self.api.backend.backend() == "torch" else []
        )
        return [*((state.assign, np.array(self.array(state))) for state in seeds), *of_torch]

    def forget(self, model: Any) -> None:
        if self.api.backend.backend() == "torch":  # on the others they hold none
            model.zero_grad(set_to_none=True)

    def backward(
        self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any
    ) -> tuple[Any, Any]:
        backend = self.api.backend.backend()
        if backend == "jax":
            return self._backward_in_jax(model, loss_of, batch)
        if backend == "torch":
            return super().backward(model, loss_of, batch)
        with sys.modules["tensorflow"].GradientTape() as tape:
            computed = loss_of(model, batch)
        return computed, tape.gradient(
            loss_in(computed), [weight.value for weight in self.trained(model)]
        )

    def update(self, model: Any, optimizer: Any, gradients: Any) -> None:
        pairs = [pair for pair in zip(gradients, self.trained(model)) if pair[0] is not None]
        with (
            sys.modules["torch"].no_grad()
            if self.api.backend.backend() == "torch"
            else nullcontext()
        ):
            optimizer.apply_gradients(pairs)

    def _backward_in_jax(
        self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any
    ) -> tuple[Any, Any]:
        trained, others = self.trained(model), model.non_trainable_variables
        # It is watched, and no values are seen where gradients are traced.
        if self.entry in vars(model):
            with self.api.StatelessScope():
                loss_of(model, batch)

        def compute(values: Any) -> Any:
            with self.api.StatelessScope(zip(trained, values)) as scope:
                computed = loss_of(model, batch)
            return loss_in(computed), (
                computed,
                [scope.get_current_value(weight) for weight in others],
            )

        grad = sys.modules["jax"].value_and_grad(compute, has_aux=True)
        (_, (computed, changed)), gradients = grad([weight.value for weight in trained])
        for weight, value in zip(others, changed):
            if value is not None:
                weight.assign(value)
        return computed, gradients

    def _reach(self, model: Any) -> Iterator[tuple[str, Any]]:
        """Return the model and all layers in it, each once;
        without the cell whose weights a recurrent layer uses."""
        met = set()

        def visit(layer: Any, above: str) -> Iterator[tuple[str, Any]]:
            if id(layer) not in met:
                met.add(id(layer))
                path = getattr(layer, "path", None) or (
                    f"{above}/{layer.name}" if above else layer.name
                )
                yield path, layer
                for part in [] if self._cell(layer) else layer._layers:
                    yield from visit(part, "" if layer is model else path)

        return visit(model, "")

    def _cell(self, layer: Any) -> Any:
        """Return the cell of a recurrent layer, unless it is made of several."""
        cell = layer.cell if isinstance(layer, self.api.layers.RNN) else None
        return None if cell is None or cell._layers else cell

    def _variables(self, layer: Any) -> list[list[Any]]:
        """Return the layer's own parameters, and its other arrays, such as running statistics."""
        owner = self._cell(layer) or layer
        return [owner._trainable_variables, owner._non_trainable_variables]


def number_names(names: Iterable[str]) -> list[str]:
    """Return the names, a second one as NAME#2."""
    count: Counter[str] = Counter()
    numbered = []
    for name in names:
        count[name] += 1
        numbered.append(name if count[name] == 1 else f"{name}#{count[name]}")
    return numbered


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration of Keras with those of regularizers and the like under dotted names.

    Initializers are left out, and so are layers, which are recorded themselves.
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if not isinstance(value, dict):
            flat[name] = value
        elif (
            "class_name" in value
            and "build_config" not in value
            and not name.endswith("initializer")
        ):
            flat[name] = value["class_name"]
            inner = value["config"] if isinstance(value["config"], dict) else {}
            flat.update({f"{name}.{key}": part for key, part in flatten(inner).items()})
    return flat


FRAMEWORK = Keras()
