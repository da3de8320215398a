"""Kills programs at random moments; nothing is lost, and what goes on ends as what was never killed.

    python -m tests.attack.kills COUNT [SEED]

SIGKILL comes to the program alone, to its worker (a backend's process) alone, or to both. A story is what is killed
several times in a row: a run that is trained, a recording that is measured, a page, a conversion. The attack ends at
the first outcome that must not be: a run that does not open, other bytes than those of a run that was never killed, a
line that is lost or twice, a process that outlives its program, a temporary file that stays.
"""

import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.measure.recording import Certified, Decoded, Evidence, Recording
from common.files import UNFINISHED
from common.run_directory import Epoch, RunDirectory
from tests.attack.limits import folder_left_behind
from tests.attack.victims import BENCH, HERE_TOO, NUMPY_TWICE, SMALL, Place, Victim, assert_same_run, figures
from tests.damage import COMMITTED
from tests.small_run import FILES, contents

EPOCHS = 60
SOONEST = 0.3  # seconds after which a kill comes: before, the program is not even imported
MOST_KILLS = 6  # of one story
ROUNDS = 2  # of a benchmark, at least: more where the interval of the first ones is too wide
RECORDING = COMMITTED / "intel.jsonl"

Story = Callable[["Killer"], None]


class Killer:
    """Kills programs in one place, `count` times; `outcomes` says what became of them."""

    def __init__(self, folder: Path, rng: random.Random, kills: int, whole: dict[str, tuple[Path, float]]) -> None:
        self.folder, self.place, self.rng = folder, Place(folder), rng
        self.kills, self.outcomes = kills, Counter[str]()
        self._whole = whole

    def whole(self, name: str, out: str, *arguments: object) -> tuple[Path, float]:
        """What a program makes that is never killed, and the seconds that it takes; made once in an attack."""
        if name not in self._whole:
            place = Place(self.folder.parent / f"whole {name}")
            began = time.monotonic()
            place.does(*arguments, place.folder / out)
            self._whole[name] = place.folder / out, time.monotonic() - began
        return self._whole[name]

    def killed(self, victim: Victim, seconds: float) -> str:
        """Kill a program within so many seconds. Returns whom the kill came to; "" if the program ended before."""
        with victim:
            if victim.runs_for(self.rng.uniform(SOONEST, max(seconds, 2 * SOONEST))):
                workers = victim.workers()
                whom = self.rng.choice(["program", "worker", "program and worker"]) if workers else "program"
                if "worker" in whom:
                    with suppress(psutil.NoSuchProcess):
                        workers[0].kill()
                if "program" in whom:
                    victim.process.kill()
            else:
                whom = ""
            status, said = victim.status(), victim.said()
        if status == 0:  # it had done all that it was to do
            return ""
        if status == 1 and "worker" in whom:  # of both, the worker's death may be told before the program's own
            assert "'s process was ended by signal 9" in said[-1], said
        else:
            assert "program" in whom, f"it ended by itself with {status}: {said}"
            assert status == -9, f"status {status}: {said}"
        self.kills -= 1
        return whom

    def found(self, what: str, whom: str, where: str) -> None:
        self.outcomes[f"kill of {what}'s {whom}: {where}"] += 1


# Training


def training(killer: Killer, backend: str) -> None:
    """A run that is begun, killed, and gone on with until it is done."""
    options = ["--backend", backend, "--epochs", EPOCHS]
    whole, seconds = killer.whole(backend, "run", "train", *options, *SMALL, "--out")
    expected = figures(RunDirectory.open(whole))
    out = killer.folder / "runs" / "run"

    def arguments() -> list[object]:
        return ["train", "--out", out, *(["--resume", "--threads", 1] if out.exists() else SMALL), *options]

    found = None
    while killer.kills and found != expected:
        whom = killer.killed(killer.place.start(*arguments()), 0.8 * seconds)
        found = _looked_at(out, killer.folder / "looked")
        assert found is None or found == expected[: len(found)], "other figures than those of a run never killed"
        if whom:
            killer.found(f"train in {backend}", whom, "no run yet" if found is None else "the run opens")
    if found != expected:
        killer.place.does(*arguments())
    assert_same_run(out, whole)
    assert os.listdir(out.parent) == ["run"]


def _looked_at(out: Path, beside: Path) -> list[Epoch] | None:
    """The epochs of a run as another user finds it; None where it is not begun. The run itself is not mended."""
    if not out.exists():
        return None
    assert set(FILES) <= set(os.listdir(out)), "a run is there that is not whole"
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(out, beside)
    run = RunDirectory.open(beside)
    assert sorted(os.listdir(beside)) == FILES, "what the killed left is not removed"
    run.pairs(), run.vocabularies(), run.read_state("last"), run.read_state("best")
    return figures(run)


# Benchmarks


