"""Types commands with options and values at random; each does what it should, or is refused in one line.

Everything happens in this process and in a temporary folder: no backend is started, nothing is downloaded or served,
and no machine is examined; a command that comes so far is refused there.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NoReturn, get_args, get_origin
from unittest.mock import patch

import numpy as np
import typer.main

from backends import TABLE
from benchmarks.measure.lock import PLACE
from common.errors import CannotBeginError
from rosetta import app
from tests import recordings
from tests.attack.damaged_files import LINES, run_files
from tests.attack.limits import left_behind, little_memory, little_time
from tests.program import rosetta

GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = {name: GROUP.get_command(None, name) for name in GROUP.list_commands(None)}
NUMBERS = ["", "9" * 30, *"0 1 2 -1 1e3 nan inf -inf 1e-320 0x10 1_000 ½ ٣ 4 0.5".split()]
WORDS = ["", " ", "a" * 5000, "\x1b[2J", "\u202e", "a\nb", "\udce9", "$(touch harmed)", "'\""]
WORDS += "- -- -h 😀 %s%n all".split()
PATHS = "run old pairs.txt a.jsonl none none/a.html . .. / /dev/null run/config.json ~ new new/a.md".split()
PATHS += ["~nobody/a", "a\x1b[2J.jsonl", "é\udce9", "a" * 300, "/proc/self/mem", "\x00"]
NAMES = "numpy,torch numpy=/nowhere torch:none phrasebook tail grouped mask space float64 best last drop".split()
NAMES += [*TABLE, *"shuffled,bucketed 10% 1m 0% 1e9% 99999999999h".split()]
SENSIBLE = [  # what is done, or goes far
    "report a.jsonl -o new.html",
    "convert run --to weights",
    "convert new --from pairs.txt --backend torch --vocabulary run",
    "compare a.jsonl a.jsonl --fail-slower 1%",
    "data --data pairs.txt",
    "train --data pairs.txt --backend numpy --out new",
    "train --out run --resume --epochs 9",
    "bench --resume --out a.jsonl",
    "bench --backends numpy --data pairs.txt --out b.jsonl",
    "sweep --backends numpy --data pairs.txt --out c.jsonl",
    "parity --quick --data pairs.txt",
    "evaluate run --weights best",
    "translate --file pairs.txt --beam 3 --n-best 2",
    "serve run --backends numpy",
]
# Where work would begin, so that no process is started, nothing is served or downloaded, and no machine is examined.
BEGINNINGS = (
    "benchmarks.measure.machine.check",
    "benchmarks.measure.machine.wait_until_fit",
    "benchmarks.measure.sweep.measure",
    "benchmarks.compare.course.initial_state",
    "backends.serve.server._listener",
    "common.corpus.download",
    "backends.process.parent.BackendProcess._start",
    "backends.process.parent.interpreter_versions",
    "benchmarks.measure.plan.interpreter_versions",
)
RECORDING = recordings.recording(recordings.plan_of(["torch", "paddle"]), rounds=2)


def refused(*arguments: object, **named: object) -> NoReturn:
    raise CannotBeginError("it came so far that work would begin")


def line_of(rng: np.random.Generator) -> list[str]:
    """A command with some of its own options and arguments, and seldom with those of another one."""
    sensible = rng.integers(3) == 0
    name = _one_of(list(COMMANDS), rng)
    words = _one_of(SENSIBLE, rng).split() if sensible else [name if rng.integers(50) else value(rng)]
    command = COMMANDS.get(words[0], COMMANDS[name])
    parameters = list(command.params)
    for _ in range(rng.integers(0, 3 if sensible else 7)):
        if rng.integers(20) == 0:
            parameters = [p for other in COMMANDS.values() for p in other.params]
        parameter = _one_of(parameters, rng)
        if parameter.param_type_name == "option":
            words.append(parameter.opts[0])
        if parameter.param_type_name == "argument" or not parameter.is_flag or rng.integers(20) == 0:
            words.append(fitting(parameter, rng))
    for parameter in command.params:
        if parameter.required and not sensible and rng.integers(10):
            words += [*parameter.opts[:1], fitting(parameter, rng)][parameter.param_type_name == "argument" :]
    return words


def fitting(parameter: Any, rng: np.random.Generator) -> str:
    """A value, which most times is one of those that the parameter takes."""
    kind = parameter.type_descriptor.annotation
    if rng.integers(5) == 0:
        return value(rng)
    if get_origin(kind) is Literal:
        return _one_of(list(get_args(kind)), rng)
    return _one_of({int: NUMBERS, float: NUMBERS, Path: PATHS}.get(kind, NAMES + PATHS), rng)


def value(rng: np.random.Generator) -> str:
    return _one_of(_one_of([NUMBERS, WORDS, PATHS, NAMES], rng), rng)


def _one_of(known: list[Any], rng: np.random.Generator) -> Any:
    return known[rng.integers(len(known))]


@contextmanager
def place() -> Iterator[Path]:
    """A folder to type commands in, while nothing begins."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        for name in BEGINNINGS:
            stack.enter_context(patch(name, refused))
        stack.enter_context(patch("common.machine._processor", str))  # which takes a second to find out
        stack.enter_context(patch("os.fsync"))
        (Path(folder) / "lock").touch()
        variables = {PLACE: f"{folder}/lock", "HOME": f"{folder}/home", "NO_COLOR": "1"}
        stack.enter_context(patch.dict(os.environ, variables))
        yield Path(folder)


def attack(count: int, start: int = 0) -> Counter[str]:
    """Type `count` command lines, at random from the seed `start`; returns how they ended, by command and status."""
    outcomes: Counter[str] = Counter()
    rng = np.random.default_rng(start)
    with place() as folder, little_memory():
        for number in range(count):
            if number % 20 == 0:
                assert set(os.listdir(folder)) <= {"here", "lock"}, "something was written elsewhere"
                fill(folder / "here")
            words = line_of(rng)
            with left_behind(repr(words).encode()), little_time(), chdir(folder / "here"):
                status = typed(words)
            outcomes[f"{words[0] if words[0] in COMMANDS else 'no command'}: status {status}"] += 1
    return outcomes


def fill(here: Path) -> None:
    """Make the folder anew, with a run, an old one, a corpus and a recording."""
    shutil.rmtree(here, ignore_errors=True)
    for name, old in (("run", False), ("old", True)):
        (here / name).mkdir(parents=True)
        for file, content in run_files(old).items():
            (here / name / file).write_bytes(content)
    (here / "pairs.txt").write_bytes(LINES)
    recordings.written(RECORDING, here / "a.jsonl")


def typed(words: list[str]) -> int:
    """The exit status of `rosetta` with these words. Raises AssertionError where it is not one of a refusal or of
    success, or where a refusal is anything but one line or typer's own."""
    status, _, said = rosetta(*words)
    assert status in (0, 1, 2), f"status {status}: {said[:2000]}"
    assert "Traceback" not in said
    if status and "Usage: " not in said:
        lines = [line for line in said.split("\n") if line.startswith("rosetta: ")]
        assert len(lines) == 1, said[:2000]
        assert said.endswith(lines[0] + "\n")
        assert lines[0].isprintable()
    return status
