"""A command that cannot begin prints one line on standard error, which names the fault, and leaves nothing behind."""

import shutil
from pathlib import Path

import pytest

from common.run import BUNDLED_RUN
from tests.support.program import refusal, rosetta

TRAIN = "train --backend numpy --num-samples 1000 --latent-dim 16 --epochs 1 --out new"
EMPTY_NAME = ["there is no backend ''", "choose one of numpy, keras"]
# The exit status, the command, typed in a folder that holds pairs.txt and bad.txt, and what must be named.
REFUSED: list[tuple[int, str, list[str]]] = [
    (2, "backends torch mxnet", ["no backend 'mxnet'", "choose one of numpy, keras"]),
    (2, "backends torch --variants", ["torch", "leave one"]),
    (2, "data --data none.txt", ["none.txt cannot be read", "No such file", '"phrasebook"']),
    (2, "data --data bad.txt", ["bad.txt, line 2: 1 column", "--skip-bad-lines"]),
    (2, "train --out new", ["a new run needs --backend", "`rosetta backends`"]),
    (2, f"{TRAIN} --data bad.txt", ["line 2: 1 column"]),
    (2, f"{TRAIN} --backend mxnet", ["'mxnet'", "choose one of numpy, keras"]),
    (2, f"{TRAIN} --batches bucketed", ["--padding mask"]),
    *((2, f"{TRAIN} --learning-rate {rate}", ["learning_rate is inf, expected 0 to"]) for rate in ("inf", "1e39")),
    (2, f"{TRAIN} --validation-split 1", ["1000 pairs", "--validation-split 1.0", "at least one of each"]),
    (2, "train --out . --backend numpy", [". exists already", "--resume"]),
    (2, "train --out . --resume --epochs 2", [". is not a run", "config.json"]),
    (2, "evaluate .", [". is not a run", "rosetta train --out ."]),
    (1, "evaluate damaged --backend numpy", ["damaged/state.safetensors is damaged"]),
    (1, "translate damaged Go. --backend numpy", ["damaged/state.safetensors is damaged"]),
    (2, "convert new", ["--to NAME", "--from FILE"]),
    (2, "convert new --to torch --latent-dim 3", ["--to writes a run as it is", "leave out --latent-dim"]),
    *((2, f"{command} --backends=", EMPTY_NAME) for command in ("bench", "parity", "serve")),
    *((2, f"{command} --backends numpy,,torch", EMPTY_NAME) for command in ("bench", "parity", "serve")),
]
# Refusals by Typer, in its own form.
OUT_OF_BOUNDS = ["--num-samples 0", "--dtype float8", "--latent-dim 4097", "--validation-split 2", "--batch-size x"]
OUT_OF_BOUNDS += ["--learning-rate nan", "--validation-split nan", "--seed -1"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("pairs.txt").write_bytes(b"Go.\tVa !\nRun!\tCours !\n")
    Path("bad.txt").write_bytes(b"Go.\tVa !\nRun!\n")
    damaged = Path(shutil.copytree(BUNDLED_RUN, "damaged")) / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-99])
    return tmp_path


@pytest.mark.parametrize(("status", "command", "named"), REFUSED, ids=[command for _, command, _ in REFUSED])
def test_a_refusal_is_one_line_that_names(status: int, command: str, named: list[str], here: Path) -> None:
    before = sorted(here.rglob("*"))
    line = refusal(status, *command.split(" "))
    assert [words for words in named if words not in line] == [], line
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("option", OUT_OF_BOUNDS)
def test_a_value_out_of_bounds_is_refused_with_its_options_name(option: str, here: Path) -> None:
    status, _, said = rosetta(*TRAIN.split(), *option.split())
    assert (status, option.split()[0] in said, "Traceback" in said) == (2, True, False)
    assert not Path("new").exists()
