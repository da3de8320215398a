"""What follows from a recording: the headline, rows and pairs, warnings and advice, and what is not compared."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from benchmarks.measure.in_child import Visit
from benchmarks.measure.plan import Row
from benchmarks.measure.recording import Certified, Decoded, Recording, Round, RowProfile, Start
from benchmarks.measure.sentences import SHOWN, Sentences, weights_for
from benchmarks.report.changes import compare, page
from benchmarks.report.results import Results, as_json
from common.config import DataConfig
from common.material import prepare
from common.tensors import model_config
from tests.recordings import (
    CYCLES,
    FLOPS,
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


def row(results: Results, label: str) -> Any:
    return next(row for row in results.rows if row.label == label)


def each_start(made: Recording, label: str, **facts: object) -> Recording:
    """The recording with these facts told by each process of a row."""

    def change(start: Start) -> Start:
        if made.plan.rows[start.row].label != label:
            return start
        return msgspec.structs.replace(start, facts=replace(start.facts, **facts))  # type: ignore[arg-type]

    return changed(made, Round, lambda line: msgspec.structs.replace(line, starts=[*map(change, line.starts)]))


def test_rows_come_fastest_first_with_the_ratios_that_were_planted() -> None:
    results = Results(recording(noise=RESTLESS, rounds=10))
    plain = [row for row in results.rows if not row.row.installed]
    assert [row.label for row in plain] == ["torch", "paddle", "keras", "keras:example"]
    assert len([pair for pair in results.pairs if pair.kind == "frameworks"]) == 6
    for pair in results.pairs[:6]:
        assert pair.ratio.low < SECONDS[pair.right] / SECONDS[pair.left] < pair.ratio.high
        assert results.ratio(pair.right, pair.left) == pair.ratio.inverse
    torch, example = row(results, "torch"), row(results, "keras:example")
    assert torch.epoch.value == pytest.approx(10 * torch.step.value), "640 pairs"
    assert torch.pairs_per_second == pytest.approx(64 / torch.step.value)
    assert max(pair.ratio.half_width for pair in results.pairs[:6]) == pytest.approx(results.reached)
    assert row(results, "keras").alone.value == pytest.approx(1.5 * torch.alone.value, rel=0.05)
    assert (example.batch, example.alone.value, example.alone.half_width, torch.sentences) == (None, 0.15, 0.0, 100)


@pytest.mark.parametrize(
    ("seconds", "noise", "expected"),
    [
        (SECONDS, QUIET, f"PyTorch trains 1.3 times as fast as Paddle and 1.5 times as fast as Keras{ALIKE}"),
        ({"torch": 0.06, "keras": 0.0602}, Noise(0.005), f"PyTorch trains as fast as Keras{ALIKE}"),
        ({"torch": 0.06, "keras": 0.0602}, EXACT, f"PyTorch trains 1.003 times as fast as Keras{ALIKE}"),
        (
            {"torch": 0.06, "keras": 0.0601, "paddle": 0.9},
            Noise(0.01),
            f"PyTorch trains 15 times as fast as Paddle and as fast as Keras{ALIKE}",
        ),
        (
            {"torch": 0.06, "keras": 0.0601, "paddle": 0.9},
            Noise(0.1),
            f"PyTorch trains 16 times as fast as Paddle; PyTorch and Keras are not told apart yet{ALIKE}",
        ),
        ({"torch": 0.06, "keras": 0.0602}, Noise(0.1), f"Keras and PyTorch are not told apart yet{ALIKE}"),
        ({"torch": 0.06}, EXACT, "PyTorch trains 1,067 pairs a second."),
    ],
)
def test_the_headline_says_what_the_intervals_allow(seconds: dict[str, float], noise: Noise, expected: str) -> None:
    assert Results(recording(plan_of(seconds), seconds, noise=noise, seed=3)).headline == expected


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (recording(rounds=0), "Nothing was measured yet."),
        (recording(rounds=1), "No answer yet: a comparison needs two rounds and two rows that pass parity."),
        (changed(recording(), Certified, lambda line: None), "No answer yet: a comparison needs two rounds and two"),
        (
            recording(busy=[(n, place) for n in range(1, 5) for place in range(CYCLES)]),
            "No answer: other programs were at work in 16 of 24 cycles.",
        ),
    ],
    ids=["nothing", "one round", "no certificate", "busy"],
)
def test_where_there_is_no_answer_the_headline_says_why(made: Recording, expected: str) -> None:
    results = Results(made)
    assert results.headline.startswith(expected)
    assert not any(pair.kind == "frameworks" for pair in results.pairs)


def test_how_slowly_the_example_decodes_is_told_where_it_surprises() -> None:
    def slow(line: Decoded) -> Decoded:
        return msgspec.structs.replace(line, seconds=6.0) if line.characters is None else line

    assert Results(changed(recording(), Decoded, slow)).surprise == (
        "The official example takes 6e+03 ms to decode a character, plain Keras 22: the example decodes 270 times "
        "slower than Keras can."
    )
    assert Results(recording()).surprise == "", "six times is none"


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

    def certified(line: Certified) -> Certified:
        one = made.plan.rows[line.row]
        return Certified(line.row, certificate(one.backend != broken))

    assert Results(changed(made, Certified, certified)).baseline == expected


def test_no_speed_without_equality() -> None:
    made = recording()

    def change(line: Certified) -> Certified | None:
        one = made.plan.rows[line.row]
        version = "0.9" if one.backend == "torch" else "1.0"
        kept = Certified(line.row, certificate(one.backend != "keras", version))
        return None if one.backend == "keras:example" else kept

    results = Results(changed(made, Certified, change))
    missing = "there is no parity certificate of this version"
    assert {row.label: row.why_not for row in results.rows if not row.row.installed} == {
        "paddle": "",
        "torch": missing,
        "keras": "parity is broken, and `rosetta parity` explains where",
        "keras:example": missing,
    }, "a certificate of another version is none"
    assert not any(pair.kind == "frameworks" for pair in results.pairs), "Paddle has nothing to be compared with"
    assert row(results, "torch, as installed").why_not == missing, "settings change no mathematics"
    assert f"not compared: torch, as installed, torch, keras:example, because {missing}" in results.doubts
    assert row(results, "torch").step, "its time is told all the same"
    diverged = each_visit(made, lambda one, visit: msgspec.structs.replace(visit, finite=one.backend != "torch"))
    assert row(Results(diverged), "torch").why_not == "the loss is not finite"

    def other(line: Round) -> Round:
        starts = [msgspec.structs.replace(s, facts=replace(s.facts, version="2.0")) for s in line.starts]
        return msgspec.structs.replace(line, starts=starts) if line.number == 1 else line

    assert row(Results(changed(made, Round, other)), "keras").why_not == "the rounds ran in more than one version"


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


def test_figures_that_are_not_to_be_relied_on_are_said() -> None:
    few, fewer = Results(recording(rounds=2)), Results(recording(rounds=1))
    assert few.doubts == ["only 2 rounds could be measured, and 3 are the least for figures to rely on"]
    assert fewer.doubts == ["too few rounds can be used for an interval; --resume measures more"]
    late = each_visit(recording(), lambda one, visit: msgspec.structs.replace(visit, loop=1.2 * visit.loop))
    assert sum("spent over 5% of its time outside the timed steps" in said for said in Results(late).doubts) == 7
    good = Results(recording())
    assert good.doubts + good.notes == []
    other = Results(each_start(recording(), "paddle", threads=1, settings={"denormals": "kept"}))
    assert other.doubts == ["paddle computed on 1 threads, although 2 were asked for"]
    (note,) = other.notes
    assert note.startswith("denormal numbers")
    assert note.endswith("are not treated alike: flushed in torch, keras, keras:example; kept in paddle")


def test_intervals_wider_than_asked_are_said_with_the_time_that_would_do() -> None:
    wide = Results(recording(plan_of(within=0.01), noise=RESTLESS))
    (said,) = (note for note in wide.notes if "the widest interval" in note)
    assert f"reaches {wide.reached:.1%} to one side, although 1% was asked for; about " in said
    minutes = int(said.rpartition(" ")[2].removesuffix("m"))
    assert said.endswith(f"about {minutes} more minutes would do: --resume --budget {minutes}m")
    assert minutes + 6 == pytest.approx(6 * (wide.reached / 0.01) ** 2, abs=1), "as the square of the rounds' number"
    assert wide.doubts == [], "they are as sure as they say"


def test_cycles_that_others_disturbed_are_counted_and_said() -> None:
    results = Results(recording(busy=[(1, 0), (2, 1)]))
    assert (results.rounds, results.cycles, results.dropped, results.again) == (6, 6 * CYCLES, 2, 6)
    assert 0 < results.others < 0.05, "of the visits that count"
    assert results.notes[0].startswith("2 of 24 cycles are left out because other programs were at work; close")
    half = [(n, place) for n in range(1, 4) for place in range(CYCLES)]
    assert Results(recording(busy=half)).doubts == []
    assert "no row is called faster" in Results(recording(busy=[*half, (4, 0)])).doubts[0]


def test_advice_names_the_settings_that_a_slow_row_as_installed_lacks_and_what_to_type() -> None:
    made = recording(plan_of(["paddle"]), installed=2.0)
    (advice,) = Results(made).advice
    assert advice.startswith("A step of paddle as installed takes 2.00 times as long as with matched settings")
    assert "GLIBC_TUNABLES=" in advice
    assert "OMP_NUM_THREADS" not in advice, "it had as many threads"
    assert "MKL_DEBUG_CPU_TYPE" not in advice, "which is for processors of AMD"
    (advice,) = Results(each_start(made, "paddle, as installed", threads=1)).advice
    assert "OMP_NUM_THREADS=2" in advice
    (advice,) = Results(on_machine(made, processor="AMD EPYC 7763")).advice
    assert "MKL_DEBUG_CPU_TYPE=5" in advice
    assert Results(recording(plan_of(["paddle"]))).advice == [], "a row that is not slow gets none"


def test_what_there_was_no_time_for_is_named_in_the_order_of_its_worth() -> None:
    made = recording(extra=0)
    trained = replace(made, lines=[line for line in made.lines if isinstance(line, Certified | Round)])
    missing = ["the ten sentences in every backend", "decoding speed", "rows as installed", "why one is slower"]
    assert Results(trained).missing == missing
    assert Results(recording()).missing == []
    assert Results(recording(plan_of(["keras:example"]))).missing == [], "which cannot decode in a batch"


def test_why_one_row_is_slower_is_told_from_the_parts_of_their_steps() -> None:
    def fast(line: RowProfile) -> RowProfile:
        return msgspec.structs.replace(line, flops=2 * FLOPS) if line.row == 2 else line

    results = Results(changed(recording(noise=EXACT), RowProfile, fast))
    why = {(pair.left, pair.right): pair.why for pair in results.pairs}
    assert why["torch", "keras"].startswith("Keras's step is 30 ms longer than PyTorch's: ")
    assert "15 ms more in its LSTM kernels" in why["torch", "keras"]
    for name in SECONDS:
        assert sum(row(results, name).step_parts.values()) == pytest.approx(row(results, name).step.value)
    assert row(results, "keras:example").step_parts["data"] == 0, "it makes its tensors before its steps"
    torch = row(results, "torch")
    assert torch.step_parts["data"] == pytest.approx(0.002)
    assert results.peak == (2 * FLOPS, "paddle")
    assert torch.peak_share == pytest.approx(torch.flop / 0.06 / (2 * FLOPS), rel=1e-6)
    without = Results(changed(recording(), RowProfile, lambda line: None))
    assert {pair.why for pair in without.pairs} == {""}
    assert (row(without, "torch").step_parts, row(without, "torch").peak_share) == ({}, None)


def test_memory_is_the_most_of_any_process_and_visit() -> None:
    def grown(one: Row, visit: Visit) -> Visit:
        return msgspec.structs.replace(visit, peak=700_000_000 if one.backend == "torch" else 1)

    results = Results(each_visit(recording(), grown))
    assert [row(results, name).peak_memory for name in ("torch", "keras")] == [700_000_000, 600_000_000]


def test_sentences_have_what_each_row_of_the_question_makes_of_them() -> None:
    def change(line: Decoded) -> Decoded:
        said = ["C'est rouge.", "Est-ce que c'est rouge ?"] if line.row == 1 else line.translations
        return msgspec.structs.replace(line, translations=said)

    results = Results(changed(recording(plan_of(["torch", "keras"])), Decoded, change))
    first, second = results.sentences
    assert (first.source, list(first.references), first.held_out) == ("It is red.", ["C'est rouge."], False)
    assert first.distinct == [(["torch", "keras"], "C'est rouge.")]
    assert second.distinct == [(["torch"], "Est-ce rouge ?"), (["keras"], "Est-ce que c'est rouge ?")]
    assert results.headline.endswith("all translate 1 of 2 sentences alike.")


@pytest.mark.parametrize(("num_samples", "trained"), [(10_000, SHOWN), (300, 0)], ids=["bundled", "fresh"])
def test_a_sentence_is_called_trained_on_only_where_the_weights_were(num_samples: int, trained: int) -> None:
    material, _ = prepare(DataConfig(num_samples=num_samples, split="grouped"), 0, "float32")
    model = model_config(material.batch, material.decoder_vocabulary, 256, "float32")
    weights = weights_for(material, model, "", 0)
    shown = Sentences(material, weights).shown
    assert [sentence.held_out for sentence in shown] == [False] * trained + [True] * SHOWN
    assert all((sentence.source in weights.trained) != sentence.held_out for sentence in shown)


def test_the_json_answer_has_the_keys_that_others_read() -> None:
    content = as_json(Results(recording()))
    for pair in content["pairs"]:
        assert pair.keys() >= {"kind", "left", "right", "word"}
        assert pair["ratio"]["low"] <= pair["ratio"]["value"] <= pair["ratio"]["high"]
    assert content["sentences"][0]["translations"].keys() == set(SECONDS)
    assert {row["label"] for row in content["rows"]} >= set(SECONDS)
    json.dumps(content, allow_nan=False)


def test_of_two_recordings_a_planted_change_is_found_and_nothing_else() -> None:
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
    busy = each_visit(before, lambda one, visit: msgspec.structs.replace(visit, others=0.5))
    assert compare(before, busy).changes == compare(busy, before).changes == []


def test_what_else_differs_between_two_recordings_is_told() -> None:
    before = committed("intel")
    versions = before.head.machine["versions"] | {"torch": "99.0"}
    after = on_machine(before, processor="another one", versions=versions)
    first, second, third = compare(before, each_visit(after, lambda one, visit: stretched(visit, 1.1))).differences
    assert first == "processor was Intel(R) Xeon(R) Processor, is another one"
    assert second == "torch was 2.13.0+cpu, is 99.0"
    assert "a step takes 1.10 times as long as before" in third
    plan = msgspec.structs.replace(before.plan, rows=before.plan.rows[:3])
    fewer = replace(before, head=msgspec.structs.replace(before.head, plan=plan), lines=[])
    assert "keras is only in the first recording" in compare(before, fewer).differences
