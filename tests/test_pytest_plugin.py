"""The plugin of pytest, in a project of a stranger's that has packages of our names."""

import subprocess
import sys
from pathlib import Path

import pytest

from backends.process.parent import PROJECT

SIDE = """
import sys
import numpy as np
from rosetta_record import Record
kernel = np.arange(6.0).reshape(2, 3)
inputs = np.array([[1.0, 2.0]])
record = Record(sys.argv[1])
record.inputs(x=inputs)
record.layer("output", "Dense", {"kernel": kernel}, output=inputs @ kernel * FACTOR)
record.forward(y=inputs @ kernel * FACTOR)
"""
TESTS = """
import backends, common  # the stranger's own
def test_same(assert_same):
    assert common.MINE and backends.MINE
    assert "equal" in assert_same("left.py", "same.py")
def test_another(assert_same):
    assert_same("left.py", "another.py")
def test_fails(assert_same):
    assert_same("left.py", "fails.py")
def test_nothing(assert_same):
    assert_same("left.py", "nothing.py")
def test_empty(assert_same):
    assert_same("empty.py", "empty.py")
def test_rung(assert_same):
    assert_same("left.py", "same.py", require="forward,step")
def test_folder(assert_same):
    assert "equal" in assert_same("left.py", "same.py")
    assert_same("left.py", "same.py")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for package in ("common", "backends"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("MINE = True\n")
    for name, text in {
        "left": SIDE.replace("FACTOR", "1.0"),
        "same": SIDE.replace("FACTOR", "1.0"),
        "another": SIDE.replace("FACTOR", "1.5"),
        "fails": "raise SystemExit('no such model')",
        "nothing": "",
        "empty": "import sys; from rosetta_record import Record; Record(sys.argv[1])",
        "test_port": TESTS,
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_a_test_passes_where_two_scripts_compute_the_same_and_else_shows_the_table(project: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=120)
    assert "6 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "left.py and another.py do not compute the same" in done.stdout
    assert "right breaks at forward" in done.stdout
    assert "fails.py ended with status 1:\nno such model" in done.stdout
    assert "nothing.py made no record" in done.stdout
    assert "nothing of right and left was compared" in done.stdout
    assert "--require asks for what was not compared: step: " in done.stdout
    assert "left is there already, perhaps an old record; give a new folder" in done.stdout
    assert str(PROJECT) not in done.stdout, "the table is shown, and no traceback of ours"
