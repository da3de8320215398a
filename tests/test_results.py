"""What follows from a recording: the headline, rows and pairs, warnings and advice, and what is not compared."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from benchmarks.measure.lines import Round, Start
from benchmarks.measure.plan import Row
from benchmarks.measure.recording import Certified, Decoded, Recording
from benchmarks.measure.sentences import SHOWN, Sentences, weights_for
from benchmarks.report.changes import compare, page
from benchmarks.report.page import as_json
from benchmarks.report.results import Results
from common.config import DataConfig
from common.corpus import prepare
from common.tensors import model_config
from tests.recordings import (
    CYCLES,
    QUIET,
    RESTLESS,
    SECONDS,
    Noise,
    certificate,
    changed,
    committed,
    each_visit,
    on_machine,
    plan_of,
    recording,
    slowed,
    stretched,
)

EXACT = Noise(0.0, 0.0, 0.0)
ALIKE = "; all translate 2 of 2 sentences alike."
UNCERTIFIED = "because there is no parity certificate of this version"
TOO_FEW = "too few rounds can be used for an interval; --resume measures more"
ONLY_TWO = "only 2 rounds could be measured, and 3 are the least for figures to rely on"
BUSY = "other programs used 0.08 cores meanwhile"
LEFT_OUT = "of 24 cycles are left out because other programs were at work; close other programs and measure again"
OUTSIDE = "{} spent over 5% of its time outside the timed steps, so the device may still have been at work"
DENORMALS = (
    "denormal numbers (very close to zero) are not treated alike: flushed in torch, keras, keras:example; kept in"
)
NEAR = {"torch": 0.06, "keras": 0.0602}  # seconds of rows that are hard to tell apart
NEARER = {"torch": 0.06, "keras": 0.0601, "paddle": 0.9}
HALF = [(number, place) for number in range(1, 4) for place in range(CYCLES)]  # cycles of three of six rounds
THREE_OF_FOUR = [(number, place) for number in range(1, 5) for place in range(CYCLES)]


def row(results: Results, label: str) -> Any:
    return results.by_label[label]


def each_start(made: Recording, label: str, **facts: object) -> Recording:
    """The recording with these facts told by each process of a row."""

    def change(start: Start) -> Start:
        if made.plan.rows[start.row].label != label:
            return start
        return msgspec.structs.replace(start, facts=replace(start.facts, **facts))  # type: ignore[arg-type]

    return changed(made, Round, lambda line: msgspec.structs.replace(line, starts=[*map(change, line.starts)]))


def test_rows_come_fastest_first_with_the_ratios_that_were_planted() -> None:
    made = recording(noise=RESTLESS, rounds=10)
    torch_row = [row.label for row in made.plan.rows].index("torch")
    peaks = {torch_row: 700_000_000}
    results = Results(each_visit(made, lambda _, visit: msgspec.structs.replace(visit, peak=peaks.get(visit.row, 1))))
    plain = [row for row in results.rows if not row.row.installed]
    assert [row.label for row in plain] == ["torch", "paddle", "keras", "keras:example"]
    assert len([pair for pair in results.pairs if pair.kind == "frameworks"]) == 6
    for pair in results.pairs[:6]:
        assert pair.ratio.low < SECONDS[pair.right] / SECONDS[pair.left] < pair.ratio.high
        assert results.ratio(pair.right, pair.left) == pair.ratio.inverse
    torch, example, keras = (row(results, name) for name in ("torch", "keras:example", "keras"))
    assert torch.epoch.value == pytest.approx(10 * torch.step.value), "640 pairs"
    assert torch.pairs_per_second == pytest.approx(64 / torch.step.value)
    assert max(pair.ratio.half_width for pair in results.pairs[:6]) == pytest.approx(results.reached)
    assert keras.alone.value == pytest.approx(1.5 * torch.alone.value, rel=0.05)
    assert (example.batch, example.alone.value, example.alone.half_width, torch.sentences) == (None, 0.15, 0.0, 100)
    assert results.surprise == "", "six times is none"
    assert (torch.peak_memory, keras.peak_memory) == (700_000_000, 600_000_000), "of any process and visit"
    content = as_json(results)
    assert {one["label"] for one in content["rows"]} >= set(SECONDS)
    for pair in content["pairs"]:
        assert pair.keys() >= {"kind", "left", "right", "word"}
        assert pair["ratio"]["low"] <= pair["ratio"]["value"] <= pair["ratio"]["high"]
    assert content["sentences"][0]["translations"].keys() == set(SECONDS)
    json.dumps(content, allow_nan=False)


@pytest.mark.parametrize(
    ("seconds", "noise", "expected"),
    [
        (SECONDS, QUIET, f"PyTorch trains 1.3 times as fast as Paddle and 1.5 times as fast as Keras{ALIKE}"),
        (NEAR, Noise(0.005), f"PyTorch trains as fast as Keras{ALIKE}"),
        (NEAR, EXACT, f"PyTorch trains 1.003 times as fast as Keras{ALIKE}"),
        (NEAR, Noise(0.1), f"Keras and PyTorch are not told apart yet{ALIKE}"),
        (NEARER, Noise(0.01), f"PyTorch trains 15 times as fast as Paddle and as fast as Keras{ALIKE}"),
        (
            NEARER,
            Noise(0.1),
            f"PyTorch trains 16 times as fast as Paddle; PyTorch and Keras are not told apart yet{ALIKE}",
        ),
        ({"torch": 0.06}, EXACT, "PyTorch trains 1,067 pairs a second."),
    ],
)
def test_the_headline_says_what_the_intervals_allow(seconds: dict[str, float], noise: Noise, expected: str) -> None:
    assert Results(recording(plan_of(seconds), seconds, noise=noise, seed=3)).headline == expected


@pytest.mark.parametrize(
    ("names", "asked", "broken", "expected"),
    [
        (list(SECONDS), "", "", "keras:example"),
        (["torch", "keras", "paddle"], "", "", "keras"),
        (list(SECONDS), "paddle", "", "paddle"),
        (list(SECONDS), "", "keras:example", "keras"),
    ],
)
def test_the_baseline_is_what_was_asked_for_or_the_example_or_the_slowest(names, asked, broken, expected) -> None:
    made = recording(plan_of(names, baseline=asked))
    passed = [certificate(row.backend != broken) for row in made.plan.rows]
    results = Results(changed(made, Certified, lambda line: Certified(line.row, passed[line.row])))
    assert results.baseline == expected


def test_no_speed_without_equality() -> None:
    made = recording()
    found = {"paddle": certificate(), "torch": certificate(version="0.9"), "keras": certificate(passed=False)}

    def change(line: Certified) -> Certified | None:
        kept = found.get(made.plan.rows[line.row].backend)
        return kept and Certified(line.row, kept)

    results = Results(changed(made, Certified, change))
    missing = UNCERTIFIED.removeprefix("because ")
    assert {row.label: row.why_not for row in results.rows if not row.row.installed} == {
        "paddle": "",
        "torch": missing,
        "keras": "parity is broken, and `rosetta parity` explains where",
        "keras:example": missing,
    }, "a certificate of another version is none"
    assert not any(pair.kind == "frameworks" for pair in results.pairs), "Paddle has nothing to be compared with"
    assert row(results, "torch, as installed").why_not == missing, "settings change no mathematics"
    assert f"not compared: torch, as installed, torch, keras:example, {UNCERTIFIED}" in results.doubts
    assert row(results, "torch").step, "its time is told all the same"
    diverged = each_visit(made, lambda _, visit: msgspec.structs.replace(visit, finite=False))
    assert row(Results(diverged), "torch").why_not == "the loss is not finite"
    later = zip(made.lines, each_start(made, "paddle", version="2.0").lines, strict=True)
    mixed = replace(made, lines=[new if old is made.rounds()[0] else old for old, new in later])
    assert row(Results(mixed), "paddle").why_not == "the rounds ran in more than one version"


def test_special_rows_are_held_against_their_own_plain_row_and_stay_out_of_the_headline() -> None:
    plan = plan_of([*SECONDS, "torch:bfloat16"], within=0.04)
    plan = msgspec.structs.replace(plan, rows=(*plan.rows, Row("torch", python="/p", called="torch 9")))
    results = Results(recording(plan, SECONDS | {"torch:bfloat16": 0.04}, installed=2.0))
    special = [p for p in results.pairs if p.kind != "frameworks" and p.right != "keras"]
    assert {(p.kind, p.left, p.right): p.ratio.value for p in special} == {
        ("installed", "torch, as installed", "torch"): pytest.approx(0.5, rel=0.02),
        ("installed", "paddle, as installed", "paddle"): pytest.approx(0.5, rel=0.02),
        ("reduced", "torch:bfloat16", "torch"): pytest.approx(1.5, rel=0.02),
        ("control", "keras:example, control", "keras:example"): pytest.approx(1.0, rel=0.02),
    }
    frameworks = {label for p in results.pairs if p.kind == "frameworks" for label in (p.left, p.right)}
    assert frameworks == {*SECONDS, "torch 9"}
    assert results.headline.startswith(("PyTorch trains", "torch 9 trains"))
    assert "bfloat16" not in results.headline
    assert not any(row.row.control for row in results.rows)


def test_a_row_that_is_told_apart_from_itself_widens_all_intervals_and_is_said() -> None:
    plain = recording(plan_of(["torch", "keras"], within=0.04), dict.fromkeys(("torch", "keras"), 0.06))
    results, before = Results(slowed(plain, "torch, control", 1.05)), Results(plain)
    (said,) = (doubt for doubt in results.doubts if doubt.startswith("torch, control seems faster or slower"))
    assert "all intervals are widened by it" in said
    assert results.pairs[0].ratio.half_width > before.pairs[0].ratio.half_width + 0.045
    assert not [doubt for doubt in before.doubts if "seems" in doubt]


OTHER_THREADS = each_start(recording(), "paddle", threads=1, settings={"denormals": "kept"})
LATE = each_visit(
    recording(plan_of(["paddle"])), lambda _, visit: msgspec.structs.replace(visit, loop=2 * visit.loop)
)


@pytest.mark.parametrize(
    ("made", "headline", "doubts", "notes"),
    [
        (recording(), "PyTorch trains", [], []),
        (recording(rounds=0), "Nothing was measured yet.", [TOO_FEW], []),
        (recording(rounds=1), "No answer yet: a comparison needs two rounds and two", [TOO_FEW], []),
        (recording(rounds=2), "PyTorch trains", [ONLY_TWO], []),
        (changed(recording(), Certified, lambda line: None), "No answer yet: ", ["not compared: torch"], []),
        (recording(busy=[(1, 0), (2, 1)]), "PyTorch trains", [], [f"2 {LEFT_OUT}"]),
        (recording(busy=HALF), "PyTorch trains", [], [f"12 {LEFT_OUT}"]),
        (recording(busy=THREE_OF_FOUR), "PyTorch trains", [BUSY], []),
        (OTHER_THREADS, "PyTorch trains", ["paddle computed on 1 threads, although 2 were asked for"], [DENORMALS]),
        (LATE, "Paddle trains", [OUTSIDE.format("paddle, as installed"), OUTSIDE.format("paddle")], []),
    ],
    ids="good nothing one_round two_rounds no_certificate some_busy half_busy busy settings late".split(),
)
def test_figures_that_are_not_to_be_relied_on_are_said(
    made: Recording, headline: str, doubts: list[str], notes: list[str]
) -> None:
    results = Results(made)
    assert results.headline.startswith(headline)
    if headline.startswith("No"):
        assert not any(pair.kind == "frameworks" for pair in results.pairs)
    for said, beginnings in ((results.doubts, doubts), (results.notes, notes)):
        assert len(said) == len(beginnings)
        assert all(one.startswith(beginning) for one, beginning in zip(said, beginnings, strict=True)), said


def test_sentences_have_what_each_row_of_the_question_makes_of_them() -> None:
    def change(line: Decoded) -> Decoded:
        said = ["C'est rouge.", "Est-ce que c'est rouge ?"] if line.row == 1 else line.translations
        return msgspec.structs.replace(line, translations=said)

    results = Results(changed(recording(plan_of(["torch", "keras"])), Decoded, change))
    first, second = results.sentences
    assert (first.source, list(first.references), first.held_out) == ("It is red.", ["C'est rouge."], False)
    assert first.distinct == {"C'est rouge.": ["torch", "keras"]}
    assert second.distinct == {"Est-ce rouge ?": ["torch"], "Est-ce que c'est rouge ?": ["keras"]}
    assert results.headline.endswith("all translate 1 of 2 sentences alike.")


@pytest.mark.parametrize(("num_samples", "trained"), [(10_000, SHOWN), (300, 0)], ids=["bundled", "fresh"])
def test_a_sentence_is_called_trained_on_only_where_the_weights_were(num_samples: int, trained: int) -> None:
    material, _ = prepare(DataConfig(num_samples=num_samples, split="grouped"), 0, "float32")
    model = model_config(material.batch, material.decoder_vocabulary, 256, "float32")
    weights = weights_for(material, model, "", 0)
    shown = Sentences(material, weights).shown
    assert [sentence.held_out for sentence in shown] == [False] * trained + [True] * SHOWN
    assert all((sentence.source in weights.trained) != sentence.held_out for sentence in shown)


def test_of_two_recordings_a_planted_change_is_found_and_what_else_differs() -> None:
    before = committed("intel")
    found = compare(before, slowed(before, "paddle", 1.2))
    slower = [change for change in found.changes if change.word == "slower"]
    assert {change.label for change in slower} == {"paddle"}
    assert [change.figure for change in slower] == ["training step", "character in a batch", "character alone"]
    assert slower[0].slower_by == pytest.approx(0.2)
    assert slower[0].ratio.value == pytest.approx(slower[0].before / slower[0].after)
    assert not [change for change in found.changes if change.word == "faster"]
    assert not found.differences
    assert "| paddle | training step | 54.3" in page(found)
    step = next(one for one in compare(before, slowed(before, "torch", 0.8)).changes if one.label == "torch")
    assert (step.word, step.slower_by) == ("faster", 0.0)
    single = [line for line in before.lines if not isinstance(line, Round) or line.number == 1]
    assert compare(before, replace(before, lines=single)).changes == []
    busy = each_visit(before, lambda _, visit: msgspec.structs.replace(visit, others=0.5))
    assert compare(before, busy).changes == compare(busy, before).changes == []
    versions = before.head.machine["versions"] | {"torch": "99.0"}
    after = on_machine(before, processor="another one", versions=versions)
    first, second, third = compare(before, each_visit(after, lambda _, visit: stretched(visit, 1.1))).differences
    assert first == "processor was Intel(R) Xeon(R) Processor, is another one"
    assert second == "torch was 2.13.0+cpu, is 99.0"
    assert "a step takes 1.10 times as long as before" in third
    plan = msgspec.structs.replace(before.plan, rows=before.plan.rows[:3])
    fewer = replace(before, head=msgspec.structs.replace(before.head, plan=plan), lines=[])
    assert "keras is only in the first recording" in compare(before, fewer).differences
