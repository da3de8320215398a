"""docs/adding_a_backend.md: its steps, taken in a copy of the project, add a backend."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from backends.process.parent import PROJECT

NAME = "mimic"
# The framework that is made up for this test: NumPy under another name.
FRAMEWORK = 'from numpy import *\n__version__ = "1.0"\n'
# Of the tests that run on every backend, those that need no other framework and are quick.
TESTS = ("tests/test_profiling.py", "tests/test_parity.py", "tests/test_structure.py")


class Copy:
    """A copy of the project's tracked files, whose programs can import the framework that is made up."""

    def __init__(self, folder: Path) -> None:
        self.root, framework = folder / "project", folder / "framework"
        listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
        self.tracked = {name: (PROJECT / name).read_bytes() for name in listed.stdout.splitlines()}
        for name, content in self.tracked.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(content)
        framework.mkdir()
        (framework / f"{NAME}.py").write_text(FRAMEWORK, encoding="utf-8")
        self.environment = os.environ | {"PYTHONPATH": f"{self.root}{os.pathsep}{framework}"}

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} should have {old!r} once"
        (self.root / name).write_text(text.replace(old, new), encoding="utf-8")

    def changed(self) -> set[str]:
        """The names of the files that are new or are not as the project has them."""
        files = {
            str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()
        }
        return {name for name, content in files.items() if content != self.tracked.get(name)}

    def run(self, *arguments: object, expected_status: int = 0) -> str:
        """What `python -m` with these arguments prints in the copy; its errors come last."""
        command = [sys.executable, "-m", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == expected_status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def answer(self, *arguments: object) -> dict[str, Any]:
        """The JSON object that a command of Rosetta prints in the copy."""
        lines = self.run("rosetta", *arguments, "--json").splitlines()
        (answered,) = [json.loads(line) for line in lines if line.startswith("{")]
        return answered


def write_like_numpy(copy: Copy, numpys: str, own: str) -> None:
    """Write a file of the new backend as NumPy's is written, but with all calls made to the new framework."""
    text = (PROJECT / numpys).read_text(encoding="utf-8").replace("Numpy", "Mimic")
    for old in ("import numpy as np", "backends.profiling.numpy", "backends.numpy_backend"):
        text = text.replace(old, old.replace("numpy", NAME))
    (copy.root / own).write_text(text, encoding="utf-8")


def add_model(copy: Copy) -> None:
    """Step 1."""
    write_like_numpy(copy, "backends/numpy_backend.py", f"backends/{NAME}_backend.py")


def add_profiling(copy: Copy) -> None:
    """Step 2."""
    write_like_numpy(copy, "backends/profiling/numpy.py", f"backends/profiling/{NAME}.py")


def add_line_to_table(copy: Copy) -> None:
    """Step 3."""
    line = f'    "{NAME}": Entry("backends.{NAME}_backend:MimicBackend", "{NAME}", "{NAME}"),\n'
    copy.replace("backends/__init__.py", "TABLE = {\n", f"TABLE = {{\n{line}")


def add_extra(copy: Copy) -> None:
    """Step 4; the package needs no installation, since PYTHONPATH leads to it."""
    copy.replace(
        "pyproject.toml", "[project.optional-dependencies]\n", f"[project.optional-dependencies]\n{NAME} = []\n"
    )
    copy.replace("pyproject.toml", 'all = ["rosetta-s2s[', f'all = ["rosetta-s2s[{NAME},')


STEPS = (add_model, add_profiling, add_line_to_table, add_extra)


def files_of_the_page() -> set[str]:
    """The files that the steps of the page write or change, with the name of this test's backend.

    They stand in backquotes; a file that is only to be read is a link.
    """
    page = (PROJECT / "docs" / "adding_a_backend.md").read_text(encoding="utf-8")
    (steps,) = [paragraph for paragraph in page.split("\n\n") if paragraph.startswith("1. ")]
    assert len(re.findall(r"^\d\. ", steps, re.MULTILINE)) == len(STEPS)
    return {name.replace("NAME", NAME) for name in re.findall(r"(?<!\[)`([\w/]+\.(?:py|toml))`", steps)}


def test_the_steps_of_the_page_add_a_backend(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    for step in STEPS:
        step(copy)
    assert copy.changed() == files_of_the_page()
    small = ["--latent-dim", "16", "--threads", "1"]
    copy.answer("train", "--backend", NAME, "--num-samples", "300", *small, "--epochs", "1", "--out", "run")
    assert copy.answer("translate", "run", "It is red.")["backend"] == NAME
    parity = copy.answer("parity", "--quick", "--backends", NAME, *small)
    assert parity["passed"]
    assert {check["backend"] for check in parity["checks"]} == {NAME}
    copy.run("pytest", "--quiet", *TESTS, "-k", f"{NAME} or extra")
    (copy.root / "pyproject.toml").write_bytes(copy.tracked["pyproject.toml"])
    failed = copy.run("pytest", "--quiet", "tests/test_structure.py", "-k", "extra", expected_status=1)
    assert "test_each_extra" in failed, "a step that is left out is noticed"
