"""The wheel holds all of the product and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

from backends.process.parent import PROJECT

MODULES = {"rosetta.py"}
PACKAGES = ("backends", "benchmarks", "common")
BUILD = "import sys; from setuptools import setup; setup(script_args=sys.argv[1:])"


def test_the_wheel_holds_the_product_and_nothing_else(tmp_path: Path) -> None:
    """It is built in a folder of its own: in the clone's,
    files of former builds would come into it."""
    options = [
        "--quiet",
        "build",
        "--build-base",
        tmp_path / "build",
        "bdist_wheel",
        "--dist-dir",
        tmp_path,
    ]
    subprocess.run([sys.executable, "-c", BUILD, *options], cwd=PROJECT, check=True)
    (wheel,) = tmp_path.glob("rosetta_s2s-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert names == {*MODULES, *tracked.stdout.split()}
