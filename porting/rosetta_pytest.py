"""A plugin of pytest for whoever ports a model: a test that two scripts compute the same,
each in its own framework.

    def test_the_port_computes_the_same(assert_same):  # a fixture; `rosetta_pytest.assert_same`
                                                       takes a folder, too
        assert_same("torch_side.py", "paddle_side.py")

Each script records a model into the folder that is its argument, `Record(sys.argv[1])` (see
rosetta_record), in a process of its own, since two frameworks may not get along in one. The test
fails with what `rosetta-diff` shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

WIDTH = 110  # columns of the table in a failure
SECONDS = 600.0
MOST_SECONDS = 1e6  # the system's own limit is 24 days


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program and keep what it prints; bytes that are no text are shown as U+FFFD. The test
    fails where the program cannot be started."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, **options
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        pytest.fail(
            f"{command[0]} cannot be started: {why}; give the path of a Python interpreter",
            pytrace=False,
        )


def run_side(
    name: str, script: str | os.PathLike[str], python: str, folder: Path, seconds: float
) -> Path:
    """Run the script of one side; returns the folder of its record.
    The test fails where the script does."""
    record = folder / name
    if record.exists():
        pytest.fail(
            f"{record} is there already, perhaps an old record; give a new folder", pytrace=False
        )
    if not Path(script).is_file():
        pytest.fail(f"there is no script {script} in {Path.cwd()}", pytrace=False)
    try:
        done = run([python, os.fspath(script), str(record)], timeout=seconds)
    except subprocess.TimeoutExpired:
        pytest.fail(
            f"{script} was not done after {seconds:g} s; give assert_same more `seconds`",
            pytrace=False,
        )
    if done.returncode:
        pytest.fail(f"{script} ended with status {done.returncode}:\n{done.stderr}", pytrace=False)
    if not (record / "record.json").exists():
        pytest.fail(
            f"{script} made no record; expected one in the folder that is its argument: "
            "Record(sys.argv[1])",
            pytrace=False,
        )
    return record


def assert_same(
    left: str | os.PathLike[str],
    right: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    left_python: str = sys.executable,
    right_python: str = sys.executable,
    mapping: str | os.PathLike[str] | None = None,
    require: str = "forward",
    seconds: float = SECONDS,
) -> str:
    """Fail with the table of `rosetta-diff` unless both scripts compute the same;
    returns the table.

    `folder` gets both records, under the names `left` and `right`, which must be new. Each side may
    have an interpreter of its own, with that framework alone installed. `mapping` is a file that
    says which weights belong together; `require` names the stages that must be compared, such as
    "forward,step". A script may take `seconds`.
    """
    if not 0 < seconds <= MOST_SECONDS:
        pytest.fail(
            f"seconds is {seconds}, expected more than 0 and at most {MOST_SECONDS:,.0f}",
            pytrace=False,
        )
    sides = {"left": (left, left_python), "right": (right, right_python)}
    records = [
        run_side(name, script, python, Path(folder), seconds)
        for name, (script, python) in sides.items()
    ]
    passed, shown = compared(*records, mapping, require)
    if not passed:
        pytest.fail(f"{left} and {right} do not compute the same\n{shown}", pytrace=False)
    return shown


def compared(
    left: Path, right: Path, mapping: str | os.PathLike[str] | None, require: str
) -> tuple[bool, str]:
    """Return True if two records are equal, and the text that `rosetta-diff` shows."""
    from rosetta_diff import diff, report
    from rosetta_diff.helpers import DiffError
    from rosetta_diff.pair.mapping import read_mapping
    from rosetta_diff.read.side import Side

    try:
        known = read_mapping(Path(mapping)) if mapping is not None else None
        found = diff.compare_records(
            Side(left), Side(right), known, (), diff.parse_stages(require.split(","))
        )
    except DiffError as error:
        return False, str(error)
    shown = StringIO()
    report.show(found, Console(file=shown, width=WIDTH))
    return found.passed, f"{shown.getvalue()}{found.why_failed}"


@pytest.fixture(name="assert_same")
def assert_same_here(tmp_path: Path) -> Callable[..., str]:
    """`assert_same`, with a folder for the records."""
    return partial(assert_same, folder=tmp_path)
