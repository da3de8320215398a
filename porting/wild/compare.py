"""Compares one pair as a user does by guide.md: record, carry,
feed, diff, mend what was shown, and again.

Each side records in a process of its own.
What a comparison shows is held against the table in pairs.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wild.job import Job
from wild.pairs import DIFFERENCES, LEFT, RIGHT, Pair

WILD = Path(__file__).resolve().parent
PACKAGES = WILD.parent / ".wild"  # where `make wild` installs what it compares
TIMEOUT = 600  # seconds of one process
MEBIBYTE = 1024  # of the kibibytes in which Linux tells the peak memory


class ProcessFailedError(Exception):
    """A process ended with another status than expected.
    The message has the command and its last lines."""


@dataclass
class Place:
    """Where a comparison shows a difference."""

    layer: str
    what: str
    left: str  # line of the left program, "FILE:LINE: TEXT", "" if not known
    right: str
    causes: list[str]


@dataclass
class Result:
    """One comparison of a pair, as it is kept in in_the_wild.jsonl."""

    pair: str
    mode: str
    mended: list[str]  # differences that were mended before
    passed: bool = False
    breaks_at: str = ""
    places: list[Place] = field(default_factory=list)
    likely: list[str] = field(default_factory=list)  # causes of which a test passed
    seen: list[str] = field(default_factory=list)  # expected differences that the comparison shows
    named: list[str] = field(default_factory=list)  # those of which it tells the cause
    false_places: list[str] = field(default_factory=list)
    false_causes: list[str] = field(default_factory=list)
    inside: int = 0  # places that differ inside while the outputs agree
    judged: int = 0  # layers that the replay judged
    not_judged: int = 0
    guessed: int = 0  # layers and weights that carry paired by order or shape
    refused: str = ""  # what a command said that could not begin
    seconds: float = 0.0  # of the processor, in all processes
    peak: int = 0  # MiB of the largest process


def environment() -> dict[str, str]:
    """Variables of each process: what is compared beside this project,
    one thread, no network, quiet."""
    return {
        **os.environ,
        "PYTHONPATH": f"{WILD.parent}{os.pathsep}{PACKAGES}",
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }


def run(command: list[str], folder: Path) -> str:
    """Return what a program prints. Raises ProcessFailedError if it fails."""
    done = subprocess.run(
        command, env=environment(), cwd=folder, capture_output=True, text=True, timeout=TIMEOUT
    )
    if done.returncode:
        raise ProcessFailedError(
            f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return done.stdout


class Comparison:
    """The processes of one pair in one mode; their folder is removed at the end."""

    def __init__(self, pair: Pair, mode: str, folder: Path) -> None:
        self.pair, self.mode, self.folder = pair, mode, folder
        self.guessed = self.peak = 0
        self.seconds = 0.0
        self.recorded: tuple[str, ...] | None = None  # mends of the left record that is there
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def run(self, *command: str, expected: tuple[int, ...] = (0,)) -> str:
        """Return what the command prints. Raises ProcessFailedError
        for a status that is not expected."""
        log = self.folder / "log.txt"
        with log.open("ab") as stream, (self.folder / "stdout.txt").open("wb") as output:
            stream.write(f"$ {' '.join(command)}\n".encode())
            stream.flush()
            process = subprocess.Popen(
                command, stdout=output, stderr=stream, env=environment(), cwd=self.folder
            )
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.peak = max(self.peak, usage.ru_maxrss // MEBIBYTE)
        self.seconds += usage.ru_utime + usage.ru_stime
        if process.returncode not in expected:
            told = "\n".join(log.read_text("utf-8", "replace").splitlines()[-12:])
            raise ProcessFailedError(
                f"{' '.join(command)} ended with status {process.returncode}:\n{told}"
            )
        return (self.folder / "stdout.txt").read_text("utf-8")

    def record(self, side: str, name: str, mends: tuple[str, ...] = (), **options: str) -> None:
        task = Job(
            self.pair.model, name, self.mode, mends=mends, optimizer=self.pair.optimizer, **options
        )
        self.run(sys.executable, "-m", f"wild.{side}", *task.arguments())

    def rosetta(self, command: str, *words: str, expected: tuple[int, ...] = (0,)) -> str:
        mapping = ["--mapping", str(WILD / self.pair.mapping)] if self.pair.mapping else []
        program = str(Path(sys.executable).with_name(f"rosetta-{command}"))
        return self.run(program, *words, *mapping, expected=expected)

    def rounds(self) -> Iterator[Result]:
        """Compare, mend the differences that were shown, and compare again,
        until nothing expected is shown."""
        mended = list(self.pair.mended)
        while True:
            self.seconds = 0.0
            result = Result(self.pair.name, self.mode, list(mended))
            report = self.compare(mended)
            read(result, report, self.pair)
            result.guessed, result.peak = self.guessed, self.peak
            result.seconds = round(self.seconds, 1)
            yield result
            shown = [name for name in result.seen if name not in mended]
            if result.passed or not shown:
                return
            mended += shown

    def compare(self, mended: list[str]) -> dict[str, Any]:
        """Return what `rosetta-diff --json` tells of both sides with these differences mended."""
        pair = self.pair
        lefts, rights = (
            tuple(name for name in mended if DIFFERENCES[name].side == side)
            for side in (LEFT, RIGHT)
        )
        planted = {"planted": pair.planted if pair.planted not in mended else ""}
        # A checkpoint that the left side saved for a converter.
        weights = {"weights": pair.file or "left-weights"}
        new_left = self.recorded != lefts
        # Weights may be cut anew.
        new_start = self.recorded is None or bool(pair.planted and not planted["planted"])
        if new_left:
            self.record(pair.left, "left", lefts)
        if new_start:
            self.record(pair.right, "start", rights, **planted, **({} if pair.file else weights))
        if self.recorded is None and pair.file:
            self.carry()
        if new_left or new_start:
            self.rosetta("diff", "left", "start", "--feed", "feed")
        self.record(pair.right, "right", rights, feed="feed", **weights, **planted)
        self.recorded = lefts
        return json.loads(self.rosetta("diff", "left", "right", "--json", expected=(0, 1)))

    def carry(self) -> None:
        to = self.pair.file.rpartition(".")[2]
        framework = {"pdparams": "paddle", "h5": "keras", "safetensors": "flax"}[to]
        told = self.rosetta(
            "carry",
            "left",
            "--to",
            framework,
            "--like",
            "start",
            "-o",
            self.pair.file,
            "--overwrite",
        )
        guesses = re.search(r"^paired by .*?: (\d+) line", told, re.MULTILINE)
        self.guessed = int(guesses[1]) if guesses else 0


def read(result: Result, report: dict[str, Any], pair: Pair) -> None:
    """Fill in what the report shows, and hold it against the differences
    that the pair is expected to have."""
    replay = report["replay"] or {"judged": [], "wrong": [], "not_judged": {}}
    result.passed, result.breaks_at = report["passed"], report["breaks_at"] or ""
    result.likely = [
        cause["sentence"] for cause in report["causes"] if cause["standing"] == "likely"
    ]
    if report["breaks_at"]:
        causes = [cause["sentence"] for cause in report["causes"]]
        place = " ".join(report["explanation"][1:2])
        result.places.append(Place(report["breaks_at"], place, "", "", causes))
    for wrong in replay["wrong"]:
        if wrong["inside"]:
            result.inside += 1
        else:
            result.places.append(
                Place(wrong["layer"], wrong["what"], *wrong["lines"], wrong["causes"])
            )
    result.judged, result.not_judged = len(replay["judged"]), len(replay["not_judged"])
    expected = {name: DIFFERENCES[name] for name in pair.differences}
    kept: dict[tuple[str, bool], Place] = {}
    for place in result.places:
        line = f"{place.layer} {place.what}"
        matching = [name for name, of in expected.items() if of.fits(line)]
        result.seen += matching
        result.named += [
            name for name in matching if any(map(expected[name].is_named_by, place.causes))
        ]
        for name in matching:  # the first place of the whole model, and the first of the replay
            kept.setdefault((name, place.layer == result.breaks_at), place)
        if not matching:
            result.false_places.append(line)
    result.places = list({id(place): place for place in kept.values()}.values())
    result.seen, result.named = sorted({*result.seen}), sorted({*result.named})
    result.false_causes = [
        cause
        for cause in result.likely
        if not any(of.is_named_by(cause) for of in expected.values())
    ]


def find(name: str) -> dict[str, str]:
    """Return the source line of a difference, and what the script that shows it alone prints."""
    of = DIFFERENCES[name]
    found = {"line": of.source}
    if "::" in of.source:
        file, _, text = of.source.partition("::")
        folder = next(
            Path(folder) for folder in (PACKAGES, *sys.path) if Path(folder, file).is_file()
        )
        before, found_text, _ = (folder / file).read_text("utf-8").partition(text)
        if not found_text:
            raise ProcessFailedError(
                f"{file} has no {text!r}; expected the line that differs: look into pairs.py"
            )
        found["line"] = f"`{file}:{before.count(chr(10)) + 1}`"
    if of.script:
        found["output"] = run([sys.executable, str(WILD / "finds" / of.script)], WILD)
    return found
