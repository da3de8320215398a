"""A record that is being written, and the taps in a model that add to it."""

from __future__ import annotations

import atexit
import copy
import functools
import gc
import hashlib
import itertools
import json
import os
import platform
import weakref
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from . import RecordError
from .feed import Feed
from .values import (
    DIGITS,
    array_of,
    arrays_in,
    first_names,
    framework_of,
    is_numeric,
    is_symbolic,
    joined,
    loss_in,
    named_arrays,
    number_in,
    one_unit_moved,
    plain,
    plain_value,
    precision_of,
    qualified,
    replaced,
    writable,
)
from .watching import Described, Framework, Layer, States, calling_line, names_of, put_back

FORMAT, VERSION = "rosetta-record", 1
FILES = ("inputs", "weights", "layers", "outputs", "gradients", "slots", "step-1", "step-last")
CONTROL = "control"  # the folder of the control within a record
ROUNDED = "rounded"  # the folder, within a record, of the same training with epsilons of norms as Paddle has them
REPLAY = "replay"  # the folder of the replay within a record, where each layer was given what the other side's was
CONTROL_SEED = 0  # of the choice which weights of the control move up and which down


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
    model computes for the first time, it computes once with what the feed has in place of what layers give."""

    def __init__(self, folder: str | os.PathLike[str], feed: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(os.path.abspath(folder))
        self._feed = None if feed is None else Feed(Path(feed))
        self._replay: Record | None = None  # in which this record's feed is used
        self._source: Feed | None = None  # what layers give, where this is a replay itself
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
            self._feed.check(weights)
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
                return record._fed(record._source, record._content["calls"][-1], tensor)
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
        """What a call of a layer gives, which is recorded as long as a forward pass is. In a replay it is replaced by
        what the feed has for it."""
        record, framework = self._now, self._recorded(self._model)
        if not record._watched or is_symbolic([inputs, options]):
            return call(*inputs, **options)
        names = names_of(call, len(inputs))
        arguments = framework.padded(layer, {**dict(zip(names, inputs)), **options})

        if self._replay and record is self and not self._depth:
            self._replayed(self._replay, lambda: layer(*inputs, **options))
            if facts is self._content["layers"][0]:  # then no other part of the model is replayed
                self._replay._end_of_pass()
                self._replay = None
        begun = record._called(facts["path"], arguments)
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
            made = record._fed(record._source, record._content["calls"][-1], made)
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

    def _fed(self, feed: Feed, call: dict[str, Any], value: Any) -> Any:
        """The output of a call with what the feed has in place of its arrays; the call tells which."""
        framework = self._recorded(self._model)
        own = {str(number): array for number, array in enumerate(arrays_in(value).values())}
        arrays = feed.arrays(f"outputs {call['number']} {call['layer']}")
        fits = [name for name in own if name in arrays and arrays[name].shape == tuple(own[name].shape)]
        call["fed_outputs"] = fits
        tensors = {**own, **{name: framework.tensor(arrays[name], own[name]) for name in fits}}
        return replaced(value, iter(tensors.values()))

    def _replayed(
        self, replay: Record, compute: Callable[[], Any], then: Callable[[Any], None] = lambda computed: None
    ) -> None:
        """Compute with outputs that are fed, into the replay alone, and then what comes after it; in the end the
        model is as it was before."""
        framework, weights = self._recorded(self._model), self._weights()
        statistics = [name for name, weight in weights.items() if not framework.trainable(weight)]
        states = [*framework.states(self._model), *self._states(statistics)]
        self._watched, replay._watched = False, True
        computed = compute()
        replay._watched = False
        then(computed)
        put_back(states)
        self._watched = True

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
