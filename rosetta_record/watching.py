"""What a record asks of a framework, and how layers are watched."""

from __future__ import annotations

import functools
import inspect
import linecache
import operator
import os
import re
import sys
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Mapping, NamedTuple, Protocol, Tuple

import numpy as np
from numpy.typing import NDArray

from . import RecordError
from .values import FRAMEWORKS, first_names, framework_of, joined, loss_in, name_of, package, qualified

# Classes of norms whose counterparts in Paddle round epsilon to float32; its GroupNorm does not.
NORMS = {"_NormBase", "LayerNorm", "BatchNorm", "InstanceNorm", "BatchNormalization", "LayerNormalization"}
LONGEST_LINE = 200  # characters of a line of a program
MODELS = ("paddle.vision.models.", "keras.src.applications.")  # modules of frameworks that are programs


class Layer(NamedTuple):
    """A layer of a model, with the weights that it owns itself."""

    path: str  # its name within the model
    layer: Any
    parameters: Mapping[str, str]  # the layer's name of a weight -> the model's name of it
    buffers: Mapping[str, str]  # the same of what is no parameter, such as running statistics


class Described(NamedTuple):
    """What is recorded of an optimizer beside its slots, under the framework's own names."""

    settings: Mapping[str, Any]
    groups: Iterable[Mapping[str, Any]] = ()  # settings of groups of weights, which are there as "params"
    counters: Iterable[int] = ()  # how many steps it says it took; several where it counts those of each weight
    # The keys by which it loads its state, and what each stands for: a weight, None for one of another model,
    # "WEIGHT|SLOT", or "|NAME" for what is of no weight.
    keys: Mapping[str, str | None] = {}


States = List[Tuple[Callable[[Any], Any], Any]]  # functions that put something back, each with what it is now


def put_back(states: States) -> None:
    for put, state in states:
        put(state)


Owned = Tuple[Mapping[str, Any], Mapping[str, Any]]  # parameters and buffers of a layer, by the layer's names


