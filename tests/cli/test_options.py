"""Options of the command line: their help, their defaults, and what the Tab key completes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends import TABLE
from backends.process.parent import PROJECT
from rosetta import COMMANDS
from tests.support.program import rosetta


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch):
    """Completions that bash offers at the end of a command."""

    def offered(command: str) -> list[str]:
        monkeypatch.setenv("_ROSETTA_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", command)
        monkeypatch.setenv("COMP_CWORD", str(command.count(" ")))
        _, out, err = rosetta()
        assert not err
        return [line for line in out.splitlines() if line]

    return offered


ONE = "backends numpy;train --backend;translate --backend;convert run --to;bench --backends"
LISTS = ("bench", "parity", "serve")


def test_tab_completes_the_names_of_backends_alone_and_in_lists(completed) -> None:
    for options in ONE.split(";"):
        offered = completed(f"rosetta {options} ")
        assert [name for name in offered if name not in ("onnx", "weights", "all")] == list(TABLE)
        assert completed(f"rosetta {options} pad") == ["paddle"]
    for command in LISTS:
        last = completed(f"rosetta {command} --backends keras,numpy,k")
        assert last == [f"keras,numpy,keras:{v}" for v in ("example", "on-tensorflow", "on-jax", "on-torch")]


def test_tab_completes_runs_and_corpora_and_the_shell_files(completed, tmp_path: Path, monkeypatch) -> None:
    for run in ("trained", "runs/first", "runs/second", "runs/no-run", "elsewhere/third"):
        (tmp_path / run).mkdir(parents=True)
        if run != "runs/no-run":
            (tmp_path / run / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    for command in ("translate", "evaluate", "convert", "bench --run", "train --resume --out"):
        assert completed(f"rosetta {command} ") == ["runs/first", "runs/second", "trained"]
        assert completed(f"rosetta {command} runs/s") == ["runs/second"]
    assert completed("rosetta data --data ") == ["phrasebook", "fra-eng"]
    assert completed("rosetta train --data corpus.t") == []


def test_help_names_every_command_and_backend() -> None:
    listed = rosetta("--help")[1]
    for command in COMMANDS:
        assert f" {command} " in listed
        said = rosetta(command, "--help")[1]
        assert f"Usage: rosetta {command}" in said
        if "--backend" in said or command == "convert":
            words = set(said.replace("│", " ").split())
            assert [name for name in TABLE if not {f"{name},", f"{name}.", f"{name};"} & words] == []
    assert rosetta("--version")[1].startswith("rosetta ")
    assert "Did you mean 'train'?" in rosetta("trian")[2]


def test_a_settings_option_has_its_default_bounds_and_meaning() -> None:
    said = " ".join(rosetta("train", "--help")[1].replace("│", " ").split())
    for words in (
        "--latent-dim <int range> [1<=x<=4096] Number of units of each LSTM. [default: 256]",
        "--batch-size <int range> [x>=1] Number of pairs in each training step. [default: 64]",
        "--learning-rate <float range> [x>=0.0] Learning rate of RMSprop; rounded to float32. [default: 0.001]",
        "--padding <space|mask> Let padding count",
    ):
        assert words in said


def test_packages_of_our_names_on_pythonpath_do_not_shadow_ours(tmp_path: Path) -> None:
    """Nor those of the working folder; and help names the program however it is started."""
    for package in ("backends", "common"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('shadowed')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT)])}
    translate = ["translate", "--backend", "numpy", "I love you!"]
    for said, command in (("Je t'aime", translate), ("Usage: rosetta bench ", ["bench", "--help"])):
        command = [sys.executable, "-P", "-m", "rosetta", *command]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert said in done.stdout
