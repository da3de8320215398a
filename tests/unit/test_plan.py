"""The plan of a benchmark: the rows that options ask for, and the command that asks for them again."""

import shlex
from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmarks.measure import bench
from benchmarks.measure.plan import Plan, Row, rows_of
from common.errors import CannotBeginError
from tests.support.program import refusal, rosetta
from tests.support.recordings import plan_of


def planned(monkeypatch: pytest.MonkeyPatch, *typed: str) -> Plan:
    """The plan of what is typed; nothing is measured."""
    opened = Mock(side_effect=CannotBeginError("it is planned"))
    monkeypatch.setattr(bench, "opened_benchmark", opened)
    rosetta(*typed)
    plan: Plan = opened.call_args.args[1]
    return plan


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "--backends torch --threads 1 --within 2% --budget 10m",
        "--baseline torch --latent-dim 16 --seed 3 --batch-size 32 --num-samples 300 --skip-bad-lines",
        "--device gpu --backends numpy",
        "--data 'a corpus; rm -rf /.txt' --run 'a run'",
        "--backends numpy --vary latent-dim=8,16 --vary batch-size=32,64 --threads 1",
    ],
)
def test_the_command_that_is_printed_gives_the_same_plan(monkeypatch, typed: str) -> None:
    first = planned(monkeypatch, "bench", *shlex.split(typed))
    command = shlex.split(first.command.replace("\\\n", " "))
    assert command[0] == "rosetta"
    assert planned(monkeypatch, *command[1:]) == first
    assert ("--seed" in command) == ("--seed" in typed), "what is measured by default is left out"
    assert typed or first.budget < 300, "under five minutes"
    for row in first.rows:  # each can be measured by itself
        alone = planned(monkeypatch, *shlex.split(first.command_of(row))[1:])
        assert row in alone.rows


def test_each_framework_has_a_row_as_installed_too() -> None:
    """The question is of rows that do the same work."""
    both = ["torch", "keras:example"]
    assert [row.label for row in rows_of(both)] == [*both, "torch, as installed"]
    assert plan_of(both).question == [Row(name) for name in both]


def test_what_cannot_be_begun_is_refused_in_one_line(tmp_path: Path) -> None:
    out = ["--out", tmp_path / "a.jsonl"]
    expected = {
        "--budget soon": "10m",
        "--budget 0s": "'0s' is no duration of a second or more",
        "--within narrow": "10%",
        "--backends mxnet": "there is no backend",
        "--backends numpy --baseline torch": "--baseline torch is not among the backends: numpy",
        "--backends numpy --run nowhere": "nowhere is not a run",
        "--backends numpy --vary units=2": "--vary is AXIS=SIZES",
        "--backends numpy --vary length=0": "--vary is AXIS=SIZES",
        "--backends numpy --vary length=8 --vary length=9": "--vary names length twice",
        "--backends numpy --vary batch-size=9999": "a batch of 9999 is larger than the",
        "--backends numpy --vary latent-dim=8 --latent-dim 16": "at its own sizes; leave out --latent-dim",
        "--backends numpy --vary latent-dim=8 --baseline numpy": "leave out --baseline",
    }
    for typed, message in expected.items():
        assert message in refusal(2, "bench", *typed.split(), *out), typed
    assert "'0.5s' is no duration" in refusal(2, "race", "a.py", "b.py", "--budget", "0.5s", *out)
    assert not list(tmp_path.iterdir())
