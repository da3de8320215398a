"""A short training of a model, which is recorded: the replay of its first step, the training itself, the control."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from . import RecordError
from .control import coarsest, one_unit_moved
from .folder import CONTROL, Folder
from .framework import States, put_back
from .replay import replay_model
from .values import arrays_in, loss_in, plain_value, precision_of

if TYPE_CHECKING:
    from .record import Record

Loss = Callable[[Any, Any], Any]  # takes a model and a batch; returns the loss, or the loss and a dict of outputs
SEED = 0  # of the choice which weights move up and which down


class Training:
    """A training of a record's model, from the weights that the model has."""

    def __init__(
        self, record: Record, model: Any, batches: list[Any], loss_of: Loss, optimizer: Any, steps: int
    ) -> None:
        self.record, self.model, self.batches = record, model, batches
        self.loss_of, self.optimizer, self.steps = loss_of, optimizer, steps
        self._former: Callable[[], Any] = lambda: None  # the optimizer of the last training
        record._content["finished"] = False
        record._store.save()

    def run(self) -> None:
        """Record the training; in the end the model is as it was, if the optimizer is a function that makes one."""
        record, content = self.record, self.record._content
        for number, batch in enumerate(self.batches):  # names of the first one's arrays are those of record.inputs
            record._store.add("inputs", arrays_in(batch, f"batch{number}" if number else ""))
        record.model(self.model)
        self.framework = record._recorded(self.model)
        states = self.framework.states(self.model)
        if record._replay:
            replay_model(record, lambda: self.loss_of(self.model, self.batches[0]), self._step_of_feed)
            record._replay = None
        self._train()
        if self.is_repeatable:
            self._control(states)
        content["finished"] = True
        record._store.save()

    def _train(self) -> None:
        record, framework, model = self.record, self.framework, self.model
        optimizer = self._begun()
        for number in range(1, self.steps + 1):
            with framework.casts(record._cast) if number == 1 else nullcontext():
                batch = self.batches[(number - 1) % len(self.batches)]
                computed, gradients = framework.backward(model, self.loss_of, batch)
            if number == 1:
                record.loss(loss_in(computed))
                if isinstance(computed, tuple):
                    record.forward(**computed[1])
                record.gradients(model, gradients)
            rate = plain_value(framework.rate(optimizer))
            rate = {"rate": rate} if isinstance(rate, (int, float)) else {}
            framework.update(model, optimizer, gradients)
            if number == 1:
                record.optimizer(optimizer)
            record._step(number, loss_in(computed), record._weights() if number == 1 else {}, **rate)
            framework.forget(model)
            del computed, gradients  # which are as large as the model, before the next ones are computed

    def _begun(self) -> Any:
        """Return the optimizer, which a function of the trainable weights may make. Raises RecordError for one of
        another framework, and where such a function gives one that it gave before."""
        make = self.optimizer
        made = make(self.framework.trained(self.model)) if callable(make) else make
        begun = self.framework.begun(self.model, made)
        self.framework.refuse_strange(begun)
        if callable(make) and begun is self._former():
            raise RecordError("the function of weights gave an optimizer that has made a step; expected a new one")
        self._former = weakref.ref(begun)
        return begun

    def _step_of_feed(self, computed: Any) -> None:
        """Record, in the replay, the loss, and one step of a new optimizer with the feed's gradients."""
        framework, replay = self.framework, self.record._replay
        if not replay or not replay._source:
            return
        replay.loss(loss_in(computed))
        weights = replay._weights()
        gradients = replay._source.arrays("gradients")
        gradients = {name: array for name, array in gradients.items() if name in weights}
        given = framework.given(self.model, gradients) if gradients and callable(self.optimizer) else None
        if given is not None:
            framework.forget(self.model)
            replay._store.add("gradients", gradients)
            optimizer = self._begun()
            framework.update(self.model, optimizer, given)
            replay.optimizer(optimizer)
            replay._step(1, loss_in(computed), weights)
            framework.forget(self.model)
            self._put_weights()

    # The same again

    @property
    def is_repeatable(self) -> bool:
        """True if there is a new optimizer for another training."""
        return callable(self.optimizer)

    def _control(self, states: States) -> None:
        """Put the model back, and record the same from weights that are moved by one unit, unless in float64, whose
        bounds are known."""
        record = self.record
        self._restore(states)
        if record._coarsest() != record._coarsest(outside=True):
            self._find_outside()
            self._restore(states)
        unit = record._coarsest()
        if unit != "float64":
            self._put_weights(unit)
            self._repeat(record._within(Folder(record.folder / CONTROL)))
            self._restore(states)

    def _repeat(self, record: Record) -> None:
        """Record the training once more, from the weights that the model has now."""
        record.training(self.model, self.batches, self.loss_of, self._begun(), self.steps)

    def _find_outside(self) -> None:
        """Keep among the parts of calls that are outside those that stay where the weights move. All frameworks show
        this; only torch and Paddle tell of a tensor whether gradients flow through it."""
        record = self.record
        self._put_weights(record._coarsest(outside=True))
        with TemporaryDirectory() as folder:
            moved = record._within(Folder(Path(folder) / CONTROL))
            moved.model(self.model)
            self.framework.backward(self.model, self.loss_of, self.batches[0])
            moved._end_of_pass()
            with record._store.open("layers") as left, moved._store.open("layers") as right:
                names = {*left.keys()} & {*right.keys()}
                stay = {name for name in names if np.array_equal(left.get_tensor(name), right.get_tensor(name))}
        for call in record._calls.ended:
            if "outside" in call:
                call["outside"] = [part for part in call["outside"] if call["parts"][part] in stay]

    def _restore(self, states: States) -> None:
        """Give the model its recorded weights, and its states of random numbers."""
        put_back(states)
        self._put_weights()

    def _put_weights(self, unit: str = "") -> None:
        """Give the model the recorded weights; or each of them moved by one unit in the last place of a type, or of
        the weight's type if that is coarser: a smaller unit vanishes where weights are rounded."""
        record, rng = self.record, np.random.default_rng(SEED)
        with record._store.open("weights") as recorded:
            for name, weight in record._weights().items():
                if record._content["weights"][name]["tied_to"] is None:
                    array = recorded.get_tensor(name)
                    if unit:
                        array = one_unit_moved(array, coarsest(unit, precision_of(weight)), rng)
                    self.framework.put(weight, array)
