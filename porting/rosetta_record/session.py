"""Records of a model that is put back afterwards: a replay, a training or forward passes, and a control."""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Union

import numpy as np

from .folder import CONTROL
from .framework import States
from .replay import replay_model
from .run import computing
from .values import arrays_in

if TYPE_CHECKING:
    from .inference import Inference
    from .record import Record
    from .training import Training

    Task = Union[Training, Inference]  # what a model computes; `again` may be called if it `repeats`


def record_task(record: Record, task: Task) -> None:
    """Record a task with its replay and its control. In the end the model is as it was, if the task repeats."""
    run = record.run
    with computing(run):
        run.mark(finished=False)
        for number, batch in enumerate(task.batches):  # names of the first one's arrays are those of record.inputs
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


def record_control(record: Record, task: Task, states: States) -> None:
    """Record the same from weights that are moved by one unit, unless in float64, whose bounds are known."""
    run = record.run
    if run.coarsest() != run.coarsest(outside=True):
        find_outside(record, task)
        run.restore(states)
    unit = run.coarsest()
    if unit != "float64":
        run.put_weights(unit)
        record_task(type(record)(record.folder / CONTROL), task.again())
        run.restore(states)


def find_outside(record: Record, task: Task) -> None:
    """Keep among the parts of calls that are outside those that stay where the weights move. All frameworks show
    this; not all tell of a tensor whether gradients flow through it."""
    run = record.run
    run.put_weights(run.coarsest(outside=True))
    with TemporaryDirectory() as folder:
        moved = type(record)(Path(folder) / CONTROL)
        moved.model(task.model)
        task.compute()
        moved.run.end_pass()
        with run.store.open("layers") as left, moved.run.store.open("layers") as right:
            names = {*left.keys()} & {*right.keys()}
            stay = {name for name in names if np.array_equal(left.get_tensor(name), right.get_tensor(name))}
    for call in run.calls.ended:
        if "outside" in call:
            call["outside"] = [part for part in call["outside"] if call["parts"][part] in stay]
