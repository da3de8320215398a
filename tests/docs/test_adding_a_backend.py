"""docs/adding_a_backend.md: its steps, taken in a copy of the project, add a backend."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from backends.process.parent import PROJECT

NAME = "mimic"
NEW = ["numpy_model.py", "profiling/numpy.py"]  # the files after which the new backend's are written
ENTRY = f'    "{NAME}": Entry("backends.{NAME}_model", "{NAME}", "{NAME}"),\n'
# The framework that is made up for this test: NumPy under another name.
FRAMEWORK = 'from numpy import *\n__version__ = "1.0"\n'


def project_file(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def like_numpys(name: str) -> str:
    """A file of the new backend, written as this one of NumPy's, but with all calls made to the new framework."""
    text = project_file(name).replace("Numpy", "Mimic")
    return text.replace("import numpy as np", f"import {NAME} as np").replace("from numpy ", f"from {NAME} ")


def steps() -> dict[str, str]:
    """The files that the page's steps write, by name. The extra's package needs no installation, since
    PYTHONPATH leads to it."""
    files = {f"backends/{name.replace('numpy', NAME)}": like_numpys(f"backends/{name}") for name in NEW}
    for name, before, line in (
        ("backends/__init__.py", "TABLE = {\n", ENTRY),
        ("pyproject.toml", "[project.optional-dependencies]\n", f"{NAME} = []\n"),
        ("pyproject.toml", 'all = ["rosetta-s2s[', f"{NAME},"),
    ):
        text = files.get(name) or project_file(name)
        assert text.count(before) == 1
        files[name] = text.replace(before, before + line)
    return files


def files_of_the_page() -> set[str]:
    """The files that the steps of the page write or change, with the name of this test's backend.

    They stand in backquotes; a file that is only to be read is a link.
    """
    page = project_file("docs/adding_a_backend.md")
    (listed,) = [paragraph for paragraph in page.split("\n\n") if paragraph.startswith("1. ")]
    return {name.replace("NAME", NAME) for name in re.findall(r"(?<!\[)`([\w/]+\.(?:py|toml))`", listed)}


def test_the_steps_of_the_page_add_a_backend(tmp_path: Path) -> None:
    copy, framework = tmp_path / "project", tmp_path / "framework"
    copy.mkdir()
    framework.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    subprocess.run(["xargs", "-0", "cp", "--parents", "-t", copy], cwd=PROJECT, input=tracked, check=True)
    files = steps()
    assert files.keys() == files_of_the_page()
    for name, text in files.items():
        (copy / name).write_text(text, encoding="utf-8")
    (framework / f"{NAME}.py").write_text(FRAMEWORK, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{copy}{os.pathsep}{framework}"}

    def python(*arguments: str) -> str:
        """Run Python in the copy, and return what it prints."""
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # The ladder trains and translates too.
    small = ["--quick", "--latent-dim", "16", "--threads", "1", "--json"]
    parity = json.loads(python("-m", "rosetta", "parity", "--backends", NAME, *small).splitlines()[-1])
    assert parity["passed"]
    assert {check["backend"] for check in parity["checks"]} == {NAME}
    python(
        "-m", "pytest", "--quiet", "tests/frameworks/test_profiling.py", "tests/unit/test_structure.py", "-k", NAME
    )
