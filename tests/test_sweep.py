"""A sweep of sizes: each size measured once, in two goes, and a page by known answers and of the committed one."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from math import inf
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.measure import machine, sweep
from benchmarks.measure.in_child import Product
from benchmarks.measure.recording import Evidence, Line, Recording, Round, Sizes
from benchmarks.report import render, scaling
from benchmarks.report.roofline import multiplies_one_hot, step_flop
from benchmarks.report.words import SPACE
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError
from tests.conftest import batch_of
from tests.program import refusal

COMMITTED = Path(__file__).parents[1] / "docs" / "benchmark" / "scaling.jsonl"
TINY = {"batch_size": [2], "num_samples": [40, 400]}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let visits be short, and nothing be left out or taken again: tests run while other programs do."""
    monkeypatch.setattr(sweep, "VISIT_SECONDS", 0.02)
    monkeypatch.setattr(machine, "MOST_WAIT", machine.WINDOW)
    monkeypatch.setattr(machine, "MOST_OTHERS", inf)


def test_every_size_is_measured_once_in_two_goes(tmp_path: Path, short: None) -> None:
    path = tmp_path / "a.jsonl"
    begun = sweep.begin(path, ["numpy", "torch"], DataConfig(num_samples=200), TrainConfig(), 16, "cpu", 1, axes=TINY)
    told = list(islice(sweep.measure(begun), 2))  # the last of which is begun, and not recorded
    assert told == ["batch_size 2 (1 of 3)", "num_samples 40 (2 of 3)"]
    with path.open("ab") as file:
        file.write(b'{"kind": "rou')  # what a kill leaves
    assert [*sweep.measure(Recording.read(path).resume())] == ["num_samples 40 (1 of 2)", "num_samples 400 (2 of 2)"]
    measured = Recording.read(path)
    assert [line.number for line in measured.rounds()] == [1, 2, 3]
    assert [(line.row, line.products[0].name) for line in measured.of_kind(Evidence)] == [(0, "large"), (1, "large")]
    for line in measured.rounds():
        assert [start.row for start in line.starts] == [0, 1]
        assert [sorted(visit.row for visit in cycle) for cycle in line.cycles] == [[0, 1]] * sweep.CYCLES
        assert all(len(visit.steps) >= (16 if line.number > 1 else 3) for cycle in line.cycles for visit in cycle)
        assert all(visit.peak > 20_000_000 for cycle in line.cycles for visit in cycle)
    found = scaling.scaling_of(measured)
    assert [(curve.axis, curve.backend) for curve in found.curves] == [
        (a, b) for a in TINY for b in ("numpy", "torch")
    ]
    assert all(0 < point.share < 1.5 for curve in found.curves for point in curve.points)
    assert found.command == "rosetta sweep --backends numpy,torch --latent-dim 16 --threads 1 --num-samples 200"


def planted(seconds: Callable[[float, int], float], disturbed: bool = False) -> Recording:
    """The committed sweep with other times: `seconds` of a step's operations and of the size.

    A `disturbed` sweep has a second cycle at each size, which is slow and which other programs disturb.
    """
    made = Recording.read(COMMITTED)
    lines: list[Line] = []
    for line in made.lines:
        if isinstance(line, Evidence):
            lines.append(Evidence(line.row, None, [Product("large", (2048, 2048, 2048), 1e12)]))
        elif isinstance(line, Round):
            axis, size = sweep.points_of(made.head)[line.number - 1]
            flop = {s.row: multiplies_one_hot(s.facts) for s in line.starts}
            step = {
                row: seconds(step_flop(*sweep.sizes_at(made.head, axis, size), h), size) for row, h in flop.items()
            }
            cycle = [msgspec.structs.replace(visit, steps=[step[visit.row]] * 3) for visit in line.cycles[0]]
            slow = [msgspec.structs.replace(visit, steps=[9 * step[visit.row]], others=0.5) for visit in cycle]
            lines.append(msgspec.structs.replace(line, cycles=[cycle, slow] if disturbed else [cycle]))
        else:
            lines.append(line)
    return replace(made, lines=lines)


