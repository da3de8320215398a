"""Records of a model that is put back afterwards: a training or forward passes,
with a replay and a control."""

from __future__ import annotations

import functools
import weakref
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import numpy as np

from . import RecordError
from .folder import CONTROL
from .framework import States
from .replay import replay_model
from .run import computing
from .values import arrays_in, framework_of, join, loss_in, plain_value

if TYPE_CHECKING:
    from .record import Record

# Takes a model and a batch; returns the loss, or the loss and a dict of outputs.
Loss = Callable[[Any, Any], Any]


@dataclass
class Training:
    """A training from the weights that the model has.
    It repeats if the optimizer is a function that makes one."""

    model: Any
    batches: list[Any]
    loss_of: Loss
    optimizer: Any
    steps: int
    _former: Callable[[], Any] = lambda: None  # the optimizer of the last training

    @property
    def repeats(self) -> bool:
        return callable(self.optimizer)

    def again(self) -> Training:
        return replace(self, optimizer=self._begin())

    def compute(self) -> Any:
        return self.loss_of(self.model, self.batches[0])

    def record(self, record: Record) -> None:
        """Record the training, with all stages of the first step."""
        run, framework = record.run, record.run.framework_for(self.model)
        optimizer = self._begin()
        for number in range(1, self.steps + 1):
            with framework.casts(run.note_cast) if number == 1 else nullcontext():
                batch = self.batches[(number - 1) % len(self.batches)]
                computed, gradients = framework.backward(self.model, self.loss_of, batch)
            if number == 1:
                record.loss(loss_in(computed))
                if isinstance(computed, tuple):
                    record.forward(**computed[1])
                record.gradients(self.model, gradients)
            rate = plain_value(framework.rate(optimizer))
            rate = {"rate": rate} if isinstance(rate, (int, float)) else {}
            framework.update(self.model, optimizer, gradients)
            if number == 1:
                record.optimizer(optimizer)
            run.add_step(number, loss_in(computed), run.weights() if number == 1 else {}, **rate)
            framework.forget(self.model)
            # Which are as large as the model, before the next ones are computed.
            del computed, gradients

    def record_fed(self, replay: Record, computed: Any) -> None:
        """Record the loss, and one step of a new optimizer with the feed's gradients."""
        run, framework = replay.run, replay.run.framework_for(self.model)
        replay.loss(loss_in(computed))
        gradients = run.source.arrays("gradients") if run.source and self.repeats else {}
        gradients = {name: array for name, array in gradients.items() if name in run.weights()}
        given = framework.given(self.model, gradients) if gradients else None
        if given is not None:
            framework.forget(self.model)
            run.store.add("gradients", gradients)
            optimizer = self._begin()
            framework.update(self.model, optimizer, given)
            replay.optimizer(optimizer)
            replay.step(1, loss_in(computed))
            framework.forget(self.model)
            run.put_weights()

    def _begin(self) -> Any:
        """Return the optimizer, which a function of the trainable weights may make. Raises
        RecordError for one of another framework, and where such a function gives one that it gave
        before."""
        framework: Any = framework_of(self.model)
        made = self.optimizer(framework.trained(self.model)) if self.repeats else self.optimizer
        begun = framework.begin(self.model, made)
        framework.refuse_strange(begun)
        if self.repeats and begun is self._former():
            raise RecordError(
                "the function of weights gave an optimizer that has made a step; expected a new one"
            )
        self._former = weakref.ref(begun)
        return begun


@dataclass(frozen=True)
class Inference:
    """Forward passes on several batches, each the arguments of the model,
    as a sequence or by name."""

    model: Any
    batches: list[Any]
    outputs: Sequence[str]  # names of what the model gives
    repeats: bool

    def again(self) -> Inference:
        return replace(self, repeats=False)

    def compute(self) -> Any:
        return self._compute(self.batches[0])

    def record(self, record: Record) -> None:
        """Compute each batch, and record what the model gives, by its names or by its place."""
        given: dict[str, Any] = {}
        for number, batch in enumerate(self.batches):
            record.run.watched = True
            arrays = arrays_in(self._compute(batch))
            names = [
                *self.outputs,
                *(f"output{place}" for place in range(len(self.outputs), len(arrays))),
            ]
            given.update(
                zip(
                    [join(f"batch{number}" if number else "", name) for name in names],
                    arrays.values(),
                )
            )
        record.forward(**given)

    def record_fed(self, replay: Record, computed: Any) -> None:
        """Do nothing: a replay has neither outputs of the model nor a step."""

    def _compute(self, batch: Any) -> Any:
        return self.model(**batch) if isinstance(batch, Mapping) else self.model(*batch)


def record_task(record: Record, task: Training | Inference) -> None:
    """Record a task with its replay and its control. In the end the model is as it was, if the task
    repeats: if it may be done `again` for the control."""
    run = record.run
    with computing(run):
        run.mark(finished=False)
        # Names of the first one's arrays are those of record.inputs.
        for number, batch in enumerate(task.batches):
            run.store.add("inputs", arrays_in(batch, f"batch{number}" if number else ""))
        record.model(task.model)
        states = run.framework_for(task.model).states(task.model)
        if run.replay:
            replay_model(run, task.compute, functools.partial(task.record_fed, run.replay))
            run.end_replay()
        task.record(record)
        if task.repeats:
            run.restore(states)
            record_control(record, task, states)
        run.mark(finished=True)


def record_control(record: Record, task: Training | Inference, states: States) -> None:
    """Record the same from weights that are moved by one unit,
    unless in float64, whose bounds are known."""
    run = record.run
    if run.coarsest() != run.coarsest(outside=True):
        find_outside(record, task)
        run.restore(states)
    unit = run.coarsest()
    if unit != "float64":
        run.put_weights(unit)
        record_task(type(record)(record.folder / CONTROL), task.again())
        run.restore(states)


def find_outside(record: Record, task: Training | Inference) -> None:
    """Keep among the parts of calls that are outside those that stay where the weights move. All
    frameworks show this; not all tell of a tensor whether gradients flow through it."""
    run = record.run
    run.put_weights(run.coarsest(outside=True))
    with TemporaryDirectory() as folder:
        moved = type(record)(Path(folder) / CONTROL)
        moved.model(task.model)
        task.compute()
        moved.run.end_pass()
        with run.store.open("layers") as left, moved.run.store.open("layers") as right:
            names = {*left.keys()} & {*right.keys()}
            stay = {
                name
                for name in names
                if np.array_equal(left.get_tensor(name), right.get_tensor(name))
            }
    for call in run.calls.ended:
        if "outside" in call:
            call["outside"] = [part for part in call["outside"] if call["parts"][part] in stay]
