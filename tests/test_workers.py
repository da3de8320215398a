"""A sweep of workers: results by known answers, what is left out or refused, and the page of the committed one."""

from collections.abc import Callable
from dataclasses import replace
from math import exp
from pathlib import Path

import msgspec
import pytest

from benchmarks.measure.plan import Cell
from benchmarks.measure.recording import append_line, create_lines
from benchmarks.measure.scenarios import Profile
from benchmarks.measure.workers import PieceMeasured, Summed, Trained, Workers, WorkersHead
from benchmarks.report import markdown
from benchmarks.report import workers as content
from benchmarks.report.wording import SPACE
from benchmarks.results.scaling_workers import Network, all_reduce_seconds
from benchmarks.results.values import plain
from benchmarks.results.workers import Grouped, scaled_of
from common.config import DataConfig, TrainConfig
from common.errors import RosettaError
from common.evidence import Kernel
from tests import recordings
from tests.program import refusal

STEP = {"one": 0.100, "apart": 0.110, "group": 0.125, "divided": 0.080}  # seconds
LOOPBACK = Network("loopback", bandwidth=1e9, latency=1e-4)
SIZES = (8, 1 << 18, 1 << 22)


def piece(number: int, name: str = "torch", others: float = 0.0, factor: float = 1.0) -> PieceMeasured:
    """Two cycles in a generation whose processes are all slower by a factor."""
    cycle = [
        Trained(arrangement, [[factor * seconds] * 3] * (1 if arrangement == "one" else 2), others)
        for arrangement, seconds in STEP.items()
    ]
    sums = [Summed(size, [all_reduce_seconds(size, 2, LOOPBACK)] * 3, others) for size in SIZES]
    kernels = [Kernel("gloo:all_reduce", 3, 0.06, "other"), Kernel("mm", 9, 0.2, "products")]
    profile = Profile(3, 0.4, 0.3, kernels if name == "torch" else kernels[1:], 0.001)
    return PieceMeasured(number, name, recordings.facts(Cell(name)), [cycle, cycle], sums, profile)


def made(*lines: PieceMeasured) -> Workers:
    machine = recordings.head_of(recordings.plan_of()).machine
    of_text = {"data": DataConfig(), "sizes": recordings.SIZES, "sha256": "0" * 64, "machine": machine}
    of_steps = {"settings": TrainConfig(), "latent_dim": 256, "device": "cpu", "threads": 1}
    of_group = {"workers": 2, "backends": ("torch", "paddle"), "generations": 3}
    head = WorkersHead(**recordings.opening(Workers), **of_text, **of_steps, **of_group)
    return Workers(Path("made.jsonl"), head, list(lines))


def torch_of(workers: Workers) -> Grouped:
    return scaled_of(workers).frameworks[0]


def test_efficiencies_are_shares_of_as_many_workers_that_are_as_fast_as_one() -> None:
    found = torch_of(made(piece(1), piece(2, factor=1.2)))
    shares = [found.efficiency[name] for name in ("apart", "group", "divided")]
    assert [share and share.value for share in shares] == pytest.approx([100 / 110, 100 / 125, 100 / 80 / 2])
    assert all(share and share.half_width < 1e-9 for share in shares), "what slows all alike is no spread"
    assert found.communication
    assert found.communication.value == pytest.approx(1 - 110 / 125)


def test_the_spread_between_generations_makes_the_interval() -> None:
    slower = piece(2)
    in_group = [replace_steps(turn, 1.2) if turn.arrangement == "group" else turn for turn in slower.cycles[0]]
    found = torch_of(made(piece(1), msgspec.structs.replace(slower, cycles=[in_group]))).efficiency["group"]
    assert found
    assert found.low < 100 / 150 < found.value < 100 / 125 < found.high


def replace_steps(turn: Trained, factor: float) -> Trained:
    steps = [[factor * seconds for seconds in worker] for worker in turn.steps]
    return msgspec.structs.replace(turn, steps=steps)


