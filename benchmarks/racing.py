"""The command `race`, which the command line finds here by its name:
anybody's scripts, raced in turns."""

import os
import re
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backends import commands as options
from benchmarks.commands import (
    Budget,
    NewMeasurement,
    Within,
    measure,
    measurement_path,
    share_option,
)
from common import terminal
from common.errors import CannotBeginError, RosettaError, refusing
from common.machine import cores

if TYPE_CHECKING:
    from benchmarks.schema import Row

Scripts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SCRIPT",
        help="Two scripts or more that call take_turns; each is a path, 'a path and arguments', or "
        "NAME='…'.",
    ),
]
Pythons = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=PATH", help="The Python interpreter of the script NAME."),
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME:VARIABLE=VALUE", help="An environment variable for the script NAME alone."
    ),
]
MappingOption = Annotated[
    Path | None, typer.Option("--mapping", help="A file that pairs weights and layers.")
]
Lanes = Annotated[
    str,
    typer.Option(
        help="tuned: the same threads and memory for all; installed: as your shell has it; or both."
    ),
]
FailSlower = Annotated[
    float | None,
    share_option(
        help="Exit with 1 if the first script is surely slower by more than this, such as 5%."
    ),
]


def race(
    scripts: Scripts = None,
    python: Pythons = None,
    env: Variables = None,
    lanes: Lanes = "tuned",
    mapping: MappingOption = None,
    within: Within = None,
    budget: Budget = None,
    fail_slower: FailSlower = None,
    out: NewMeasurement = None,
    json: options.Json = False,
) -> None:
    """Race scripts of your own in turns, after their records show whether all compute the same.

    Each runs in its own process and ends with take_turns(step), of rosetta_turns.py. The first one
    is compared with each of the others.
    """
    from benchmarks.measure.measurement import Measurement
    from benchmarks.measure.proof import read_mapping
    from benchmarks.measure.race import RACE_BUDGET, RACE_WITHIN, Race
    from benchmarks.schema import Plan

    known, path = read_mapping(mapping) if mapping else None, measurement_path("race", out)
    rows = script_rows(scripts or [], python or [], env or [], lanes)
    plan = Plan(
        rows, RACE_WITHIN if within is None else within, budget or RACE_BUDGET, budget is not None
    )
    measure(path, json, lambda: Race(Measurement.begin(path, plan), known))
    if fail_slower is not None:
        _require_as_fast(path, fail_slower)


def _require_as_fast(path: Path, limit: float) -> None:
    """Raise RosettaError if the first script of a measurement is slower
    than the second by more than `limit`.

    Warn if noise leaves that open.
    """
    from benchmarks.measure.measurement import Measurement
    from benchmarks.report.race_results import RaceResults

    results = RaceResults(Measurement.read(path))
    word, slower = results.slower(limit), f"slower by more than {100 * limit:g}%"
    if word == "slower":
        raise RosettaError(f"{slower}: {results.verdicts[0]}")
    if word == "not told apart":
        terminal.warn(f"whether it is {slower} is not told apart: {results.verdicts[0]}")


def script_rows(
    scripts: Sequence[str], pythons: Sequence[str], variables: Sequence[str], lanes: str
) -> "tuple[Row, ...]":
    """Return a row for each script in each lane, from what was typed. Raises CannotBeginError."""
    from benchmarks.measure.race import MOST_SCRIPTS
    from benchmarks.schema import LANES, Row

    commands = dict(map(_name_and_command, scripts))
    if len(commands) < len(scripts):
        raise CannotBeginError(
            f"two scripts have one name; name them: A={scripts[0]} B={scripts[-1]}"
        )
    chosen: dict[Any, None] = dict.fromkeys(lanes.split(","))
    if unknown := chosen.keys() - LANES.keys():
        raise CannotBeginError(
            f"--lanes names {', '.join(unknown)}; the lanes are {', '.join(LANES)}"
        )
    interpreters = dict(_of_names(commands, "--python NAME=PATH", "(.+?)=(.+)", pythons))
    if missing := [python for python in interpreters.values() if which(python) is None]:
        raise CannotBeginError(
            f"{missing[0]} cannot be started, since it is no program; give --python another PATH"
        )
    set_for: dict[str, dict[str, str]] = {name: {} for name in commands}
    for name, variable, value in _of_names(
        commands, "--env NAME:VARIABLE=VALUE", "(.+?):([^=]+)=(.*)", variables
    ):
        set_for[name][variable] = value
    digests = {}
    for name, command in commands.items():
        with refusing(f"{command[0]} cannot be read"):
            digests[name] = sha256(Path(command[0]).read_bytes()).hexdigest()
    rows = [
        Row(
            lane=lane,
            python=interpreters.get(name, sys.executable),
            name=f"{name}, {lane}" if len(chosen) > 1 else name,
            command=command,
            variables=(_set_by_shell() if lane == "tuned" else {}) | set_for[name],
            sha256=digests[name],
        )
        for lane in chosen
        for name, command in commands.items()
    ]
    if len(rows) < 2:
        raise CannotBeginError("a race needs two scripts, or one with --lanes tuned,installed")
    if len(rows) > MOST_SCRIPTS:
        raise CannotBeginError(f"{len(rows)} scripts were given, and {MOST_SCRIPTS} are the most")
    return tuple(rows)


def _set_by_shell() -> dict[str, str]:
    """The variables of the tuned lane that the shell has set."""
    from backends.process.tuned import tuned_for_any

    return {
        variable: os.environ[variable]
        for variable in tuned_for_any(cores())
        if variable in os.environ
    }


def _name_and_command(script: str) -> tuple[str, tuple[str, ...]]:
    """The name and the command of a script that is typed as a path,
    as a path with arguments, or as NAME=SCRIPT."""
    name, equals, rest = script.partition("=")
    named = (
        bool(equals)
        and not os.path.exists(script)
        and os.path.basename(name) == name
        and " " not in name
    )
    command = rest if named else script
    try:
        words = (command,) if os.path.exists(command) else tuple(shlex.split(command))
    except ValueError as error:
        raise CannotBeginError(f"{script} is no command: {error}") from error
    if not words or not os.path.isfile(words[0]):
        raise CannotBeginError(
            f"{words[0] if words else script} is not a file; give the path of a Python script"
        )
    return name if named else Path(words[0]).stem, words


def _of_names(
    names: Collection[str], form: str, pattern: str, given: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Split options of a form that begin with the name of a script. Raises CannotBeginError."""
    for text in given:
        parts = re.fullmatch(pattern, text, re.DOTALL)
        if parts is None or parts[1] not in names:
            raise CannotBeginError(
                f"it is {form}, where NAME is one of {', '.join(names)}; found {text}"
            )
        yield parts.groups()