def test_without_overhead_a_curve_is_all_on_one_share_and_disturbed_cycles_do_not_count() -> None:
    found = scaling.scaling_of(planted(lambda flop, size: flop / 4e11, disturbed=True))
    assert len(found.curves) == 12
    for curve in found.curves:
        assert [point.share for point in curve.points] == pytest.approx([0.4] * 4)
        assert curve.departs is None


def test_a_departure_is_the_largest_size_below_half_of_the_best_share() -> None:
    made = planted(lambda flop, size: flop / 4e11 * (3 if size in (1, 16) else 1))
    (torch, *_), text = [c for c in scaling.scaling_of(made).curves if c.axis == "batch_size"], scaling.page(made)
    assert [point.share for point in torch.points] == pytest.approx([0.4 / 3, 0.4 / 3, 0.4, 0.4])
    assert torch.departs == 16
    assert "At 16 torch, keras:fast and paddle reached less than half of their best share." in text


def test_the_committed_sweep_has_the_figures_of_its_page() -> None:
    made = Recording.read(COMMITTED)
    text = scaling.page(made).replace(SPACE, " ")
    for told in (
        "share of the machine's peak: 69 % in torch, 48.8 % in paddle and 46.7 % in keras:fast.",
        "| 32 | 39.1 ms (45.5 %) | 66.1 ms (22.9 %) | 55.1 ms (32.3 %) |",
        "At 64 torch and paddle reached less than half of their best share. At 256 keras:fast reached less",
        "| 1,024 | 569 ms (52.3 %) | 806 ms (31.3 %) | 843 ms (35.3 %) |",
        "| 200,000 | 512 MB (1.03×) | 835 MB (1.02×) | 466 MB (1.07×) |",
        "`rosetta sweep --backends torch,keras:fast,paddle`",
    ):
        assert told in text
    assert text.startswith(scaling.summary(made).replace(SPACE, " "))
    drawn = scaling.charts(made)
    assert list(drawn) == list(sweep.AXES)
    assert render.html(scaling.page(made), drawn).count("<svg") == len(drawn)
    assert [curve["axis"] for curve in scaling.plain(made)["curves"]][::3] == list(sweep.AXES)


def test_before_anything_is_measured_there_is_nothing_to_say() -> None:
    made = replace(Recording.read(COMMITTED), lines=[])
    assert scaling.plain(made) | {"command": ""} == {"command": "", "flops": 0.0, "curves": []}
    assert scaling.summary(made) == "# How the memory of a training grows with its corpus\n"
    assert scaling.charts(made) == {}


def test_another_machine_does_not_go_on_and_what_cannot_be_swept_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "a.jsonl"
    elsewhere.write_text(COMMITTED.read_text(encoding="utf-8").replace('"cores":', '"cores":7'), encoding="utf-8")
    with pytest.raises(CannotBeginError, match="was begun elsewhere"):
        Recording.read(elsewhere).resume()
    out = tmp_path / "b.jsonl"
    assert "cannot be swept" in refusal(2, "sweep", "--backends", "keras:example", "--out", out)
    assert "--out" in refusal(2, "sweep", "--resume")
    assert "cannot be opened" in refusal(2, "sweep", "--resume", "--out", out)
    assert not out.exists()


def test_rows_are_spread_or_repeated_and_random_ones_fill_the_sizes() -> None:
    assert sweep.spread(3, 9).tolist() == [0, 3, 6]
    assert sweep.spread(6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    corpus = batch_of(8, "float32")
    sizes = Sizes(1, 1, 7, 7, corpus.num_encoder_tokens, corpus.num_decoder_tokens)
    rows = sweep.random_rows(sizes, 5, corpus, seed=1)
    assert rows.encoder_input_data.shape == (5, 7, corpus.num_encoder_tokens)
    assert rows.decoder_target_data.shape == (5, 7, corpus.num_decoder_tokens)
    assert rows.encoder_ids.dtype == corpus.encoder_ids.dtype
    assert rows.real_positions.sum() == 5 * 6
    assert np.array_equal(rows.decoder_ids, sweep.random_rows(sizes, 5, corpus, seed=1).decoder_ids)
