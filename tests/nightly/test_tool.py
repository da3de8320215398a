"""The tool for ports: its bundled records made anew,
and its recorder on the oldest Python that it is written for."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rosetta_diff.commands import DEMO

from backends.process.parent import PROJECT
from tests.support.needs import starts
from tests.support.program import answer

PORTING = PROJECT / "porting"
SCRIPT = """
import sys
import numpy as np
from rosetta_record import Record
inputs, kernel = np.array([[1.0, 2.0]]), np.ones((2, 3))
record = Record(sys.argv[1])
record.inputs(x=inputs)
record.layer("output", "Linear", {"weight": kernel}, {}, inputs @ kernel)
record.forward(y=inputs @ kernel)
"""


def test_the_bundled_records_are_those_that_are_made(tmp_path: Path) -> None:
    runpy.run_path(str(PORTING / "demo" / "make.py"))["make"](tmp_path)
    for record in DEMO.iterdir():
        assert answer("diff", record, tmp_path / record.name)["passed"], record.name


def test_the_oldest_python_records_the_same(tmp_path: Path) -> None:
    targets = tomllib.loads((PORTING / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"][
        "per-file-target-version"
    ]
    oldest = re.sub(r"py(\d)(\d+)", r"python\1.\2", targets["rosetta_record/*.py"])
    if not starts(oldest):
        pytest.skip(f"needs {oldest}")
    subprocess.run([oldest, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "numpy", "safetensors"], check=True)
    for interpreter, name in ((python, "oldest"), (sys.executable, "this")):
        subprocess.run([interpreter, "-c", SCRIPT, tmp_path / name], cwd=PORTING, check=True)
    assert answer("diff", tmp_path / "oldest", tmp_path / "this")["passed"]