class Framework(Protocol):
    """What a record asks of a framework. Tensors stay the framework's own until they are written. What is not left
    open is as torch and Paddle have it: a layer keeps weights and parts by name, and a weight keeps its gradient."""

    name: str  # of its module, too
    entry: str = "forward"  # the method by which a layer computes
    epsilon: str = ""  # the attribute in which a norm keeps its epsilon; "" for Paddle's own
    children: str = ""  # the attribute in which a layer keeps its parts
    base: str  # the class from which all layers and models inherit, within the framework's module
    unsaved: str = ""  # the attribute in which a layer keeps the names of its buffers that are not saved
    whole: tuple[str, ...] = ()  # classes of layers which count as one with their parts, whose weights they use

    @property
    def api(self) -> Any:
        """The framework's module, which is imported wherever an object of the framework is."""
        return sys.modules.get(self.name)

    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "version": str(self.api.__version__), "backend": None}

    def layer_class(self) -> Any:
        return operator.attrgetter(self.base)(self.api)

    def array(self, tensor: Any) -> NDArray[Any]:
        """The numbers of a tensor, uncopied where that is possible."""

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        """A new tensor of these numbers, of the type of another one and where that is."""

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        """Give the weight these values."""

    def exists(self, weight: Any) -> bool:
        """Whether the weight has values already."""
        return True

    def parts(self, layer: Any) -> Iterable[tuple[str, Any]]:
        """The layers in a layer."""
        return [(name, part) for name, part in getattr(layer, self.children).items() if part is not None]

    def owned(self, layer: Any) -> Owned:
        """A layer's own weights."""
        parameters, buffers = (
            {role: weight for role, weight in kept.items() if weight is not None and self.exists(weight)}
            for kept in (layer._parameters, layer._buffers)
        )
        return parameters, buffers

    def closed(self) -> tuple[Any, ...]:
        return tuple(operator.attrgetter(name)(self.api) for name in self.whole)

    def weights(self, model: Any) -> dict[str, Any]:
        """All parameters and buffers by name. A tied one is there under each of its names."""
        return {
            joined(path, role): weight
            for path, layer in self._walk(model, self.closed())
            for own in self._owned(layer)
            for role, weight in own.items()
        }

    def transient(self, model: Any) -> set[str]:
        """The names of buffers that the framework does not save, and does not load."""
        walked = self._walk(model, self.closed()) if self.unsaved else ()
        return {joined(path, role) for path, layer in walked for role in getattr(layer, self.unsaved, ())}

    def layers(self, model: Any) -> list[Layer]:
        """The model itself and all layers in it, in the order in which they were defined."""
        found: dict[int, Layer] = {}  # each once, by its first name
        for path, layer in self._walk(model, self.closed()):
            # Of a recurrent layer of Flax those of its cell are the layer's own.
            names = ({re.sub(r"^cell\.", "", role): joined(path, role) for role in own} for own in self._owned(layer))
            found.setdefault(id(layer), Layer(path, layer, *names))
        return list(found.values())

    def _walk(
        self, layer: Any, closed: tuple[Any, ...] = (), path: str = "", above: tuple[int, ...] = ()
    ) -> Iterator[tuple[str, Any]]:
        """The layer and all its parts, a shared one under each of its names; without the parts of closed ones."""
        yield path, layer
        for name, part in () if isinstance(layer, closed) else self.parts(layer):
            if id(part) not in above:
                yield from self._walk(part, closed, joined(path, name), (*above, id(layer)))

    def _owned(self, layer: Any) -> Owned:
        """The layer's own weights; of a closed one also those of its parts, each by its first name."""
        if not isinstance(layer, self.closed()):
            return self.owned(layer)
        found: tuple[dict[int, Any], dict[int, Any]] = {}, {}
        for path, part in self._walk(layer):
            for kept, own in zip(found, self.owned(part)):
                for role, weight in own.items():
                    kept.setdefault(id(weight), (joined(path, role), weight))
        return dict(found[0].values()), dict(found[1].values())

    def classes(self, value: Any) -> list[str]:
        """The class of a layer or an optimizer and those of the framework from which it inherits, nearest first. A
        class from elsewhere is named with its module, so that a person's own LSTM is not taken for the framework's;
        so is one of paddle.compat, whose Linear keeps its weight as torch does."""
        names: list[str] = []
        for kind in type(value).__mro__:
            if kind is self.layer_class():
                break
            package, *modules = kind.__module__.split(".")
            own = package == self.name
            if own or not names:
                compat = "compat." if own and modules[:1] == ["compat"] else ""
                names.append(f"{compat}{kind.__name__}" if own else qualified(kind))
        return names

    def settings(self, layer: Any) -> dict[str, Any]:
        """What the layer was made with, under the framework's own names."""
        common = vars(self.layer_class()())
        return {name: value for name, value in vars(layer).items() if name not in common}

    def epsilons(self, model: Any) -> States:
        """The epsilons of norms that Paddle would round to another number, and what puts them back."""
        norms = [layer.layer for layer in self.layers(model) if NORMS & {*self.classes(layer.layer)}]
        found = [(layer, getattr(layer, self.epsilon, None)) for layer in norms if self.epsilon]
        return [
            (functools.partial(setattr, layer, self.epsilon), epsilon)
            for layer, epsilon in found
            if isinstance(epsilon, float) and epsilon != float(np.float32(epsilon))
        ]

    def watch(self, layer: Any, computed: Callable[[Any, Any, Any], Any]) -> Callable[[], Any]:
        """Have each call of the layer give `computed(call, inputs, options)`, until the function that is given back
        is called; `call(*inputs, **options)` gives what the layer computes. The layer is given a method of its own
        before that of its class."""
        own, call = vars(layer).get(self.entry), getattr(layer, self.entry)

        @functools.wraps(call)
        def watched(*inputs: Any, **options: Any) -> Any:
            return computed(call, inputs, options)

        def unwatch() -> None:
            vars(layer).pop(self.entry)
            vars(layer).update({self.entry: own} if own else {})

        vars(layer)[self.entry] = watched
        return unwatch

    def training(self, layer: Any, options: Mapping[str, Any]) -> Any:
        """Whether a layer that is called with these options is in training mode; None where nothing tells."""
        return layer.training

    def padded(self, layer: Any, value: Any) -> Any:
        """Arguments or an output of the layer with its packed sequences padded, and `packed` the other way round."""
        return value

    def packed(self, layer: Any, value: Any, like: Any) -> Any:
        return value

    def trainable(self, weight: Any) -> bool:
        """Whether the optimizer is to change the weight."""

    def trained(self, model: Any) -> list[Any]:
        """The trainable weights in the framework's order."""
        weights = {id(weight): weight for weight in self.weights(model).values()}.values()
        return [weight for weight in weights if self.trainable(weight)]

    def computes_in(self, precision: str | None) -> str | None:
        """The precision in which it computes a model whose weights have this one."""
        return precision

    def autocast(self, layer: Any) -> str | None:
        """The type in which automatic mixed precision has this layer compute now; None where it is off."""
        if hasattr(self.api, "get_autocast_dtype"):  # not before torch 2.4, where outputs alone tell it
            for device in ("cpu", "cuda"):
                if self.api.is_autocast_enabled(device):
                    return name_of(self.api.get_autocast_dtype(device))
        return None

    def flows(self, tensor: Any) -> Any:
        """Whether gradients flow through a tensor; None where nothing tells."""
        return None

    def gradients(self, model: Any) -> list[Any]:
        """The gradients that the trainable weights hold; None for those that hold none."""
        return [weight.grad for weight in self.trained(model)]

    def given(self, model: Any, gradients: Mapping[str, NDArray[Any]]) -> Any:
        """These gradients, by the weights' names, as `backward` gives them; None where nobody here knows how."""
        names = first_names(self.weights(model))
        both = [(weight, gradients.get(names[id(weight)])) for weight in self.trained(model)]
        return [None if array is None else self.tensor(array, weight) for weight, array in both]

    def forget(self, model: Any) -> None:
        """Have the trainable weights hold no gradients."""

    def states(self, model: Any) -> States:
        """Those of random numbers, such as dropout's."""

    def backward(self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any) -> tuple[Any, Any]:
        """What `loss_of(model, batch)` gives, and the gradients of the trainable weights."""
        self.forget(model)
        computed = loss_of(model, batch)
        loss_in(computed).backward()
        return computed, self.gradients(model)

    def begun(self, model: Any, optimizer: Any) -> Any:
        """The optimizer with its state, which is kept apart from it in optax."""
        return optimizer

    def refuse_strange(self, optimizer: Any) -> None:
        """Raise RecordError for an optimizer that is not of this framework, such as one that derives from nothing."""
        if framework_of(optimizer[0] if type(optimizer) is tuple else optimizer) is not self:
            kind = qualified(type(optimizer))
            raise RecordError(
                f"the optimizer is of {kind}; expected one of {self.name}, from which your own may derive, or a name"
            )

    def update(self, model: Any, optimizer: Any, gradients: Any) -> None:
        """One step of the optimizer with these gradients."""
        for weight, gradient in zip(self.trained(model), gradients):
            if gradient is not None and weight.grad is None:  # they are given, and not those that it holds
                weight.grad = gradient
        optimizer.step()
        self.forget(model)

    def rate(self, optimizer: Any) -> Any:
        """The learning rate of the next step, where it is known."""
        return None

    def optimizer(self, optimizer: Any, names: Mapping[int, str]) -> Described:
        """`names` are the weights' by their ids."""

    def slots(self, optimizer: Any, weight: Any, name: str = "") -> dict[str, Any]:
        """What the optimizer remembers of the weight of this name, under the framework's own names."""


