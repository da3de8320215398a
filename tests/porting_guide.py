"""The session of docs/porting/README.md: what a person types, the changes that they make, and what comes of it.

`python -m tests.porting_guide` writes into the guide what its commands print now.
"""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from backends.process.environment import child_environment
from backends.process.parent import PROJECT
from common.errors import RosettaError

GUIDE = PROJECT / "docs" / "porting" / "README.md"
SCRIPTS = PROJECT / "docs" / "porting"
LEFT = ("tagger_keras", "translator_torch", "encoder_torch")  # the sides that are ported
BLOCK = re.compile(r"^```(console|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Side:
    """The process of one framework."""

    def __init__(self, framework: str) -> None:
        environment = child_environment("matched", 1, "cpu") | {"PYTHONPATH": str(PROJECT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.porting_side", framework],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def start(self, kind: str, **request: object) -> None:
        """Ask for something; several requests may wait."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({kind: request}) + "\n")
        self._process.stdin.flush()

    def wait(self, requests: int = 1) -> None:
        """Until so many requests are answered; what went wrong in the process is raised here."""
        assert self._process.stdout
        for _ in range(requests):
            answer = json.loads(self._process.stdout.readline())
            if answer:
                raise RuntimeError(answer)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def sides() -> Iterator[dict[str, Side]]:
    """A process of each framework."""
    with ExitStack() as stack:
        found = {}
        for framework in ("torch", "paddle", "keras"):
            found[framework] = Side(framework)
            stack.callback(found[framework].end)
        yield found


@dataclass
class Session:
    """What is typed is done in a folder with copies of the scripts."""

    folder: Path
    sides: dict[str, Side]
    whole: bool = True  # or each side is recorded only as far as `rosetta diff` will look

    def __post_init__(self) -> None:
        shutil.copytree(SCRIPTS, self.folder, dirs_exist_ok=True)

    def do(self, block: re.Match[str]) -> str:
        """Do what a block says; what it should say."""
        kind, text = block.groups()
        if kind == "diff":
            self._change(text)
            return text
        lines = []
        shown = text.splitlines()
        for number, line in enumerate(shown):
            if line.startswith("$ "):
                self._breaks = any("breaks at" in later for later in shown[number:])
                lines += [line, *self._run(line[2:])]
        return "".join(f"{line}\n" for line in lines)

    def _change(self, text: str) -> None:
        """Change a script by the hunks of a unified diff, each of which must fit in one place."""
        path = self.folder / text.splitlines()[1].removeprefix("+++ ")
        script = path.read_text("utf-8")
        for hunk in re.split(r"^@@.*\n", text, flags=re.MULTILINE)[1:]:
            before, after = (
                "".join(line[1:] for line in hunk.splitlines(True) if line[0] in (" ", sign)) for sign in "-+"
            )
            assert script.count(before) == 1, f"{path.name} has {script.count(before)} times:\n{before}"
            script = script.replace(before, after)
        path.write_text(script, "utf-8")

    def _run(self, command: str, shown: bool = True) -> list[str]:
        """What a command prints; `shown` is whether the guide shows all of it."""
        loop = re.fullmatch(r"for (\w+) in (.*?); do (.*); done", command)
        if loop:
            name, values, body = loop.groups()
            each = [part.replace(f"${name}", value) for value in values.split() for part in body.split("; ")]
            return [line for part in each for line in self._run(part, False)]
        program, *arguments = shlex.split(command)
        if program == "cd":
            return []
        if program == "python":
            framework = arguments[0].removesuffix("_first.py").removesuffix(".py").rpartition("_")[2]
            is_left = arguments[0].removesuffix("_first.py").removesuffix(".py") in LEFT
            self.sides[framework].start(
                "script",
                folder=str(self.folder),
                arguments=arguments,
                steps=10 if self.whole or (shown and (is_left or not self._breaks)) else 3,  # one for each batch
                control=self.whole or (is_left and shown),
            )
            self.sides[framework].wait()
            return []
        command, _, wanted = command.partition(" | grep ")
        printed = rosetta(self.folder, shlex.split(command)[1:])
        return [line for line in printed if wanted in line]


def rosetta(folder: Path, arguments: list[str]) -> list[str]:
    """What `rosetta` prints, as a terminal shows it."""
    import rosetta as program

    printed = io.StringIO()
    with chdir(folder), redirect_stdout(printed):
        try:
            program.app(arguments, standalone_mode=False)
        except RosettaError as error:
            print(f"rosetta: {error}")
    return [line.rstrip() for line in printed.getvalue().splitlines()]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sides() as started:
        session = Session(Path(folder), started)

        def made(block: re.Match[str]) -> str:
            return f"```{block[1]}\n{session.do(block)}```"

        GUIDE.write_text(BLOCK.sub(made, GUIDE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
