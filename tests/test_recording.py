"""A recording on disk: whole lines only, never overwritten, refused where it is not one."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest

from benchmarks.analysis import analyse
from benchmarks.measure import resumed
from benchmarks.plan import Cell, Plan, cells, sized
from benchmarks.recording import Recording
from common.errors import CannotBeginError, RosettaError
from common.interface import Part
from tests.recordings import recording


def test_what_was_written_is_read(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl", rounds=2)
    read = Recording.read(made.path)
    assert read.plan == made.plan
    assert read.records == made.records
    assert Plan.from_json(json.loads(json.dumps(made.plan.as_json()))) == made.plan


def test_a_recording_from_before_there_were_bucketed_rows_is_read(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl", {"torch": 0.06}, rounds=2, preset="quick")
    text = made.path.read_text(encoding="utf-8").replace('"samples": 1280, "batch_size": 64, ', "")
    made.path.write_text(re.sub(r', "batches": ("shuffled"|\["shuffled"\])', "", text), encoding="utf-8")
    assert "shuffled" not in made.path.read_text(encoding="utf-8")
    assert Recording.read(made.path).plan == made.plan
    assert analyse(Recording.read(made.path)).rows == analyse(made).rows


def test_a_bucketed_cell_says_how_many_pairs_it_timed(tmp_path) -> None:
    path = recording(tmp_path / "a.jsonl", rounds=2).path
    path.write_text(path.read_text(encoding="utf-8").replace('"samples": 1248, ', ""), encoding="utf-8")
    with pytest.raises(RosettaError, match="'samples' is a required property"):
        Recording.read(path)


def test_a_kernels_part_is_one_that_the_interface_has(tmp_path) -> None:
    path = recording(tmp_path / "a.jsonl", rounds=1).path
    text = path.read_text(encoding="utf-8")
    for part in get_args(Part):
        path.write_text(text.replace('"part": "LSTM"', f'"part": "{part}"'), encoding="utf-8")
        assert Recording.read(path).of_kind("round")[0]["cells"][0]["kernels"][0]["part"] == part
    path.write_text(text.replace('"part": "LSTM"', '"part": "magic"'), encoding="utf-8")
    with pytest.raises(RosettaError, match="'magic' is not one of"):
        Recording.read(path)


def test_nothing_is_overwritten(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl", rounds=2)
    before = made.path.read_bytes()
    with pytest.raises(CannotBeginError, match="exists already"):
        Recording.create(made.path, made.plan, made.corpus)
    assert made.path.read_bytes() == before


def test_a_torn_line_is_left_out_and_cut_off(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl", rounds=2)
    whole = made.path.read_bytes()
    made.path.write_bytes(whole[:-40])
    read = Recording.read(made.path)
    assert read.records == made.records[:-1]
    read.go_on()
    read.append(made.records[-1])
    assert made.path.read_bytes() == whole


def test_what_an_earlier_version_began_is_read_but_not_gone_on_with(tmp_path) -> None:
    path = recording(tmp_path / "a.jsonl", rounds=2).path
    path.write_text(path.read_text(encoding="utf-8").replace('"longest": 0, ', ""), encoding="utf-8")
    assert Recording.read(path).of_kind("round")
    with pytest.raises(CannotBeginError, match="earlier Rosetta"):
        resumed(path)


@pytest.mark.parametrize("cut", [0, 10])
def test_a_file_without_a_whole_first_line_is_no_recording(tmp_path, cut) -> None:
    path = recording(tmp_path / "a.jsonl", rounds=2).path
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RosettaError, match="damaged"):
        Recording.read(path)


@pytest.mark.parametrize(
    "first",
    [
        "{}",
        "[1]",
        '{"format": "rosetta-bench", "version": 1}',
        "not JSON",
        '{"format": "rosetta-bench", "version": 2}',
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, first) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{first}\n", encoding="utf-8")
    with pytest.raises(RosettaError) as caught:
        Recording.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_of_no_preset_is_refused(tmp_path) -> None:
    path = recording(tmp_path / "a.jsonl", rounds=2).path
    path.write_text(path.read_text(encoding="utf-8").replace('"preset": "standard"', '"preset": "theirs"'))
    with pytest.raises(RosettaError, match="damaged: its plan"):
        Recording.read(path)


def test_a_round_that_is_there_twice_or_not_whole_is_refused(tmp_path) -> None:
    path = recording(tmp_path / "a.jsonl", rounds=2).path
    lines = path.read_text(encoding="utf-8").splitlines()
    whole = json.loads(lines[-1])
    for last in (lines[-1], json.dumps(whole | {"round": 3, "cells": whole["cells"][1:]})):
        path.write_text("\n".join([*lines, last, ""]), encoding="utf-8")
        with pytest.raises(RosettaError, match="is there twice or not whole"):
            Recording.read(path)


def test_the_weights_have_a_place_of_their_own(tmp_path) -> None:
    with pytest.raises(CannotBeginError, match="the name of its weights"):
        recording(tmp_path / "a.safetensors")


def test_another_text_is_not_gone_on_with(tmp_path) -> None:
    path = recording(tmp_path / "a.jsonl", rounds=2).path  # whose digest is of no corpus
    with pytest.raises(CannotBeginError, match="phrasebook has changed since"):
        resumed(path)


@pytest.mark.parametrize(("num_cells", "rounds"), [(27, 7), (11, 7), (15, 4), (6, 20)])
def test_rounds_begin_spread_over_the_cells(tmp_path, num_cells: int, rounds: int) -> None:
    plan = recording(tmp_path / "a.jsonl", rounds=2).plan
    cells = tuple(Cell("torch", python=str(number)) for number in range(num_cells))
    plan = replace(plan, cells=cells, size=replace(plan.size, rounds=rounds))
    orders = [plan.of_round(number) for number in range(1, rounds + 1)]
    assert all(sorted(order, key=repr) == sorted(cells, key=repr) for order in orders)
    starts = sorted({cells.index(order[0]) for order in orders})
    assert len(starts) == min(num_cells, rounds)
    gaps = [after - before for before, after in pairwise([*starts, starts[0] + num_cells])]
    assert max(gaps) - min(gaps) <= 1


def test_every_second_round_goes_backwards(tmp_path) -> None:
    plan = recording(tmp_path / "a.jsonl", rounds=7).plan
    after: dict[Cell, set[Cell]] = {}
    for number in range(1, 8):
        for before, cell in pairwise(plan.of_round(number)):
            after.setdefault(cell, set()).add(before)
    assert all(len(found) == 2 for found in after.values()), "the neighbours on both sides"


def test_lanes_come_in_one_order_and_the_control_in_full_precision_first() -> None:
    size = sized("quick", lanes=("default", "matched"))
    assert size.lanes == ("matched", "default")
    controls = [cell for cell in cells(["torch:bfloat16", "torch"], [], size) if cell.control]
    assert controls == [Cell("torch", "matched", control=True)]
    alone = [cell for cell in cells(["torch:bfloat16"], [], size) if cell.control]
    assert alone == [Cell("torch:bfloat16", "matched", control=True)]


def test_a_report_has_a_row_for_each_cell_but_controls(tmp_path) -> None:
    plan = recording(tmp_path / "a.jsonl", rounds=2).plan
    assert plan.rows == [cell for cell in plan.cells if not cell.control]
    assert [cell.label for cell in plan.models] == [
        *("keras:example", "keras", "paddle", "torch"),
        *(f"{name}, masked and bucketed" for name in ("keras", "paddle", "torch")),
    ]
    assert Cell("torch", "matched", control=True) in plan.cells


def test_bucketed_trainings_may_go_on_for_a_third_more(tmp_path) -> None:
    plan = recording(tmp_path / "a.jsonl", rounds=2).plan
    assert [plan.epochs_of(Cell("torch", batches=batches)) for batches in ("shuffled", "bucketed")] == [3, 4]


def test_trainings_of_another_number_of_epochs_are_not_gone_on_with(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    made = recording(path)
    assert all(len(r["epochs"]) == made.plan.epochs_of(Cell.of(r)) for r in made.of_kind("quality"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    bucketed = next(line for line in lines if line.get("kind") == "quality" and line["batches"] == "bucketed")
    bucketed["epochs"].pop()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(CannotBeginError, match="begun by an earlier Rosetta"):
        resumed(path)
