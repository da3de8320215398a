"""Recordings of one plan by several machines: what is compared, what is not, and where machines differ."""

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from benchmarks.measure.plan import Plan
from benchmarks.measure.recording import Certified, Generation, Recording
from benchmarks.report import joined as content
from benchmarks.report import markdown, terminal
from benchmarks.report.blocks import Warnings
from benchmarks.results import joined as module
from benchmarks.results.joined import Joined, join, names_of
from common.errors import CannotBeginError, RosettaError
from rosetta import main
from tests.damage import COMMITTED
from tests.recordings import (
    RESTLESS,
    SECONDS,
    Noise,
    certificate,
    changed,
    on_machine,
    plan_of,
    recording,
    slowed,
    written,
)

BOTH = ("matched", "default")
PLAN = plan_of(lanes=BOTH)
Reported = Callable[..., str]
HOSTILE = "\x1b[2J<script>alert(1)</script>|`\u202e"


def part(*named: str, of: Plan = PLAN, processor: str = "one", seed: int = 0, **planted: Any) -> Recording:
    """What a machine with this processor measured of a plan: all, or the rows that are named."""
    return on_machine(recording(msgspec.structs.replace(of, named=named), seed=seed, **planted), processor=processor)


def joined(*recordings: Recording) -> Joined:
    """The recordings joined as those of a, b, c and so on."""
    return join(zip("abcdefgh", recordings, strict=False))


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Reported:
    """What `rosetta report` prints."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["rosetta", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert (ended.value.code, printed.err) == (0, "")
        return printed.out

    return run


def shown_of(found: Joined) -> str:
    """What a terminal shows."""
    console = Console(file=StringIO(), width=120)
    terminal.show(content.summary(found), console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def warnings_of(found: Joined) -> list[str]:
    (block,) = (b for b in content.summary(found) if isinstance(b, Warnings))
    return list(block.warnings)


def ratios(found: Joined, label: str) -> dict[str, tuple[str, float]]:
    """Of a row, by the recording: the row that it is compared with, and its ratio to it."""
    return {part.place: (part.reference, round(part.ratio.value, 1)) for part in found.rows[label] if part.ratio}


def test_each_row_is_compared_with_the_baseline_of_its_own_machine() -> None:
    twice_as_slow = {name: 2 * seconds for name, seconds in SECONDS.items()}
    found = joined(part("torch"), part("torch", "paddle", processor="two", seconds=twice_as_slow, seed=1))
    assert found.baseline == "keras:example"
    assert ratios(found, "torch") == {"a": ("keras:example", 1.7), "b": ("keras:example", 1.7)}
    assert ratios(found, "paddle") == {"b": ("keras:example", 1.2)} or ratios(found, "paddle")["b"][1] == 1.3
    assert [round(part.step.value, 2) for part in found.rows["torch"] if part.step] == [0.06, 0.12]
    assert [found.baseline_speed(place).value for place in found.places] == pytest.approx([1, 0.5], rel=0.01)
    assert not found.differences, "a machine that is slower in all rows alike differs in no ratio"


def test_a_special_row_is_compared_with_the_plain_row_of_its_own_machine() -> None:
    found = joined(part("paddle, as installed", installed=2.0), part("torch", seed=1))
    assert ratios(found, "paddle, as installed") == {"a": ("paddle", 0.5)}


def test_a_ratio_that_differs_between_machines_is_found_and_nothing_else() -> None:
    recordings = [part(seed=1), part(processor="two", seed=2), slowed(part(processor="three", seed=3), "torch", 1.3)]
    found = joined(*recordings)
    (difference,) = (one for one in found.differences if one.high.label == "torch")
    assert (difference.high.place in "ab", difference.low.place) == (True, "c")
    assert difference.high.ratio.value / difference.low.ratio.value == pytest.approx(1.3, rel=0.02)
    installed = {one.high.label for one in found.differences} - {"torch"}
    assert installed == {"torch, as installed"}, "which is compared with torch"


def test_where_the_ratios_are_the_same_machines_hardly_ever_differ() -> None:
    plan = plan_of(["torch", "keras:example"])
    pairs = [[part(of=plan, processor=str(n), noise=RESTLESS, seed=100 * n + s) for n in (1, 2)] for s in range(60)]
    assert sum(bool(joined(*pair).differences) for pair in pairs) <= 2


def test_rows_of_different_machines_are_compared_only_where_the_hardware_is_the_same() -> None:
    found = joined(part("torch", seed=1), part("paddle", seed=2), part("keras", processor="two", seed=3))
    (together,) = found.together
    assert together.places == ["a", "b"]
    assert together.labels == ["torch", "paddle", "keras:example"]
    (ratio,) = (pair.ratio for pair in together.pairs if (pair.left, pair.right) == ("torch", "paddle"))
    assert ratio.holds(SECONDS["paddle"] / SECONDS["torch"])
    assert ratio.half_width > found.rows["torch"][0].ratio.half_width, "it comes from two ratios"
    shown = shown_of(found)
    assert "a and b are of machines with the same hardware" in shown
    assert "assumes that the ratio of two rows is the same on each" in shown


@pytest.mark.parametrize(
    ("facts", "same"),
    [
        ({"cores": 4}, False),
        ({"memory": 16 << 30}, False),
        ({"memory": (8 << 30) - (20 << 20)}, True),
        ({"instructions": "X86_V3"}, False),
    ],
    ids=["cores", "memory", "some megabytes", "instructions"],
)
def test_hardware_that_differs_by_more_than_some_megabytes_is_not_the_same(facts: dict[str, Any], same: bool) -> None:
    assert bool(joined(part("torch"), on_machine(part("paddle", seed=1), **facts)).together) == same


def test_hardware_that_is_not_known_is_not_the_same() -> None:
    unknown = [replace(part("torch", processor="", seed=n), path=Path(str(n))) for n in range(2)]
    assert not joined(*unknown).together
    plan = msgspec.structs.replace(plan_of(), device="gpu")
    on_gpu = [replace(part("torch", of=plan, seed=n), path=Path(str(n))) for n in range(2)]
    assert not joined(*on_gpu).together, "which GPU, a recording does not say"


def test_machines_that_differ_in_a_ratio_are_not_the_same_whatever_they_are_called() -> None:
    (together,) = joined(part("torch", "keras"), slowed(part("torch", "paddle", seed=1), "torch", 1.3)).together
    assert together.pairs == []
    assert together.why_not == "they differ in the ratio of torch"


def test_a_row_that_differs_from_itself_on_one_machine_widens_what_is_compared_across() -> None:
    plan = plan_of(["torch", "keras", "keras:example"], "standard", within=0.05)
    plain = part("torch", of=plan), part("keras", of=plan, seed=1)
    biased = slowed(plain[0], "torch, again", 1.2), plain[1]
    widths = []
    for recordings in (plain, biased):
        (together,) = joined(*recordings).together
        (pair,) = (pair for pair in together.pairs if {pair.left, pair.right} == {"torch", "keras"})
        widths.append(pair.ratio.half_width)
    assert widths[1] > widths[0] + 0.15


def test_ratios_through_a_common_row_hold_the_truth_about_95_times_in_100() -> None:
    plan = plan_of(["torch", "paddle", "keras:example"])
    held = 0
    for seed in range(60):
        rows = enumerate(["torch", "paddle"], 2 * seed)
        (together,) = joined(*(part(name, of=plan, noise=Noise(0.027), seed=n) for n, name in rows)).together
        (ratio,) = (pair.ratio for pair in together.pairs if {pair.left, pair.right} == {"torch", "paddle"})
        held += ratio.holds(SECONDS["paddle"] / SECONDS["torch"])
    assert held >= 53


def test_a_recording_that_gives_no_verdict_has_no_ratio() -> None:
    busy = part("torch", busy=[(number, place) for number in (1, 2) for place in range(6)], seed=1)
    found = joined(part("torch"), busy)
    assert ratios(found, "torch").keys() == {"a"}
    assert any(warning.startswith("b: 12 of 36 cycles were dropped") for warning in warnings_of(found))
    assert [found.baseline_speed(place) is None for place in found.places] == [False, True]
    (together,) = joined(part("keras"), busy).together
    assert {label for pair in together.pairs for label in (pair.left, pair.right)} == {"keras", "keras:example"}


def test_a_row_that_fails_parity_on_one_machine_is_compared_on_no_other_in_its_place() -> None:
    def broken(line: Certified) -> Certified:
        passed = line.cell.backend != "torch"
        return msgspec.structs.replace(line, certificate=certificate(line.cell, passed))

    found = joined(part("torch"), changed(part("torch", "keras", seed=1), Certified, broken))
    assert ratios(found, "torch").keys() == {"a"}
    (together,) = found.together
    assert together.labels == ["keras", "keras:example"]
    assert "torch †" in markdown.render(content.report(found))


def test_rows_that_no_machine_measured_are_said() -> None:
    found = joined(part("torch"), part("keras", seed=1))
    assert found.missing == ["paddle", "keras, as installed", "paddle, as installed", "torch, as installed"]
    assert "not measured on any of these machines: paddle; keras, as installed" in warnings_of(found)[0]


def test_without_a_baseline_in_the_plan_the_slowest_row_of_the_first_machine_is_it() -> None:
    plan = plan_of(["torch", "keras"])
    found = joined(part(of=plan), part(of=plan, processor="two", seed=1))
    assert found.baseline == "keras"
    assert ratios(found, "torch") == {"a": ("keras", 1.5), "b": ("keras", 1.5)}


def other_settings(plan: Plan) -> Plan:
    return msgspec.structs.replace(plan, settings=replace(plan.settings, batch_size=32))


def of_version(made: Recording, name: str, version: str) -> Recording:
    return on_machine(made, versions={name: version, "own\x1b": "1"})


def with_corpus(made: Recording, **change: Any) -> Recording:
    corpus = msgspec.structs.replace(made.head.corpus, **change)
    return replace(made, head=msgspec.structs.replace(made.head, corpus=corpus))


SAME = "measure every part with the same command, except for --rows"
OTHERS = {
    "batch_size 32, expected 64 as in made.jsonl; " + SAME: part(of=other_settings(PLAN)),
    "within 0.01, expected 0.07": part(of=plan_of(lanes=BOTH, within=0.01)),
    "latent_dim 8, expected 256": part(of=msgspec.structs.replace(PLAN, latent_dim=8)),
    "baseline torch, expected  as": part(of=plan_of(lanes=BOTH, baseline="torch")),
    "the rows torch, expected keras:example; keras; paddle; torch; keras, as": part(of=plan_of(["torch"])),
    "a corpus whose SHA-256 is 222": with_corpus(part(), sha256="2" * 64),
    "weights whose SHA-256 is 333": with_corpus(part(), weights_sha256="3" * 64),
    "torch 9.9, expected 1.0 as in made.jsonl; install the same versions": of_version(part(), "torch", "9.9"),
    "has the same measurements as made.jsonl; give each recording once": part(),
}


@pytest.mark.parametrize("said", OTHERS)
def test_a_recording_of_another_plan_is_refused_in_one_line(said: str) -> None:
    with pytest.raises(RosettaError) as refused:
        joined(part(), replace(OTHERS[said], path=Path("other.jsonl")))
    assert str(refused.value).startswith("other.jsonl ")
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_row_under_an_interpreter_of_its_own_must_have_the_same_version_everywhere() -> None:
    def newer(line: Generation) -> Generation:
        starts = [msgspec.structs.replace(s, facts=replace(s.facts, version="2.0")) for s in line.starts]
        return msgspec.structs.replace(line, starts=starts)

    with pytest.raises(RosettaError, match=r"torch of version 2\.0, expected 1\.0") as refused:
        joined(part(), changed(part(seed=1), Generation, newer))
    assert "install the same versions on every machine" in str(refused.value)


def test_the_corpus_and_the_run_may_lie_elsewhere_on_each_machine() -> None:
    plan = msgspec.structs.replace(PLAN, data=replace(PLAN.data, data="/elsewhere"), run="/home/of/somebody/run")
    assert joined(part("torch"), part("keras", of=plan, seed=1)).rows.keys() == {"keras:example", "keras", "torch"}


def test_a_package_that_one_machine_lacks_is_no_other_version() -> None:
    assert joined(part("torch"), of_version(part("keras", seed=1), "paddlepaddle", "3.3.1"))


def test_more_recordings_than_can_be_joined_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_JOINED", 2)
    with pytest.raises(CannotBeginError, match="more than 2 recordings; join fewer"):
        joined(*(part("torch", seed=seed) for seed in range(3)))


def test_too_many_generations_are_not_evaluated_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNKNOWNS", 300)
    (together,) = joined(part("torch"), part("paddle", seed=1)).together
    assert together.why_not == "they have too many generations to be evaluated together"
    assert not together.pairs


def test_recordings_without_a_generation_have_a_page() -> None:
    found = joined(part("torch", generations=0), part("keras", generations=0))
    assert found.missing == [cell.label for cell in PLAN.rows]
    assert "No ratio of two rows was measured on more than one machine" in markdown.render(content.report(found))


def test_recordings_are_named_by_their_files_or_by_their_paths_where_these_are_alike() -> None:
    assert names_of([Path("x/a.jsonl"), Path("b.jsonl")]) == ["a", "b"]
    same = [Path("x/a.jsonl"), Path("y/a.jsonl"), Path("b\x1b[2J.jsonl")]
    assert names_of(same) == ["x/a.jsonl", "y/a.jsonl", "b?[2J"]


def test_names_of_others_are_no_markup_and_no_escape_sequence() -> None:
    facts = {"processor": HOSTILE, "system": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    both = [on_machine(part("torch", seed=seed), **facts) for seed in range(2)]
    both = [replace(made, head=msgspec.structs.replace(made.head, started=HOSTILE)) for made in both]
    found = join(zip(names_of([Path(HOSTILE), Path("b")]), both, strict=True))
    assert "\x1b" not in shown_of(found)
    assert "<script>" not in markdown.render(content.report(found))


def test_recordings_are_joined_on_a_page_and_in_the_terminal(tmp_path: Path, reported: Reported) -> None:
    recordings = part("torch", seed=1), slowed(part("torch", processor=HOSTILE), "torch", 1.5)
    paths = [written(made, tmp_path / f"node-{number}.jsonl").path for number, made in enumerate(recordings)]
    said = "Machines differ in how many times as fast torch is as keras:example."
    assert reported(*paths).startswith(said)
    out = tmp_path / "page.html"
    reported(*paths, "-o", out)
    text = out.read_text(encoding="utf-8")
    assert said in text
    assert "node-1" in text
    assert "<script>alert" not in text


def test_without_a_page_to_write_a_recording_is_shown_in_the_terminal(reported: Reported) -> None:
    assert "torch trains 1.42 times as fast as paddle" in reported(COMMITTED / "standard.jsonl")
    assert "At its best size" in reported(COMMITTED / "scaling.jsonl")


def test_a_sweep_is_not_joined() -> None:
    with pytest.raises(RosettaError, match=r"is no line of rosetta-benchmark"):
        joined(part(), Recording.read(COMMITTED / "scaling.jsonl"))
