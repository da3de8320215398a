"""A recording that goes on: its files, the model, and the calls of the model's layers."""

from __future__ import annotations

import functools
import warnings
import weakref
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping

import numpy as np

from . import RecordError
from .folder import Folder
from .framework import Framework, Layer, States, put_back
from .replay import Feed, output_of_feed, replay_model
from .values import (
    DIGITS,
    arrays_in,
    class_name,
    coarsest,
    first_names,
    framework_of,
    is_symbolic,
    move_one_unit,
    number_in,
    plain,
    precision_of,
)
from .watching import Calls, calling_line, names_of

if TYPE_CHECKING:
    from .record import Record


SEED = 0  # of the choice which weights move up and which down


class Run:
    """The state that the methods of a Record, a training and a replay share."""

    def __init__(self, path: Path, feed: Feed | None) -> None:
        """Replace an earlier record in this folder.
        Raises RecordError for a folder that holds anything else."""
        self.store = Folder(path)
        self.content = self.store.content
        self.calls = Calls()
        self.content["calls"] = self.calls.ended
        self.framework: Framework | None = None
        self.model: Any = None
        # Until the first forward pass, after record.model if there is a model, has ended.
        self.watched = True
        self.feed = feed
        self.replay: Record | None = None  # in which this run's feed is used
        self.source: Feed | None = None  # what layers give, where this is a replay itself
        self._types: Counter[str] = Counter()  # of weights
        self._layers: dict[str, Any] = {}  # of the model, by their paths
        self._unwatch: list[Callable[[], None]] = []
        former = LAST.get(path)
        if former:
            former.store.forget()
        LAST[path] = self
        weakref.finalize(self, self.store.flush)  # when the record is dropped, or the program ends

    def mark(self, finished: bool) -> None:
        """Note whether a training or forward passes that have begun came to their end."""
        self.content["finished"] = finished
        self.store.save()

    # The model and its weights

    def take(self, model: Any) -> dict[str, Any]:
        """Take the run's model, whose layers are watched from now on, and return its weights."""
        framework = framework_of(model)
        if framework is None or not isinstance(model, framework.layer_class()):
            known = "a layer of torch, paddle, keras 3 or flax.nnx"
            raise RecordError(
                f"a model is of {class_name(type(model))}; expected {known}; "
                "record.layer takes arrays"
            )
        framework.refuse_compiled(model)
        weights = framework.weights(model)
        if not weights:
            raise RecordError(
                "the model has no weights; if it makes them when it is called, call it once before"
            )
        self.framework, self.model, self.watched = framework, model, True
        first, transient = first_names(weights), framework.transient(model)
        for name, weight in weights.items():
            self.content["weights"][name] = {
                "trainable": framework.trainable(weight),
                "saved": name not in transient,
                "tied_to": None if first[id(weight)] == name else first[id(weight)],
            }
        for layer in framework.layers(model):
            facts = self.describe(
                layer, framework.classes(layer.layer), framework.settings(layer.layer)
            )
            self._layers[layer.path] = layer.layer
            if not self.source:  # a replay is told by the run that it is of
                compute = functools.partial(self._compute, layer.layer, facts)
                self._unwatch.append(framework.watch(layer.layer, compute))
        precision = framework.computes_in(self.precision_with(weights.values()))
        self.content.update(
            framework=framework.facts(), precision=precision, loaded=framework.loaded(model)
        )
        return weights

    def framework_for(self, model: Any) -> Framework:
        """Return the framework of the run's model. Raises RecordError for another model."""
        if self.framework is None:
            raise RecordError(
                "no model is recorded; call record.model(model) first, or give arrays by name"
            )
        if model is not self.model:
            raise RecordError(
                "this is another object than record.model was given; expected the same one"
            )
        return self.framework

    def weights(self) -> dict[str, Any]:
        """Return the model's recorded weights by name. What a layer keeps of a call, such as
        attention weights among its buffers, is no weight."""
        weights = self.framework_for(self.model).weights(self.model)
        return {name: weight for name, weight in weights.items() if name in self.content["weights"]}

    def check_names(self, names: Iterable[str]) -> None:
        """Raise RecordError for a name of no recorded weight."""
        for name in names:
            if name not in self.content["weights"]:
                raise RecordError(
                    f"{name!r} is no weight that is recorded; expected names of weights"
                )

    def restore(self, states: States) -> None:
        """Give the model its recorded weights, and its states of random numbers."""
        put_back(states)
        self.put_weights()

    def put_weights(self, unit: str = "") -> None:
        """Give the model the recorded weights; or each of them moved by one unit in the last place
        of a type, or of the weight's type if that is coarser: a smaller unit vanishes where weights
        are rounded."""
        framework, rng = self.framework_for(self.model), np.random.default_rng(SEED)
        with self.store.open("weights") as recorded:
            for name, weight in self.weights().items():
                if self.content["weights"][name]["tied_to"] is None:
                    array = recorded.get_tensor(name)
                    if unit:
                        array = move_one_unit(array, coarsest(unit, precision_of(weight)), rng)
                    framework.put(weight, array)

    def precision_with(self, weights: Iterable[Any]) -> str | None:
        """Return the floating type of most weights, those recorded before and these,
        and the finer one of two."""
        self._types.update(kind for kind in map(precision_of, weights) if "float" in kind)
        return max(
            self._types, key=lambda kind: (self._types[kind], DIGITS.get(kind, 0)), default=None
        )

    def describe(
        self, layer: Layer, classes: list[str], settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Add a layer to record.json. Whether it trains is known when it is called."""
        facts: dict[str, Any] = {
            "path": layer.path,
            "classes": classes,
            "settings": plain(settings),
        }
        facts.update(training=None, parameters=layer.parameters, buffers=layer.buffers)
        self.content["layers"].append(facts)
        return facts

    # Stages

    def end_pass(self) -> None:
        """End the forward pass, even if only parts of the model were called."""
        self.end_replay()
        self._write_layers()
        if self._unwatch:
            self._warn_of_dropout()
        while self._unwatch:
            self._unwatch.pop()()

    def end_replay(self) -> None:
        if self.replay:
            self.replay.run.end_pass()
            self.replay = None

    def add_step(self, number: int, loss: Any, weights: Mapping[str, Any], **rate: float) -> None:
        """Add a step of the optimizer; of the first one also the weights after it."""
        self.end_pass()
        last = self.content["steps"][-1]["step"] if self.content["steps"] else 0
        if number <= last or (last == 0 and number != 1):
            raise RecordError(
                f"step {number} came after step {last}; expected steps in order, the first being 1"
            )
        self.content["steps"].append(dict({"step": number, "loss": number_in(loss)}, **rate))
        if number == 1:
            self.store.add("step-1", weights)
        else:
            self.store.save()

    def _write_layers(self) -> None:
        arrays = self.calls.take()
        if self.watched or arrays:
            self.watched = False
            self.store.add("layers", arrays)

    def _warn_of_dropout(self) -> None:
        """Warn of the first layer that dropped at random, as no other framework does."""
        for layer in self.content["layers"] if not self.source else ():
            rates = (layer["settings"].get(name) for name in ("p", "rate", "dropout"))
            random = layer["training"] and any("rop" in name for name in layer["classes"])
            if random and any(isinstance(rate, float) and 0 < rate < 1 for rate in rates):
                words = (
                    "drops at random, and no other framework drops the same; record with a rate of "
                    "0"
                )
                warnings.warn(f"{layer['path']} {words}", stacklevel=3)
                return

    # Calls of layers

    @property
    def now(self) -> Run:
        """The run into which is computed: the replay while that goes on."""
        return self.replay.run if self.replay and self.replay.run.watched else self

    def tap(self, name: str, tensor: Any) -> Any:
        """Record a tensor as the output of a layer of its own;
        return it, or the feed's in a replay."""
        run = self.now
        if not run.watched or is_symbolic(tensor):
            return tensor
        path = f"tap {name}"
        if path not in [layer["path"] for layer in run.content["layers"]]:
            run.describe(Layer(path, None, {}, {}), ["tap"], {})
        call = run.end_call(run.calls.begin(path, ()), tensor)
        return output_of_feed(run, call, tensor) if run.source else tensor

    def end_call(self, call: Mapping[str, Any], output: Any) -> dict[str, Any]:
        """End a call. Its parts that are outside have a type that says nothing
        of what is computed of the weights."""
        call = self.calls.end(call, output)
        arrays = enumerate(arrays_in(output).values())
        outside = [part for part, array in arrays if self._is_outside(call["layer"], array)]
        if outside:
            call["outside"] = outside
        return call

    def _compute(
        self, layer: Any, facts: dict[str, Any], call: Any, inputs: Any, options: Any
    ) -> Any:
        """Return the output of a layer's call, which is recorded during a forward pass. In a replay
        the feed's arrays stand in its place."""
        with computing(self):
            run, framework = self.now, self.framework_for(self.model)
            if not run.watched or is_symbolic([inputs, options]):
                return call(*inputs, **options)
            if self.replay and run is self and not self.calls.depth:
                replay_model(self, lambda: layer(*inputs, **options))
                # Then no other part of the model is replayed.
                if facts is self.content["layers"][0]:
                    self.end_replay()
            arguments = framework.pad(
                layer, {**dict(zip(names_of(call, len(inputs)), inputs)), **options}
            )
            begun = run.calls.begin(facts["path"], arguments)
            run.calls.depth += 1
            try:
                output = call(*inputs, **options)
            finally:
                run.calls.depth -= 1
            if not run.watched or is_symbolic(output):
                return output
            facts["training"] = framework.training(layer, options)
            run.content["autocast"] = run.content["autocast"] or framework.autocast(layer)
            tensors = framework.pad(layer, output)
            ended = run.end_call(begun, tensors)
            if run.source:
                return framework.pack(layer, output_of_feed(run, ended, tensors), output)
            if layer is run.model:
                run._write_layers()
            return output

    # Types

    def coarsest(self, outside: bool = False) -> str:
        """Return the coarsest type in which anything was computed of weights;
        or with what is outside."""
        types = [
            dtype
            for call in self.calls.ended
            for part, dtype in enumerate(call["dtypes"])
            if outside or part not in call.get("outside", ())
        ]
        types += self.content["casts"].values()
        return coarsest("float64", self.content["precision"], self.content["autocast"], *types)

    def note_cast(self, dtype: str) -> None:
        """Note the line of the program that rounds to a coarser type."""
        line = calling_line().get("line", "")
        self.content["casts"][line] = coarsest(dtype, self.content["casts"].get(line))

    def _is_outside(self, path: str, array: Any) -> bool:
        """True for an array of a coarser type than the weights' through which no gradients are
        known to flow, unless a layer with weights gave it."""
        of_weights = coarsest("float64", self.content["precision"], self.content["autocast"])
        if DIGITS.get(precision_of(array), 52) >= DIGITS[of_weights]:
            return False
        framework, layer = framework_of(array), self._layers.get(path)
        has_weights = layer is not None and self.framework_for(self.model).weights(layer)
        parameters = (of["parameters"] for of in self.content["layers"] if of["path"] == path)
        return not (has_weights or any(parameters) or (framework and framework.flows(array)))


# The last run in each folder.
LAST: weakref.WeakValueDictionary[Path, Run] = weakref.WeakValueDictionary()
COMPUTING: list[Run] = []  # runs whose models compute now, the innermost last


@contextmanager
def computing(run: Run) -> Iterator[None]:
    """Have taps belong to the run while the block runs, since the run's model computes in it."""
    COMPUTING.append(run)
    try:
        yield
    finally:
        COMPUTING.pop()


def being_made() -> list[Run]:
    """Return the runs whose forward pass is not over."""
    return [run for run in LAST.values() if run.watched]
