"""The progress of a training on a terminal: a bar, and the figures of each epoch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from common import terminal
from common.text import printable

EPOCH_COLUMNS = "epoch seconds loss val_loss accuracy val_accuracy val_accuracy_real".split()
EPOCH_FORMATS = {"epoch": "d", "seconds": ".2f"}  # the others have four digits
EPOCH_HEADER = "  ".join(f"{name:>6}" for name in EPOCH_COLUMNS)


@contextmanager
def training_progress(
    backend: str, epochs: int = 0, silent: bool = False
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A progress bar on a terminal, unless `silent`;
    gives the function that takes the backend's events.

    While a model is trained, the bar is over the steps of all `epochs`, and so is the time left.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        TimeElapsedColumn(),
    )
    bar = Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[left]}"), console=terminal.err
    )
    title = printable(backend)
    # "left" follows the time that is left
    task = bar.add_task(f"starting {title}", total=None, left="")
    lines = [EPOCH_HEADER]  # until it is printed

    def on_event(event: Mapping[str, Any]) -> None:
        if "step" in event:
            epoch, steps = event["epoch"], event["steps"]
            loss = "" if event["loss"] != event["loss"] else f"  loss {event['loss']:.4f}"
            done = {"completed": (epoch - 1) * steps + event["step"], "total": epochs * steps}
            bar.update(
                task, description=f"{title}  epoch {epoch} of {epochs}{loss}", **done, left="left"
            )
        elif "epoch_done" in event:
            for line in (*lines, epoch_line(event["epoch_done"])):
                terminal.err.print(line, highlight=False, soft_wrap=True)
            lines.clear()
        elif "warning" in event:
            terminal.warn(event["warning"])
        elif "doing" in event:
            bar.update(task, description=f"{title}  {event['doing']}")
        elif "translated" in event:
            done = {"completed": event["translated"], "total": event["sentences"]}
            bar.update(task, description=f"{title}  translating", **done)

    with nullcontext() if silent else terminal.showing(bar):
        yield on_event


def epoch_line(epoch: Mapping[str, Any]) -> str:
    """One epoch's figures under EPOCH_HEADER, as `train` prints them when it ends."""
    formats = {
        name: f"{max(len(name), 6)}{EPOCH_FORMATS.get(name, '.4f')}" for name in EPOCH_COLUMNS
    }
    return "  ".join(format(epoch[name], form) for name, form in formats.items())
