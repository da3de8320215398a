"""A short training of a model, which is recorded."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable

from . import RecordError
from .values import framework_of, loss_in, plain_value

if TYPE_CHECKING:
    from .record import Record

Loss = Callable[[Any, Any], Any]  # takes a model and a batch; returns the loss, or the loss and a dict of outputs


@dataclass
class Training:
    """A training from the weights that the model has. It repeats if the optimizer is a function that makes one."""

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
            del computed, gradients  # which are as large as the model, before the next ones are computed

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
        """Return the optimizer, which a function of the trainable weights may make. Raises RecordError for one of
        another framework, and where such a function gives one that it gave before."""
        framework: Any = framework_of(self.model)
        made = self.optimizer(framework.trained(self.model)) if self.repeats else self.optimizer
        begun = framework.begun(self.model, made)
        framework.refuse_strange(begun)
        if self.repeats and begun is self._former():
            raise RecordError("the function of weights gave an optimizer that has made a step; expected a new one")
        self._former = weakref.ref(begun)
        return begun
