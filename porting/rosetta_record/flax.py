"""Flax NNX with the optimizers of optax, as a record needs them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections import OrderedDict
from typing import Any, Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from .framework import Computed, Described, Framework, Owned, States, put_back
from .values import array_of, arrays_in, join, loss_in, name_of


class Flax(Framework):
    name, entry, base = "flax", "__call__", "nnx.Module"
    whole = ("nnx.nn.recurrent.RNN", "nnx.nn.recurrent.RNNCellBase")

    def __init__(self) -> None:
        # Of the layers of a class what computes them, by their ids.
        self._watched: dict[type, dict[int, Any]] = {}
        # The last `loss_of`, and its gradients compiled.
        self._compiled: tuple[Any, Any] = (None, None)
        self._updates: Any = None  # a step of an optimizer, compiled

    def facts(self) -> dict[str, Any]:
        return dict(super().facts(), backend=f"JAX {sys.modules['jax'].__version__}")

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.asarray(
            tensor.get_value() if isinstance(tensor, self.api.nnx.Variable) else tensor
        )

    def exists(self, weight: Any) -> bool:
        return hasattr(weight, "dtype") and not isinstance(weight, self.api.nnx.RngState)

    def parts(self, layer: Any) -> Iterable[tuple[str, Any]]:
        return [
            (name, part)
            for name, part in self._inside(layer)
            if isinstance(part, self.layer_class())
        ]

    def owned(self, layer: Any) -> Owned:
        variables = [
            (name, part)
            for name, part in self._inside(layer)
            if isinstance(part, self.api.nnx.Variable)
        ]
        parameters, buffers = (
            {
                name: part
                for name, part in variables
                if self.exists(part) and self.trainable(part) == trained
            }
            for trained in (True, False)
        )
        return parameters, buffers

    def _inside(self, value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
        """Yield the layers and the variables in a layer,
        through its lists and its generators of random numbers."""
        nnx = self.api.nnx
        if isinstance(value, nnx.Pytree):
            parts: Iterable[tuple[Any, Any]] = vars(value).items()
        else:
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in parts:
            if isinstance(part, (nnx.Module, nnx.Variable)):
                yield join(name, str(key)), part
            elif isinstance(part, (nnx.Pytree, Mapping, list, tuple)) and not str(key).startswith(
                "_pytree"
            ):
                yield from self._inside(part, join(name, str(key)))

    def weights(self, model: Any) -> dict[str, Any]:
        weights = super().weights(model)
        # A tied weight once, under the name by which optax knows it.
        first = arrays_in(self.api.nnx.state(model))
        return {**{path: weights[path] for path in weights if path in first}, **weights}

    def classes(self, value: Any) -> list[str]:
        """Return also the classes of a recurrent layer's cell; of an optimizer the names of its
        transformations, in order."""
        if not isinstance(value, self.layer_class()):
            return [name for name, _ in transformations(self._parts(value)[0].update)]
        parts = [value, value.cell] if isinstance(value, self.api.nnx.RNN) else [value]
        return [name for part in parts for name in super(Flax, self).classes(part)]

    def settings(self, layer: Any) -> dict[str, Any]:
        return {**vars(getattr(layer, "cell", layer)), **vars(layer)}

    def watch(self, layer: Any, computed: Computed) -> Callable[[], Any]:
        """Python looks a layer's __call__ up in its class. The class gets another one while layers
        of it are watched, unless it has none, as a holder of weights for functions."""
        kind = type(layer)
        watched = self._watched.setdefault(kind, {})
        former = vars(kind).get("__call__")
        call = kind.__call__

        @functools.wraps(call)
        def seeing(layer: Any, *inputs: Any, **options: Any) -> Any:
            of_layer, computed = functools.partial(call, layer), watched.get(id(layer))
            return computed(of_layer, inputs, options) if computed else of_layer(*inputs, **options)

        def unwatch() -> None:
            del watched[id(layer)]
            if not watched:
                del self._watched[kind]
                if "__call__" in vars(kind):
                    del kind.__call__
                if former is not None:
                    kind.__call__ = former

        if not watched and any("__call__" in vars(base) for base in kind.__mro__):
            kind.__call__ = seeing
        watched[id(layer)] = computed
        return unwatch

    def training(self, layer: Any, options: Mapping[str, Any]) -> Any:
        flags = (
            getattr(layer, name, None) if options.get(name) is None else options[name]
            for name in ("deterministic", "use_running_average")
        )
        return next((not flag for flag in flags if flag is not None), None)

    def autocast(self, layer: Any) -> str | None:
        dtype, of_weights = (
            name_of(getattr(layer, name, None)) for name in ("dtype", "param_dtype")
        )
        return None if dtype in ("None", of_weights) else dtype

    def trainable(self, weight: Any) -> bool:
        return isinstance(weight, self.api.nnx.Param)

    def gradients(self, model: Any) -> list[Any]:
        return [None for _ in self.trained(model)]  # no weight holds one

    def optimizer(self, optimizer: Any) -> Described:
        """Read the closures of optax's functions, the state's counters of steps, and the
        hyperparameters that optax.inject_hyperparams keeps there. Schedules and masks stay
        unknown."""
        tx, state = self._parts(optimizer)
        held = {
            f"{name}.{key}": value
            for name, of in transformations(tx.update)
            for key, value in of.items()
        }
        for kind, value in self._kept(state):
            if kind.endswith(".hyperparams"):
                held.update({f"hyperparams.{name}": setting for name, setting in value.items()})
            elif kind.endswith(".count"):
                held[kind] = int(array_of(value))
        return Described(held)

    def begin(self, model: Any, optimizer: Any) -> Any:
        nnx = self.api.nnx
        return (
            optimizer
            if hasattr(optimizer, "opt_state")
            else nnx.Optimizer(model, optimizer, wrt=nnx.Param)
        )

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.set_value(self.tensor(array, weight))

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        return sys.modules["jax"].numpy.asarray(array, like.dtype)

    def given(self, model: Any, gradients: Mapping[str, NDArray[Any]]) -> Any:
        return None

    def states(self, model: Any) -> States:
        return self._variables(model, self.api.nnx.RngState)

    def backward(
        self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any
    ) -> tuple[Any, Any]:
        if self._watched:  # no values are seen where gradients are traced
            before = self._variables(model, self.api.nnx.Variable)
            loss_of(model, batch)
            put_back(before)

        def compute(model: Any, batch: Any) -> Any:
            computed = loss_of(model, with_dicts(dict, batch))
            return loss_in(computed), computed

        nnx = self.api.nnx
        gradients_of = nnx.value_and_grad(compute, has_aux=True)
        if self._compiled[0] is not loss_of:
            self._compiled = loss_of, nnx.jit(gradients_of)
        batch = with_dicts(OrderedDict, batch)  # JAX sorts the keys of others
        try:
            (_, computed), gradients = self._compiled[1](model, batch)
        # Of what cannot be compiled, such as a batch of other things than arrays.
        except (TypeError, IndexError):
            (_, computed), gradients = gradients_of(model, batch)
        return computed, gradients

    def update(self, model: Any, optimizer: Any, gradients: Any) -> None:
        self._updates = self._updates or self.api.nnx.jit(
            lambda optimizer, *others: optimizer.update(*others)
        )
        self._updates(optimizer, model, gradients)

    def _variables(self, model: Any, kind: Any) -> States:
        variables = (part for _, part in self.api.nnx.iter_graph(model) if isinstance(part, kind))
        return [(variable.set_value, variable.get_value()) for variable in variables]

    def _parts(self, optimizer: Any) -> Any:
        """Return the transformation and its state, of an nnx.Optimizer or a pair."""
        if hasattr(optimizer, "opt_state"):
            return optimizer.tx, optimizer.opt_state
        return optimizer if type(optimizer) is tuple else (optimizer, ())

    def _kept(self, state: Any) -> Iterator[tuple[str, Any]]:
        """Yield the fields of a state of optax, as CLASS.FIELD."""
        for name, value in zip(getattr(state, "_fields", range(len(state))), state):
            if isinstance(value, tuple):
                yield from self._kept(value)
            elif isinstance(name, str):
                yield f"{type(state).__name__}.{name}", value


def with_dicts(kind: type, value: Any) -> Any:
    """Return the value with its dicts, in lists and tuples, too, as dicts of a kind."""
    if type(value) in (dict, OrderedDict):
        return kind((key, with_dicts(kind, part)) for key, part in value.items())
    return (
        type(value)(with_dicts(kind, part) for part in value)
        if type(value) in (list, tuple)
        else value
    )


def transformations(update: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the transformations that an update function of optax is made of: the name of each, and
    its closure, which holds its settings."""
    held = dict(inspect.getclosurevars(update).nonlocals) if inspect.isroutine(update) else {}
    name = getattr(update, "__qualname__", "").partition(".")[0]
    inner = [
        part
        for value in held.values()
        for part in (value if isinstance(value, tuple) else (value,))
    ]
    inner = [part for part in inner if getattr(part, "__name__", "") in ("update", "update_fn")]
    if "inner_factory" in held:  # of optax.inject_hyperparams
        yield held["inner_factory"].__name__, {}
    elif name not in ("chain", "named_chain", "with_extra_args_support"):
        yield name, held
    for part in inner:
        yield from transformations(part)


FRAMEWORK = Flax()
