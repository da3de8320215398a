"""A record that is being written, and the taps in a model that add to it."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import warnings
import weakref
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence, TypeVar

import numpy as np

from . import RecordError
from .control import DIGITS, coarsest
from .folder import REPLAY, Folder
from .framework import Described, Framework, Layer
from .inference import Inference
from .replay import Feed, output_of_feed, replay_model
from .training import Loss, Training
from .values import (
    arrays_in,
    first_names,
    framework_of,
    is_symbolic,
    joined,
    named_arrays,
    number_in,
    plain,
    precision_of,
    qualified,
    writable,
)
from .watching import Calls, calling_line, names_of

Method = TypeVar("Method", bound=Callable[..., Any])


def of_its_model(method: Method) -> Method:
    """Have taps belong to the record while this method runs, since the record's model computes in it."""

    @functools.wraps(method)
    def computing(record: Record, *arguments: Any, **options: Any) -> Any:
        COMPUTING.append(record)
        try:
            return method(record, *arguments, **options)
        finally:
            COMPUTING.pop()

    return computing  # type: ignore[return-value]


class Record:
    """A record that is being written into a folder, where it replaces an earlier record.

    Each call writes at once, so that a script that fails later leaves what it had recorded. Only what `layer` and
    `weights` are given is written with the next call of another method, or when the program ends.

    With a `feed` a replay is recorded too: before the model computes for the first time, it computes once with what
    the feed has in place of what layers give.

    All methods raise RecordError for what cannot be recorded.
    """

    def __init__(self, folder: str | os.PathLike[str], feed: str | os.PathLike[str] | None = None) -> None:
        path, opened = Path(os.path.abspath(folder)), None if feed is None else Feed(Path(feed))
        former = LAST.get(path)
        self._begin(Folder(path), opened)
        if former:
            former._store.forget()
        LAST[path] = self
        weakref.finalize(self, self._store.flush)  # when the record is dropped, or the program ends

    def _begin(self, store: Any, feed: Feed | None = None) -> None:
        self._store, self._content, self._calls = store, store.content, Calls()
        self._content["calls"] = self._calls.ended
        self._framework: Framework | None = None
        self._model: Any = None
        self._types: Counter[str] = Counter()  # of weights
        self._layers: dict[str, Any] = {}  # of the model, by their paths
        self._watched = True  # until the first forward pass, after record.model if there is a model, has ended
        self._unwatch: list[Callable[[], None]] = []
        self._feed = feed
        self._replay: Record | None = None  # in which this record's feed is used
        self._source: Feed | None = None  # what layers give, where this is a replay itself

    @property
    def folder(self) -> Path:
        path: Path = self._store.path
        return path

    def inputs(self, **arrays: Any) -> None:
        """Record what the model is fed: arrays, or dicts, tuples or dataclasses of arrays, by names that both sides
        use."""
        self._store.add("inputs", named_arrays(arrays))

    def model(self, model: Any) -> None:
        """Record the model's layers, and its weights as they are now.

        From now on calls of its layers are recorded, until the model has computed its own output, or until another
        method of this record is called.
        """
        if self._content["weights"]:
            raise RecordError("weights are already recorded; expected record.model once for each record")
        framework = framework_of(model)
        if framework is None or not isinstance(model, framework.layer_class()):
            known = "a layer of torch, paddle, keras 3 or flax.nnx"
            raise RecordError(f"a model is of {qualified(type(model))}; expected {known}; record.layer takes arrays")
        framework.refuse_compiled(model)
        weights = framework.weights(model)
        if not weights:
            raise RecordError("the model has no weights; if it makes them when it is called, call it once before")
        self._framework, self._model, self._watched = framework, model, True
        first, transient = first_names(weights), framework.transient(model)
        for name, weight in weights.items():
            self._content["weights"][name] = {
                "trainable": framework.trainable(weight),
                "saved": name not in transient,
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
            self._replay = self._within(Folder(self.folder / REPLAY))
            self._replay._source = self._feed
            self._replay._content["fed"] = self._feed.of
            self._replay.model(model)
            self._replay._content["layers"] = self._content["layers"]
            self._replay._watched = False
        precision = framework.computes_in(self._precision_with(weights.values()))
        self._content.update(framework=framework.facts(), precision=precision, loaded=framework.loaded(model))
        self._store.add("weights", weights)

    def tap(self, name: str, tensor: Any) -> Any:
        """Record a tensor between layers, or in a model without layers, by a name that both sides use; returns it.

        It is compared in its place among the layers' outputs, and told with the line of the program that calls this.
        """
        record = self._now
        if record._watched and not is_symbolic(tensor):
            path = f"tap {name}"
            if path not in [layer["path"] for layer in record._content["layers"]]:
                record._describe(Layer(path, None, {}, {}), ["tap"], {})
            call = record._end(record._calls.begin(path, ()), tensor)
            if record._source:
                return output_of_feed(record, call, tensor)
        return tensor

    def forward(self, **outputs: Any) -> None:
        """Record what the model computed, by names that both sides use."""
        self._end_of_pass()
        self._store.add("outputs", named_arrays(outputs))

    def loss(self, loss: Any) -> None:
        """Record the loss of the forward pass: one number."""
        self._end_of_pass()
        if self._content["loss"] is not None:
            raise RecordError("a loss is already recorded; those of later steps are for record.step(number, loss)")
        self._content["loss"] = number_in(loss)
        self._content["dtypes"]["loss"] = precision_of(loss) if hasattr(loss, "dtype") else None
        self._store.save()

    def gradients(self, model: Any = None, gradients: Any = None) -> None:
        """Record the gradients that the model's weights hold after the backward pass, or those given: a list in the
        order of the model's trainable weights, as Keras's gradient tape gives; a dict by the weights' names; or what
        Flax's gradient functions give."""
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
        gradients = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        if not gradients:
            raise RecordError(
                "no weight has a gradient; call record.gradients after the backward pass, before they are cleared, "
                "or give them: record.gradients(model, gradients)"
            )
        self._store.add("gradients", self._of_weights(gradients))

    def optimizer(self, optimizer: Any, settings: Any = None) -> None:
        """Record an optimizer's settings, and how many steps it counts.

        Call it after the first step, or in mid-training right after `record.model`. Of optax give an nnx.Optimizer,
        or the pair of a transformation and its state, with the settings that these hide. Give an optimizer of no
        framework by its name and its settings.
        """
        self._end_of_pass()
        if self._content["optimizer"] is not None:
            raise RecordError("an optimizer is already recorded; expected it once, after the first step")
        described, classes, names = Described({}), [optimizer], {}
        if not isinstance(optimizer, str):
            framework, names = self._recorded(self._model), first_names(self._weights())
            framework.refuse_strange(optimizer)
            described, classes = framework.optimizer(optimizer), framework.classes(optimizer)
        self._content["optimizer"] = {
            "class": classes[0],
            "classes": classes,
            "settings": plain({**described.settings, **(settings or {})}),
            "groups": [
                dict(plain(group), weights=[names.get(id(weight)) for weight in group["params"]])
                for group in described.groups
            ],
            "outside": sum(id(weight) not in names for weight in described.weights),
        }
        self._store.save()

    def step(self, number: int, loss: Any, weights: Mapping[str, Any] | None = None) -> None:
        """Record step `number` of the optimizer, from 1, after the step: the loss from which it was computed, and
        after the first step the model's weights as they are now, or the weights that are given by name."""
        self._step(number, loss, self._weights() if weights is None else self._of_weights(weights))

    @of_its_model
    def training(self, model: Any, batches: Iterable[Any], loss_of: Loss, optimizer: Any, steps: int = 10) -> None:
        """Record all of a short training; in the end the model is as it was before.

        At most `steps` batches are read, and used in turns. `loss_of(model, batch)` gives the loss, or the loss and a
        dict of outputs. `optimizer` is an optimizer, or a function that makes one from the model's trainable weights.

        With such a function a control is recorded too. It shows how much of a difference is rounding: the same
        training from weights that are moved by one unit in the last place, of the coarsest type in which anything was
        computed of weights. In float64, whose bounds are known, there is none.
        """
        batches = list(itertools.islice(batches, max(steps, 0)))
        if not batches:
            raise RecordError("there is no batch or no step; expected a list of what loss_of(model, batch) takes")
        Training(self, model, batches, loss_of, optimizer, steps).run()

    @of_its_model
    def inference(self, model: Any, batches: Iterable[Any], outputs: Sequence[str] = ()) -> None:
        """Record a forward pass on each batch, of a model, or of one that was exported: the path of a file of ONNX,
        which ONNX Runtime computes on the CPU.

        A batch is what the model takes: a tensor, a list of them, or a dict by name. An exported model takes arrays
        of NumPy, too. `outputs` are names of what the model gives, where the other side has names for it.

        Of a model that was not exported a control is recorded, as by `training`.
        """
        batches = list(batches)
        if not batches:
            raise RecordError("there is no batch; expected a list of what the model takes")
        Inference(self, model, batches, outputs).run()

    def layer(self, path: str, kind: str, parameters: Any = None, settings: Any = None, output: Any = None) -> None:
        """Record a layer of no framework: its parameters by the names that they have in it, its settings, and its
        output, in the order in which layers compute. A layer that computes again is given again, with its output
        alone."""
        if self._framework is not None:
            raise RecordError("record.layer takes plain arrays; the layers of a model are recorded by record.model")
        names = {role: joined(path, role) for role in parameters or {}}
        if path not in [layer["path"] for layer in self._content["layers"]]:
            self._describe(Layer(path, None, names, {}), [kind], settings or {})
        if names:
            self.weights(**{name: parameters[role] for role, name in names.items()})
        if output is not None:
            self._end({"layer": path}, output)
            self._store.wait("layers", self._calls.taken())

    def weights(self, **arrays: Any) -> None:
        """Record weights of no layer, as plain arrays."""
        for name in arrays.keys() & self._content["weights"].keys():
            raise RecordError(f"{name!r} is already recorded among the weights; expected each name once")
        copies = {name: np.array(writable(array, f"{name!r} of weights")) for name, array in arrays.items()}
        self._store.wait("weights", copies)
        self._content["precision"] = self._precision_with(copies.values())
        self._content["weights"].update({name: {"trainable": True, "tied_to": None} for name in arrays})

    # The parts of the methods above

    @staticmethod
    def _within(store: Any) -> Record:
        """Return a record that is part of another record."""
        record = Record.__new__(Record)
        record._begin(store)
        return record

    def _precision_with(self, weights: Iterable[Any]) -> str | None:
        """Return the floating type of most weights, those recorded before and these, and the finer one of two."""
        self._types.update(kind for kind in map(precision_of, weights) if "float" in kind)
        return max(self._types, key=lambda kind: (self._types[kind], DIGITS.get(kind, 0)), default=None)

    def _recorded(self, model: Any) -> Framework:
        """Return the framework of the recorded model. Raises RecordError for another model."""
        if self._framework is None:
            raise RecordError("no model is recorded; call record.model(model) first, or give arrays by name")
        if model is not self._model:
            raise RecordError("this is another object than record.model was given; expected the same one")
        return self._framework

    def _weights(self) -> dict[str, Any]:
        """Return the model's recorded weights by name. What a layer has kept since then, such as attention weights,
        which Paddle has among its buffers, is no weight."""
        weights = self._recorded(self._model).weights(self._model)
        return {name: weight for name, weight in weights.items() if name in self._content["weights"]}

    def _of_weights(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in values:
            if name not in self._content["weights"]:
                raise RecordError(f"{name!r} is no weight that is recorded; expected names of weights")
        return values

    def _describe(self, layer: Layer, classes: list[str], settings: Mapping[str, Any]) -> dict[str, Any]:
        """Add a layer to record.json. Whether it trains is known when it is called."""
        facts: dict[str, Any] = {"path": layer.path, "classes": classes, "settings": plain(settings)}
        facts.update(training=None, parameters=layer.parameters, buffers=layer.buffers)
        self._content["layers"].append(facts)
        return facts

    def _end_of_pass(self) -> None:
        """End the forward pass, even if only parts of the model were called."""
        if self._replay:
            self._replay._end_of_pass()
            self._replay = None
        self._write_layers()
        if self._unwatch:
            self._warn_of_dropout()
        while self._unwatch:
            self._unwatch.pop()()

    def _warn_of_dropout(self) -> None:
        """Warn of the first layer that dropped at random, as no other framework does."""
        for layer in self._content["layers"] if not self._source else ():
            rates = (layer["settings"].get(name) for name in ("p", "rate", "dropout"))
            random = layer["training"] and any("rop" in name for name in layer["classes"])
            if random and any(isinstance(rate, float) and 0 < rate < 1 for rate in rates):
                words = "drops at random, and no other framework drops the same; record with a rate of 0"
                warnings.warn(f"{layer['path']} {words}", stacklevel=3)
                return

    def _write_layers(self) -> None:
        arrays = self._calls.taken()
        if self._watched or arrays:
            self._watched = False
            self._store.add("layers", arrays)

    def _step(self, number: int, loss: Any, weights: Mapping[str, Any], **rate: float) -> None:
        self._end_of_pass()
        last = self._content["steps"][-1]["step"] if self._content["steps"] else 0
        if number <= last or (last == 0 and number != 1):
            raise RecordError(f"step {number} came after step {last}; expected steps in order, the first being 1")
        self._content["steps"].append(dict({"step": number, "loss": number_in(loss)}, **rate))
        if number == 1:
            self._store.add("step-1", weights)
        else:
            self._store.save()

    # Calls of layers

    @property
    def _now(self) -> Record:
        """The record into which is computed: the replay while that goes on."""
        return self._replay if self._replay and self._replay._watched else self

    @of_its_model
    def _computed(self, layer: Any, facts: dict[str, Any], call: Any, inputs: Any, options: Any) -> Any:
        """Return the output of a layer's call, which is recorded during a forward pass. In a replay the feed's arrays
        stand in its place."""
        record, framework = self._now, self._recorded(self._model)
        if not record._watched or is_symbolic([inputs, options]):
            return call(*inputs, **options)
        if self._replay and record is self and not self._calls.depth:
            replay_model(self, lambda: layer(*inputs, **options))
            if facts is self._content["layers"][0]:  # then no other part of the model is replayed
                self._replay._end_of_pass()
                self._replay = None
        arguments = framework.padded(layer, {**dict(zip(names_of(call, len(inputs)), inputs)), **options})
        begun = record._calls.begin(facts["path"], arguments)
        record._calls.depth += 1
        try:
            output = call(*inputs, **options)
        finally:
            record._calls.depth -= 1
        if not record._watched or is_symbolic(output):
            return output
        facts["training"] = framework.training(layer, options)
        record._content["autocast"] = record._content["autocast"] or framework.autocast(layer)
        tensors = framework.padded(layer, output)
        ended = record._end(begun, tensors)
        if record._source:
            return framework.packed(layer, output_of_feed(record, ended, tensors), output)
        if layer is record._model:
            record._write_layers()
        return output

    def _end(self, call: Mapping[str, Any], output: Any) -> dict[str, Any]:
        """End a call. Its parts that are outside have a type that says nothing of what is computed of the weights."""
        call = self._calls.end(call, output)
        arrays = enumerate(arrays_in(output).values())
        outside = [part for part, array in arrays if self._is_outside(call["layer"], array)]
        if outside:
            call["outside"] = outside
        return call

    def _is_outside(self, path: str, array: Any) -> bool:
        """True for an array of a coarser type than the weights' through which no gradients are known to flow, unless
        a layer with weights gave it."""
        of_weights = coarsest("float64", self._content["precision"], self._content["autocast"])
        if DIGITS.get(precision_of(array), 52) >= DIGITS[of_weights]:
            return False
        framework, layer = framework_of(array), self._layers.get(path)
        has_weights = layer is not None and self._recorded(self._model).weights(layer)
        parameters = (of["parameters"] for of in self._content["layers"] if of["path"] == path)
        return not (has_weights or any(parameters) or (framework and framework.flows(array)))

    def _cast(self, dtype: str) -> None:
        """Note the line of the program that rounds to a coarser type."""
        line = calling_line().get("line", "")
        self._content["casts"][line] = coarsest(dtype, self._content["casts"].get(line))

    def _coarsest(self, outside: bool = False) -> str:
        """Return the coarsest type in which anything was computed of weights; or with what is outside."""
        types = [
            dtype
            for call in self._calls.ended
            for part, dtype in enumerate(call["dtypes"])
            if outside or part not in call.get("outside", ())
        ]
        types += self._content["casts"].values()
        return coarsest("float64", self._content["precision"], self._content["autocast"], *types)


LAST: weakref.WeakValueDictionary[Path, Record] = weakref.WeakValueDictionary()  # the last record in each folder
COMPUTING: list[Record] = []  # records whose models compute now, the innermost last


def tap(name: str, tensor: Any) -> Any:
    """Call `Record.tap` of the record whose model computes now, or else of the one that is being made.

    Where no forward pass is recorded, it returns the tensor alone, so that a line of it may stay in a model. Raises
    RecordError where no model computes and two records are being made.
    """
    if not COMPUTING and len(being_made()) > 1:
        gc.collect()  # records that a traceback held
    records = COMPUTING[-1:] or being_made()
    if len(records) > 1:
        folders = " and ".join(sorted(str(record.folder) for record in records))
        raise RecordError(f"records are being made in {folders}; expected one of them, or record.tap({name!r}, ...)")
    return records[0].tap(name, tensor) if records else tensor


def being_made() -> list[Record]:
    """Return the records whose forward pass is not over."""
    return [record for record in LAST.values() if record._watched]
