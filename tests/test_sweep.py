"""A sweep: each point measured once and gone on with, shares and departures by known answers, memory that stays."""

import json
import re
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from benchmarks.analysis import Analysis, analyse
from benchmarks.plan import Plan, Sweep, cells, sized
from benchmarks.recording import Recording
from benchmarks.report.render import render_markdown
from benchmarks.report.scaling import blocks
from benchmarks.roofline import Sizes, step_flop
from benchmarks.scaling import growth
from benchmarks.sweep import points, random_rows, spread
from benchmarks.tables import scaling_table
from rich.console import Console

from benchmarks.measure import begin, resumed
from common.config import DataConfig, TrainConfig
from tests import recordings
from tests.conftest import batch_of
from tests.program import refusal
from tests.recordings import swept

SIZES = Sizes(5, 7, 7, 1, 1, 16)
TINY = Sweep(seq_length=(4, 8), latent_dim=(8, 16), batch_size=(2, 32), num_samples=(40, 400))


def plan(sweep: Sweep | None = TINY, rounds: int = 0) -> Plan:
    size = sized("quick", rounds=rounds)
    rows = cells(["numpy"], [], size)
    return Plan(
        DataConfig(num_samples=200, split="grouped"), TrainConfig(), 16, "cpu", None, "quick", size, rows, sweep
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Recording:
    """By the referee, in two goes: the first one ended after some points."""
    path = tmp_path_factory.mktemp("sweep") / "a.jsonl"
    begun = begin(path, plan(), {})

    def show(title: str, done: int, parts: int, left: float | None) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begun.run(show)
    done = len(Recording.read(path).records)
    assert 0 < done < len(points(plan())) + 4
    resumed(path).run(lambda *told: None)
    return Recording.read(path)


def test_every_point_is_measured_once_and_nothing_else(measured) -> None:
    assert measured.plan == plan()
    found = [(r["axis"], r["value"], r["backend"]) for r in measured.of_kind("sweep")]
    assert found == [(p.axis, p.value, p.cell.backend) for p in points(measured.plan)]
    assert len(found) == len(set(found)) == 8
    assert [r["num_samples"] for r in measured.of_kind("data")] == [40, 400]
    assert {r["kind"] for r in measured.records} == {"certificate", "products", "data", "sweep"}
    assert all(len(r["step_seconds"]) >= 32 for r in measured.of_kind("sweep") if r["axis"] == "num_samples")


def test_a_sweep_by_itself_gives_curves_and_no_rows(measured) -> None:
    results = analyse(measured)
    assert results.rows == []
    assert results.decoded == []
    assert [curve.axis for curve in results.scaling.curves] == [
        "seq_length",
        "latent_dim",
        "batch_size",
        "num_samples",
    ]
    for curve in results.scaling.curves:
        assert len(curve.points) == 2
        assert all(0 < point.share < 1.5 for point in curve.points)
    assert results.scaling.data[0].encode_seconds < results.scaling.data[1].encode_seconds
    assert results.command.endswith("--sweep")
    page = render_markdown(results)
    headings = [found for found in re.findall("^## (.*)", page, flags=re.M) if found != "Verdicts"]  # warnings
    assert headings == ["How cost grows", "Data, and how to measure again"]
    assert "not measured" not in page.lower()


def test_shares_are_of_the_formula_and_a_departure_is_where_overhead_takes_half(tmp_path) -> None:
    """Without overhead a curve is all on one share; with it, the first size from the large end that lost half."""
    made = recordings.recording(tmp_path / "a.jsonl", rounds=2)
    flat = analyse(swept(made, dict.fromkeys(recordings.SECONDS, 10.0))).scaling  # 1e11 of 2e11 a second
    for curve in flat.curves:
        assert [point.share for point in curve.points] == pytest.approx([0.5] * 4)
        assert curve.departs is None
        assert curve.ranked
    assert {curve.name for curve in flat.curves} == {"torch", "paddle", "keras"}

    made = recordings.recording(tmp_path / "b.jsonl", rounds=2)
    sizes = Analysis(made).sizes
    overhead = 10.0 * step_flop(sizes.at("batch_size", 8)) / 1e12  # as much again as a step of eight takes
    found = analyse(swept(made, dict.fromkeys(recordings.SECONDS, 10.0), overhead)).scaling
    batches = found.of_axis("batch_size")[0]
    assert [point.share for point in batches.points] == pytest.approx([1 / 18, 1 / 3, 8 / 17, 64 / 129], rel=0.01)
    assert batches.departs == 1, "at sixteen pairs two thirds of the best share are left"


def test_report_table_and_json_tell_the_same(tmp_path) -> None:
    made = recordings.recording(tmp_path / "a.jsonl", rounds=2)
    sizes = Analysis(made).sizes
    overhead = 10.0 * step_flop(sizes.at("batch_size", 8)) / 1e12
    results = analyse(swept(made, dict.fromkeys(recordings.SECONDS, 10.0), overhead))
    page = render_markdown(results)
    assert "keras, paddle, torch under half of the best share at 1\n" in page
    assert "Training on 200,000 pairs takes at most 1.03× the memory of 10,000" in page
    shown = Console(width=200, file=StringIO())
    shown.print(scaling_table(results.scaling))
    for text in ("(49.6", "(1.03×)"):
        assert text in page
        assert text in shown.file.getvalue()
    curve = json.loads(json.dumps(results.as_json(), allow_nan=False))["scaling"]["curves"][0]
    assert curve["points"][0].keys() >= {"value", "seconds", "ideal_seconds", "share", "peak_memory"}


def test_without_a_sweep_nothing_is_said_of_it(tmp_path) -> None:
    results = analyse(recordings.recording(tmp_path / "a.jsonl", rounds=2))
    assert results.scaling is None
    assert blocks(results) == []
    assert "--sweep" not in results.command


def test_the_growth_of_memory_is_counted_from_the_examples_pairs(tmp_path) -> None:
    made = recordings.recording(tmp_path / "a.jsonl", rounds=2)
    curve = analyse(swept(made, dict.fromkeys(recordings.SECONDS, 10.0))).scaling.of_axis("num_samples")[0]
    assert growth(curve) == pytest.approx(
        {1000: 7.001e8 / 7.01e8, 10_000: 1, 50_000: 7.05e8 / 7.01e8, 200_000: 7.2 / 7.01}
    )


def test_a_broken_certificate_is_told(tmp_path) -> None:
    made = recordings.recording(tmp_path / "a.jsonl", rounds=2, certified=False)
    assert not any(c.ranked for c in analyse(swept(made, dict.fromkeys(recordings.SECONDS, 10.0))).scaling.curves)


def test_rows_of_a_corpus_are_spread_or_repeated() -> None:
    assert spread(3, 9).tolist() == [0, 3, 6]
    assert spread(6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert spread(4, 4).tolist() == [0, 1, 2, 3]


def test_random_rows_fill_the_sizes() -> None:
    corpus = batch_of(8, "float32")
    sizes = replace(SIZES, num_encoder_tokens=corpus.num_encoder_tokens, num_decoder_tokens=corpus.num_decoder_tokens)
    rows = random_rows(sizes, corpus, seed=1)
    assert rows.encoder_input_data.shape == (5, 7, corpus.num_encoder_tokens)
    assert rows.decoder_target_data.shape == (5, 7, corpus.num_decoder_tokens)
    assert rows.encoder_ids.dtype == corpus.encoder_ids.dtype
    assert rows.real_positions.sum() == 5 * 6
    assert np.array_equal(rows.decoder_ids, random_rows(sizes, corpus, seed=1).decoder_ids)


def test_nothing_to_measure_is_refused(tmp_path) -> None:
    assert "--sweep" in refusal(2, "bench", "--rounds", "0", "--out", tmp_path / "a.jsonl")
