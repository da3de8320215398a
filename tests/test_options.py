"""Options of the command line: their help, their defaults, and what the Tab key completes."""

import inspect
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import rosetta as program
from backends import TABLE
from backends.process.parent import PROJECT
from benchmarks import commands, comparing
from common.config import DataConfig, ModelConfig, TrainConfig
from tests.program import refusal, rosetta

MAIN = "import sys; sys.argv = ['rosetta']; import rosetta; rosetta.main()"


def completed(command: str, folder: Path = PROJECT) -> list[str]:
    """What bash offers at the end of a command, in a folder."""
    typed = {"_ROSETTA_COMPLETE": "complete_bash", "COMP_WORDS": command, "COMP_CWORD": str(command.count(" "))}
    environment = os.environ | typed | {"PYTHONPATH": str(PROJECT)}
    command_line = [sys.executable, "-c", MAIN]
    done = subprocess.run(command_line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not done.stderr
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    "options",
    [
        "backends",
        "backends numpy",
        "train --backend",
        "translate --backend",
        "evaluate --backend",
        "convert run --to",
        "bench --backends",
    ],
)
def test_tab_completes_the_names_of_backends(options: str) -> None:
    offered = completed(f"rosetta {options} ")
    assert [name for name in offered if name not in ("weights", "all")] == list(TABLE)
    assert completed(f"rosetta {options} pad") == ["paddle"]


@pytest.mark.parametrize("command", ["bench", "sweep", "parity", "serve"])
def test_tab_completes_the_last_name_of_a_list(command: str) -> None:
    assert completed(f"rosetta {command} --backends torch,numpy,t") == [
        "torch,numpy,torch:compile",
        "torch,numpy,torch:bfloat16",
    ]


def test_tab_completes_runs_here_and_in_runs(tmp_path: Path) -> None:
    for run in ("trained", "runs/first", "runs/second", "runs/no-run", "elsewhere/third"):
        (tmp_path / run).mkdir(parents=True)
        if run != "runs/no-run":
            (tmp_path / run / "config.json").touch()
    for command in ("translate", "evaluate", "convert", "bench --run", "train --resume --out"):
        assert completed(f"rosetta {command} ", tmp_path) == ["runs/first", "runs/second", "trained"]
        assert completed(f"rosetta {command} runs/s", tmp_path) == ["runs/second"]


def test_tab_completes_corpora_and_leaves_files_to_the_shell() -> None:
    assert completed("rosetta data --data ") == ["phrasebook", "fra-eng"]
    assert completed("rosetta train --data fr") == ["fra-eng"]
    assert completed("rosetta train --data corpus.t") == []


@pytest.mark.parametrize(
    "command", ["train", "translate", "evaluate", "convert", "bench", "sweep", "parity", "serve"]
)
def test_help_names_every_backend(command: str) -> None:
    said = rosetta(command, "--help")[1].replace("│", " ").split()
    assert [name for name in TABLE if not {f"{name},", f"{name}.", f"{name};"} & set(said)] == []


@pytest.mark.parametrize(
    "command",
    [program.data, program.train, program.convert, commands.bench, commands.sweep, comparing.parity],
    ids=lambda command: command.__name__,
)
def test_defaults_are_those_of_the_configurations(command) -> None:
    given = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
    if command is program.convert:  # which finds the size in the file, and takes no corpus that was not named
        del given["latent_dim"], given["data"]
    if command is comparing.parity:  # both precisions
        del given["dtype"]
    defaults = {of.name: of.default for config in (DataConfig, ModelConfig, TrainConfig) for of in fields(config)}
    shared = given.keys() & defaults.keys()
    assert len(shared) >= 3
    assert {name: given[name] for name in shared} == pytest.approx({name: defaults[name] for name in shared})


@pytest.mark.parametrize("command", ["bench", "sweep", "parity", "serve"])
@pytest.mark.parametrize("listed", ["", ",", "numpy,,torch"])
def test_a_list_with_an_empty_name_is_refused(command: str, listed: str) -> None:
    assert "there is no backend ''; choose one of numpy" in refusal(2, command, "--backends", listed)


def test_help_names_the_program_however_it_is_started() -> None:
    command = [sys.executable, "-m", "benchmarks", "--help"]
    assert "Usage: rosetta bench " in subprocess.run(command, cwd=PROJECT, capture_output=True, text=True).stdout


def test_packages_of_our_names_on_pythonpath_do_not_shadow_ours(tmp_path: Path) -> None:
    for package in ("backends", "common"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('shadowed')")
    # Once from the project, where Python puts the working directory first, and once from elsewhere, where it does not
    # and PYTHONPATH leads to the other packages before it leads to ours.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT)])}
    train = ["train", "--backend", "numpy", "--num-samples", "60", "--latent-dim", "4", "--epochs", "1"]
    for folder, command in [
        (tmp_path, ["-P", "-m", "rosetta", "backends", "--help"]),
        (tmp_path, ["-P", "-m", "rosetta", *train, "--out", str(tmp_path / "run")]),
        (PROJECT, ["-m", "benchmarks", "--help"]),
        (tmp_path, ["-P", "-m", "benchmarks", "--help"]),
    ]:
        command = [sys.executable, *command]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "state.safetensors").exists()
