"""Turns of a script that `rosetta race` races: a file to copy,
which needs the standard library alone."""

from __future__ import annotations

import inspect
import json
import operator
import os
import platform
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PACKAGES = "torch paddle tensorflow keras jax numpy".split()  # whose versions a race shows
STEPS_ALONE = 20  # of a script that is run by itself

# Number of the socket by which `rosetta race` gives this process its turns;
# "" once take_turns uses it.
_RACE = os.environ.pop("ROSETTA_TURNS", None)
if _RACE:
    with suppress(OSError):  # a process that this one starts does not get the socket
        os.set_inheritable(int(_RACE), False)


class TurnsError(Exception):
    """A script cannot be raced so. The message is one line:
    what was found, what was expected, what to try."""


def take_turns(
    step: Callable[..., Any],
    *,
    sync: Callable[[], Any] | None = None,
    batch: int = 1,
    after: Any = "",
) -> None:
    """Do steps whenever it is this script's turn under `rosetta race`.

    `step()` is one step of training, or one call of inference. If it takes an argument, that is the
    step's number, so that all scripts can use the same batches. `sync()` waits until the device is
    done, `batch` is the number of items in a step, and `after` is a finished Record, or its folder,
    which shows that the scripts compute the same.

    A script that is run by itself does twenty steps and prints how long they took.

    Raises TurnsError where `step` is no function, where `batch` is no whole number, and where
    `after` has no record of a model's outputs.
    """
    global _RACE
    if not callable(step):
        raise TurnsError(
            f"step is of {named(step)}; expected a function: take_turns(step), not step()"
        )
    try:
        batch = operator.index(batch)
    except TypeError:
        raise TurnsError(
            f"batch is {batch!r}; expected a whole number, the items in a step"
        ) from None
    if _RACE == "":
        raise TurnsError("take_turns was called before; expected it once in a script that is raced")
    numbered = takes_a_number(step)
    record = None if after == "" else folder_of(after)

    def seconds(first: int, count: int) -> float:
        began = time.perf_counter()
        for number in range(first, first + count):
            step(*[number][:numbered])
        if sync is not None:
            sync()
        return max(time.perf_counter() - began, 1e-9)

    if _RACE is None:
        run_alone(seconds, batch, record)
        return
    wire, _RACE = socket.socket(fileno=int(_RACE)), ""
    ready = {
        "python": platform.python_version(),
        "versions": {
            name: str(getattr(sys.modules.get(name), "__version__", "")) for name in PACKAGES
        },
        "batch": batch,
        "synced": sync is not None,
        "record": record,
    }
    done = 0
    with wire, wire.makefile("rb") as lines:
        turn = exchanged(wire, lines, ready=ready)
        while turn is not None:
            # Steps that do not count, then pieces of so many steps each, whose mean is timed.
            first, lead, pieces, each = (turn[name] for name in ("first", "lead", "pieces", "each"))
            first = (first if numbered else done) + lead
            led = seconds(first - lead, lead)
            timed = [seconds(first + piece * each, each) / each for piece in range(pieces)]
            done = first + pieces * each
            turn = exchanged(wire, lines, took={"first": first, "lead": led, "steps": timed})


def run_alone(seconds: Callable[[int, int], float], batch: int, record: str | None) -> None:
    """Do steps and print how long they took."""
    cold, *rest = [seconds(number, 1) for number in range(STEPS_ALONE)]
    middle = sorted(rest)[len(rest) // 2]
    print(
        f"{middle:.3g} s a step, {batch / middle:.3g} items a second: the median of {len(rest)} "
        "steps"
    )
    print(f"{cold:.3g} s for the first step; to compare: rosetta race {sys.argv[0]} ANOTHER_SCRIPT")
    print(
        "what it computes is not recorded, see `after`"
        if record is None
        else f"recorded in {record}"
    )


def exchanged(wire: socket.socket, lines: Any, **message: Any) -> dict[str, int] | None:
    """Send a message and return the next turn, waiting without using the processor;
    None where the race is over."""
    try:
        wire.sendall(json.dumps(message).encode() + b"\n")
        line = lines.readline()
    except ConnectionError:
        return None
    turn: dict[str, int] | None = json.loads(line)["turn"] if line else None
    return turn


def folder_of(after: Any) -> str:
    """Return the absolute path of a record, given as a Record or as its folder. Raises TurnsError
    for a record without outputs, which could not be compared."""
    folder = getattr(after, "folder", after)
    if not isinstance(folder, (str, os.PathLike)):
        raise TurnsError(
            f"after is of {named(after)}; expected a Record or its folder: record = Record('R'), "
            "then after=record, since its methods return nothing"
        )
    if hasattr(after, "flush"):  # a Record, which may have arrays to write
        after.flush()
    try:
        files = json.loads(Path(folder, "record.json").read_text("utf-8"))["files"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TurnsError(f"after is {folder}, in which there is no record: {error!r}") from None
    if not {"layers", "outputs"} & set(files):
        raise TurnsError(
            f"the record in {folder} has no outputs; call record.training or record.forward before"
        )
    return os.path.abspath(folder)


def takes_a_number(step: Callable[..., Any]) -> bool:
    """True for a function that needs one argument."""
    try:
        parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):  # of what is compiled, or not written in Python
        return False
    return (
        sum(each.default is each.empty and each.kind < each.VAR_POSITIONAL for each in parameters)
        == 1
    )


def named(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