def measuring(killer: Killer, backends: list[str]) -> None:
    """A recording that is begun, killed, and gone on with until it is done."""
    out = killer.folder / "a.jsonl"
    go_on = ["--resume", *(HERE_TOO if HERE_TOO[1] in backends else [])]  # which no recording starts by itself
    seconds = 5.0 if "torch" not in str(backends) else 12.0  # more or less
    while killer.kills:
        before = whole_lines(out)
        begin = go_on if before else [*BENCH[1:], *backends]
        victim = killer.place.start_short(ROUNDS, "bench", *begin, "--out", out)
        if not (whom := killer.killed(victim, seconds)):
            break
        lines = whole_lines(out)
        assert lines.startswith(before), "a line that was recorded is lost"
        assert all(json.loads(line) for line in lines.splitlines()), "a whole line is not JSON"
        if whom == "worker":
            assert f"go on with: rosetta bench --out {out} --resume" in victim.said()[-1]
        killer.found("bench", whom, f"{'all' if lines else 'no'} lines are whole")
    if not whole_lines(out):
        return
    with killer.place.start_short(ROUNDS, "bench", *go_on, "--out", out) as victim:
        assert victim.status() == 0, victim.said()
    assert out.read_bytes() == whole_lines(out)
    recording = Recording.read(out)
    rows = recording.plan.rows
    numbers = [line.number for line in recording.rounds()]
    assert numbers == list(range(1, max(ROUNDS, len(numbers)) + 1)), "a round is lost or twice"
    for line in recording.rounds():
        assert {start.row for start in line.starts} >= {n for n, row in enumerate(rows) if not row.installed}
    matched = [n for n, row in enumerate(rows) if not row.installed]
    for kind, others in ((Certified, []), (Decoded, []), (Evidence, [-1])):
        found = sorted(line.row for line in recording.of_kind(kind))  # type: ignore[attr-defined]
        expected = [*others, *matched]
        assert found == expected if kind is Certified else set(found) <= set(expected), f"lost: {kind.__name__}"
        assert len(set(found)) == len(found), f"a line is twice: {kind.__name__}"
    assert {path.name for path in killer.folder.glob("a*")} == {"a.jsonl"}


def whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


# Pages and conversions


def reporting(killer: Killer, suffix: str) -> None:
    """A page that is written over an older one."""
    whole, seconds = killer.whole(suffix, f"page{suffix}", "report", RECORDING, "-o")
    pages = killer.folder / "pages"
    pages.mkdir()
    page = pages / f"page{suffix}"
    page.write_text("old")
    while killer.kills and (whom := killer.killed(killer.place.start("report", RECORDING, "-o", page), seconds)):
        new = page.read_bytes() == whole.read_bytes()
        assert new or page.read_text() == "old", "half a page"
        killer.found("report", whom, "the new page, whole" if new else "the old page, whole")
    killer.place.does("report", RECORDING, "-o", page)
    assert page.read_bytes() == whole.read_bytes()
    # What was being written beside its place stays there, hidden.
    assert {path.name for path in pages.iterdir() if path.suffix != UNFINISHED} == {page.name}


def converting(killer: Killer, to: str) -> None:
    """A run that is written in another form."""
    run, _ = killer.whole("numpy", "run", "train", "--backend", "numpy", "--epochs", EPOCHS, *SMALL, "--out")
    whole, seconds = killer.whole(f"convert to {to}", "files", "convert", run, "--to", to, "--out")
    before = contents(run)
    out = killer.folder / "converted" / "files"
    while killer.kills:
        victim = killer.place.start("convert", run, "--to", to, "--out", out)
        if not (whom := killer.killed(victim, seconds)):
            break
        if out.exists():
            assert contents(out) == contents(whole)
        killer.found(f"convert to {to}", whom, "whole files" if out.exists() else "no files")
        shutil.rmtree(out, ignore_errors=True)
    if not out.exists():
        killer.place.does("convert", run, "--to", to, "--out", out)
    assert contents(out) == contents(whole)
    assert os.listdir(out.parent) == ["files"]
    assert contents(run) == before


# Each with its weight among all: those that take long are rarer.
STORIES: dict[str, tuple[Story, int]] = {
    **{f"train in {name}": (partial(training, backend=name), 1) for name in ("torch", "paddle", "keras")},
    "train in numpy": (partial(training, backend="numpy"), 12),
    "bench of numpy": (partial(measuring, backends=NUMPY_TWICE), 3),
    "bench of numpy and torch": (partial(measuring, backends=["--backends", "numpy,torch"]), 1),
    "report as a page": (partial(reporting, suffix=".html"), 2),
    "report as Markdown": (partial(reporting, suffix=".md"), 2),
    **{f"convert to {to}": (partial(converting, to=to), 2) for to in ("weights", "torch")},
}


def attack(count: int, seed: int = 0, *names: str) -> Counter[str]:
    """Kill `count` times in all, at random from the seed, in stories of all or of these names; returns what came of
    each kill, and how many stories went on to their end."""
    outcomes: Counter[str] = Counter()
    rng = random.Random(seed)
    chosen = list(names or STORIES)
    weights = [STORIES[name][1] for name in chosen]
    left, number, whole = count, 0, {}
    with TemporaryDirectory() as folder:
        while left:
            number += 1
            (name,) = rng.choices(chosen, weights)
            most = min(left, rng.randint(1, MOST_KILLS))
            killer = Killer(Path(folder, str(number)), rng, most, whole)
            with folder_left_behind(killer.folder, f"killed-{number}", f"story {number} of seed {seed}: {name}"):
                STORIES[name][0](killer)
                killer.place.assert_nothing_temporary()
            left -= most - killer.kills
            outcomes += killer.outcomes
            outcomes[f"{name}: went on to the end, and nothing was lost"] += 1
    return outcomes


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(attack(*map(int, arguments[:2]), *arguments[2:]), indent=2))
