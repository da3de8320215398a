"""Writes down how a model computes, so that the same model in another framework can be compared with it.

The record is a folder of safetensors and JSON: inputs, weights, what each layer was given and gave, loss, gradients,
the optimizer's slots, weights after a step, losses of steps. Names, layouts and settings are the framework's own, and
`rosetta diff LEFT RIGHT`, which needs no framework, understands them. This file needs NumPy and safetensors and may
be copied into any project. It imports no framework: it works with what it is handed, of PyTorch, Paddle, Keras 3
or Flax NNX.

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

`record.training(...)` does all this at once. `tap("scores", scores)`, in a line of a model, records what no layer
computes. What no framework computed is recorded by `record.layer(...)`, and by the same calls with arrays in place of
a model. `record.model` and `record.optimizer` alone, one after the other, record a training in its middle, for
`rosetta carry --optimizer`. `Record(FOLDER, feed=FEED)` also records what each layer computes by itself, given what
the other side's was given, which `rosetta diff LEFT RIGHT --feed FEED` writes.
`take_turns(step)` has a script raced against others, by `rosetta race`.
"""

from __future__ import annotations

import atexit
import copy
import dataclasses
import functools
import gc
import hashlib
import inspect
import itertools
import json
import linecache
import math
import operator
import os
import platform
import re
import socket
import sys
import time
import weakref
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Mapping, NamedTuple, Protocol, Tuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

FORMAT, VERSION = "rosetta-record", 1
FILES = ("inputs", "weights", "layers", "outputs", "gradients", "slots", "step-1", "step-last")
CONTROL = "control"  # the folder of the control within a record
ROUNDED = "rounded"  # the folder, within a record, of the same training with epsilons of norms as Paddle has them
# Classes of norms whose counterparts in Paddle round epsilon to float32; its GroupNorm does not.
NORMS = {"_NormBase", "LayerNorm", "BatchNorm", "InstanceNorm", "BatchNormalization", "LayerNormalization"}
REPLAY = "replay"  # the folder of the replay within a record, where each layer was given what the other side's was
FEED = "rosetta-feed"  # the format of what a replay is fed
PLANTED = 1.25  # factor of a layer's weights, by which the control of a replay changes what it computes
CONTROL_SEED = 0  # of the choice which weights of the control move up and which down
DIGITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}  # binary ones behind a number's first
PADDLE_SLOTS = (
    "velocity moment1 moment2 moment2_max beta1_pow_acc beta2_pow_acc momentum mean_square mean_grad".split()
)
LONGEST_LINE = 200  # characters of a line of a program
MODELS = ("paddle.vision.models.", "keras.src.applications.")  # modules of frameworks that are programs
SMALLEST_POWER = 1e-30  # of a beta, by which Paddle's Adam counts steps, that float32 has with all its digits


class RecordError(Exception):
    """Something cannot be recorded. The message is one line: what was found, what was expected, what to try."""


Method = TypeVar("Method", bound=Callable[..., Any])


def of_its_model(method: Method) -> Method:
    """Have taps belong to a record as long as this method of it runs, in which its model computes."""

    @functools.wraps(method)
    def computing(record: Record, *arguments: Any, **options: Any) -> Any:
        COMPUTING.append(record)
        try:
            return method(record, *arguments, **options)
        finally:
            COMPUTING.pop()

    return computing  # type: ignore[return-value]


