"""The session of ports/README.md: what a person types,
the changes that they make, and what comes of it.

`python -m porting_tests.support.guide` writes into the guide what its commands print now.
"""

import re
import runpy
import shlex
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from porting_tests.support import PORTING, program, working_in
from porting_tests.support.side import FRAMEWORKS, Side, script

GUIDE = PORTING / "ports" / "README.md"
SCRIPTS = PORTING / "ports"
FIRST_TRIES = runpy.run_path(str(SCRIPTS / "first_tries.py"))
BLOCK = re.compile(r"^```(console|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Session:
    """Commands of the guide, run in a folder with copies of the scripts."""

    folder: Path
    sides: dict[str, Side]
    # What tells the lines of loops that were not gone through.
    left_out: list[str] = field(default_factory=list)
    whole: bool = True  # or the last round of a loop alone, and one step or three

    def __post_init__(self) -> None:
        shutil.copytree(SCRIPTS, self.folder, dirs_exist_ok=True)

    def do(self, block: re.Match[str]) -> str:
        """Do what a block says; what it should say."""
        kind, text = block.groups()
        if kind == "diff":
            self._change(text)
            return text
        lines = []
        for line in text.splitlines():
            if line.startswith("$ "):
                lines += [line, *self._run(line[2:])]
        return "".join(f"{line}\n" for line in lines)

    def _change(self, text: str) -> None:
        """Change a script by the hunks of a unified diff, each of which must fit in one place."""
        path = self.folder / text.splitlines()[1].removeprefix("+++ ")
        script = path.read_text("utf-8")
        for before, after in FIRST_TRIES["hunks"](text):
            script = FIRST_TRIES["replaced"](script, before, after)
        path.write_text(script, "utf-8")

    def _run(self, command: str, shown: bool = True) -> list[str]:
        """The output of a command; `shown` is true if the guide shows all of it."""
        loop = re.fullmatch(r"for (\w+) in (.*?); do (.*); done", command)
        if loop:
            name, listed, body = loop.groups()
            values = listed.split()
            if not self.whole:
                self.left_out += [f"-{value} computes" for value in values[:-1]]
                values = values[-1:]
            each = [
                part.replace(f"${name}", value) for value in values for part in body.split("; ")
            ]
            return [line for part in each for line in self._run(part, False)]
        typed, *arguments = shlex.split(command)
        if typed == "cd":
            return []
        if typed == "cat":
            return (self.folder / arguments[0]).read_text("utf-8").splitlines()
        if arguments[0] == "first_tries.py":
            runpy.run_path(str(self.folder / arguments[0]), run_name="__main__")
            return []
        if typed == "python":
            name = arguments[0].removesuffix(".py").removesuffix("_first")
            # As many as there are batches, or a trajectory.
            steps = 10 if self.whole else 3 if shown else 2
            self.sides[name.rpartition("_")[2]].do(
                script, folder=self.folder, arguments=arguments, steps=steps
            )
            return []
        command, _, wanted = command.partition(" | grep ")
        printed = rosetta(self.folder, shlex.split(command.removeprefix("rosetta-")))
        return [line for line in printed if wanted in line]


def rosetta(folder: Path, arguments: list[str]) -> list[str]:
    """The output of `rosetta-diff` or `rosetta-carry` in a folder, as a terminal shows it."""
    with working_in(folder):
        _, printed, errors = program.rosetta(*arguments)
    return [line.rstrip() for line in (printed + errors).splitlines()]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder), {name: Side(name) for name in FRAMEWORKS})

        def printed(block: re.Match[str]) -> str:
            return f"```{block[1]}\n{session.do(block)}```"

        GUIDE.write_text(BLOCK.sub(printed, GUIDE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
