"""What is in the wheel: all of the product, nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

from backends.process.parent import PROJECT

MODULES = {"rosetta.py", "rosetta_pytest.py", "rosetta_record.py"}
PACKAGES = ("backends", "benchmarks", "common")


def test_the_wheel_holds_the_product_and_nothing_else(tmp_path) -> None:
    options = "--quiet --no-deps --no-build-isolation -w".split()
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, tmp_path, PROJECT], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("rosetta_s2s-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=PROJECT, capture_output=True, text=True, check=True)
    expected = {*MODULES, *tracked.stdout.split()}
    assert names == expected
    assert {Path(name).parts[0] for name in names} == {*MODULES, *PACKAGES}
