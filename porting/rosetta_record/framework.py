"""The methods by which a record reads the models, tensors and optimizers of any framework."""

from __future__ import annotations

import copy
import functools
import operator
import re
import sys
from contextlib import nullcontext
from typing import Any, Callable, Iterable, Iterator, List, Mapping, NamedTuple, Protocol, Tuple

from numpy.typing import NDArray

from . import RecordError
from .values import class_name, first_names, framework_of, join, loss_in


class Layer(NamedTuple):
    """A layer of a model, with the weights that it owns itself."""

    path: str  # its name within the model
    layer: Any
    parameters: Mapping[str, str]  # the layer's name of a weight -> the model's name of it
    buffers: Mapping[str, str]  # the same of what is no parameter, such as running statistics


class Described(NamedTuple):
    """An optimizer, under the framework's own names."""

    settings: Mapping[str, Any]
    weights: Iterable[Any] = ()  # that it trains, as far as it tells
    # Settings of groups of weights, which are there as "params".
    groups: Iterable[Mapping[str, Any]] = ()


# Functions that put something back, each with its present value.
States = List[Tuple[Callable[[Any], Any], Any]]
# Parameters and buffers of a layer, by the layer's names.
Owned = Tuple[Mapping[str, Any], Mapping[str, Any]]
# Takes a layer's call, its positional and its keyword arguments.
Computed = Callable[[Any, Any, Any], Any]


def put_back(states: States) -> None:
    for put, state in states:
        put(state)