class Record:
    """A record that is being written into a folder, where it replaces one that is there. Each call writes at once, so
    that a script that fails later leaves what it had recorded; only what `layer` and `weights` are given is written
    with the next call of another method, or when the program ends. With a `feed` a replay is recorded too: before the
    model computes for the first time, it computes once with each layer given what the feed has for it."""

    def __init__(self, folder: str | os.PathLike[str], feed: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(os.path.abspath(folder))
        self._feed = None if feed is None else Feed(Path(feed))
        self._replay: Record | None = None  # in which this record's feed is used
        self._source: Feed | None = None  # what layers are given, where this is a replay itself
        self._control: tuple[Any, ...] = ()  # of a replay: a call that was fed, and what computes it again
        self._framework: Framework | None = None
        self._model: Any = None
        self._watched = True  # until the first forward pass, after record.model if there is a model, has ended
        self._unwatch: list[Callable[[], None]] = []
        self._arrays: dict[str, NDArray[Any]] = {}  # inputs and outputs of layers, until they are written
        self._names: dict[Any, str] = {}  # of these arrays by what tells their numbers from others
        self._given: dict[str, NDArray[Any]] = {}  # weights of no framework, until they are written
        self._begun: Counter[str] = Counter()  # how often each layer was called
        self._depth = 0  # calls that have begun and not ended
        self._layers: dict[str, Any] = {}  # of the model, by their paths
        self._content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "framework": {"name": "arrays", "version": np.__version__, "backend": None},
            "python": platform.python_version(),
            "numpy": np.__version__,
            "precision": None,
            "autocast": None,  # the type in which automatic mixed precision had layers compute
            "dtypes": {"loss": None, "outputs": {}},  # each call has those of its layer's outputs
            "layers": [],
            "calls": [],
            "weights": {},
            "files": {},  # how many arrays each has
            "optimizer": None,
            "loss": None,
            "steps": [],
        }
        self._begin()
        BEGUN[self.folder] = self

    def inputs(self, **arrays: Any) -> None:
        """What the model is fed, so that both sides are seen to be fed the same: arrays, or dicts, tuples or
        dataclasses of such."""
        self._add("inputs", named_arrays(arrays))

    def model(self, model: Any) -> None:
        """The model's layers and weights as they are now. From now on outputs of its layers are recorded, until the
        model has computed its own output, or until this record is told something else."""
        if self._content["weights"]:
            raise RecordError("weights are already recorded; expected record.model once for each record")
        framework = framework_of(model)
        if framework is None or not isinstance(model, framework.layer_class()):
            known = "a layer of torch, paddle, keras 3 or flax.nnx"
            raise RecordError(f"a model is of {qualified(type(model))}; expected {known}; record.layer takes arrays")
        weights = framework.weights(model)
        if not weights:
            raise RecordError("the model has no weights; if it makes them when it is called, call it once before")
        self._framework, self._model, self._watched = framework, model, True
        first, transient = first_names(weights), framework.transient(model)
        for name, weight in weights.items():
            self._content["weights"][name] = {
                "trainable": framework.trainable(weight),
                "saved": name not in transient,
                "dtype": precision_of(weight),
                "tied_to": None if first[id(weight)] == name else first[id(weight)],
            }
        for layer in framework.layers(model):
            facts = self._describe(layer, framework.classes(layer.layer), framework.settings(layer.layer))
            self._layers[layer.path] = layer.layer
            if not self._source:  # a replay is told by the record that it is of
                computed = functools.partial(self._computed, layer.layer, facts)
                self._unwatch.append(framework.watch(layer.layer, computed))
        if self._feed:
            self._replay = Record(self.folder / REPLAY)
            self._replay._source = self._feed
            self._replay._content["fed"] = self._feed.of
            self._replay.model(model)
            self._replay._content["layers"] = self._content["layers"]
            self._replay._watched = False
        floating = [kind for kind in map(precision_of, weights.values()) if "float" in kind]
        precision = framework.computes_in(max(floating, key=floating.count, default=None))
        self._content.update(framework=framework.facts(), precision=precision)
        self._add("weights", weights)

    def tap(self, name: str, tensor: Any) -> Any:
        """What stands between layers, or in a model without them, by a name that both sides use; returns it. It is
        compared in its place among the layers' outputs, and told with the line of the program that calls this."""
        record = self._now
        if record._watched and not is_symbolic(tensor):
            path = f"tap {name}"
            if path not in [layer["path"] for layer in record._content["layers"]]:
                record._describe(Layer(path, None, {}, {}), ["tap"], {})
            record._call(record._called(path, ()), tensor)
            if record._source:
                return record._fed(record._source, "outputs", record._content["calls"][-1], tensor)
        return tensor

    def operators(self) -> Any:
        """Refused: operators between layers are not recorded."""
        raise RecordError("operators between layers are not recorded; give what stands there to tap(NAME, TENSOR)")

    def forward(self, **outputs: Any) -> None:
        """What the model computed, by names that both sides use."""
        self._end_of_pass()
        arrays = named_arrays(outputs)
        self._content["dtypes"]["outputs"].update({name: precision_of(array) for name, array in arrays.items()})
        self._add("outputs", arrays)

    def loss(self, loss: Any) -> None:
        """The loss of the forward pass: one number."""
        self._end_of_pass()
        if self._content["loss"] is not None:
            raise RecordError("a loss is already recorded; those of later steps are for record.step(number, loss)")
        self._content["loss"] = number_in(loss)
        self._content["dtypes"]["loss"] = precision_of(loss) if hasattr(loss, "dtype") else None
        self._save()

    def gradients(self, model: Any = None, gradients: Any = None) -> None:
        """The gradients that the model's weights hold after the backward pass; or those given, as a list in the order
        of the model's trainable weights, such as Keras's gradient tape gives, by the weights' names, or as Flax's
        gradient functions give them."""
        self._end_of_pass()
        if isinstance(gradients, Mapping):
            gradients = arrays_in(gradients)
        else:
            framework = self._recorded(model)
            trained = framework.trained(model)
            listed = framework.gradients(model) if gradients is None else gradients
            if len(listed) != len(trained):
                raise RecordError(f"{len(listed)} gradients are given; expected {len(trained)}, one for each weight")
            of = {id(weight): gradient for weight, gradient in zip(trained, listed)}
            gradients = {name: of.get(id(weight)) for name, weight in self._weights().items()}
        found = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        if not found:
            raise RecordError(
                "no weight has a gradient; call record.gradients after the backward pass, before they are cleared, "
                "or give them: record.gradients(model, gradients)"
            )
        self._add("gradients", self._of_weights(found))

    def optimizer(self, optimizer: Any, settings: Any = None, slots: Any = None) -> None:
        """The optimizer after the first step, or in mid-training right after `record.model`: its settings, its step
        counter, and its slots, which are what it remembers of weights. Of optax: an nnx.Optimizer, or the pair of a
        transformation and its state; settings that it hides may be given. Of one that is of no framework: its name,
        its settings, and {"WEIGHT|SLOT": array}."""
        self._end_of_pass()
        if self._content["optimizer"] is not None:
            raise RecordError("an optimizer is already recorded; expected it once, after the first step")
        classes, described, found = [optimizer], Described({}), dict(slots or {})
        names: dict[int, str] = {}
        if not isinstance(optimizer, str):
            framework = self._recorded(self._model)
            framework.refuse_strange(optimizer)
            weights = self._weights()
            names = first_names(weights)
            classes, described = framework.classes(optimizer), framework.optimizer(optimizer, names)
            for name, weight in weights.items():
                kept = framework.slots(optimizer, weight, names[id(weight)])
                found.update({f"{name}|{slot}": value for slot, value in kept.items()})
        facts = {
            "class": classes[0],
            "classes": classes,
            "settings": plain({**described.settings, **(settings or {})}),
            "groups": [
                dict(plain(group), weights=[names.get(id(weight)) for weight in group["params"]])
                for group in described.groups
            ],
            "counters": sorted(described.counters),
            "keys": described.keys,
        }
        self._content["optimizer"] = facts
        self._add("slots", self._of_weights(found))

    def step(self, number: int, loss: Any, weights: Mapping[str, Any] | None = None) -> None:
        """After step `number` of the optimizer, of which the first is 1: the loss from which the step was computed,
        and the model's weights as they are now, or those that are given by name."""
        if weights is None:
            weights = self._weights()
        self._step(number, loss, self._of_weights(weights))

    @of_its_model
    def training(
        self, model: Any, batches: Iterable[Any], loss_of: Callable[[Any, Any], Any], optimizer: Any, steps: int = 10
    ) -> None:
        """All of a short training. Of `batches` as many are read as there are steps, and used in turns;
        `loss_of(model, batch)` gives the loss, or the loss and a dict of outputs. With a function that makes the
        optimizer from the model's trainable weights, a control is recorded too: the same training from weights that
        are moved by one unit in the last place, of the coarsest type in which anything was computed of weights, which
        shows how much of a difference is rounding. In float64 a third training is recorded where float32 lacks the
        epsilon of a norm: the one with that epsilon in float32, which is how Paddle computes it. In the end the model
        is as it was before."""
        batches = list(itertools.islice(batches, max(steps, 0)))
        if not batches:
            raise RecordError("there is no batch or no step; expected a list of what loss_of(model, batch) takes")
        self._content["finished"] = False
        for number, batch in enumerate(batches):  # names of the first one's arrays are those of record.inputs
            self._add("inputs", arrays_in(batch, f"batch{number}" if number else ""))
        self.model(model)
        framework = self._recorded(model)
        states = framework.states(model)
        if self._replay:
            step = functools.partial(self._replay._fed_step, optimizer)
            self._replayed(self._replay, lambda: loss_of(model, batches[0]), step)
            self._replay = None
        used = framework.begun(model, optimizer(framework.trained(model)) if callable(optimizer) else optimizer)
        framework.refuse_strange(used)
        for number in range(1, steps + 1):
            computed, gradients = framework.backward(model, loss_of, batches[(number - 1) % len(batches)])
            if number == 1:
                self.loss(loss_in(computed))
                if isinstance(computed, tuple):
                    self.forward(**computed[1])
                self.gradients(model, gradients)
            rate = plain_value(framework.rate(used))
            rate = {"rate": rate} if isinstance(rate, (int, float)) else {}
            framework.update(model, used, gradients)
            if number == 1:
                self.optimizer(used)
            self._step(number, loss_in(computed), self._weights() if number in (1, steps) else None, **rate)
            del computed, gradients  # which are as large as the model, before the next ones are computed
        if callable(optimizer):
            del used
            put_back(states)
            if self._coarsest() != self._coarsest(outside=True):
                self._move_and_look(framework, loss_of, batches[0])
                put_back(states)
            self._put_back(self._coarsest())
            used = optimizer(framework.trained(model))
            Record(self.folder / CONTROL).training(model, batches, loss_of, used, steps)
            put_back(states)
            self._put_back()
            epsilons = framework.epsilons(model) if self._content["precision"] == "float64" else []
            if epsilons:
                put_back([(put, float(np.float32(epsilon))) for put, epsilon in epsilons])
                used = optimizer(framework.trained(model))
                try:
                    Record(self.folder / ROUNDED).training(model, batches, loss_of, used, steps)
                finally:
                    put_back(epsilons)
                put_back(states)
                self._put_back()
        self._content["finished"] = True
        self._save()

    def layer(self, path: str, kind: str, parameters: Any = None, settings: Any = None, output: Any = None) -> None:
        """A layer of no framework: its parameters by the names that they have in it, its settings, and its output, in
        the order in which layers compute. One that computes again is given again, with its output alone."""
        if self._framework is not None:
            raise RecordError("record.layer takes plain arrays; the layers of a model are recorded by record.model")
        names = {role: joined(path, role) for role in parameters or {}}
        if path not in [layer["path"] for layer in self._content["layers"]]:
            self._describe(Layer(path, None, names, {}), [kind], settings or {})
        if names:
            self.weights(**{name: parameters[role] for role, name in names.items()})
        if output is not None:
            self._call({"layer": path}, output)
            WAITING[self.folder] = copy.copy(self)

    def weights(self, **arrays: Any) -> None:
        """Weights of no layer, as plain arrays."""
        for name in arrays.keys() & self._content["weights"].keys():
            raise RecordError(f"{name!r} is already recorded among the weights; expected each name once")
        self._given.update(
            {name: np.array(writable(array, f"{name!r} of weights")) for name, array in arrays.items()}
        )
        self._content["precision"] = self._content["precision"] or next(map(precision_of, arrays.values()), None)
        self._content["weights"].update({name: {"trainable": True, "tied_to": None} for name in arrays})
        WAITING[self.folder] = copy.copy(self)

    # What the methods above are made of

    def _begin(self) -> None:
        """Make the folder an empty record. A folder that holds anything but a record is left alone."""
        if self.folder.exists():
            try:
                replaced = json.loads((self.folder / "record.json").read_text("utf-8"))["format"] == FORMAT
            except (OSError, ValueError, KeyError, TypeError):
                replaced = False
            if not replaced and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise RecordError(f"{self.folder} exists and is no record; expected a new name or a record")
        self.folder.mkdir(parents=True, exist_ok=True)
        WAITING.pop(self.folder, None)
        self._save()  # first, so that there is a whole record at each moment, were it an empty one
        within = [self.folder / name for name in (CONTROL, ROUNDED, REPLAY)]
        for folder in (*within, self.folder):
            for name in FILES:
                (folder / f"{name}.safetensors").unlink(missing_ok=True)
        for folder in within:
            (folder / "record.json").unlink(missing_ok=True)

    def _save(self) -> None:
        """Write what waits to be written, and record.json beside what is there, then in its place."""
        if WAITING.pop(self.folder, None):
            given, self._given = self._given, {}
            if given:
                self._add("weights", given)
            if self._arrays:
                self._write_layers()
        beside = self.folder / "record.json.new"
        beside.write_text(json.dumps(self._content, indent=1, allow_nan=False) + "\n", "utf-8")
        os.replace(beside, self.folder / "record.json")

    def _add(self, file: str, values: Mapping[str, Any]) -> None:
        """Write these arrays into a file, beside those that it holds."""
        path = self.folder / f"{file}.safetensors"
        before = load_file(path) if path.exists() else {}
        for name in before.keys() & values.keys():
            raise RecordError(f"{name!r} is already recorded among the {file}; expected each name once")
        self._write(file, {**before, **values})

    def _write(self, file: str, values: Mapping[str, Any]) -> None:
        beside = self.folder / f"{file}.safetensors.new"
        save_file({name: writable(value, f"{name!r} of {file}") for name, value in values.items()}, beside)
        os.replace(beside, self.folder / f"{file}.safetensors")
        self._content["files"][file] = len(values)
        self._save()

    def _recorded(self, model: Any) -> Framework:
        """The framework of the model that is recorded, which must be this one."""
        if self._framework is None:
            raise RecordError("no model is recorded; call record.model(model) first, or give arrays by name")
        if model is not self._model:
            raise RecordError("this is another object than record.model was given; expected the same one")
        return self._framework

    def _weights(self) -> dict[str, Any]:
        """Return the model's weights that are recorded, by name. What a layer has kept since then, such as attention
        weights, which Paddle has among its buffers, is no weight."""
        weights = self._recorded(self._model).weights(self._model)
        return {name: weight for name, weight in weights.items() if name in self._content["weights"]}

    def _of_weights(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in values:
            if name.partition("|")[0] not in self._content["weights"]:
                raise RecordError(f"{name!r} is no weight that is recorded; expected names of weights")
        return values

    def _describe(self, layer: Layer, classes: list[str], settings: Mapping[str, Any]) -> dict[str, Any]:
        """Add a layer to what record.json says; whether it trains is known when it is called."""
        facts: dict[str, Any] = {"path": layer.path, "classes": classes, "settings": plain(settings)}
        facts.update(training=None, parameters=layer.parameters, buffers=layer.buffers)
        self._content["layers"].append(facts)
        return facts

    @of_its_model
    def _computed(self, layer: Any, facts: dict[str, Any], call: Any, inputs: Any, options: Any) -> Any:
        """What a call of a layer gives, which is recorded as long as a forward pass is. In a replay the layer is
        given what the feed has for it, and what it gives is replaced."""
        record, framework = self._now, self._recorded(self._model)
        if not record._watched or is_symbolic([inputs, options]):
            return call(*inputs, **options)
        names = names_of(call, len(inputs))
        own = {**dict(zip(names, inputs)), **options}
        arguments = framework.padded(layer, own)

        def taken(values: Mapping[str, Any]) -> tuple[Any, Any]:
            """These arguments as the call takes them."""
            values = framework.packed(layer, values, own)
            return tuple(values[name] for name in names), {name: values[name] for name in options}

        def again(values: Mapping[str, Any]) -> Any:
            inputs, options = taken(values)
            return layer(*inputs, **options)

        if self._replay and record is self and not self._depth:
            self._replayed(self._replay, lambda: again(arguments))
            if facts is self._content["layers"][0]:  # then no other part of the model is replayed
                self._replay._end_of_pass()
                self._replay = None
        begun = record._called(facts["path"], arguments)
        if record._source:
            fed = record._fed(record._source, "inputs", begun, arguments)
            inputs, options = taken(fed)
        record._depth += 1
        try:
            output = call(*inputs, **options)
        finally:
            record._depth -= 1
        if not record._watched or is_symbolic(output):
            return output
        facts["training"] = framework.training(layer, options)
        record._content["autocast"] = record._content["autocast"] or framework.autocast(layer)
        made = framework.padded(layer, output)
        record._call(begun, made)
        if record._source:
            begun = record._content["calls"][-1]
            made = record._fed(record._source, "outputs", begun, made)
            was_fed = begun["fed_inputs"] and begun["fed_outputs"]  # so the left one gave this shape, too
            if not record._control and was_fed and facts["parameters"] and not facts["buffers"]:
                record._control = begun, facts["parameters"].values(), lambda: again(fed)
            return framework.packed(layer, made, output)
        if layer is record._model:
            record._watched = False
            record._write_layers()
        return output

    @property
    def _now(self) -> Record:
        """The record into which is computed: the replay as long as that goes on."""
        return self._replay if self._replay and self._replay._watched else self

    def _called(self, path: str, arguments: Any) -> dict[str, Any]:
        """What is called, with what, and where."""
        number, inputs = sum(self._begun.values()), {}
        for name, array in ((name, array_of(tensor)) for name, tensor in arrays_in(arguments).items()):
            if is_numeric(array):
                inputs[name], kept = self._kept(f"in {number}:{path}:{name}", array)
                self._arrays[inputs[name]] = kept
        call: dict[str, Any] = {"layer": path, "inputs": inputs, **calling_line()}
        if self._source:
            call["number"] = self._begun[path]
        self._begun[path] += 1
        return call

    def _fed(self, feed: Feed, kind: str, call: dict[str, Any], value: Any) -> Any:
        """The arguments or the output of a call with what the feed has in place of its own; the call tells which."""
        framework, own = self._recorded(self._model), arrays_in(value)
        if kind == "outputs":
            own = {str(number): array for number, array in enumerate(own.values())}
        arrays = feed.arrays(kind, call["layer"], call["number"])
        fits = [name for name in own if name in arrays and arrays[name].shape == tuple(own[name].shape)]
        call[f"fed_{kind}"] = fits
        tensors = {**own, **{name: framework.tensor(arrays[name], own[name]) for name in fits}}
        return replaced(value, iter(tensors.values()))

    def _replayed(
        self, replay: Record, compute: Callable[[], Any], then: Callable[[Any], None] = lambda computed: None
    ) -> None:
        """Compute with layers that are fed, into the replay alone, and then what comes after it; in the end the model
        is as it was before."""
        framework, weights = self._recorded(self._model), self._weights()
        statistics = [name for name, weight in weights.items() if not framework.trainable(weight)]
        states = [*framework.states(self._model), *self._states(statistics)]
        self._watched, replay._watched = False, True
        computed = compute()
        replay._watched = False
        replay._plant()
        then(computed)
        put_back(states)
        self._watched = True

    def _plant(self) -> None:
        """The control of a replay: a layer computes once more, by mistake with other weights."""
        if self._control and "planted" not in self._content:
            call, names, compute = self._control
            states = self._states(names)
            put_back([(put, array * PLANTED) for put, array in states])
            self._content["planted"] = dict(call, parts=self._parts(f"planted:{call['layer']}", compute()))
            put_back(states)

    def _states(self, names: Iterable[str]) -> States:
        """Those of weights."""
        framework, weights = self._recorded(self._model), self._weights()

        def put(weight: Any, array: NDArray[Any]) -> None:
            if not np.array_equal(array, array_of(weight)):  # a backward pass refuses what was put in its place
                framework.put(weight, array)

        chosen = [weights[name] for name in names]
        return [(functools.partial(put, weight), np.array(array_of(weight))) for weight in chosen]

    def _fed_step(self, optimizer: Any, computed: Any) -> None:
        """In a replay of a training: the loss, and one step of a new optimizer with the gradients of the feed."""
        framework, feed = self._recorded(self._model), self._source
        self.loss(loss_in(computed))
        gradients = feed.arrays("gradients") if feed else {}
        if gradients and callable(optimizer):
            weights = self._weights()
            arrays = {name: array for name, array in gradients.items() if name in weights}
            given = framework.given(self._model, arrays)
            if given is not None:
                framework.forget(self._model)
                self._add("gradients", arrays)
                used = framework.begun(self._model, optimizer(framework.trained(self._model)))
                framework.update(self._model, used, given)
                self.optimizer(used)
                self._step(1, loss_in(computed), weights)
                self._put_back()

    def _call(self, call: dict[str, Any], output: Any) -> None:
        number, arrays = len(self._content["calls"]), [*arrays_in(output).values()]
        parts = self._parts(f"{number}:{call['layer']}", output)
        call = dict(call, parts=parts, dtypes=[precision_of(array) for array in arrays])
        self._content["calls"].append(call)
        outside = [part for part, array in enumerate(arrays) if self._is_outside(call["layer"], array)]
        if outside:  # parts whose type says nothing of what is computed of the weights
            call["outside"] = outside

    def _is_outside(self, path: str, array: Any) -> bool:
        """True for an array of a coarser type than the weights' through which no gradients are known to flow, unless
        a layer with weights gave it."""
        if DIGITS.get(precision_of(array), 52) >= DIGITS[self._coarsest(calls=False)]:
            return False
        framework, layer = framework_of(array), self._layers.get(path)
        has_weights = layer is not None and self._recorded(self._model).weights(layer)
        own = (of["parameters"] for of in self._content["layers"] if of["path"] == path)
        return not (has_weights or any(own) or (framework and framework.flows(array)))

    def _coarsest(self, outside: bool = False, calls: bool = True) -> str:
        """The coarsest type in which anything was computed of weights; or with what is outside, or that of the
        weights themselves and of automatic mixed precision."""
        found = {"float64", self._content["precision"], self._content["autocast"]}
        for call in self._content["calls"] if calls else ():
            without = () if outside else call.get("outside", ())
            found |= {dtype for part, dtype in enumerate(call["dtypes"]) if part not in without}
        return min(DIGITS.keys() & found, key=DIGITS.__getitem__)

    def _move_and_look(self, framework: Framework, loss_of: Callable[[Any, Any], Any], batch: Any) -> None:
        """Where an array changes with the weights, it is not outside. All frameworks show this; only torch and Paddle
        tell of a tensor whether gradients flow through it."""
        self._put_back(self._coarsest(outside=True))
        moved = Record(self.folder / CONTROL)
        moved.model(self._model)
        framework.backward(self._model, loss_of, batch)
        moved._end_of_pass()
        for call, again in zip(self._content["calls"], moved._content["calls"]):
            if "outside" in call and len(call["parts"]) == len(again["parts"]):
                both = zip(self._outputs(call), moved._outputs(again))
                same = [np.array_equal(one, other, equal_nan=True) for one, other in both]
                call["outside"] = [part for part in call["outside"] if same[part]]

    def _outputs(self, call: Mapping[str, Any]) -> list[NDArray[Any]]:
        """The arrays of a call that are written."""
        with safe_open(self.folder / "layers.safetensors", "np") as arrays:
            return [arrays.get_tensor(name) for name in call["parts"]]

    def _parts(self, name: str, output: Any) -> list[str]:
        """Keep the arrays of an output; returns their names."""
        made = {f"{name}:{part}": array for part, array in enumerate(arrays_in(output).values())}
        self._arrays.update({name: self._kept(name, array_of(array))[1] for name, array in made.items()})
        return list(made)

    def _kept(self, name: str, array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
        """A copy of an array, since the next layer may compute in its place, or the one of the same numbers that is
        kept already; and the name of the first of these."""
        numbers = hashlib.blake2b(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()
        first = self._names.setdefault((array.dtype.str, array.shape, numbers), name)
        return first, np.array(array) if first == name else self._arrays[first]

    def _write_layers(self) -> None:
        arrays, self._arrays, self._names = self._arrays, {}, {}
        self._add("layers", arrays)

    def _end_of_pass(self) -> None:
        """The forward pass is over, even if only parts of the model were called."""
        if self._replay:
            self._replay._end_of_pass()
            self._replay = None
        if self._watched or self._arrays:
            self._watched = False
            self._write_layers()
        while self._unwatch:
            self._unwatch.pop()()

    def _step(self, number: int, loss: Any, weights: Mapping[str, Any] | None, **rate: float) -> None:
        self._end_of_pass()
        last = self._content["steps"][-1]["step"] if self._content["steps"] else 0
        if number <= last or (last == 0 and number != 1):
            raise RecordError(f"step {number} came after step {last}; expected steps in order, the first being 1")
        self._content["steps"].append(dict({"step": number, "loss": number_in(loss)}, **rate))
        if weights is None:
            self._save()
        else:
            self._write("step-1" if number == 1 else "step-last", weights)

    def _put_back(self, unit: str = "") -> None:
        """Give the model the weights that are recorded; or each of them moved by one unit in the last place of this
        type, or of its own if that is coarser: a smaller one vanishes where weights are rounded to the type."""
        framework, rng = self._recorded(self._model), np.random.default_rng(CONTROL_SEED)
        with safe_open(self.folder / "weights.safetensors", "np") as recorded:
            for name, weight in self._weights().items():
                if self._content["weights"][name]["tied_to"] is None:
                    array = recorded.get_tensor(name)
                    coarsest = min(DIGITS.keys() & {unit, precision_of(weight)}, key=DIGITS.__getitem__, default="")
                    framework.put(weight, one_unit_moved(array, coarsest, rng) if unit else array)


BEGUN: weakref.WeakValueDictionary[Path, Record] = weakref.WeakValueDictionary()  # by folder the last record
COMPUTING: list[Record] = []  # records whose models compute now, the innermost last
WAITING: dict[Path, Record] = {}  # by folder copies of records with arrays to write, which may be dropped themselves


@atexit.register
def write_what_waits() -> None:
    for record in [record for record in WAITING.values() if record.folder.is_dir()]:
        record._save()


class Feed:
    """What the layers of another record were given and gave, in the layouts of this model, as `rosetta diff` wrote it
    into a folder."""

    def __init__(self, folder: Path) -> None:
        try:
            self._file: Any = safe_open(folder / "feed.safetensors", "np")
            facts = self._file.metadata() or {}  # type: ignore[no-untyped-call]
            if facts.get("format") != FEED:
                raise ValueError(f"its format is {facts.get('format')!r}")
        except (OSError, ValueError, SafetensorError) as error:
            raise RecordError(
                f"{folder} holds no feed: {error!r}; rosetta diff LEFT RIGHT --feed writes one"
            ) from error
        self.of = facts.get("of")  # what tells the record whose numbers these are
        self._names: dict[str, list[str]] = {}  # of the arrays of a call
        for name in [*self._file.keys()]:  # type: ignore[no-untyped-call]
            self._names.setdefault(name.rpartition("|")[0], []).append(name)

    def arrays(self, kind: str, layer: str = "", number: int = 0) -> dict[str, NDArray[Any]]:
        """Inputs of a call of a layer by the names of arguments, its outputs by their numbers, or gradients by their
        weights."""
        names = self._names.get(f"{kind} {number} {layer}", [])
        return {name.rpartition("|")[2]: self._file.get_tensor(name) for name in names}


def tap(name: str, tensor: Any) -> Any:
    """`Record.tap` of the record whose model computes now, or else of the one that is being made. Where no forward
    pass is recorded, it returns the tensor alone, so that a line of it may stay in a model. Raises RecordError where
    no model computes and two records are being made."""
    if not COMPUTING and len(being_made()) > 1:
        gc.collect()  # those that a traceback held, and nobody any more
    records = COMPUTING[-1:] or being_made()
    if len(records) > 1:
        made = " and ".join(sorted(str(record.folder) for record in records))
        raise RecordError(f"records are being made in {made}; expected one of them, or record.tap({name!r}, ...)")
    return records[0].tap(name, tensor) if records else tensor


def being_made() -> list[Record]:
    """Return the records whose forward pass is not over."""
    return [record for record in BEGUN.values() if record._watched]


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


class Torch(Framework):
    name, children, epsilon, unsaved = "torch", "_modules", "eps", "_non_persistent_buffers_set"
    base, whole = "nn.Module", ("nn.MultiheadAttention",)

    def exists(self, weight: Any) -> bool:
        return not hasattr(weight, "materialize")  # as those of lazy layers have until they are called

    def array(self, tensor: Any) -> NDArray[Any]:
        tensor = tensor.detach().cpu()
        if tensor.layout != self.api.strided:  # the gradient of a sparse embedding
            tensor = tensor.to_dense()
        if tensor.dtype == self.api.bfloat16:  # which NumPy lacks
            tensor = tensor.float()
        return np.asarray(tensor.numpy())

    def watch(self, layer: Any, computed: Callable[[Any, Any, Any], Any]) -> Callable[[], Any]:
        """Where a layer has a hook, torch computes what it is in by parts, also without gradients."""
        hook, unwatch = layer.register_forward_hook(lambda *_: None), super().watch(layer, computed)
        return lambda: (hook.remove(), unwatch())

    def padded(self, layer: Any, value: Any) -> Any:
        """With time where the layer has it in other arrays."""
        rnn = self.api.nn.utils.rnn
        if isinstance(value, rnn.PackedSequence):
            return rnn.pad_packed_sequence(value, batch_first=getattr(layer, "batch_first", True))[0]
        if type(value) is dict:
            return {name: self.padded(layer, part) for name, part in value.items()}
        return tuple(self.padded(layer, part) for part in value) if type(value) is tuple else value

    def packed(self, layer: Any, value: Any, like: Any) -> Any:
        rnn = self.api.nn.utils.rnn
        if isinstance(like, rnn.PackedSequence):
            lengths, batch_first = rnn.pad_packed_sequence(like)[1], getattr(layer, "batch_first", True)
            return rnn.pack_padded_sequence(value, lengths, batch_first, enforce_sorted=False)
        if type(like) is dict:
            return {name: self.packed(layer, part, like[name]) for name, part in value.items()}
        if type(like) is tuple:
            return tuple(self.packed(layer, *both) for both in zip(value, like))
        return value

    def trainable(self, weight: Any) -> bool:
        return bool(weight.requires_grad)

    def flows(self, tensor: Any) -> Any:
        return tensor.requires_grad

    def optimizer(self, optimizer: Any, names: Mapping[int, str]) -> Described:
        groups = optimizer.param_groups
        weights = [weight for group in groups for weight in group["params"]]
        return Described(
            groups[0],
            groups if len(groups) > 1 else (),
            {int(state["step"]) for state in optimizer.state.values() if "step" in state},
            {str(number): names.get(id(weight)) for number, weight in enumerate(weights)},
        )

    def rate(self, optimizer: Any) -> Any:
        return optimizer.param_groups[0]["lr"]

    def slots(self, optimizer: Any, weight: Any, name: str = "") -> dict[str, Any]:
        return {slot: value for slot, value in optimizer.state.get(weight, {}).items() if value is not None}

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.detach().copy_(self.api.from_numpy(array))

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        return self.api.tensor(array).to(like)

    def states(self, model: Any) -> States:
        torch = self.api
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return [(torch.set_rng_state, torch.get_rng_state()), (torch.cuda.set_rng_state_all, cuda)]

    def forget(self, model: Any) -> None:
        model.zero_grad(set_to_none=True)


class Paddle(Framework):
    name, children, unsaved = "paddle", "_sub_layers", "_non_persistable_buffer_names_set"
    base, whole = "nn.Layer", ("nn.layer.rnn.RNNBase",)

    def exists(self, weight: Any) -> bool:
        """What has been computed is no weight, such as the one that weight_norm makes of two others."""
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

    def optimizer(self, optimizer: Any, names: Mapping[int, str]) -> Described:
        settings = dict(vars(optimizer), learning_rate=optimizer.get_lr())
        for name, part in (("regularization", optimizer.regularization), ("clipping", optimizer._grad_clip)):
            if part is not None:
                settings[name] = type(part).__name__
                settings.update({f"{name}.{key}": value for key, value in vars(part).items()})
        groups = [group for group in optimizer._param_groups if isinstance(group, dict)]
        weights = [weight for group in groups for weight in group["params"]] or optimizer._param_groups
        keys = {weight.name: names.get(id(weight)) for weight in weights}
        return Described(settings, groups, self._counters(optimizer, weights), keys)

    def _counters(self, optimizer: Any, weights: Iterable[Any]) -> set[int]:
        """Of Adam, which keeps powers of its betas; the second one can be told apart for longer."""
        kept = [self.slots(optimizer, weight) for weight in weights]
        for number in (1, 2):
            slot, beta = f"beta{number}_pow_acc", getattr(optimizer, f"_beta{number}", None)
            powers = [array_of(slots[slot]) for slots in kept if slot in slots]
            if powers and isinstance(beta, float) and 0 < beta < 1 and min(powers) > SMALLEST_POWER:
                log = math.log(powers[0].dtype.type(beta))
                return {round(math.log(power.item()) / log) - 1 for power in powers}  # it begins with beta itself
        return set()

    def rate(self, optimizer: Any) -> Any:
        return optimizer.get_lr()

    def slots(self, optimizer: Any, weight: Any, name: str = "") -> dict[str, Any]:
        master = optimizer._master_weights.get(weight.name)  # a copy in float32, to which the slots belong then
        key, own = (weight if master is None else master).name, f"{optimizer._name}_" if optimizer._name else ""
        if optimizer._accumulators:
            found = {slot[len(own) :]: of[key] for slot, of in optimizer._accumulators.items() if key in of}
        else:  # before the first step those that it loaded, if it did
            keys = {slot: f"{key}_{own}{slot}_0" for slot in PADDLE_SLOTS}
            held = optimizer._accumulators_holder
            found = {slot: held[own_key] for slot, own_key in keys.items() if own_key in held}
        return found if master is None else dict(found, master_weight=master)

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.set_value(self.api.to_tensor(array, dtype=weight.dtype))

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        return self.api.to_tensor(array, like.dtype, like.place)

    def states(self, model: Any) -> States:
        return [(self.api.set_rng_state, self.api.get_rng_state())]

    def forget(self, model: Any) -> None:
        for weight in self.trained(model):
            weight.clear_gradient(False)  # which leaves none, rather than zeros


class Keras(Framework):
    name, entry, base, epsilon = "keras", "call", "layers.Layer", "epsilon"

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
        owned = (weights for _, layer in self._reached(model) for weights in self._variables(layer))
        found = {id(weight): weight for weights in owned for weight in weights}.values()
        return dict(zip(unique(weight.path for weight in found), found))

    def layers(self, model: Any) -> list[Layer]:
        names = first_names(self.weights(model))
        paths, layers = zip(*self._reached(model))
        found = []
        for path, layer in zip(unique(paths), layers):
            parameters, buffers = (
                dict(zip(unique(weight.name for weight in weights), [names[id(weight)] for weight in weights]))
                for weights in self._variables(layer)
            )
            found.append(Layer(path, layer, parameters, buffers))
        return found

    def settings(self, layer: Any) -> dict[str, Any]:
        try:
            return flat_config(layer.get_config())
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
        return [getattr(weight.value, "grad", None) for weight in self.trained(model)]  # held by the torch backend

    def optimizer(self, optimizer: Any, names: Mapping[int, str]) -> Described:
        slots = {
            id(variable): f"{names[id(weight)]}|{slot}"
            for weight in optimizer._trainable_variables
            if id(weight) in names
            for slot, variable in self.slots(optimizer, weight).items()
        }
        keys = {str(n): slots.get(id(one), f"|{one.name}") for n, one in enumerate(optimizer.variables)}
        return Described(self.settings(optimizer), (), {int(self.array(optimizer.iterations))}, keys)

    def rate(self, optimizer: Any) -> Any:
        return optimizer.learning_rate

    def slots(self, optimizer: Any, weight: Any, name: str = "") -> dict[str, Any]:
        """Of the optimizer's lists with a variable for each weight; a slot is named by the weight's path and its own
        name."""
        ids = [id(variable) for variable in optimizer._trainable_variables]
        if id(weight) not in ids:
            return {}
        others = [of for kind, of in vars(optimizer).items() if not kind.endswith("_variables")]
        found = [of[ids.index(id(weight))] for of in others if isinstance(of, list) and len(of) == len(ids)]
        variables = [slot for slot in found if isinstance(slot, self.api.Variable)]  # not TensorFlow's lists
        return {slot.name[len(weight.path) + 1 :]: slot for slot in variables}

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.assign(array)

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        return self.api.ops.convert_to_tensor(array, self.api.backend.standardize_dtype(like.dtype))

    def states(self, model: Any) -> States:
        weights = first_names(self.weights(model))
        seeds = [state for state in model.variables if id(state) not in weights]
        of_torch = FRAMEWORKS["torch"].states(model) if self.api.backend.backend() == "torch" else []
        return [*((state.assign, np.array(self.array(state))) for state in seeds), *of_torch]

    def forget(self, model: Any) -> None:
        if self.api.backend.backend() == "torch":  # on the others they hold none
            model.zero_grad(set_to_none=True)

    def backward(self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any) -> tuple[Any, Any]:
        backend = self.api.backend.backend()
        if backend == "jax":
            return self._backward_in_jax(model, loss_of, batch)
        if backend == "torch":
            return super().backward(model, loss_of, batch)
        with sys.modules["tensorflow"].GradientTape() as tape:
            computed = loss_of(model, batch)
        return computed, tape.gradient(loss_in(computed), [weight.value for weight in self.trained(model)])

    def update(self, model: Any, optimizer: Any, gradients: Any) -> None:
        pairs = [pair for pair in zip(gradients, self.trained(model)) if pair[0] is not None]
        with sys.modules["torch"].no_grad() if self.api.backend.backend() == "torch" else nullcontext():
            optimizer.apply_gradients(pairs)

    def _backward_in_jax(self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any) -> tuple[Any, Any]:
        trained, others = self.trained(model), model.non_trainable_variables
        if self.entry in vars(model):  # it is watched, and no values are seen where gradients are traced
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

    def _reached(self, model: Any) -> Iterator[tuple[str, Any]]:
        """The model and all layers in it, each once; a recurrent layer without the cell whose weights it uses."""
        met = set()

        def visit(layer: Any, above: str) -> Iterator[tuple[str, Any]]:
            if id(layer) not in met:
                met.add(id(layer))
                path = getattr(layer, "path", None) or (f"{above}/{layer.name}" if above else layer.name)
                yield path, layer
                for part in [] if self._cell(layer) else layer._layers:
                    yield from visit(part, "" if layer is model else path)

        return visit(model, "")

    def _cell(self, layer: Any) -> Any:
        """The cell of a recurrent layer, unless it is made of several."""
        cell = layer.cell if isinstance(layer, self.api.layers.RNN) else None
        return None if cell is None or cell._layers else cell

    def _variables(self, layer: Any) -> list[list[Any]]:
        """The layer's own parameters, and what else it keeps, such as running statistics."""
        owner = self._cell(layer) or layer
        return [owner._trainable_variables, owner._non_trainable_variables]


class Flax(Framework):
    """Flax NNX, with the optimizers of optax."""

    name, entry, base, epsilon = "flax", "__call__", "nnx.Module", "epsilon"
    whole = ("nnx.nn.recurrent.RNN", "nnx.nn.recurrent.RNNCellBase")

    def __init__(self) -> None:
        self._watched: dict[type, dict[int, Any]] = {}  # of the layers of a class what computes them, by their ids
        self._compiled: tuple[Any, Any] = (None, None)  # the last `loss_of`, and its gradients compiled
        self._updates: Any = None  # a step of an optimizer, compiled

    def facts(self) -> dict[str, Any]:
        return dict(super().facts(), backend=f"JAX {sys.modules['jax'].__version__}")

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.asarray(tensor.get_value() if isinstance(tensor, self.api.nnx.Variable) else tensor)

    def exists(self, weight: Any) -> bool:
        return hasattr(weight, "dtype") and not isinstance(weight, self.api.nnx.RngState)

    def parts(self, layer: Any) -> Iterable[tuple[str, Any]]:
        return [(name, part) for name, part in self._inside(layer) if isinstance(part, self.layer_class())]

    def owned(self, layer: Any) -> Owned:
        found = [(name, part) for name, part in self._inside(layer) if isinstance(part, self.api.nnx.Variable)]
        parameters, buffers = (
            {name: part for name, part in found if self.exists(part) and self.trainable(part) == trained}
            for trained in (True, False)
        )
        return parameters, buffers

    def _inside(self, value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
        """The layers and the variables in a layer, through its lists and what gives it random numbers."""
        nnx = self.api.nnx
        if isinstance(value, nnx.Pytree):
            parts: Iterable[tuple[Any, Any]] = vars(value).items()
        else:
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in parts:
            if isinstance(part, (nnx.Module, nnx.Variable)):
                yield joined(name, str(key)), part
            elif isinstance(part, (nnx.Pytree, Mapping, list, tuple)) and not str(key).startswith("_pytree"):
                yield from self._inside(part, joined(name, str(key)))

    def weights(self, model: Any) -> dict[str, Any]:
        found = super().weights(model)
        first = arrays_in(self.api.nnx.state(model))  # has a tied one once, under the name by which optax knows it
        return {**{path: found[path] for path in found if path in first}, **found}

    def classes(self, value: Any) -> list[str]:
        """Those of a recurrent layer's cell, too; of an optimizer the names of its transformations in their order."""
        if not isinstance(value, self.layer_class()):
            return [name for name, _ in transformations(self._parts(value)[0].update)]
        parts = [value, value.cell] if isinstance(value, self.api.nnx.RNN) else [value]
        return [name for part in parts for name in super(Flax, self).classes(part)]

    def settings(self, layer: Any) -> dict[str, Any]:
        return {**vars(getattr(layer, "cell", layer)), **vars(layer)}

    def watch(self, layer: Any, computed: Callable[[Any, Any, Any], Any]) -> Callable[[], Any]:
        """Python looks a layer's __call__ up in its class, which is given another one as long as layers of it are
        watched; unless it has none, as what holds the weights of functions has."""
        kind = type(layer)
        watched, own, call = self._watched.setdefault(kind, {}), vars(kind).get("__call__"), kind.__call__

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
                if own is not None:
                    kind.__call__ = own

        if not watched and any("__call__" in vars(one) for one in kind.__mro__):
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
        dtype, of_weights = (name_of(getattr(layer, name, None)) for name in ("dtype", "param_dtype"))
        return None if dtype in ("None", of_weights) else dtype

    def trainable(self, weight: Any) -> bool:
        return isinstance(weight, self.api.nnx.Param)

    def gradients(self, model: Any) -> list[Any]:
        return [None for _ in self.trained(model)]  # no weight holds one

    def optimizer(self, optimizer: Any, names: Mapping[int, str]) -> Described:
        """What the closures of optax's functions hold. Of a schedule nothing is known, nor of masks; and optax loads
        no state by keys."""
        tx, state = self._parts(optimizer)
        held = {f"{name}.{key}": one for name, of in transformations(tx.update) for key, one in of.items()}
        kept = [*self._kept(state)]
        for kind, value in kept:
            if kind.endswith(".hyperparams"):  # those that optax.inject_hyperparams keeps in the state
                held.update({f"hyperparams.{name}": one for name, one in value.items()})
        return Described(held, (), {int(array_of(value)) for kind, value in kept if kind.endswith(".count")})

    def begun(self, model: Any, optimizer: Any) -> Any:
        nnx = self.api.nnx
        return optimizer if hasattr(optimizer, "opt_state") else nnx.Optimizer(model, optimizer, wrt=nnx.Param)

    def slots(self, optimizer: Any, weight: Any, name: str = "") -> dict[str, Any]:
        kept = [(kind, arrays_in(value)) for kind, value in self._kept(self._parts(optimizer)[1])]
        return {kind: arrays[name] for kind, arrays in kept if name in arrays}

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.set_value(self.tensor(array, weight))

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        return sys.modules["jax"].numpy.asarray(array, like.dtype)

    def given(self, model: Any, gradients: Mapping[str, NDArray[Any]]) -> Any:
        return None

    def states(self, model: Any) -> States:
        return self._variables(model, self.api.nnx.RngState)

    def forget(self, model: Any) -> None:
        pass  # there is no gradient to forget

    def backward(self, model: Any, loss_of: Callable[[Any, Any], Any], batch: Any) -> tuple[Any, Any]:
        if self._watched:  # no values are seen where gradients are traced
            before = self._variables(model, self.api.nnx.Variable)
            loss_of(model, batch)
            put_back(before)

        def compute(model: Any, batch: Any) -> Any:
            computed = loss_of(model, batch)
            return loss_in(computed), computed

        nnx = self.api.nnx
        gradients_of = nnx.value_and_grad(compute, has_aux=True)
        if self._compiled[0] is not loss_of:
            self._compiled = loss_of, nnx.jit(gradients_of)
        try:
            (_, computed), gradients = self._compiled[1](model, batch)
        except (TypeError, IndexError):  # of what cannot be compiled, such as a batch of other things than arrays
            (_, computed), gradients = gradients_of(model, batch)
        return computed, gradients

    def update(self, model: Any, optimizer: Any, gradients: Any) -> None:
        self._updates = self._updates or self.api.nnx.jit(lambda optimizer, *others: optimizer.update(*others))
        self._updates(optimizer, model, gradients)

    def _variables(self, model: Any, kind: Any) -> States:
        found = (part for _, part in self.api.nnx.iter_graph(model) if isinstance(part, kind))
        return [(variable.set_value, variable.get_value()) for variable in found]

    def _parts(self, optimizer: Any) -> Any:
        """The transformation and its state: of an nnx.Optimizer, or given as a pair."""
        if hasattr(optimizer, "opt_state"):
            return optimizer.tx, optimizer.opt_state
        return optimizer if type(optimizer) is tuple else (optimizer, ())

    def _kept(self, state: Any) -> Iterator[tuple[str, Any]]:
        """What a state of optax holds, as CLASS.FIELD."""
        for name, value in zip(getattr(state, "_fields", range(len(state))), state):
            if isinstance(value, tuple):
                yield from self._kept(value)
            elif isinstance(name, str):
                yield f"{type(state).__name__}.{name}", value


FRAMEWORKS: dict[str, Framework] = {"torch": Torch(), "paddle": Paddle(), "keras": Keras(), "flax": Flax()}
FRAMEWORKS.update(dict.fromkeys(("tensorflow", "jax", "jaxlib"), FRAMEWORKS["keras"]))  # whose tensors Keras uses
FRAMEWORKS["optax"] = FRAMEWORKS["flax"]


def framework_of(value: Any) -> Framework | None:
    """The framework from one of whose classes the value's class inherits."""
    packages = (package(kind.__module__) for kind in type(value).__mro__)
    return next((FRAMEWORKS[name] for name in packages if name in FRAMEWORKS), None)


def transformations(update: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The transformations that an update function of optax is made of: the name of each, and what its closure holds,
    which is where its settings are."""
    held = dict(inspect.getclosurevars(update).nonlocals) if inspect.isroutine(update) else {}
    name = getattr(update, "__qualname__", "").partition(".")[0]
    inner = [part for value in held.values() for part in (value if isinstance(value, tuple) else (value,))]
    inner = [part for part in inner if getattr(part, "__name__", "") in ("update", "update_fn")]
    if "inner_factory" in held:  # of optax.inject_hyperparams
        yield held["inner_factory"].__name__, {}
    elif name not in ("chain", "named_chain", "with_extra_args_support"):
        yield name, held
    for part in inner:
        yield from transformations(part)


def qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def names_of(call: Any, number: int) -> list[str]:
    """The names that a call has for so many positional arguments, or numbers where it has none."""
    names = [one.name for one in parameters_of(call) if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return [*names, *map(str, range(len(names), number))][:number]


def parameters_of(call: Any) -> list[inspect.Parameter]:
    try:
        return [*inspect.signature(call).parameters.values()]
    except (TypeError, ValueError):  # of what is compiled, or not written in Python
        return []


def first_names(weights: Mapping[str, Any]) -> dict[int, str]:
    """The name of each weight by its id, and of a tied one the first of its names."""
    return {id(weight): name for name, weight in reversed(list(weights.items()))}


def calling_line() -> dict[str, str]:
    """Where the line is that is being executed, outside of this file and of frameworks but for their models, and what
    it says. A file that is not below the working folder is named as its module is."""
    frame: Any = sys._getframe(1)
    while frame and (frame.f_globals is globals() or is_machinery(str(frame.f_globals.get("__name__")))):
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
    """Return whether the module is of a framework, and no model."""
    return package(module) in FRAMEWORKS and not module.startswith(MODELS)


def package(module: Any) -> str:
    return str(module).partition(".")[0]


def is_symbolic(value: Any) -> bool:
    """Whether it has tensors of Keras, TensorFlow or JAX that stand for values to come."""
    kinds = {kind.__name__ for array in arrays_in(value).values() for kind in type(array).__mro__}
    return bool(kinds & {"KerasTensor", "SymbolicTensor", "Tracer"})


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def unique(names: Iterable[str]) -> list[str]:
    """The names, of which a second one becomes NAME#2."""
    count: Counter[str] = Counter()
    found = []
    for name in names:
        count[name] += 1
        found.append(name if count[name] == 1 else f"{name}#{count[name]}")
    return found


def arrays_in(value: Any, name: str = "") -> dict[str, Any]:
    """The arrays and tensors in dicts, lists, tuples and dataclasses, by keys, indices and fields joined by dots."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return {name: value}
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        pairs = ((field, getattr(value, field)) for field in fields_of(value))
    return {inner: array for key, part in pairs for inner, array in arrays_in(part, joined(name, str(key))).items()}


def replaced(value: Any, arrays: Iterator[Any]) -> Any:
    """The value with these in place of its arrays, in the order in which `arrays_in` has them."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return next(arrays)
    if isinstance(value, Mapping):
        made: Any = copy.copy(value)
        for key, part in value.items():
            made[key] = replaced(part, arrays)
        return made
    if isinstance(value, (list, tuple)):
        parts = [replaced(part, arrays) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    fields = fields_of(value)
    if fields:
        made = copy.copy(value)
        for field in fields:
            object.__setattr__(made, field, replaced(getattr(value, field), arrays))  # it may be frozen
        return made
    return value


def fields_of(value: Any) -> list[str]:
    """Names of the fields of an object that dataclasses or attrs made; none for one of a framework's own classes."""
    kind = type(value)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else getattr(kind, "__attrs_attrs__", ())
    return [field.name for field in fields if hasattr(value, field.name)] if framework_of(value) is None else []


def named_arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if not arrays_in(value):
            raise RecordError(
                f"{name!r} is of {qualified(type(value))}; expected arrays, or dicts, tuples or dataclasses of them"
            )
    return arrays_in(values)


def array_of(value: Any) -> NDArray[Any]:
    framework = framework_of(value)
    return framework.array(value) if framework else np.asarray(value)


def writable(value: Any, what: str) -> NDArray[Any]:
    """The value as safetensors needs it, which writes an array's memory as if its rows followed one another."""
    array = array_of(value)
    if not is_numeric(array):
        raise RecordError(f"{what} is of type {array.dtype}; expected numbers")
    return np.asarray(array.astype(np.float32) if array.dtype.name == "bfloat16" else array, order="C")


def is_numeric(array: NDArray[Any]) -> bool:
    """Whether it can be written; bfloat16 is of the ml_dtypes package, which TensorFlow and JAX use."""
    return array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"


def loss_in(computed: Any) -> Any:
    """The loss of what `loss_of` gave: the loss, or the loss and outputs."""
    return computed[0] if isinstance(computed, tuple) else computed


def number_in(loss: Any) -> Any:
    array = array_of(loss)
    if array.size != 1:
        raise RecordError(f"the loss has shape {array.shape}; expected one number, such as its mean")
    return plain_value(array.item())


def plain_value(value: Any) -> Any:
    """The value as JSON has it, or an ellipsis for anything but numbers, strings, None and lists of numbers. What
    JSON has no number for becomes "inf", "-inf" or "nan"."""
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


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of Keras with those of regularizers and the like under dotted names. Initializers are left out,
    and layers, which are recorded themselves."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if not isinstance(value, dict):
            found[name] = value
        elif "class_name" in value and "build_config" not in value and not name.endswith("initializer"):
            found[name] = value["class_name"]
            inner = value["config"] if isinstance(value["config"], dict) else {}
            found.update({f"{name}.{key}": part for key, part in flat_config(inner).items()})
    return found


def precision_of(tensor: Any) -> str:
    """The name of the tensor's type, such as float32."""
    return name_of(tensor.dtype)


def name_of(dtype: Any) -> str:
    """A type's own name in what a framework writes for it, such as torch.float32 or <dtype: 'float32'>."""
    return str(re.findall(r"\w+", str(dtype))[-1])


def one_unit_moved(array: NDArray[Any], precision: str, rng: np.random.Generator) -> NDArray[Any]:
    """Each number moved by one unit in the last place of a precision, up or down by chance; zeros stay."""
    if array.dtype.kind != "f":
        return array
    # Of a coarser precision than the array's, the unit is where that one has its last digit.
    unit = 1 << max(0, DIGITS[array.dtype.name] - DIGITS.get(precision, 52))
    bits = array.view(f"u{array.itemsize}")
    moved = np.asarray(rng.integers(0, 2, array.shape, bits.dtype))
    moved *= 2 * unit
    moved -= unit  # unsigned integers wrap around, and back again
    moved *= array != 0
    moved += bits
    return moved.view(array.dtype)


# Number of the socket by which `rosetta race` gives this process its turns; "" from when take_turns uses it.
_RACE = os.environ.pop("ROSETTA_TURNS", None)
if _RACE:
    with suppress(OSError):  # a process that this one starts does not get the socket
        os.set_inheritable(int(_RACE), False)


def take_turns(
    step: Callable[..., Any], *, sync: Callable[[], Any] | None = None, batch: int = 1, after: Any = ""
) -> None:
    """Under `rosetta race`: do steps whenever it is this script's turn. `step()` is one step of training, or one call
    of inference; if it takes an argument, that is the step's number, so that all scripts can use the same batches.
    `sync()` waits until the device is done, `batch` is the number of items in a step, and `after` is a finished
    Record, or its folder, by which the scripts are seen to compute the same. A script that is run alone does twenty
    steps and prints how long they took. Raises RecordError where `step` is no function, where `batch` is no whole
    number, and where `after` has no record of a model's outputs."""
    global _RACE
    if not callable(step):
        raise RecordError(f"step is of {qualified(type(step))}; expected a function: take_turns(step), not step()")
    try:
        batch = operator.index(batch)
    except TypeError:
        raise RecordError(f"batch is {batch!r}; expected a whole number, the items in a step") from None
    numbered, done = takes_a_number(step), 0
    record = None if after == "" else recorded(after)

    def seconds(first: int, count: int) -> float:
        began = time.perf_counter()
        for number in range(first, first + count):
            step(*[number][:numbered])
        if sync is not None:
            sync()
        return max(time.perf_counter() - began, 1e-9)

    if _RACE == "":
        raise RecordError("take_turns was called before; expected it once in a script that is raced")
    if _RACE is None:
        cold, *others = [seconds(number, 1) for number in range(20)]
        middle = sorted(others)[9]
        print(f"{middle:.3g} s a step, {batch / middle:.3g} items a second: the median of 19 steps")
        print(f"{cold:.3g} s for the first step; to compare: rosetta race {sys.argv[0]} ANOTHER_SCRIPT")
        print("what it computes is not recorded, see `after`" if record is None else f"recorded in {record}")
        return
    wire, _RACE = socket.socket(fileno=int(_RACE)), ""

    def exchanged(**message: Any) -> dict[str, int] | None:
        """The next turn, for which this waits without using the processor; None where the race is over."""
        try:
            wire.sendall(json.dumps(message).encode() + b"\n")
            line = lines.readline()
        except ConnectionError:
            return None
        turn: dict[str, int] | None = json.loads(line)["turn"] if line else None
        return turn

    packages = "torch paddle tensorflow keras jax numpy".split()
    ready = {
        "python": platform.python_version(),
        "versions": {name: str(getattr(sys.modules.get(name), "__version__", "")) for name in packages},
        "batch": batch,
        "synced": sync is not None,
        "record": record,
    }
    with wire, wire.makefile("rb") as lines:
        turn = exchanged(ready=ready)
        while turn is not None:
            # Steps that do not count, then pieces of so many steps each, whose mean is timed.
            first, lead, pieces, each = (turn[name] for name in ("first", "lead", "pieces", "each"))
            first = (first if numbered else done) + lead
            led = seconds(first - lead, lead)
            timed = [seconds(first + piece * each, each) / each for piece in range(pieces)]
            done = first + pieces * each
            turn = exchanged(took={"first": first, "lead": led, "steps": timed})


def recorded(after: Any) -> str:
    """The absolute path of a record, given as a Record or as its folder. Raises RecordError where it has no outputs,
    by which it could be compared."""
    if isinstance(after, Record):
        after._save()
    folder = getattr(after, "folder", after)
    if not isinstance(folder, (str, os.PathLike)):
        raise RecordError(
            f"after is of {qualified(type(after))}; expected a Record or its folder: record = Record('R'), then "
            "after=record, since its methods return nothing"
        )
    try:
        files = json.loads(Path(folder, "record.json").read_text("utf-8"))["files"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordError(f"after is {folder}, in which there is no record: {error!r}") from None
    if not {"layers", "outputs"} & set(files):
        raise RecordError(f"the record in {folder} has no outputs; call record.training or record.forward before")
    return os.path.abspath(folder)


def takes_a_number(step: Callable[..., Any]) -> bool:
    """Whether a function needs one argument."""
    return sum(one.default is one.empty and one.kind < one.VAR_POSITIONAL for one in parameters_of(step)) == 1
