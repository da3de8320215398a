"""What is measured: the cells that options ask for, and the command that asks for them again."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backends import TABLE
from backends.process.parent import PROJECT
from benchmarks.commands import _measuring
from benchmarks.measure import schedule
from benchmarks.measure.plan import BATCHES, LANES, PRESETS, Cell, Plan, cells, certified_as, chosen, require_named
from common.errors import CannotBeginError, RosettaError
from tests.program import refusal, rosetta
from tests.recordings import SECONDS, plan_of, recording, written

BOTH = tuple(LANES)


class PlannedError(Exception):
    """Raised in place of measuring."""


def planned(monkeypatch: pytest.MonkeyPatch, *typed: str) -> Plan:
    """The plan of what is typed; nothing is measured."""
    found: list[Plan] = []

    def begin(path: Path, plan: Plan, certificates: Any) -> None:
        found.append(plan)
        raise PlannedError

    monkeypatch.setattr(schedule, "begin", begin)
    with pytest.raises(PlannedError):
        rosetta(*typed)
    return found[0]


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "--preset standard",
        "--backends numpy,torch --lanes matched",
        "--backends torch --lanes default --threads 1",
        "--backends keras:example",
        "--within 2% --budget 10m",
        "--within 2.5% --budget 1000000s",
        "--preset standard --within 3% --batches shuffled --seeds 0 --epochs 5",
        "--batches bucketed,shuffled --seeds 1",
        "--baseline torch --latent-dim 16 --seed 3 --batch-size 32 --learning-rate 0.05",
        "--num-samples 300 --split tail --validation-split 0.1 --skip-bad-lines",
        f"--backends numpy --python numpy={sys.executable}",
        "--device gpu --backends torch",
        "--rows 'torch; paddle, as installed'",
        "--backends torch,torch:compile --rows torch:compile --baseline torch --lanes matched",
        "--data 'a corpus; rm -rf /.txt' --run 'a run'",
    ],
)
def test_the_command_that_is_printed_gives_the_same_plan(monkeypatch, typed: str) -> None:
    first = planned(monkeypatch, "bench", *shlex.split(typed))
    command = shlex.split(first.command.replace("\\\n", " "))
    assert command[0] == "rosetta"
    assert planned(monkeypatch, *command[1:]) == first


def test_what_a_preset_says_already_is_left_out_of_the_command(monkeypatch) -> None:
    assert planned(monkeypatch, "bench", "--backends", "torch,keras").command.split(" \\\n    ") == [
        "rosetta bench",
        "--preset quick",
        "--backends torch,keras",
    ]


def test_a_preset_is_the_numbers_that_options_override(monkeypatch) -> None:
    assert planned(monkeypatch, "bench", "--preset", "standard").size == PRESETS["standard"]
    size = planned(monkeypatch, "bench", "--preset", "standard", "--within", "2%", "--seeds", "0").size
    assert size == replace(PRESETS["standard"], within=0.02, seeds=0)


def test_the_example_is_measured_in_the_first_lane_alone() -> None:
    found = cells(["keras:example", "torch"], [], BOTH, PRESETS["quick"])
    assert found == (
        Cell("keras:example"),
        Cell("torch"),
        Cell("torch", "default"),
    )


def test_a_standard_run_has_a_row_measured_twice_and_bucketed_ones() -> None:
    found = cells(["torch:bfloat16", "torch", "keras:example"], [], ("matched",), PRESETS["standard"])
    assert [cell.label for cell in found] == [
        "torch:bfloat16",
        "torch",
        "keras:example",
        "torch, again",
        "torch:bfloat16, masked and bucketed",
        "torch, masked and bucketed",
    ], "the first in float32 is the control, and the example is neither masked nor bucketed"
    alone = cells(["torch:bfloat16"], [], ("matched",), PRESETS["standard"])
    assert Cell("torch:bfloat16", again=True) in alone


def test_rows_question_and_trainings_leave_out_what_is_apart() -> None:
    plan = plan_of(["torch", "torch:bfloat16"], "standard", lanes=BOTH)
    assert not any(cell.again for cell in plan.rows)
    assert plan.question == [Cell("torch")]
    assert [cell.label for cell in plan.trained] == [
        "torch",
        "torch:bfloat16",
        "torch, masked and bucketed",
        "torch:bfloat16, masked and bucketed",
    ]
    assert plan_of(lanes=("default",)).question == [Cell(name, "default") for name in SECONDS]
    assert plan_of(["torch"]).trained == [], "the quick preset has no trainings"


def test_bucketed_trainings_may_go_on_for_a_third_more() -> None:
    plan = plan_of(["torch"], "standard")
    assert [plan.epochs_of(Cell("torch", batches=batches)) for batches in BATCHES] == [30, 40]


def test_a_certificate_is_shared_by_lanes_and_by_what_is_measured_twice() -> None:
    cell = Cell("torch", "default", "/usr/bin/python", again=True)
    assert certified_as(cell) == Cell("torch", python="/usr/bin/python")
    assert certified_as(Cell("torch", batches="bucketed")) != certified_as(Cell("torch"))


def named(plan: Plan, *labels: str) -> list[str]:
    """The labels of what is measured of a plan if --rows names these."""
    return [cell.label for cell in msgspec.structs.replace(plan, named=labels).measured]


def test_rows_that_are_named_bring_along_what_they_are_compared_with() -> None:
    plan = plan_of(["torch", "keras", "torch:bfloat16", "keras:example"], "standard", lanes=BOTH)
    assert named(plan, "keras") == ["keras", "keras:example"]
    assert named(plan, "keras, as installed") == ["keras", "keras:example", "keras, as installed"]
    assert named(plan, "torch:bfloat16", "keras, masked and bucketed") == [
        "torch",
        "keras",
        "torch:bfloat16",
        "keras:example",
        "keras, masked and bucketed",
    ]
    assert named(plan, "torch") == ["torch", "keras:example", "torch, again"], "the control goes with its row"
    assert named(plan, "keras:example") == ["keras:example"]
    assert named(plan) == [cell.label for cell in plan.cells]


def test_the_baseline_that_is_chosen_is_measured_with_the_rows_that_are_named() -> None:
    assert named(plan_of(baseline="paddle"), "torch") == ["paddle", "torch"]
    alone = plan_of(["torch", "paddle"], lanes=("default",), baseline="paddle")
    assert named(alone, "torch, as installed") == ["torch, as installed", "paddle, as installed"]


def test_rows_question_and_later_generations_are_of_what_is_measured() -> None:
    plan = msgspec.structs.replace(plan_of(lanes=BOTH), named=("torch, as installed",))
    assert plan.question == [Cell("keras:example"), Cell("torch")]
    assert plan.alive_in(1) == plan.rows == [Cell("keras:example"), Cell("torch"), Cell("torch", "default")]
    assert plan.alive_in(2) == plan.question


def test_rows_that_other_machines_measure_need_not_be_installed_here(monkeypatch, tmp_path: Path) -> None:
    missing = TABLE["paddle"].__class__("backends.paddle_backend:PaddleBackend", "no_such_package", "paddle")
    monkeypatch.setitem(TABLE, "paddle", missing)
    typed = ["bench", "--backends", "numpy,paddle", "--baseline", "numpy", "--out", str(tmp_path / "a.jsonl")]
    plan = planned(monkeypatch, *typed, "--rows", "numpy")
    assert [cell.label for cell in plan.cells][:2] == ["numpy", "paddle"]
    refusal(2, *typed, "--rows", "paddle")


def test_the_guides_array_of_jobs_measures_a_part_of_one_plan_in_each(monkeypatch, tmp_path: Path) -> None:
    guide = (PROJECT / "docs" / "benchmarking.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```\n(#!/bin/bash\n#SBATCH.*?)```", guide, re.DOTALL)
    program = tmp_path / "rosetta"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    plans = []
    for number in range(3):
        task = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(number)}
        typed = subprocess.run(["bash", "-c", script], env=task, capture_output=True, text=True, check=True).stdout
        plans.append(planned(monkeypatch, *typed.splitlines()))
    assert [plan.measured[1].label for plan in plans] == ["torch", "paddle", "keras"]
    assert all(len(plan.measured) == 3 and plan.measured[0].backend == "keras:example" for plan in plans)
    assert len({plan.cells for plan in plans}) == 1


def test_labels_tell_all_cells_apart() -> None:
    plan = plan_of(["torch", "keras", "torch:bfloat16"], "standard", lanes=BOTH)
    labels = [cell.label for cell in plan.cells]
    assert len(set(labels)) == len(labels)
    assert Cell("torch", "default", "/opt/python", "bucketed", True).label == (
        "torch, as installed, under /opt/python, masked and bucketed, again"
    )


def test_words_of_an_option_come_in_one_order_and_others_are_refused() -> None:
    assert chosen(None, "lanes", BOTH) is None
    assert chosen("default, matched", "lanes", BOTH) == BOTH
    for wrong in ("", "fast", "matched,fast"):
        with pytest.raises(CannotBeginError, match="--lanes is matched or default"):
            chosen(wrong, "lanes", BOTH)


def test_what_cannot_be_begun_is_refused_in_one_line(tmp_path: Path) -> None:
    out = ["--out", tmp_path / "a.jsonl"]
    expected = {
        "--lanes fast": "--lanes is matched or default",
        "--batches sorted": "--batches is shuffled or bucketed",
        "--batches bucketed": "--batches is shuffled, or shuffled,bucketed",
        "--budget soon": "10m",
        "--within narrow": "10%",
        "--python torch": "NAME=PATH",
        "--python torch=/nowhere/python": "no program",
        "--backends jax": "there is no backend",
        "--backends numpy --baseline torch": "--baseline torch is not among the backends: numpy",
        "--backends numpy --baseline numpy --rows torch": "--rows has 'torch', expected some of these: numpy; ",
        "--backends numpy --rows numpy": "--rows needs a backend that every machine measures",
        "--backends numpy --run nowhere": "nowhere is not a run",
        "--backends numpy --validation-split 0": "expected at least one of each",
        "--backends numpy --certificate nowhere.json": "nowhere.json cannot be read",
    }
    for typed, said in expected.items():
        assert said in refusal(2, "bench", *typed.split(), *out), typed
    assert "--out" in refusal(2, "bench", "--resume")
    assert "cannot be opened: No such file" in refusal(2, "bench", "--resume", *out)
    assert "leave out --within" in refusal(2, "bench", "--resume", *out, "--within", "3%")
    assert "leave out --rows" in refusal(2, "bench", "--resume", *out, "--rows", "torch")
    assert not list(tmp_path.iterdir())


def test_going_on_starts_the_interpreters_that_are_named_again_and_no_others(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    cells = Cell("numpy"), Cell("numpy", python=str(program), again=True)
    plan = msgspec.structs.replace(plan_of(["numpy"]), cells=cells)
    path = written(recording(plan, {"numpy": 1.0}, 0), tmp_path / "a.jsonl").path
    other = f"numpy={sys.executable}"
    told = refusal(2, "bench", "--resume", "--out", path, "--python", other)
    assert f"has other interpreters; if you trust these programs, add --python numpy={program}" in told
    with pytest.raises(CannotBeginError, match=f"add --python numpy={program}"):
        require_named(plan, [], path)
    with pytest.raises(CannotBeginError, match="leave out --python"):
        require_named(msgspec.structs.replace(plan, cells=cells[:1]), [other], path)
    require_named(plan, [f"numpy={program}"], path)
    with (
        pytest.raises(RosettaError, match=f"--resume --python numpy={program}$"),
        _measuring("bench", path, False, plan.python_options),
    ):
        raise RosettaError("it died")
    assert not (tmp_path / "started").exists()
