"""The plugin of pytest, in a project of a stranger's that has packages of our names."""

import subprocess
import sys
from pathlib import Path

from porting_tests.support import PORTING

SIDE = """
import sys
import numpy as np
from rosetta_record import Record
record, inputs = Record(sys.argv[1]), np.array([[1.0, 2.0]])
record.inputs(x=inputs)
record.forward(y=inputs * FACTOR)
"""
TESTS = """
import backends, common  # the stranger's own
import pytest
def test_same(assert_same):
    assert common.MINE and backends.MINE
    assert "equal" in assert_same("left.py", "same.py")
    assert_same("left.py", "same.py")  # into the same folder
@pytest.mark.parametrize("right", ["another.py", "absent.py", "fails.py", "bytes.py", "nothing.py"])
def test_another(assert_same, right):
    assert_same("left.py", right)
def test_empty(assert_same):
    assert_same("empty.py", "empty.py")
def test_stage(assert_same):
    assert_same("left.py", "same.py", require="forward,step")
@pytest.mark.parametrize(
    "options", [{"right_python": "/no/python"}, {"right_python": "."}, {"seconds": 0 * 1e999}]
)
def test_options(assert_same, options):
    assert_same("left.py", "same.py", **options)
"""


def test_a_test_fails_with_the_table_where_scripts_differ(tmp_path: Path) -> None:
    for package in ("common", "backends"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("MINE = True\n")
    for name, text in {
        "left": SIDE.replace("FACTOR", "1.0"),
        "same": SIDE.replace("FACTOR", "1.0"),
        "another": SIDE.replace("FACTOR", "1.5"),
        "fails": "raise SystemExit('no such model')",
        "bytes": r"import sys; sys.stderr.buffer.write(b'caf\xe9'); sys.exit(3)",
        "nothing": "",
        "empty": "import sys; from rosetta_record import Record; Record(sys.argv[1])",
        "test_port": TESTS,
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    for words in (
        "11 failed",
        "left.py and another.py do not compute the same",
        "right breaks at forward",
        "there is no script absent.py in ",
        "fails.py ended with status 1:\nno such model",
        "bytes.py ended with status 3:\ncaf\N{REPLACEMENT CHARACTER}",
        "nothing.py made no record",
        "/no/python cannot be started: No such file or directory; give the path of a Python "
        "interpreter",
        ". cannot be started: Permission denied",
        "seconds is nan, expected more than 0 and at most 1,000,000",
        "nothing of right and left was compared",
        "required and not compared, step: ",
        "left is there already, perhaps an old record; give a new folder",
    ):
        assert words in done.stdout, done.stdout + done.stderr
    assert str(PORTING) not in done.stdout, "the table is shown, and no traceback of ours"