def test_the_engine_s_network_is_found_and_foresees_the_group_from_workers_at_once() -> None:
    found = torch_of(made(piece(1), piece(2)))
    assert (found.network.bandwidth, found.network.latency) == (pytest.approx(1e9), pytest.approx(1e-4))
    gradients = scaled_of(made(piece(1))).gradients
    assert gradients == 4 * (4 * 256 * (60 + 256 + 1 + 75 + 256 + 1) + 257 * 75)
    assert found.foreseen == pytest.approx(0.110 + gradients / 1e9 + 2e-4)
    (own, projections), *assumed = found.projections
    assert own == found.network
    assert [network.name for network, _ in assumed] == ["1 Gbit/s Ethernet (assumed)", "25 Gbit/s Ethernet (assumed)"]
    assert [one.global_batch for one in projections] == [512, 4096, 32768]
    assert [one.alone for one in projections] == pytest.approx([0.1] * 3)


def test_results_are_json() -> None:
    (torch,) = plain(scaled_of(made(piece(1), piece(2))))["frameworks"]
    assert torch["efficiency"]["group"]["value"] == pytest.approx(0.8)
    assert [projection["workers"] for projection in torch["projections"][0][1]] == [8, 64, 512]


def test_the_profiler_s_share_is_known_only_where_it_names_the_sum() -> None:
    torch, paddle = scaled_of(made(piece(1), piece(1, "paddle"))).frameworks
    assert torch.profiled == pytest.approx(0.06 / 0.4)
    assert paddle.profiled is None


def test_cycles_in_which_others_were_at_work_are_left_out_unless_these_are_too_many() -> None:
    slow = piece(3, others=0.5, factor=3.0)
    few = scaled_of(made(piece(1), piece(2), slow))
    assert (few.cycles, few.dropped, few.others) == (6, 2, (0.0, 0.0))
    assert max(few.frameworks[0].alone) == pytest.approx(0.1)
    many = scaled_of(made(piece(1), piece(2, others=0.4), slow))
    assert (many.dropped, many.others) == (0, (pytest.approx(0.3), 0.5))
    assert max(many.frameworks[0].alone) == pytest.approx(0.3)
    assert "Other programs used 0.30 cores" in markdown.render(content.report(many))
    assert "Measure again on an idle" not in markdown.render(content.report(few))


def test_the_page_has_what_was_measured_and_each_assumption() -> None:
    pieces = [piece(number, name, factor=exp(0.01 * number)) for number in (1, 2) for name in ("torch", "paddle")]
    text = markdown.render(content.report(scaled_of(made(*pieces)))).replace(SPACE, " ")
    assert text.startswith("# Pairs a second of a group of 2 workers, as a multiple of those of one: 1.60× (1.60 to")
    assert "| a group, with as many pairs a worker | 128 |" in text
    assert "| 80.0 % (80.0 to 80.0) |" in text
    assert "| paddle | 12.0 % (12.0 to 12.0) | not told |" in text
    for told in (
        "What more workers of torch would do",
        "a machine of its own",
        "in a ring",
        "rosetta sweep --workers 2",
    ):
        assert told in text


DAMAGES: list[tuple[Callable[[PieceMeasured], PieceMeasured], str]] = [
    (lambda line: msgspec.structs.replace(line, generation=4), "torch, generation 4 of 3 twice, or without having"),
    (lambda line: msgspec.structs.replace(line, backend="keras"), "measures keras, generation 1 of 3 twice, or"),
    (lambda line: msgspec.structs.replace(line, cycles=[line.cycles[0][1:]]), "is not a turn of each arrangement"),
    (
        lambda line: msgspec.structs.replace(
            line, profile=replace(line.profile, kernels=[Kernel("mm", 1, -1.0, "other")])
        ),
        "a kernel took less than no time",
    ),
    (lambda line: msgspec.structs.replace(line, sums=line.sums[:1]), "cannot be told apart"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_a_recording_that_is_damaged_is_refused(
    tmp_path: Path, damage: Callable[[PieceMeasured], PieceMeasured], said: str
) -> None:
    path = tmp_path / "a.jsonl"
    create_lines(path, made().head)
    append_line(path, piece(1))
    assert scaled_of(Workers.read(path)).cycles == 2
    path.unlink()
    create_lines(path, made().head)
    append_line(path, damage(piece(1)))
    with pytest.raises(RosettaError, match=said):
        scaled_of(Workers.read(path))


def test_a_backend_without_an_engine_has_no_workers(tmp_path: Path) -> None:
    said = refusal(2, "sweep", "--workers", 2, "--backends", "numpy", "--out", tmp_path / "a.jsonl")
    assert "backend numpy cannot train in a group" in said
    assert not (tmp_path / "a.jsonl").exists()
