"""A command that cannot begin prints one line on standard error,
which names the fault, and leaves nothing behind."""

import shutil
from pathlib import Path

import pytest

from common.machine import cores
from common.run import BUNDLED_RUN
from common.text import count
from tests.support.program import refusal, rosetta

TRAIN = "train --backend numpy --num-samples 1000 --latent-dim 16 --epochs 1 --out new"
IMPORT = "convert new --from model.pt --backend torch"
EMPTY_NAME = ["there is no backend ''", "choose one of numpy, keras"]
BENCH = {  # its options, and what must be named
    "--budget soon": "10m",
    "--budget 0s": "'0s' is no duration of a second or more",
    "--within narrow": "10%",
    "--within 0%": "give 1% or more",
    "--within 0.9%": "give 1% or more",
    "--backends mxnet": "there is no backend",
    "--backends numpy --baseline torch": "--baseline torch is not among the backends: numpy",
    "--backends numpy --run nowhere": "nowhere is not a run",
    "--backends numpy --vary units=2": "--vary is AXIS=SIZES",
    "--backends numpy --vary length=0": "--vary is AXIS=SIZES",
    "--backends numpy --vary length=8 --vary length=9": "--vary names length twice",
    "--backends numpy --vary batch-size=9999": "a batch of 9999 is larger than the",
    "--backends numpy --vary latent-dim=8 --latent-dim 16": "at its own sizes; leave out "
    "--latent-dim",
    "--backends numpy --vary latent-dim=8 --baseline numpy": "leave out --baseline",
}
RACE = {
    "none.py a.py": "none.py is not a file",
    "a.py a.py": "two scripts have one name; name them: A=a.py B=a.py",
    "a.py": "a race needs two scripts",
    "a.py b=a.py --env c:A=1": "--env NAME:VARIABLE=VALUE, where NAME is one of a, b; found c:A=1",
    "a.py b=a.py --env b:A": "it is --env NAME:VARIABLE=VALUE",
    "a.py b=a.py --lanes default": "--lanes names default; the lanes are installed, tuned",
    "a.py b=a.py --budget 0.5s": "'0.5s' is no duration",
}
WITH_THREADS = ["backends", "bench", "parity", "serve", "translate Go.", TRAIN, "evaluate"]
# The exit status, the command, typed in a folder of some files, and what must be named.
REFUSED: list[tuple[int, str, list[str]]] = [
    (2, "backends torch mxnet", ["no backend 'mxnet'", "choose one of numpy, keras"]),
    (
        2,
        "backends pytorh",
        ["no backend 'pytorh'; did you mean torch?", "choose one of numpy, keras"],
    ),
    (2, "parity --backends keras:exampel", ["did you mean keras:example?"]),
    (2, "data --data none.txt", ["none.txt cannot be read", "No such file", '"phrasebook"']),
    (
        2,
        "data --data bad.txt",
        ["bad.txt has 1 line without a pair: line 2 (1 column", "--skip-bad-lines"],
    ),
    (2, "train --out new", ["a new run needs --backend", "`rosetta backends`"]),
    (2, f"{TRAIN} --data bad.txt", ["line 2 (1 column"]),
    (2, f"{TRAIN} --backend mxnet", ["'mxnet'", "choose one of numpy, keras"]),
    (2, f"{TRAIN} --batches bucketed", ["--padding mask"]),
    *(
        (2, f"{TRAIN} --learning-rate {rate}", ["learning_rate is inf, expected 0 to"])
        for rate in ("inf", "1e39")
    ),
    (
        2,
        f"{TRAIN} --validation-split 1",
        ["1000 pairs", "--validation-split 1.0", "at least one of each"],
    ),
    (2, "train --out . --backend numpy", [". exists already", "--resume"]),
    (2, "train --out . --resume --epochs 2", [". is not a run", "config.json"]),
    (2, "serve --backends mxnet", ["there is no backend 'mxnet'"]),
    (2, "serve none", ["none is not a run"]),
    (2, "evaluate .", [". is not a run", "rosetta train --out ."]),
    (1, "evaluate damaged --backend numpy", ["damaged/state.safetensors is damaged"]),
    (1, "translate damaged Go. --backend numpy", ["damaged/state.safetensors is damaged"]),
    (
        2,
        "translate mistyped Hi",
        ["mistyped is neither the folder of a run nor a whole sentence", "put quotes"],
    ),
    (
        2,
        "translate --backend numpy --json --file empty.txt",
        ["empty.txt has no lines; expected a sentence"],
    ),
    *(
        (2, f"{command} --threads 999999", [f"more than the {count(cores(), 'core')}"])
        for command in WITH_THREADS
    ),
    (2, "convert damaged", ["needs --to NAME, or --from FILE"]),
    (
        2,
        "convert damaged --to torch --latent-dim 3",
        ["--to writes a run as it is", "leave out --latent-dim"],
    ),
    (2, "convert damaged --to torch --dtype float32", ["leave out --dtype"]),
    (2, "convert damaged optimizer.pt --to torch", ["leave out optimizer.pt"]),
    *(
        (2, f"convert damaged --to {name}", ["choose one of keras, torch", "onnx"])
        for name in ("onx", "numpy")
    ),
    (2, "convert new --to torch", ["is not a run"]),
    (2, "convert new --from model.pt", ["and --backend NAME"]),
    (2, IMPORT, ["no vocabulary: give --data"]),
    (2, f"{IMPORT} --to torch", ["leave out --from"]),
    (2, f"{IMPORT} --out other", ["leave out --out"]),
    (2, f"{IMPORT} --vocabulary damaged --data phrasebook", ["leave out --data"]),
    (2, f"{IMPORT} --vocabulary none", ["is not a run ("]),
    (2, f"{IMPORT} --backend numpy --vocabulary damaged", ["numpy has no format of its own; "]),
    (2, "diff left", ["one record was given; expected two records or none"]),
    (
        2,
        "diff left right --demo fixed",
        ["--demo compares bundled records, and a record was given"],
    ),
    *((2, f"bench --out a.jsonl {options}", [words]) for options, words in BENCH.items()),
    *((2, f"race --out a.jsonl {typed}", [words]) for typed, words in RACE.items()),
    *((2, f"{command} --backends=", EMPTY_NAME) for command in ("bench", "parity", "serve")),
    *(
        (2, f"{command} --backends numpy,,torch", EMPTY_NAME)
        for command in ("bench", "parity", "serve")
    ),
]
# Refusals by Typer, in its own form.
OUT_OF_BOUNDS = [
    "--num-samples 0",
    "--dtype float8",
    "--latent-dim 4097",
    "--validation-split 2",
    "--batch-size x",
]
OUT_OF_BOUNDS += ["--learning-rate nan", "--validation-split nan", "--seed -1"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("pairs.txt").write_bytes(b"Go.\tVa !\nRun!\tCours !\n")
    Path("a.py").touch()
    Path("empty.txt").touch()
    Path("bad.txt").write_bytes(b"Go.\tVa !\nRun!\n")
    damaged = Path(shutil.copytree(BUNDLED_RUN, "damaged")) / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-99])
    return tmp_path


@pytest.mark.parametrize(
    ("status", "command", "named"), REFUSED, ids=[command for _, command, _ in REFUSED]
)
def test_a_refusal_is_one_line_that_names(
    status: int, command: str, named: list[str], here: Path
) -> None:
    before = sorted(here.rglob("*"))
    line = refusal(status, *command.split(" "))
    assert [words for words in named if words not in line] == [], line
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("option", OUT_OF_BOUNDS)
def test_a_value_out_of_bounds_is_refused_with_its_options_name(option: str, here: Path) -> None:
    status, _, said = rosetta(*TRAIN.split(), *option.split())
    assert (status, option.split()[0] in said, "Traceback" in said, "Value error" in said) == (
        2,
        True,
        False,
        False,
    )
    assert not Path("new").exists()
