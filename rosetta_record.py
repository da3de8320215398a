"""Writes down how a model computes, so that the same model in another framework can be compared with it.

The record is a folder of safetensors and JSON: inputs, weights, each layer's output, loss, gradients, the optimizer's
slots, weights after a step, losses of steps. Names, layouts and settings are the framework's own; `rosetta diff LEFT
RIGHT` understands them, and needs no framework. This file needs NumPy and safetensors and may be copied into any
project. It imports no framework: it works with what it is handed, of PyTorch, PaddlePaddle or Keras 3.

    from rosetta_record import Record

    record = Record("torch-side")
    record.inputs(ids=ids, targets=targets)
    record.model(model)              # before the forward pass: its weights, and from now on its layers' outputs
    logits = model(ids)
    record.forward(logits=logits)
    loss = loss_of(logits, targets)
    record.loss(loss)
    loss.backward()
    record.gradients(model)
    optimizer.step()
    record.optimizer(optimizer)      # after the step: its settings and slots
    record.step(1, loss)             # the model's weights after it

`record.training(...)` does all this at once. What no framework computed is recorded by `record.layer(...)`, and by
the same calls with arrays in place of a model.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import sys
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

FORMAT, VERSION = "rosetta-record", 1
FILES = ("inputs", "weights", "layers", "outputs", "gradients", "slots", "step-1", "step-last")
CONTROL = "control"  # the folder of the control within a record
CONTROL_SEED = 0  # of the choice which weights of the control move up and which down


class RecordError(Exception):
    """Something cannot be recorded. The message is one line: what was found, what was expected, what to try."""


class Record:
    """A record that is being written into a folder, where it replaces one that is there. Each call writes at once, so
    that a script that fails later leaves what it had recorded."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._framework: Framework | None = None
        self._model: Any = None
        self._watched = False  # from record.model until the first forward pass has ended
        self._unwatch: list[Callable[[], None]] = []
        self._outputs: dict[str, NDArray[Any]] = {}  # of the layers, until they are written
        self._content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "framework": {"name": "arrays", "version": np.__version__, "backend": None},
            "python": platform.python_version(),
            "numpy": np.__version__,
            "precision": None,
            "layers": [],
            "calls": [],
            "weights": {},
            "optimizer": None,
            "loss": None,
            "steps": [],
        }
        self._begin()

    def inputs(self, **arrays: Any) -> None:
        """What the model is fed, so that both sides are seen to be fed the same: arrays, dicts or tuples of such."""
        self._add("inputs", arrays_in(arrays))

    def model(self, model: Any) -> None:
        """The model's layers and weights as they are now. From now on outputs of its layers are recorded, until the
        model has computed its own output, or until this record is told something else."""
        if self._content["weights"]:
            raise RecordError("weights are already recorded; record.model is called once for each record")
        framework = framework_of(model)
        if framework is None or not isinstance(model, framework.layer_class()):
            raise RecordError(
                f"the model is of {qualified(type(model))}; expected a layer of torch, paddle or keras (3 or later); "
                "record anything else as arrays, with record.layer"
            )
        weights = framework.weights(model)
        if not weights:
            raise RecordError("the model has no weights; if they are made later, call it once before record.model")
        self._framework, self._model, self._watched = framework, model, True
        self._content["framework"] = framework.facts()
        first: dict[int, str] = {}
        for name, weight in weights.items():
            tied_to = first.setdefault(id(weight), name)
            self._content["weights"][name] = {
                "trainable": framework.trainable(weight),
                "tied_to": tied_to if tied_to != name else None,
            }
        for layer in framework.layers(model):
            facts: dict[str, Any] = {
                "path": layer.path,
                "classes": classes_of(layer.layer, framework),
                "settings": plain(framework.settings(layer.layer)),
                "training": None,  # known when it is called
                "parameters": layer.parameters,
                "buffers": layer.buffers,
            }
            self._content["layers"].append(facts)
            self._unwatch.append(framework.watch(layer.layer, self._seen_by(facts, layer.layer)))
        self._add("weights", weights)
        floating = [precision for precision in map(precision_of, weights.values()) if "float" in precision]
        self._content["precision"] = Counter(floating).most_common(1)[0][0] if floating else None
        self._save()

    def forward(self, **outputs: Any) -> None:
        """What the model computed, by names that both sides use."""
        self._end_of_pass()
        self._add("outputs", arrays_in(outputs))

    def loss(self, loss: Any) -> None:
        """The loss of the forward pass: one number."""
        self._end_of_pass()
        if self._content["loss"] is not None:
            raise RecordError(
                "a loss is already recorded; record.step takes those of steps: record.step(number, loss)"
            )
        self._content["loss"] = number_in(loss)
        self._save()

    def gradients(self, model: Any = None, gradients: Any = None) -> None:
        """The gradients that the model's weights hold after the backward pass; or those given, as a list in the order
        of the model's trainable weights, such as Keras's gradient tape gives, or by the weights' names."""
        self._end_of_pass()
        if not isinstance(gradients, Mapping):
            framework = self._recorded(model)
            trained = framework.trained(model)
            if gradients is None:
                gradients = [framework.gradient(weight) for weight in trained]
            if len(gradients) != len(trained):
                raise RecordError(
                    f"{len(gradients)} gradients were given; expected {len(trained)}, one for each trainable weight"
                )
            of = {id(weight): gradient for weight, gradient in zip(trained, gradients)}
            gradients = {name: of.get(id(weight)) for name, weight in framework.weights(model).items()}
        found = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        if not found:
            raise RecordError(
                "no weight has a gradient; call record.gradients between the backward pass and the step that clears "
                "them, or give them: record.gradients(model, gradients)"
            )
        self._add("gradients", self._named_as_weights(found))

    def optimizer(
        self, optimizer: Any, settings: Mapping[str, Any] | None = None, slots: Mapping[str, Any] | None = None
    ) -> None:
        """The optimizer after the first step: its settings, and its slots, which is what it remembers of each weight.
        Where no framework has one, give its name, its settings, and the slots as "WEIGHT|SLOT"."""
        if self._content["optimizer"] is not None:
            raise RecordError("an optimizer is already recorded; call record.optimizer once, after the first step")
        facts: dict[str, Any] = {"class": optimizer, "settings": settings or {}}
        slots = dict(slots or {})
        if not isinstance(optimizer, str):
            framework = self._recorded(self._model)
            if framework_of(optimizer) is not framework:
                raise RecordError(
                    f"the optimizer is of {qualified(type(optimizer))}; expected one of {framework.name}"
                )
            weights = framework.weights(self._model)
            classes = classes_of(optimizer, framework)
            facts = {"class": classes[0], "classes": classes, **framework.optimizer(optimizer, weights)}
            for name, weight in weights.items():
                slots.update({f"{name}|{slot}": value for slot, value in framework.slots(optimizer, weight).items()})
        self._content["optimizer"] = dict(facts, settings=plain(facts["settings"]))
        self._add("slots", self._named_as_weights(slots))

    def step(self, number: int, loss: Any, weights: Mapping[str, Any] | None = None) -> None:
        """After step `number` of the optimizer, of which the first is 1: the loss from which the step was computed,
        and the model's weights as they are now, or those that are given by name."""
        if weights is None:
            weights = self._recorded(self._model).weights(self._model)
        self._step(number, loss, self._named_as_weights(weights))

    def training(
        self,
        model: Any,
        batches: Iterable[Any],
        loss_of: Callable[[Any, Any], Any],
        optimizer: Any,
        steps: int = 10,
    ) -> None:
        """All of a short training. `batches` are used in turns; `loss_of(model, batch)` gives the loss, or the loss
        and a dict of outputs. With a function that makes the optimizer from the model's trainable weights, a control
        is recorded too: the same training from weights that are moved by one unit in the last place, which shows how
        much of a difference is rounding; and in the end the model is as it was before."""
        batches = list(batches)[:steps]
        if not batches:
            raise RecordError("there is no batch; expected a list of what loss_of(model, batch) takes, and a step")
        for number, batch in enumerate(batches):  # the first one's arrays have the names that record.inputs gives
            self._add("inputs", arrays_in(batch, f"batch{number}" if number else ""))
        self.model(model)
        framework = self._recorded(model)
        put_back = framework.randomness(model)
        made = optimizer(framework.trained(model)) if callable(optimizer) else optimizer
        for number in range(1, steps + 1):
            computed, gradients = framework.backward(model, loss_of, batches[(number - 1) % len(batches)])
            if number == 1:
                self.loss(loss_in(computed))
                if isinstance(computed, tuple):
                    self.forward(**computed[1])
                self.gradients(model, gradients)
            framework.update(model, made, gradients)
            if number == 1:
                self.optimizer(made)
            self._step(number, loss_in(computed), framework.weights(model) if number in (1, steps) else None)
        if callable(optimizer):
            put_back()
            self._put_back(moved=True)
            Record(self.folder / CONTROL).training(
                model, batches, loss_of, optimizer(framework.trained(model)), steps
            )
            put_back()
            self._put_back(moved=False)

    def layer(
        self,
        path: str,
        kind: str,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        output: Any = None,
    ) -> None:
        """A layer that no framework has: its parameters by the names that they have in it, settings, and its output,
        in the order in which layers compute. A layer that computes again is given again, with its output alone."""
        if self._framework is not None:
            raise RecordError("record.layer is for plain arrays; the layers of a model are recorded by record.model")
        names = {role: joined(path, role) for role in parameters or {}}
        if path not in [layer["path"] for layer in self._content["layers"]]:
            facts = {"path": path, "classes": [kind], "settings": plain(settings or {}), "training": None}
            self._content["layers"].append(dict(facts, parameters=names, buffers={}))
        self.weights(**{names[role]: array for role, array in (parameters or {}).items()})
        parts = self._call(path, output)
        self._add("layers", {name: self._outputs.pop(name) for name in parts})

    def weights(self, **arrays: Any) -> None:
        """Weights that belong to no layer, as plain arrays."""
        self._add("weights", arrays)
        self._content["weights"].update({name: {"trainable": True, "tied_to": None} for name in arrays})
        self._content["precision"] = self._content["precision"] or next(map(precision_of, arrays.values()), None)
        self._save()

    # What the methods above are made of

    def _begin(self) -> None:
        """Make the folder an empty record. Nothing is touched in a folder that holds anything but a record."""
        if self.folder.exists():
            try:
                holds_record = json.loads((self.folder / "record.json").read_text("utf-8"))["format"] == FORMAT
            except (OSError, ValueError, KeyError, TypeError):
                holds_record = False
            if not holds_record and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise RecordError(
                    f"{self.folder} exists and is no record; expected a new name or a record to replace"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._save()  # before arrays are removed, so that there is always a whole record, were it an empty one
        for folder in (self.folder / CONTROL, self.folder):
            for name in FILES:
                remove(folder / f"{name}.safetensors")
        remove(self.folder / CONTROL / "record.json")

    def _save(self) -> None:
        """Write record.json beside what is there, then in its place."""
        beside = self.folder / "record.json.new"
        beside.write_text(json.dumps(self._content, indent=1, allow_nan=False) + "\n", "utf-8")
        os.replace(beside, self.folder / "record.json")

    def _add(self, file: str, values: Mapping[str, Any]) -> None:
        """Write these arrays into a file, beside those that it holds."""
        path = self.folder / f"{file}.safetensors"
        before = load_file(path) if path.exists() else {}
        twice = sorted(before.keys() & values.keys())
        if twice:
            raise RecordError(f"{twice[0]!r} is already recorded among the {file}; expected each name once")
        self._write(file, {**before, **values})

    def _write(self, file: str, values: Mapping[str, Any]) -> None:
        arrays = {name: writable(value, f"{name!r} of {file}") for name, value in values.items()}
        beside = self.folder / f"{file}.safetensors.new"
        save_file(arrays, beside)
        os.replace(beside, self.folder / f"{file}.safetensors")
        self._save()

    def _recorded(self, model: Any) -> Framework:
        """The framework of the model that is recorded, which must be this one."""
        if self._framework is None:
            raise RecordError("no model is recorded; call record.model(model) first, or give arrays by name")
        if model is not self._model:
            raise RecordError("this is another object than record.model was given; expected the same one")
        return self._framework

    def _named_as_weights(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        unknown = [name for name in values if name.partition("|")[0] not in self._content["weights"]]
        if unknown:
            raise RecordError(
                f"{unknown[0]!r} is no weight that is recorded; expected names of record.model or layers"
            )
        return values

    def _seen_by(self, facts: dict[str, Any], layer: Any) -> Callable[[Any, bool | None], None]:
        """What is called with each output of the layer."""

        def seen(output: Any, training: bool | None) -> None:
            if self._watched:
                facts["training"] = training
                self._call(facts["path"], output)
                if layer is self._model:
                    self._write_outputs()

        return seen

    def _call(self, path: str, output: Any) -> list[str]:
        """Keep a layer's output, copied since the next layer may compute in its place."""
        number = len(self._content["calls"])
        arrays = arrays_in(output).values()
        kept = {f"{number}:{path}:{part}": np.array(array_of(array)) for part, array in enumerate(arrays)}
        self._outputs.update(kept)
        self._content["calls"].append({"layer": path, "parts": list(kept)})
        return list(kept)

    def _write_outputs(self) -> None:
        self._watched = False
        self._add("layers", self._outputs)
        self._outputs = {}

    def _end_of_pass(self) -> None:
        """The forward pass is over, even if the model computed only parts of itself."""
        if self._watched:
            self._write_outputs()
        while self._unwatch:
            self._unwatch.pop()()

    def _step(self, number: int, loss: Any, weights: Mapping[str, Any] | None) -> None:
        last = self._content["steps"][-1]["step"] if self._content["steps"] else 0
        if number <= last or (last == 0 and number != 1):
            raise RecordError(
                f"step {number} came after step {last}; expected steps in order, of which the first is 1"
            )
        self._end_of_pass()
        self._content["steps"].append({"step": number, "loss": number_in(loss)})
        if weights is None:
            self._save()
        else:
            self._write("step-1" if number == 1 else "step-last", weights)

    def _put_back(self, moved: bool) -> None:
        """Give the model the weights that are recorded; or each of them moved by one unit in the last place."""
        framework, rng = self._recorded(self._model), np.random.default_rng(CONTROL_SEED)
        with safe_open(self.folder / "weights.safetensors", "np") as recorded:
            for name, weight in framework.weights(self._model).items():
                if self._content["weights"][name]["tied_to"] is None:
                    array = recorded.get_tensor(name)
                    framework.put(weight, one_unit_moved(array, precision_of(weight), rng) if moved else array)


class Layer(NamedTuple):
    """A layer of a model, with the weights that it owns itself."""

    path: str  # its name within the model
    layer: Any
    parameters: Mapping[str, str]  # the layer's name of a weight -> the model's name of it
    buffers: Mapping[str, str]  # the same of what is no parameter, such as running statistics


class Framework(ABC):
    """What a record asks of a framework."""

    name: str  # of the module, too

    @property
    def api(self) -> Any:
        """The framework's module, which is there when an object of the framework is."""
        return sys.modules.get(self.name)

    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "version": str(self.api.__version__), "backend": None}

    @abstractmethod
    def layer_class(self) -> type:
        """The class from which all layers and models inherit."""

    @abstractmethod
    def array(self, tensor: Any) -> NDArray[Any]:
        """The numbers of a tensor, uncopied where that is possible."""

    @abstractmethod
    def weights(self, model: Any) -> dict[str, Any]:
        """All parameters and buffers by name. A tied one is there under each of its names."""

    @abstractmethod
    def trainable(self, weight: Any) -> bool:
        """Whether the optimizer is to change the weight."""

    @abstractmethod
    def trained(self, model: Any) -> list[Any]:
        """The trainable weights in the framework's order."""

    @abstractmethod
    def layers(self, model: Any) -> list[Layer]:
        """The model itself and all layers in it, in the order in which they were defined."""

    @abstractmethod
    def settings(self, layer: Any) -> dict[str, Any]:
        """What the layer was made with, under the framework's own names."""

    @abstractmethod
    def watch(self, layer: Any, seen: Callable[[Any, bool | None], None]) -> Callable[[], None]:
        """Have `seen` called with each output of the layer and whether it is in training mode, until the function
        that is given back is called."""

    @abstractmethod
    def gradient(self, weight: Any) -> Any:
        """The gradient that the weight holds, or None."""

    @abstractmethod
    def optimizer(self, optimizer: Any, weights: Mapping[str, Any]) -> dict[str, Any]:
        """The optimizer's "settings" under the framework's own names, and "groups" of weights with settings of their
        own."""

    @abstractmethod
    def slots(self, optimizer: Any, weight: Any) -> dict[str, Any]:
        """What the optimizer remembers of the weight, under the framework's own names."""

    @abstractmethod
    def put(self, weight: Any, array: NDArray[Any]) -> None:
        """Give the weight these values."""

    @abstractmethod
    def randomness(self, model: Any) -> Callable[[], None]:
        """A function that has random numbers, such as dropout's, come again as they come from now on."""

    @abstractmethod
    def backward(self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any) -> tuple[Any, list[Any]]:
        """What `loss_of(model, batch)` gives, and the gradients of the trainable weights."""

    @abstractmethod
    def update(self, model: Any, optimizer: Any, gradients: list[Any]) -> None:
        """One step of the optimizer."""


class Modules(Framework):
    """What torch and Paddle have in common: layers keep their own parameters, buffers and parts by name."""

    parts: str  # the attribute that holds a layer's parts

    @abstractmethod
    def composites(self) -> tuple[type, ...]:
        """Layers which count as one with their parts, since they use their parts' weights themselves."""

    @abstractmethod
    def exists(self, weight: Any) -> bool:
        """Whether the weight has values by now."""

    def weights(self, model: Any) -> dict[str, Any]:
        return {
            joined(path, role): weight
            for path, layer in self._walk(model, self.composites())
            for kind in ("_parameters", "_buffers")
            for role, weight in self._owned(layer, kind).items()
        }

    def layers(self, model: Any) -> list[Layer]:
        once = {id(layer): (path, layer) for path, layer in reversed(list(self._walk(model, self.composites())))}
        return [
            Layer(
                path,
                layer,
                {role: joined(path, role) for role in self._owned(layer, "_parameters")},
                {role: joined(path, role) for role in self._owned(layer, "_buffers")},
            )
            for path, layer in reversed(list(once.values()))
        ]

    def settings(self, layer: Any) -> dict[str, Any]:
        common = vars(self.layer_class()())
        return {name: value for name, value in vars(layer).items() if name not in common}

    def gradient(self, weight: Any) -> Any:
        return weight.grad

    def _walk(self, layer: Any, closed: tuple[type, ...], path: str = "") -> Iterator[tuple[str, Any]]:
        """The layer and all its parts, a shared one under each of its names; without the parts of closed ones."""
        yield path, layer
        if not isinstance(layer, closed):
            for name, part in getattr(layer, self.parts).items():
                if part is not None:
                    yield from self._walk(part, closed, joined(path, name))

    def _owned(self, layer: Any, kind: str) -> dict[str, Any]:
        """The layer's own parameters or buffers; of a composite also those of its parts that it does not name."""
        found: dict[int, tuple[str, Any]] = {}
        for path, part in self._walk(layer, ()) if isinstance(layer, self.composites()) else [("", layer)]:
            for role, weight in getattr(part, kind).items():
                if weight is not None and self.exists(weight):
                    found.setdefault(id(weight), (joined(path, role), weight))
        return dict(found.values())


class Torch(Modules):
    name, parts = "torch", "_modules"

    def layer_class(self) -> type:
        return self.api.nn.Module  # type: ignore[no-any-return]

    def composites(self) -> tuple[type, ...]:
        return (self.api.nn.MultiheadAttention,)

    def exists(self, weight: Any) -> bool:
        return not hasattr(weight, "materialize")

    def array(self, tensor: Any) -> NDArray[Any]:
        tensor = tensor.detach().cpu()
        if tensor.layout != self.api.strided:  # the gradient of a sparse embedding
            tensor = tensor.to_dense()
        if tensor.dtype == self.api.bfloat16:  # which NumPy lacks
            tensor = tensor.float()
        return tensor.numpy()  # type: ignore[no-any-return]

    def trainable(self, weight: Any) -> bool:
        return bool(weight.requires_grad)

    def trained(self, model: Any) -> list[Any]:
        return [weight for weight in model.parameters() if weight.requires_grad]

    def watch(self, layer: Any, seen: Callable[[Any, bool | None], None]) -> Callable[[], None]:
        hook = layer.register_forward_hook(lambda layer, inputs, output: seen(output, layer.training))
        return hook.remove  # type: ignore[no-any-return]

    def optimizer(self, optimizer: Any, weights: Mapping[str, Any]) -> dict[str, Any]:
        return {"settings": optimizer.param_groups[0], "groups": groups_of(optimizer.param_groups, weights)}

    def slots(self, optimizer: Any, weight: Any) -> dict[str, Any]:
        return {slot: value for slot, value in optimizer.state.get(weight, {}).items() if value is not None}

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.detach().copy_(self.api.from_numpy(array))

    def randomness(self, model: Any) -> Callable[[], None]:
        state, cuda = self.api.get_rng_state(), self.api.cuda
        states = cuda.get_rng_state_all() if cuda.is_initialized() else []

        def put_back() -> None:
            self.api.set_rng_state(state)
            if states:
                cuda.set_rng_state_all(states)

        return put_back

    def backward(self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any) -> tuple[Any, list[Any]]:
        model.zero_grad(set_to_none=True)
        computed = loss_of(model, batch)
        loss_in(computed).backward()
        return computed, [weight.grad for weight in self.trained(model)]

    def update(self, model: Any, optimizer: Any, gradients: list[Any]) -> None:
        optimizer.step()
        model.zero_grad(set_to_none=True)


class Paddle(Modules):
    name, parts = "paddle", "_sub_layers"

    def layer_class(self) -> type:
        return self.api.nn.Layer  # type: ignore[no-any-return]

    def composites(self) -> tuple[type, ...]:
        return (self.api.nn.layer.rnn.RNNBase,)

    def exists(self, weight: Any) -> bool:
        return bool(weight._is_initialized())

    def array(self, tensor: Any) -> NDArray[Any]:
        if tensor.is_selected_rows():  # the gradient of a sparse embedding
            rows, values = tensor.get_selected_rows(), tensor.numpy()
            array = np.zeros((rows.height(), *values.shape[1:]), values.dtype)
            np.add.at(array, rows.rows(), values)
            return array
        if tensor.dtype == self.api.bfloat16:  # which NumPy lacks
            tensor = tensor.astype("float32")
        return tensor.numpy()  # type: ignore[no-any-return]

    def trainable(self, weight: Any) -> bool:
        return not weight.stop_gradient

    def trained(self, model: Any) -> list[Any]:
        return [weight for weight in model.parameters() if not weight.stop_gradient]

    def watch(self, layer: Any, seen: Callable[[Any, bool | None], None]) -> Callable[[], None]:
        hook = layer.register_forward_post_hook(lambda layer, inputs, output: seen(output, layer.training))
        return hook.remove  # type: ignore[no-any-return]

    def optimizer(self, optimizer: Any, weights: Mapping[str, Any]) -> dict[str, Any]:
        settings = dict(vars(optimizer), learning_rate=optimizer.get_lr())
        for name, part in (("regularization", optimizer.regularization), ("clipping", optimizer._grad_clip)):
            if part is not None:
                settings[name] = type(part).__name__
                settings.update({f"{name}.{key}": value for key, value in vars(part).items()})
        groups = [group for group in optimizer._param_groups if isinstance(group, dict)]
        return {"settings": settings, "groups": groups_of(groups, weights)}

    def slots(self, optimizer: Any, weight: Any) -> dict[str, Any]:
        master = optimizer._master_weights.get(weight.name)  # a copy in float32, to which the slots belong then
        name = weight.name if master is None else master.name
        found = {slot: of[name] for slot, of in optimizer._accumulators.items() if name in of}
        return found if master is None else dict(found, master_weight=master)

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.set_value(self.api.to_tensor(array, dtype=weight.dtype))

    def randomness(self, model: Any) -> Callable[[], None]:
        state = self.api.get_rng_state()
        return lambda: self.api.set_rng_state(state)

    def backward(self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any) -> tuple[Any, list[Any]]:
        self._clear(model)
        computed = loss_of(model, batch)
        loss_in(computed).backward()
        return computed, [weight.grad for weight in self.trained(model)]

    def update(self, model: Any, optimizer: Any, gradients: list[Any]) -> None:
        optimizer.step()
        self._clear(model)

    def _clear(self, model: Any) -> None:
        for weight in self.trained(model):
            weight.clear_gradient(False)  # leaves none, rather than zeros


class Keras(Framework):
    name = "keras"

    def facts(self) -> dict[str, Any]:
        return dict(super().facts(), backend=self.api.backend.backend())

    def layer_class(self) -> type:
        return self.api.layers.Layer  # type: ignore[no-any-return]

    def array(self, tensor: Any) -> NDArray[Any]:
        if self.api is None:  # a tensor of TensorFlow or JAX alone
            return np.asarray(tensor)
        value = tensor.value if isinstance(tensor, self.api.Variable) else tensor
        return np.asarray(self.api.ops.convert_to_numpy(value))

    def weights(self, model: Any) -> dict[str, Any]:
        owned = (weights for _, layer in self._walk(model) for weights in self._owned(layer))
        found = {id(weight): weight for weights in owned for weight in weights}
        return dict(zip(unique(weight.path for weight in found.values()), found.values()))

    def trainable(self, weight: Any) -> bool:
        return bool(weight.trainable)

    def trained(self, model: Any) -> list[Any]:
        return list(model.trainable_variables)

    def layers(self, model: Any) -> list[Layer]:
        names = {id(weight): name for name, weight in self.weights(model).items()}
        walked = list(self._walk(model))
        return [
            Layer(
                path,
                layer,
                *(
                    dict(zip(unique(weight.name for weight in owned), (names[id(weight)] for weight in owned)))
                    for owned in self._owned(layer)
                ),
            )
            for path, (_, layer) in zip(unique(path for path, _ in walked), walked)
        ]

    def settings(self, layer: Any) -> dict[str, Any]:
        try:
            return flat_config(layer.get_config())
        except NotImplementedError:  # a person's own layer
            return {}

    def watch(self, layer: Any, seen: Callable[[Any, bool | None], None]) -> Callable[[], None]:
        before, call = vars(layer).get("call"), layer.call

        @functools.wraps(call)
        def watched(*inputs: Any, **options: Any) -> Any:
            output = call(*inputs, **options)
            kinds = {kind.__name__ for array in arrays_in(output).values() for kind in type(array).__mro__}
            if not kinds & {"KerasTensor", "SymbolicTensor", "Tracer"}:  # which have no values
                seen(output, options.get("training"))
            return output

        def unwatch() -> None:
            vars(layer).pop("call")
            if before is not None:
                vars(layer)["call"] = before

        vars(layer)["call"] = watched
        return unwatch

    def gradient(self, weight: Any) -> Any:
        return getattr(weight.value, "grad", None)  # of the torch backend; others give them to who asks

    def optimizer(self, optimizer: Any, weights: Mapping[str, Any]) -> dict[str, Any]:
        return {"settings": flat_config(optimizer.get_config())}

    def slots(self, optimizer: Any, weight: Any) -> dict[str, Any]:
        trained = [id(variable) for variable in optimizer._trainable_variables]
        found = {}
        for attribute, variables in vars(optimizer).items():
            if attribute in ("_variables", "_trainable_variables") or id(weight) not in trained:
                continue
            if isinstance(variables, list) and len(variables) == len(trained):
                slot = variables[trained.index(id(weight))]
                prefix = weight.path.replace("/", "_") + "_"
                found[slot.name[len(prefix) :]] = slot
        return found

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.assign(array)

    def randomness(self, model: Any) -> Callable[[], None]:
        weights = {id(weight) for weight in self.weights(model).values()}
        states = [(state, np.array(self.array(state))) for state in model.variables if id(state) not in weights]

        def put_back() -> None:
            for state, array in states:
                state.assign(array)

        return put_back

    def backward(self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any) -> tuple[Any, list[Any]]:
        trained, backend = self.trained(model), self.api.backend.backend()
        if backend == "tensorflow":
            with sys.modules["tensorflow"].GradientTape() as tape:
                computed = loss_of(model, batch)
            return computed, tape.gradient(loss_in(computed), [weight.value for weight in trained])
        if backend == "torch":
            model.zero_grad(set_to_none=True)
            computed = loss_of(model, batch)
            loss_in(computed).backward()
            return computed, [weight.value.grad for weight in trained]
        return self._backward_in_jax(model, loss_of, batch)

    def update(self, model: Any, optimizer: Any, gradients: list[Any]) -> None:
        pairs = [pair for pair in zip(gradients, self.trained(model)) if pair[0] is not None]
        with sys.modules["torch"].no_grad() if self.api.backend.backend() == "torch" else nullcontext():
            optimizer.apply_gradients(pairs)

    def _backward_in_jax(self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any) -> tuple[Any, list[Any]]:
        trained, others = self.trained(model), model.non_trainable_variables
        if "call" in vars(model):  # it is watched, which shows nothing where gradients are traced
            with self.api.StatelessScope():
                loss_of(model, batch)

        def compute(values: Any) -> Any:
            with self.api.StatelessScope(zip(trained, values)) as scope:
                computed = loss_of(model, batch)
            return loss_in(computed), (computed, [scope.get_current_value(weight) for weight in others])

        grad = sys.modules["jax"].value_and_grad(compute, has_aux=True)
        (_, (computed, changed)), gradients = grad([weight.value for weight in trained])
        for weight, value in zip(others, changed):
            if value is not None:
                weight.assign(value)
        return computed, gradients

    def _walk(self, model: Any) -> Iterator[tuple[str, Any]]:
        """The model and all layers in it, each once; a recurrent layer without the cell whose weights it uses."""
        met = set()

        def visit(layer: Any, above: str) -> Iterator[tuple[str, Any]]:
            if id(layer) not in met:
                met.add(id(layer))
                path = layer.path or (f"{above}/{layer.name}" if above else layer.name)
                yield path, layer
                for part in layer._layers if self._cell(layer) is None else []:
                    yield from visit(part, "" if layer is model else path)

        return visit(model, "")

    def _cell(self, layer: Any) -> Any:
        cell = getattr(layer, "cell", None) if isinstance(layer, self.api.layers.RNN) else None
        return None if cell is None or cell._layers else cell

    def _owned(self, layer: Any) -> list[list[Any]]:
        """The layer's own parameters, and what else it keeps, such as running statistics."""
        owners = [owner for owner in (layer, self._cell(layer)) if owner is not None]
        return [
            [weight for owner in owners for weight in getattr(owner, kind)]
            for kind in ("_trainable_variables", "_non_trainable_variables")
        ]


FRAMEWORKS: dict[str, Framework] = {"torch": Torch(), "paddle": Paddle(), "keras": Keras()}
FRAMEWORKS.update(dict.fromkeys(("tensorflow", "jax", "jaxlib"), FRAMEWORKS["keras"]))  # by the packages of tensors


def framework_of(value: Any) -> Framework | None:
    """The framework from one of whose classes the value's class inherits."""
    packages = (kind.__module__.partition(".")[0] for kind in type(value).__mro__)
    return next((FRAMEWORKS[package] for package in packages if package in FRAMEWORKS), None)


def qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def classes_of(value: Any, framework: Framework) -> list[str]:
    """The value's class and those from which it inherits, nearest first. The framework's own are named without their
    module, others with it, so that a person's own LSTM is not taken for the framework's."""
    names: list[str] = []
    for kind in type(value).__mro__:
        if kind in (framework.layer_class(), object):
            break
        own = kind.__module__.partition(".")[0] == framework.name
        if own or not names:
            names.append(kind.__name__ if own else qualified(kind))
    return names or [type(value).__name__]


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def arrays_in(value: Any, name: str = "") -> dict[str, Any]:
    """The arrays and tensors in dicts, lists and tuples, by keys and indices joined with dots."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return {name: value}
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    return {inner: array for key, part in pairs for inner, array in arrays_in(part, joined(name, str(key))).items()}


def unique(names: Iterable[str]) -> list[str]:
    """The names, of which a second one becomes NAME#2."""
    count: Counter[str] = Counter()
    found = []
    for name in names:
        count[name] += 1
        found.append(name if count[name] == 1 else f"{name}#{count[name]}")
    return found


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of Keras with those of regularizers and the like under dotted names; initializers and layers,
    which are recorded themselves, are left out."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if not isinstance(value, dict):
            found[name] = value
        elif "class_name" in value and "build_config" not in value and not name.endswith("initializer"):
            found[name] = value["class_name"]
            inner = value["config"] if isinstance(value["config"], dict) else {}
            found.update({f"{name}.{key}": part for key, part in flat_config(inner).items()})
    return found


def array_of(value: Any) -> NDArray[Any]:
    framework = framework_of(value)
    return framework.array(value) if framework else np.asarray(value)


def writable(value: Any, what: str) -> NDArray[Any]:
    """The value as safetensors takes it: with rows one after another, which the library does not check."""
    array = array_of(value)
    if array.dtype.name == "bfloat16":  # of the ml_dtypes package
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise RecordError(f"{what} is of type {array.dtype}; expected numbers")
    return np.asarray(array, order="C")


def number_in(loss: Any) -> float | str:
    """The one number of an array; as a word where JSON has no such number."""
    array = array_of(loss)
    if array.size != 1:
        raise RecordError(f"the loss has shape {array.shape}; expected one number: take its mean")
    return plain_value(array.item())  # type: ignore[no-any-return]


def loss_in(computed: Any) -> Any:
    """The loss of what `loss_of` gave: the loss, or the loss and outputs."""
    return computed[0] if isinstance(computed, tuple) else computed


def plain_value(value: Any) -> Any:
    """The value as JSON has it, or an ellipsis for anything but numbers, strings, None and lists of numbers."""
    if isinstance(value, (list, tuple)):
        values = [plain_value(part) for part in value if not isinstance(part, str)]
        return values if len(values) == len(value) and ... not in values else ...
    if getattr(value, "shape", None) == ():  # a learning rate may be a tensor
        value = array_of(value).item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else ...


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are plain values."""
    found = {name: plain_value(value) for name, value in settings.items()}
    return {name: value for name, value in found.items() if value is not ...}


def groups_of(groups: Sequence[Mapping[str, Any]], weights: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of an optimizer with several groups of weights, each one's settings and the names of its weights."""
    names = {id(weight): name for name, weight in reversed(list(weights.items()))}
    return [
        dict(plain(group), weights=[names[id(weight)] for weight in group["params"] if id(weight) in names])
        for group in groups
        if len(groups) > 1
    ]


def precision_of(tensor: Any) -> str:
    """The name of the tensor's type, such as float32."""
    return str(tensor.dtype).rpartition(".")[2]


def one_unit_moved(array: NDArray[Any], precision: str, rng: np.random.Generator) -> NDArray[Any]:
    """Each number moved by one unit in its last place, up or down by chance; zeros stay."""
    if array.dtype.kind != "f":
        return array
    unit = 1 << 16 if precision == "bfloat16" else 1  # written as float32, of which it is the upper half
    bits = array.view(f"u{array.itemsize}")
    moved = np.where(
        rng.integers(0, 2, array.shape, bool), bits + bits.dtype.type(unit), bits - bits.dtype.type(unit)
    )
    return np.where(array == 0, bits, moved).view(array.dtype)


def remove(path: Path) -> None:
    if path.exists():
        path.unlink()
