"""The ways in which Rosetta writes, each with what must be found where it was cut off:
the old or the new, and whole.

tests/nightly/test_exits.py cuts them off by an exit,
and tests/cli/test_disk.py by a disk that is full or loses its power.
"""

import io
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.commands import report
from benchmarks.measure.measurement import Measurement, append_line
from benchmarks.report.render import MARK_OF_MARKDOWN
from common.files import UNFINISHED
from common.run import RunDirectory
from tests.support import measurements
from tests.support.small_run import FILES, assert_state, create, write

VAL_LOSSES = [3.0, 1.0, 2.0, 0.5, 0.7]
SMALL = measurements.measurement(seconds={"torch": 0.06}, rounds=2)


@dataclass(frozen=True)
class Save:
    """A way of writing, within a folder that is given to each of its functions.

    `before` makes what is there before. `is_new` fails for what is damaged, mends and goes on as a
    user would, and tells whether it found the new. It may be called again for what it left.
    """

    before: Callable[[Path], object]
    save: Callable[[Path], object]
    is_new: Callable[[Path], bool]


def saved_epoch(epoch: int) -> Save:
    """Saves this epoch of a run that has those before it."""
    return Save(
        lambda folder: write(create(folder / "run"), VAL_LOSSES[: epoch - 1]),
        lambda folder: write(RunDirectory.open(folder / "run"), VAL_LOSSES[:epoch]),
        partial(run_is_whole, epoch=epoch),
    )


def run_is_whole(folder: Path, epoch: int) -> bool:
    """Train the run to its end. True if it had this epoch before."""
    run = RunDirectory.open(folder / "run")
    there = len(run.history())
    assert epoch - 1 <= there <= len(VAL_LOSSES)
    assert_best(run, there)
    write(run, VAL_LOSSES)
    assert_best(run, len(VAL_LOSSES))
    assert sorted(os.listdir(run.path)) == FILES
    return there >= epoch


def assert_best(run: RunDirectory, epochs: int) -> None:
    assert_state(run, "last", epochs)
    assert_state(run, "best", min(range(epochs), key=VAL_LOSSES.__getitem__) + 1)


def new_run_is_whole(folder: Path) -> bool:
    there = (folder / "runs" / "run").exists()
    if not there:
        create(folder / "runs" / "run")
    assert [path.name for path in (folder / "runs").iterdir() if path.suffix != UNFINISHED] == [
        "run"
    ]
    assert_state(RunDirectory.open(folder / "runs" / "run"), "last", 0)
    assert sorted(os.listdir(folder / "runs" / "run")) == FILES
    return there


def begin_measurement(folder: Path) -> None:
    Measurement.create(folder / "results" / "a.jsonl", SMALL.head)


def measurement_is_begun(folder: Path) -> bool:
    path = folder / "results" / "a.jsonl"
    if not (there := path.exists()):
        begin_measurement(folder)
    assert Measurement.read(path).head == SMALL.head
    return there


def all_lines_but_one(folder: Path) -> None:
    measurements.written(replace(SMALL, lines=SMALL.lines[:-1]), folder / "a.jsonl")


def last_line(folder: Path) -> None:
    append_line(folder / "a.jsonl", SMALL.lines[-1])


def line_is_whole(folder: Path) -> bool:
    path = folder / "a.jsonl"
    lines = Measurement.read(path).lines
    assert lines in (SMALL.lines[:-1], SMALL.lines)
    return lines == SMALL.lines


OLD_PAGE = f"{MARK_OF_MARKDOWN}\n\nold"


def old_page(folder: Path) -> None:
    measurements.written(SMALL, folder / "a.jsonl")
    (folder / "page.md").write_text(OLD_PAGE)


def write_page(folder: Path) -> None:
    with redirect_stdout(io.StringIO()):
        report([folder / "a.jsonl"], folder / "page.md")


def page_is_whole(folder: Path) -> bool:
    content = (folder / "page.md").read_text()
    write_page(folder)
    assert content in (OLD_PAGE, (folder / "page.md").read_text())
    # What was being written beside its place stays there, hidden.
    assert {path.name for path in folder.iterdir() if path.suffix != UNFINISHED} == {
        "a.jsonl",
        "page.md",
    }
    return content != OLD_PAGE


def nothing(folder: Path) -> None:
    pass


SAVES = {
    "an epoch that is not the best": saved_epoch(3),
    "the best epoch": saved_epoch(4),
    "a new run": Save(nothing, lambda folder: create(folder / "runs" / "run"), new_run_is_whole),
    "a new measurement": Save(nothing, begin_measurement, measurement_is_begun),
    "a line of a measurement": Save(all_lines_but_one, last_line, line_is_whole),
    "a page": Save(old_page, write_page, page_is_whole),
}
