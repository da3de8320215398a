"""The command `race`, which the command line finds here by its name: anybody's scripts, raced in turns."""

import io
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from backends import commands as options
from benchmarks.commands import Budget, FailSlower, Out, Resume, Within, measure, recording_path
from benchmarks.comparing import Accept
from benchmarks.comparing import Mapping as MappingOption
from common import terminal
from common.errors import CannotBeginError, RosettaError, refusing
from common.machine import cores
from common.text import printable, quoted

if TYPE_CHECKING:
    from benchmarks.measure.plan import Row

LANES: dict[str, Any] = {"matched": "matched", "installed": "default"}  # as they are typed, and as they are recorded


def race(
    context: typer.Context,
    scripts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCRIPT",
            help="Two scripts or more that call take_turns; each is a path, 'a path and arguments', or NAME='…'.",
        ),
    ] = None,
    python: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="The Python interpreter of the script NAME.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VARIABLE=VALUE", help="An environment variable for the script NAME alone."),
    ] = None,
    lanes: Annotated[
        str,
        typer.Option(help="matched: the same threads and memory for all; installed: as your shell has it; or both."),
    ] = "matched",
    against: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="Race the one script against what it was in this commit.")
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="Race the first script twice, to see whether equal ones come out equal.")
    ] = False,
    mapping: MappingOption = None,
    accept: Accept = None,
    within: Within = None,
    budget: Budget = None,
    fail_slower: FailSlower = None,
    out: Out = None,
    resume: Resume = False,
    json: options.Json = False,
) -> None:
    """Race scripts of your own in turns, after their records show whether all compute the same.

    Each runs in its own process and ends with take_turns(step), which is in the folder rosetta_record. The first one
    is compared with each other one. To go on with a race, type its command again, with --resume and its --out.
    """
    from benchmarks.ladder.judge.accepted import acceptable
    from benchmarks.ladder.pair.mapping import read_mapping
    from benchmarks.measure.plan import Plan
    from benchmarks.measure.race import BUDGET, WITHIN, opened_race
    from benchmarks.measure.recording import Recording
    from benchmarks.report.race import RaceResults

    accepting = acceptable(accept.split(",") if accept is not None else ())
    known, path = read_mapping(mapping) if mapping else None, recording_path(context, out, resume)
    scripts = scripts or []
    if resume and not scripts:
        raise CannotBeginError(
            f"{path} starts no script that is not named, since somebody else may have made it; type the command that "
            "began the race, with --resume"
        )
    again = _again(path, scripts, python or [], env or [], lanes, against, control, mapping, accept)
    with ExitStack() as stack:
        folder = ""  # in which a commit is unpacked
        if against is not None:
            if len(scripts) != 1:
                raise CannotBeginError(f"--against takes one script, and {len(scripts)} were given")
            folder = stack.enter_context(TemporaryDirectory())
            scripts = [*scripts, _as_it_was(scripts[0], against, Path(folder))]
        runners = _runners(scripts, python or [], env or [], lanes, control)
        plan = Plan(runners, WITHIN if within is None else within, BUDGET if budget is None else budget)
        measure(path, resume, json, lambda: opened_race(path, plan, resume, known, accepting, budget, folder), again)
    if fail_slower is None:
        return
    results = RaceResults(Recording.read(path))
    found, limit = results.slower(fail_slower), f"slower by more than {100 * fail_slower:g}%"
    if found == "slower":
        raise RosettaError(f"{limit}: {results.sentences[0]}")
    if found == "not told apart":
        terminal.warn(f"whether it is {limit} is not told apart: {results.sentences[0]}")


