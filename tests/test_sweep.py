"""A sweep: each point measured once and gone on with, shares and departures by known answers, memory that stays."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.plan import Cell
from benchmarks.measure.recording import Sizes
from benchmarks.measure.sweep import (
    Axes,
    DataMeasured,
    PointMeasured,
    Sweep,
    random_rows,
    spread,
)
from benchmarks.results.roofline import step_flop
from benchmarks.results.scaling import scaling_of
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError, RosettaError
from tests import recordings
from tests.conftest import batch_of
from tests.program import refusal
from tests.recordings import SIZES, swept

TINY = Axes(seq_length=(4, 8), latent_dim=(8, 16), batch_size=(2, 32), num_samples=(40, 400))
NAMES = ("torch", "paddle", "keras")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """By the referee, in two goes: the first one ended after some points."""
    path = tmp_path_factory.mktemp("sweep") / "a.jsonl"
    data, settings = DataConfig(num_samples=200), TrainConfig()
    begun = Sweep.create(path, data, settings, 16, "cpu", 1, cells=(Cell("numpy"),), axes=TINY)
    told = list(islice(begun.run(), 7))  # the last of which is begun, and not recorded
    assert (told[0], told[-1]) == ("data of 40 pairs (1 of 10)", "numpy, batch_size 2 (7 of 10)")
    assert len(Sweep.read(path).lines) == 6
    with path.open("ab") as file:
        file.write(b'{"kind": "pointmeas')  # what a kill leaves
    assert [title[-8:] for title in Sweep.read(path).resume().run()] == [f"({number} of 4)" for number in range(1, 5)]
    return Sweep.read(path)


def test_every_point_is_measured_once_and_nothing_else(measured: Sweep) -> None:
    assert measured.head.axes == TINY
    points = [line for line in measured.lines if isinstance(line, PointMeasured)]
    expected = [(axis, value, Cell("numpy")) for axis, values in asdict(TINY).items() for value in values]
    assert [measured.piece_of(point) for point in points] == expected
    data = [line.num_samples for line in measured.lines if isinstance(line, DataMeasured)]
    assert data == [40, 400]
    assert all(len(point.point.step_seconds) >= 32 for point in points if point.axis == "num_samples")


def test_a_sweep_gives_a_curve_an_axis(measured: Sweep) -> None:
    scaling = scaling_of(measured)
    assert [curve.axis for curve in scaling.curves] == ["seq_length", "latent_dim", "batch_size", "num_samples"]
    for curve in scaling.curves:
        assert [point.value for point in curve.points] == list(asdict(TINY)[curve.axis])
        assert all(0 < point.share < 1.5 for point in curve.points)
    assert scaling.costs[0].encode_seconds < scaling.costs[1].encode_seconds
    assert scaling.command == ("rosetta sweep --backends numpy --num-samples 200 --latent-dim 16 --threads 1")


def test_another_machine_does_not_go_on_and_a_bench_is_no_sweep(measured: Sweep, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a.jsonl"
    elsewhere.write_text(measured.path.read_text(encoding="utf-8").replace('"cores":', '"cores":7'), encoding="utf-8")
    with pytest.raises(CannotBeginError, match="was begun elsewhere: cores was"):
        Sweep.read(elsewhere).resume()
    bench = recordings.written(recordings.recording(generations=1), tmp_path / "bench.jsonl").path
    with pytest.raises(RosettaError, match="is no line of rosetta-sweep version 1"):
        Sweep.read(bench)
    assert "no line of rosetta-benchmark" in refusal(1, "compare", measured.path, bench)


def test_without_overhead_a_curve_is_all_on_one_share() -> None:
    scaling = scaling_of(swept(dict.fromkeys(NAMES, 10.0)))  # 1e11 of 2e11 a second
    assert len(scaling.curves) == 4 * len(NAMES)
    for curve in scaling.curves:
        assert [point.share for point in curve.points] == pytest.approx([0.5] * 4)
        assert curve.departs is None


def test_a_departure_is_where_overhead_takes_half() -> None:
    overhead = 10.0 * step_flop(SIZES, 8, 256) / 1e12  # as much again as a step of eight pairs takes
    batches = scaling_of(swept(dict.fromkeys(NAMES, 10.0), overhead)).of_axis("batch_size")[0]
    assert [point.share for point in batches.points] == pytest.approx([1 / 18, 1 / 3, 8 / 17, 64 / 129], rel=0.01)
    assert batches.departs == 1, "at sixteen pairs two thirds of the best share are left"


def test_the_growth_of_memory_is_counted_from_the_examples_pairs() -> None:
    curve = scaling_of(swept(dict.fromkeys(NAMES, 10.0))).of_axis("num_samples")[0]
    assert curve.growth == pytest.approx(
        {1000: 7.001e8 / 7.01e8, 10_000: 1, 50_000: 7.05e8 / 7.01e8, 200_000: 7.2 / 7.01}
    )
    few = Axes(num_samples=(40, 400))
    curve = scaling_of(swept({"torch": 10.0}, axes=few)).of_axis("num_samples")[0]
    assert curve.growth[40] == 1, "of the fewest pairs, where the example's were not measured"


def test_before_anything_is_measured_there_is_nothing_to_say() -> None:
    made = swept({"torch": 10.0})
    made.lines.clear()
    scaling = scaling_of(made)
    assert (list(scaling.curves), list(scaling.costs), scaling.flops) == ([], [], 0.0)


def test_rows_of_a_corpus_are_spread_or_repeated() -> None:
    assert spread(3, 9).tolist() == [0, 3, 6]
    assert spread(6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert spread(4, 4).tolist() == [0, 1, 2, 3]


def test_random_rows_fill_the_sizes() -> None:
    corpus = batch_of(8, "float32")
    sizes = Sizes(1, 1, 7, 7, corpus.num_encoder_tokens, corpus.num_decoder_tokens)
    rows = random_rows(sizes, 5, corpus, seed=1)
    assert rows.encoder_input_data.shape == (5, 7, corpus.num_encoder_tokens)
    assert rows.decoder_target_data.shape == (5, 7, corpus.num_decoder_tokens)
    assert rows.encoder_ids.dtype == corpus.encoder_ids.dtype
    assert rows.real_positions.sum() == 5 * 6
    assert np.array_equal(rows.decoder_ids, random_rows(sizes, 5, corpus, seed=1).decoder_ids)


def test_what_cannot_be_swept_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    assert "cannot be swept" in refusal(2, "sweep", "--backends", "keras:example", "--out", out)
    assert "--out" in refusal(2, "sweep", "--resume")
    assert "cannot be opened" in refusal(2, "sweep", "--resume", "--out", out)
    assert not out.exists()
