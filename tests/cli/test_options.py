"""Options of the command line: their help and their defaults."""

import os
import subprocess
import sys
from pathlib import Path

from backends import TABLE
from backends.process.parent import PROJECT
from rosetta import COMMANDS
from tests.support.program import rosetta


def test_help_names_every_command_and_backend() -> None:
    listed = rosetta("--help")[1]
    for command in COMMANDS:
        assert f" {command} " in listed
        said = rosetta(command, "--help")[1]
        assert f"Usage: rosetta {command}" in said
        if "--backend" in said or command == "convert":
            words = set(said.replace("│", " ").split())
            assert [
                name for name in TABLE if not {f"{name},", f"{name}.", f"{name};"} & words
            ] == []
    assert rosetta("--version")[1].startswith("rosetta ")
    assert "Did you mean 'train'?" in rosetta("trian")[2]


def test_a_settings_option_has_its_default_bounds_and_meaning() -> None:
    said = " ".join(rosetta("train", "--help")[1].replace("│", " ").split())
    for words in (
        "--latent-dim <int range> [1<=x<=4096] Number of units of a layer. [default: 256]",
        "--batch-size <int range> [x>=1] Number of pairs in each training step. [default: 64]",
        "--learning-rate <float range> [x>=0.0] Learning rate of RMSprop; rounded to float32. "
        "[default: 0.001]",
        "--padding <space|mask> Let padding count",
    ):
        assert words in said


def test_the_package_of_benchmarks_is_the_script_bench() -> None:
    command = [sys.executable, "-m", "benchmarks", "--backends", "mxnet"]
    refused = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (refused.returncode, "there is no backend 'mxnet'" in refused.stderr) == (2, True)


def test_packages_of_our_names_on_pythonpath_do_not_shadow_ours(tmp_path: Path) -> None:
    """Nor those of the working folder; and help names the program however it is started."""
    for package in ("backends", "common"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('shadowed')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT)])}
    translate = ["translate", "--backend", "numpy", "I love you!"]
    for said, command in (("Je t'aime", translate), ("Usage: rosetta bench ", ["bench", "--help"])):
        command = [sys.executable, "-P", "-m", "rosetta", *command]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert said in done.stdout