def _runners(
    scripts: Sequence[str], pythons: Sequence[str], variables: Sequence[str], lanes: str, control: bool
) -> "tuple[Row, ...]":
    """The contestants of a race, as they were typed. Raises CannotBeginError."""
    from backends.process import matched_settings
    from benchmarks.measure.plan import Row
    from benchmarks.measure.race import MOST_SCRIPTS

    commands = dict(map(_named, scripts))
    if len(commands) < len(scripts):
        raise CannotBeginError(f"two scripts have one name; name them: A={scripts[0]} B={scripts[-1]}")
    interpreters = dict(_of_names([*commands], "--python NAME=PATH", "(.+?)=(.+)", pythons))
    values: dict[str, dict[str, str]] = {name: {} for name in commands}
    for name, variable, value in _of_names([*commands], "--env NAME:VARIABLE=VALUE", "(.+?):([^=]+)=(.*)", variables):
        values[name][variable] = value
    if unknown := set(lanes.split(",")) - {*LANES}:
        raise CannotBeginError(f"--lanes names {', '.join(unknown)}; the lanes are {', '.join(LANES)}")
    asked = dict.fromkeys(lanes.split(","))
    settings = [variable for group in matched_settings(cores()).values() for variable in group]
    set_by_shell = {variable: os.environ[variable] for variable in settings if variable in os.environ}
    digests = {}
    for name, command in commands.items():
        with refusing(f"{command[0]} cannot be read"):
            digests[name] = sha256(Path(command[0]).read_bytes()).hexdigest()
    form = "{name}, {lane}" if len(asked) > 1 else "{name}"  # of the names in the answer
    found = [
        Row(
            lane=LANES[lane],
            python=interpreters.get(name, sys.executable),
            name=form.format(name=name, lane=lane),
            command=command,
            variables=(set_by_shell if lane == "matched" else {}) | values[name],
            sha256=digests[name],
        )
        for lane in asked
        for name, command in commands.items()
    ]
    if len(found) + control < 2:
        raise CannotBeginError(
            "a race needs two scripts, or one with --against, --control or --lanes matched,installed"
        )
    if len(found) + control > MOST_SCRIPTS:
        raise CannotBeginError(f"{len(found) + control} scripts were given, and {MOST_SCRIPTS} are the most")
    return (*found, *([msgspec.structs.replace(found[0], control=True)] if control else []))


def _again(
    path: Path,
    scripts: Sequence[str],
    pythons: Sequence[str],
    variables: Sequence[str],
    lanes: str,
    against: str | None,
    control: bool,
    mapping: Path | None,
    accept: str | None,
) -> str:
    """The command that goes on with a race, as it is typed."""
    given: list[tuple[str, object]] = [("--python", one) for one in pythons]
    given += [("--env", one) for one in variables]
    given += [("--lanes", lanes)] if lanes != "matched" else []
    more = {"--against": against, "--mapping": mapping, "--accept": accept}
    given += [(option, value) for option, value in more.items() if value is not None]
    words = [*scripts, *(str(word) for pair in given for word in pair), *(["--control"] if control else [])]
    return " ".join(["rosetta race", *map(quoted, [*words, "--out", str(path), "--resume"])])


def _named(script: str) -> tuple[str, tuple[str, ...]]:
    """The name and the command of a script that was typed as a path, as a path with arguments, or as NAME=SCRIPT."""
    name, equals, rest = script.partition("=")
    named = bool(equals) and not os.path.exists(script) and os.path.basename(name) == name and " " not in name
    command = rest if named else script
    try:
        words = (command,) if os.path.exists(command) else tuple(shlex.split(command))
    except ValueError as error:
        raise CannotBeginError(f"{script} is no command: {error}") from error
    if not words or not os.path.isfile(words[0]):
        raise CannotBeginError(f"{words[0] if words else script} is not a file; give the path of a Python script")
    return name if named else Path(words[0]).stem, words


def _of_names(names: Sequence[str], form: str, pattern: str, given: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The parts of options that have a form and begin with the name of a script. Raises CannotBeginError."""
    for text in given:
        parts = re.fullmatch(pattern, text, re.DOTALL)
        if parts is None or parts[1] not in names:
            raise CannotBeginError(f"it is {form}, where NAME is one of {', '.join(names)}; found {text}")
        yield parts.groups()


def _as_it_was(script: str, commit: str, folder: Path) -> str:
    """The script as it was in a commit, as it is typed for a race; what the commit has is unpacked into the folder.

    Raises CannotBeginError where git does not know the commit, or the commit not the script.
    """
    name, (path, *arguments) = _named(script)
    where = Path(path).resolve()

    def git(within: Path, *words: str) -> bytes:
        try:
            return subprocess.run(["git", "-C", within, *words], capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            message = getattr(error, "stderr", b"").decode(errors="replace").strip() or str(error)
            raise CannotBeginError(f"--against {commit}: git cannot give {path}: {printable(message)}") from error

    root = Path(os.fsdecode(git(where.parent, "rev-parse", "--show-toplevel").rstrip(b"\n"))).resolve()
    found = git(root, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}").decode()
    archive = git(root, "archive", "--format=tar", found.split()[-1])

    def unpacked(member: tarfile.TarInfo, within: str) -> tarfile.TarInfo | None:
        """The member; a link that leads out of the repository leads where it leads from there."""
        try:
            return tarfile.data_filter(member, within)
        except (tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError):
            return member.replace(linkname=str(root / Path(member.name).parent / member.linkname))

    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter=unpacked)
    before = folder / where.relative_to(root)
    if not before.is_file():
        raise CannotBeginError(f"--against {commit}: this commit has no {where.relative_to(root)}")
    called = re.sub(r"[^\w.^~-]", "-", f"{name}@{commit}".replace("@", "-at-", 1))
    return f"{called}={shlex.join([str(before), *arguments])}"
