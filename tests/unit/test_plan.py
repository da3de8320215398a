"""The plan of a benchmark: the rows that options ask for,
and the command that asks for them again."""

import shlex
from unittest.mock import Mock

import pytest

from benchmarks.measure import bench
from benchmarks.measure.plan import rows_of
from benchmarks.schema import Plan
from common.errors import CannotBeginError
from tests.support.measurements import plan_of
from tests.support.program import refusal, rosetta


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
        "--within 7%",
        "--within 2%",
        "--baseline torch --latent-dim 16 --seed 3 --batch-size 32 --num-samples 300 "
        "--skip-bad-lines",
        "--device gpu --backends numpy",
        "--model attention --latent-dim 16",
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
    assert "2%" in typed or "--vary" in typed or first.budget < 300, "under five minutes"


def test_a_backend_without_the_model_is_left_out_unless_it_is_named(monkeypatch) -> None:
    plan = planned(monkeypatch, "bench", "--model", "attention")
    assert not any(":" in row.backend for row in plan.rows)
    named = ["bench", "--model", "attention", "--backends", "torch,keras:example"]
    assert "keras:example has no model 'attention'; choose one of numpy" in refusal(2, *named)


def test_a_row_that_settings_help_is_in_each_lane_and_another_in_both() -> None:
    """All take turns in the same rounds."""
    plan = plan_of(["torch", "keras:example"])
    assert [(row.label, row.lane, bool(row.variables)) for row in plan.rows] == [
        ("torch", "tuned", True),
        ("keras:example", "both", False),
        ("torch, as installed", "installed", False),
    ]
    assert plan.rows_by_size == [[0, 1, 2]]


def test_threads_that_are_asked_for_make_a_tuned_row() -> None:
    rows = rows_of(["numpy"], threads=1)
    assert [(row.lane, row.variables.get("OPENBLAS_NUM_THREADS")) for row in rows] == [
        ("tuned", "1"),
        ("installed", None),
    ]
