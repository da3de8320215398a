"""A model without modules against one with modules: a tap names what differs between layers, and
the lines of both programs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from porting_tests.support import PORTING
from porting_tests.support.records import arrays, described
from porting_tests.support.side import Side, run_program, script
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.read.side import Side as Recorded
from rosetta_record import Record, RecordError, tap

FUNCTIONS, MODULES = "transformer_functions.py", "transformer_torch.py"
# What is planted, right and wrong, and the tap that shows it.
MISTAKES = {
    "scale": ("SIZE**-0.5", "SIZE**-1", "scores"),
    "mask": ("ids[:, None, None] != 0", "ids[:, None, None] > 1", "masked scores"),
    "einsum": ("nhts,nshd->nthd", "nhts,nthd->nshd", "context"),
    "GELU": (
        'F.gelu(linear(w, "wide", x))',
        'F.gelu(linear(w, "wide", x), approximate="tanh")',
        "activated",
    ),
}


@pytest.fixture(scope="module")
def modules(side_of: Callable[[str], Side], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("functions")
    for name in ("shared.py", FUNCTIONS, MODULES):
        shutil.copy(PORTING / "ports" / name, folder)
    record(side_of("torch"), folder, MODULES, "modules")
    return folder


def record(torch: Side, folder: Path, *arguments: str) -> None:
    torch.do(script, folder=folder, arguments=[*arguments], steps=1)


def compared(torch: Side, folder: Path, change: Callable[[str], str] = str) -> tuple[Diff, str]:
    """The comparison of the functions after a change of the program, and the program."""
    program = change((folder / FUNCTIONS).read_text("utf-8"))
    (folder / "changed.py").write_text(program, "utf-8")
    record(torch, folder, "changed.py", "changed", "modules")
    return compare_records(Recorded(folder / "modules"), Recorded(folder / "changed")), program


def line_of(program: str, words: str) -> int:
    return next(number for number, line in enumerate(program.splitlines(), 1) if words in line)


def test_functions_compute_what_modules_compute(
    modules: Path, side_of: Callable[[str], Side]
) -> None:
    found, _ = compared(side_of("torch"), modules)
    assert found.passed
    assert {"weights", "forward", "loss", "gradients", "step"} <= {*found.compared}
    taps = [check.tensor for check in found.checks if check.tensor.startswith("tap ")]
    assert taps == [
        f"tap {tap} output" for tap in ("scores", "masked scores", "context", "activated")
    ]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_tap_names_a_mistake_in_a_function(
    name: str, modules: Path, side_of: Callable[[str], Side]
) -> None:
    right, wrong, tap = MISTAKES[name]

    def planted(program: str) -> str:
        assert program.count(right) == 1
        return program.replace(right, wrong)

    found, program = compared(side_of("torch"), modules, planted)
    assert found.broken == "forward"
    assert found.explanation[1].startswith(f"tap {tap} output")
    assert f"at changed.py:{line_of(program, f'tap({chr(34)}{tap}')} on the right" in "\n".join(
        found.explanation
    )


def test_a_tap_returns_its_tensor_and_records_one_forward_pass(tmp_path: Path) -> None:
    record = Record(tmp_path / "taps")
    scores = np.ones((2, 3))
    assert tap("scores", scores) is scores
    record.forward(y=scores)
    assert tap("scores", scores) is scores
    (call,) = described(tmp_path / "taps")["calls"]
    assert (call["layer"], call["code"]) == ("tap scores", 'assert tap("scores", scores) is scores')
    assert call["parts"] == list(Recorded(tmp_path / "taps").arrays("layers"))
    del record
    assert tap("scores", scores) is scores


TWO = """
import sys
import torch
from rosetta_record import Record, tap

class Model(torch.nn.Linear):
    def forward(self, x):
        return tap("scores", super().forward(x) * self.out_features)

x = torch.ones(1, 2)
models = [Model(2, n) for n in (1, 2)]
records = [Record(f"{sys.argv[1]}/{n}") for n in (1, 2)]
if sys.argv[2] == "training":
    for model, record in zip(models, records):
        optimizer = torch.optim.SGD(model.parameters())
        record.training(model, [x], lambda model, x: model(x).sum(), optimizer, steps=2)
else:
    for model, record in zip(models, records):
        record.model(model)
    outputs = [model(x) for model in models]
    for output, record in zip(outputs, records):
        record.forward(y=output)
"""


@pytest.mark.parametrize("way", ["calls", "training"])
def test_taps_of_records_made_at_once_are_kept_apart(
    way: str, side_of: Callable[[str], Side], tmp_path: Path
) -> None:
    side_of("torch").do(run_program, text=TWO, arguments=[str(tmp_path), way])
    for number in (1, 2):
        said = described(tmp_path / f"{number}")["calls"]
        found = arrays(tmp_path / f"{number}", "layers")
        assert [call["layer"] for call in said] == ["tap scores", ""]
        assert [found[part].shape for call in said for part in call["parts"]] == [(1, number)] * 2


def test_a_tap_of_no_model_is_refused_where_two_records_are_made(tmp_path: Path) -> None:
    Record(tmp_path / "dropped").weights(w=np.ones(2))
    one, other = Record(tmp_path / "one"), Record(tmp_path / "other")
    with pytest.raises(
        RecordError,
        match=r"being made in .*one and .*other; expected one of them, "
        r"or record.tap\(",
    ):
        tap("scores", np.ones(2))
    other.tap("scores", np.ones(2))
    other.forward(y=np.ones(2))
    tap("more scores", np.ones(2))
    one.forward(y=np.ones(2))
    taps = [described(record.folder)["calls"][0]["layer"] for record in (one, other)]
    assert taps == ["tap more scores", "tap scores"]