def names_of(call: Any, number: int) -> list[str]:
    """The names that a call has for so many positional arguments, or numbers where it has none."""
    names = [one.name for one in parameters_of(call) if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return [*names, *map(str, range(len(names), number))][:number]


def parameters_of(call: Any) -> list[inspect.Parameter]:
    try:
        return [*inspect.signature(call).parameters.values()]
    except (TypeError, ValueError):  # of what is compiled, or not written in Python
        return []


def calling_line() -> dict[str, str]:
    """Where the line is that is being executed, outside of this folder and of frameworks but for their models, and
    what it says. A file that is not below the working folder is named as its module is."""
    frame: Any = sys._getframe(1)
    while frame and (is_machinery(str(frame.f_globals.get("__name__")))):
        frame = frame.f_back
    if not frame:
        return {}
    path, number = Path(os.path.abspath(frame.f_code.co_filename)), frame.f_lineno
    below = Path.cwd() in path.parents and "site-packages" not in path.parts
    depth = str(frame.f_globals.get("__name__")).count(".") + 1
    shown = path.relative_to(Path.cwd()) if below else Path(*path.parts[-depth:])
    code = linecache.getline(frame.f_code.co_filename, number, frame.f_globals).strip()[:LONGEST_LINE]
    return {"line": f"{shown.as_posix()}:{number}", "code": code}


def is_machinery(module: str) -> bool:
    """True for a module of this folder, and for one of a framework that is no model."""
    of_framework = package(module) in FRAMEWORKS and not module.startswith(MODELS)
    return of_framework or f"{module}.".startswith(f"{__package__}.")
