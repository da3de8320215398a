"""Commands with options and values at random: each is done, or refused in one line.

Everything happens in this process and in a folder of its own. A command that would start a process,
download, serve or examine the machine is refused there.
"""

import os
import random
import shutil
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any, NoReturn, get_args
from unittest.mock import patch

import typer.main

from backends import TABLE
from benchmarks.measure.quiet import LOCK_VARIABLE
from common.errors import CannotBeginError
from rosetta import app
from tests.nightly.attack import attack
from tests.support import measurements, small_run
from tests.support.program import rosetta

GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = {
    name: GROUP.get_command(None, name) for name in GROUP.list_commands(None)
}
NUMBERS = [
    "",
    "9" * 30,
    *"0 1 2 -1 1e3 nan inf -inf 1e-320 0x10 1_000 ½ ٣ 4 0.5 1099511627776".split(),
]
WORDS = ["", " ", "a" * 5000, "\x1b[2J", "\u202e", "a\nb", "\udce9", "$(touch harmed)", "'\""]
WORDS += "- -- -h 😀 %s%n all".split()
PATHS = "run pairs.txt a.jsonl none none/a.html . .. / /dev/null run/config.json".split()
PATHS += "~ new new/a.md dangling".split()
PATHS += ["~nobody/a", "a\x1b[2J.jsonl", "é\udce9", "a" * 300, "b" * 230, "/proc/self/mem", "\x00"]
NAMES = "numpy,torch numpy=/nowhere torch:none phrasebook tail grouped mask space".split()
NAMES += "float64 best last drop".split()
NAMES += [*TABLE, *"shuffled,bucketed 10% 1m 0% 1e9% 99999999999h a..b".split()]
SENSIBLE = [  # done, or refused late
    "report a.jsonl -o new.html",
    "convert run --to weights",
    "data --data pairs.txt",
    "train --data pairs.txt --backend numpy --out new",
    "train --out run --resume --epochs 9",
    "parity --quick --data pairs.txt",
    "evaluate run --weights best",
    "translate --file pairs.txt --beam 3 --n-best 2",
    "serve run --backends numpy",
]
# Functions in which work would begin.
BEGUN = [
    "benchmarks.measure.quiet.wait_until_fit",
    "backends.commands.training.initial_state",
    "benchmarks.parity.cases.initial_state",
    "common.corpus.download",
    "socketserver.TCPServer.server_bind",
    "subprocess.Popen",
]


def refused(*arguments: object, **named: object) -> NoReturn:
    raise CannotBeginError("it came so far that work would begin")


def line_of(rng: random.Random) -> list[str]:
    """Choose a command, and some options and arguments, seldom those of another command."""
    words = (
        rng.choice(SENSIBLE).split()
        if rng.randrange(3) == 0
        else [rng.choice([*COMMANDS, "", "-x"])]
    )
    command = COMMANDS.get(words[0], COMMANDS["train"])
    chosen = [parameter for parameter in command.params if parameter.required and len(words) == 1]
    for _ in range(rng.randrange(5)):
        chosen.append(
            rng.choice((command if rng.randrange(20) else COMMANDS[rng.choice([*COMMANDS])]).params)
        )
    for parameter in chosen:
        kind = parameter.type_descriptor.annotation
        literals = [word for word in get_args(kind) if isinstance(word, str)]
        fitting = {int: NUMBERS, float: NUMBERS, Path: PATHS}.get(kind, literals or NAMES + PATHS)
        option = parameter.param_type_name == "option"
        words += parameter.opts[:1] if option else []
        if not (option and parameter.is_flag) or rng.randrange(20) == 0:
            words.append(
                rng.choice(
                    fitting if rng.randrange(5) else rng.choice([NUMBERS, WORDS, PATHS, NAMES])
                )
            )
    return words


def fill(here: Path) -> None:
    """Make the folder afresh, with a run, a corpus, a measurement and a link to nothing."""
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    small_run.three_epochs(here / "run")
    (here / "pairs.txt").write_text("".join(f"{number}\t{number**2}é\n" for number in range(100)))
    (here / "dangling").symlink_to("nothing")
    measurements.written(
        measurements.measurement(measurements.plan_of(["torch", "paddle"]), rounds=2),
        here / "a.jsonl",
    )


def typed(here: Path, words: list[str]) -> str:
    """Run `rosetta` with these words. Fails unless it is done,
    or refused in one line or in typer's own lines."""
    with chdir(here):
        status, _, error = rosetta(*words)
    assert status in (0, 1, 2), f"status {status} of {words}: {error[:2000]}"
    assert "Traceback" not in error, words
    if status and "Usage: " not in error:
        lines = [line for line in error.split("\n") if line.startswith("rosetta: ")]
        assert len(lines) == 1, (words, error[:2000])
        assert error.endswith(lines[0] + "\n"), words
        assert lines[0].isprintable(), words
    assert {*os.listdir(here.parent)} <= {"here", "lock"}, (
        f"something was written elsewhere by {words}"
    )
    return f"status {status}"


def test_any_command_line_is_done_or_refused(folder: Path) -> None:
    def case(rng: random.Random) -> str:
        fill(folder / "here")
        return typed(folder / "here", line_of(rng))

    (folder / "lock").touch()
    with ExitStack() as stack:
        for name in BEGUN:
            stack.enter_context(patch(name, refused))
        stack.enter_context(patch("common.run.describe_machine", dict))  # which starts a program
        stack.enter_context(patch("os.fsync"))
        variables = {LOCK_VARIABLE: f"{folder}/lock", "HOME": f"{folder}/home", "NO_COLOR": "1"}
        stack.enter_context(patch.dict(os.environ, variables))
        attack(case, 1000, least=3)