class Watched:
    """A layer's method while the layer is watched.
    A copy of the layer computes by itself and is not watched."""

    def __init__(self, layer: Any, entry: str, computed: Computed) -> None:
        self._layer, self._entry, self._computed = layer, entry, computed
        self._former, self._call = vars(layer).get(entry), getattr(layer, entry)
        functools.update_wrapper(self, self._call)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self._computed(self._call, inputs, options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self._former is not None:
            return copy.deepcopy(self._former, memo)
        layer = memo.get(id(self._layer))
        return self if layer is None else getattr(type(layer), self._entry).__get__(layer)


class Framework(Protocol):
    """A framework. Tensors stay its own until they are written.

    The methods with a body fit torch and Paddle, whose layers keep weights and parts by name, and
    whose weights keep their gradients.
    """

    name: str  # of its module, too
    base: str  # the class of all layers and models, within the framework's module
    entry: str = "forward"  # the method by which a layer computes
    children: str = ""  # the attribute in which a layer keeps its parts
    # The attribute in which a layer keeps the names of its buffers that are not saved.
    unsaved: str = ""
    # Classes of layers that count as one with their parts, whose weights they use.
    whole: tuple[str, ...] = ()

    @property
    def api(self) -> Any:
        """The framework's module, which is imported wherever an object of the framework is."""
        return sys.modules.get(self.name)

    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "version": str(self.api.__version__), "backend": None}

    # Tensors

    def array(self, tensor: Any) -> NDArray[Any]:
        """Return the numbers of a tensor, uncopied where that is possible."""

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        """Return a new tensor of these numbers, of the type and on the device of another tensor."""

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        """Give a weight these values."""

    def exists(self, weight: Any) -> bool:
        """True if the weight has values already."""
        return True

    def flows(self, tensor: Any) -> Any:
        """True if gradients flow through a tensor; None where nothing tells."""
        return None

    def states(self, model: Any) -> States:
        """Return the states of random numbers, such as dropout's."""
        return []

    # Layers and weights

    def layer_class(self) -> Any:
        return operator.attrgetter(self.base)(self.api)

    def parts(self, layer: Any) -> Iterable[tuple[str, Any]]:
        """Return the layers in a layer, by name."""
        return [
            (name, part) for name, part in getattr(layer, self.children).items() if part is not None
        ]

    def owned(self, layer: Any) -> Owned:
        """Return a layer's own weights."""
        parameters, buffers = (
            {
                role: weight
                for role, weight in kept.items()
                if weight is not None and self.exists(weight)
            }
            for kept in (layer._parameters, layer._buffers)
        )
        return parameters, buffers

    def weights(self, model: Any) -> dict[str, Any]:
        """Return all parameters and buffers by name.
        A tied weight is there under each of its names."""
        return {
            join(path, role): weight
            for path, layer in self._walk(model, self._closed())
            for kept in self._owned(layer)
            for role, weight in kept.items()
        }

    def transient(self, model: Any) -> set[str]:
        """Return the names of buffers that the framework neither saves nor loads."""
        walked = self._walk(model, self._closed()) if self.unsaved else ()
        return {
            join(path, role) for path, layer in walked for role in getattr(layer, self.unsaved, ())
        }

    def refuse_compiled(self, model: Any) -> None:
        """Raise RecordError for a model whose layers' calls cannot be watched."""
        return None

    def loaded(self, model: Any) -> list[list[str]]:
        """Return the names of weights in the order in which a loader takes them that knows no
        names: those of the model itself, then those of each of its layers."""
        return []

    def trainable(self, weight: Any) -> bool:
        """True if the optimizer is to change the weight."""

    def trained(self, model: Any) -> list[Any]:
        """Return the trainable weights in the framework's order."""
        weights = {id(weight): weight for weight in self.weights(model).values()}.values()
        return [weight for weight in weights if self.trainable(weight)]

    def layers(self, model: Any) -> list[Layer]:
        """Return the model itself and all layers in it in the order of their definition,
        each by its first name."""
        layers: dict[int, Layer] = {}
        for path, layer in self._walk(model, self._closed()):
            # The weights of a cell of Flax are its recurrent layer's own.
            names = (
                {re.sub(r"^cell\.", "", role): join(path, role) for role in kept}
                for kept in self._owned(layer)
            )
            layers.setdefault(id(layer), Layer(path, layer, *names))
        return list(layers.values())

    def classes(self, value: Any) -> list[str]:
        """Return the class of a layer or an optimizer and the framework's classes
        that it inherits from, nearest first.

        A class from elsewhere is named with its module, so that a person's own LSTM is not taken
        for the framework's. So is a class of paddle.compat, whose Linear keeps its weight as torch
        does.
        """
        names: list[str] = []
        for kind in type(value).__mro__:
            if kind is self.layer_class():
                break
            package, *modules = kind.__module__.split(".")
            if package == self.name:
                names.append(f"{'compat.' if modules[:1] == ['compat'] else ''}{kind.__name__}")
            elif not names:
                names.append(class_name(kind))
        return names

    def settings(self, layer: Any) -> dict[str, Any]:
        """Return the arguments that the layer was made with, under the framework's own names."""
        common = vars(self.layer_class()())
        return {name: value for name, value in vars(layer).items() if name not in common}

    def _closed(self) -> tuple[Any, ...]:
        return tuple(operator.attrgetter(name)(self.api) for name in self.whole)

    def _walk(
        self, layer: Any, closed: tuple[Any, ...] = (), path: str = "", above: tuple[int, ...] = ()
    ) -> Iterator[tuple[str, Any]]:
        """Yield the layer and all its parts, a shared part under each of its names;
        closed layers without theirs."""
        yield path, layer
        for name, part in () if isinstance(layer, closed) else self.parts(layer):
            if id(part) not in above:
                yield from self._walk(part, closed, join(path, name), (*above, id(layer)))

    def _owned(self, layer: Any) -> Owned:
        """Return the layer's own weights; of a closed layer also those of its parts,
        each by its first name."""
        if not isinstance(layer, self._closed()):
            return self.owned(layer)
        weights: tuple[dict[int, Any], dict[int, Any]] = {}, {}
        for path, part in self._walk(layer):
            for of_kind, kept in zip(weights, self.owned(part)):
                for role, weight in kept.items():
                    of_kind.setdefault(id(weight), (join(path, role), weight))
        return dict(weights[0].values()), dict(weights[1].values())

    # Calls of layers

    def watch(self, layer: Any, computed: Computed) -> Callable[[], Any]:
        """Have each call of the layer return `computed(call, inputs, options)`, where
        `call(*inputs, **options)` computes. Return the function that ends this. The layer gets a
        method of its own before that of its class."""
        former = vars(layer).get(self.entry)

        def unwatch() -> None:
            vars(layer).pop(self.entry)
            vars(layer).update({self.entry: former} if former else {})

        vars(layer)[self.entry] = Watched(layer, self.entry, computed)
        return unwatch

    def training(self, layer: Any, options: Mapping[str, Any]) -> Any:
        """True if a layer that is called with these options is in training mode;
        None where nothing tells."""
        return layer.training

    def pad(self, layer: Any, value: Any) -> Any:
        """Return arguments or an output of the layer with packed sequences padded."""
        return value

    def pack(self, layer: Any, value: Any, like: Any) -> Any:
        """Return padded arguments or a padded output packed as `like` is."""
        return value

    def computes_in(self, precision: str | None) -> str | None:
        """Return the precision in which a model of weights of this precision computes."""
        return precision

    def autocast(self, layer: Any) -> str | None:
        """Return the type in which automatic mixed precision has this layer compute now;
        None where it is off."""
        return None

    def casts(self, seen: Callable[[str], Any]) -> Any:
        """Return a context in which `seen` is called with each coarser type to which a program
        rounds what is computed of weights. It is empty where the framework does not tell of its
        operators."""
        return nullcontext()

    # Gradients and optimizers

    def gradients(self, model: Any) -> list[Any]:
        """Return the gradients that the trainable weights hold;
        None for a weight that holds none."""
        return [weight.grad for weight in self.trained(model)]

    def given(self, model: Any, gradients: Mapping[str, NDArray[Any]]) -> Any:
        """Return gradients by the weights' names as `backward` gives them;
        None where nobody here knows how."""
        names = first_names(self.weights(model))
        both = [(weight, gradients.get(names[id(weight)])) for weight in self.trained(model)]
        return [None if array is None else self.tensor(array, weight) for weight, array in both]

    def forget(self, model: Any) -> None:
        """Have the trainable weights hold no gradients."""
        return None

    def backward(
        self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any
    ) -> tuple[Any, Any]:
        """Return what `loss_of(model, batch)` gives, and the gradients of the trainable weights."""
        self.forget(model)
        computed = loss_of(model, batch)
        loss_in(computed).backward()
        return computed, self.gradients(model)

    def begin(self, model: Any, optimizer: Any) -> Any:
        """Return the optimizer with its state, which optax keeps apart from it."""
        return optimizer

    def refuse_strange(self, optimizer: Any) -> None:
        """Raise RecordError for an optimizer that is not of this framework,
        such as one that derives from nothing."""
        if framework_of(optimizer[0] if type(optimizer) is tuple else optimizer) is not self:
            kind = class_name(type(optimizer))
            raise RecordError(
                f"the optimizer is of {kind}; expected one of {self.name}, from which your own may "
                "derive, or a name"
            )

    def update(self, model: Any, optimizer: Any, gradients: Any) -> None:
        """Do one step of the optimizer with these gradients."""
        for weight, gradient in zip(self.trained(model), gradients):
            # The gradient was given, and not computed.
            if gradient is not None and weight.grad is None:
                weight.grad = gradient
        optimizer.step()

    def rate(self, optimizer: Any) -> Any:
        """Return the learning rate of the next step; None where it is not known."""
        return None

    def optimizer(self, optimizer: Any) -> Described:
        """Describe an optimizer."""
