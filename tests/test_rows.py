"""What is said of a recording: rows and pairs, the headline, warnings and advice, and what is not compared."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from benchmarks.measure.plan import LANES, Cell
from benchmarks.measure.recording import Cause, Certified, Decoded, Evidence, Generation, Recording, Start, Visit
from benchmarks.results.rows import as_json, results_of
from benchmarks.results.values import Results
from tests.recordings import (
    CYCLES,
    RESTLESS,
    SECONDS,
    Noise,
    certificate,
    changed,
    each_visit,
    plan_of,
    recording,
    slowed,
    trained,
)

BOTH = tuple(LANES)
EXACT = Noise(0.0, 0.0, 0.0)


def row(results: Results, label: str) -> Any:
    return next(row for row in results.rows if row.label == label)


def each_start(made: Recording, label: str, **facts: object) -> Recording:
    """The recording with these facts told by each process of a row."""

    def change(start: Start) -> Start:
        if made.plan.cells[start.cell].label != label:
            return start
        return msgspec.structs.replace(start, facts=replace(start.facts, **facts))  # type: ignore[arg-type]

    return changed(
        made, Generation, lambda g: msgspec.structs.replace(g, starts=[change(start) for start in g.starts])
    )


def test_rows_come_fastest_first_with_the_ratios_that_were_planted() -> None:
    results = results_of(recording())
    assert [row.label for row in results.rows] == ["torch", "paddle", "keras", "keras:example"]
    assert not results.warnings
    for left in SECONDS:
        for right in SECONDS:
            if left != right:
                ratio = results.ratio(left, right)
                assert ratio
                assert ratio.value == pytest.approx(SECONDS[right] / SECONDS[left], rel=0.02)
                assert ratio.low < ratio.value < ratio.high
    assert len(results.pairs) == 6
    assert all(pair.ratio.value > 1 and pair.word == "faster" for pair in results.pairs), "the faster one is left"
    speed = row(results, "torch").speed
    assert speed.epoch_seconds == pytest.approx(10 * SECONDS["torch"], rel=0.01), "640 rows are ten steps"
    assert speed.pairs_per_second == pytest.approx(64 / SECONDS["torch"], rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "noise", "expected"),
    [
        (SECONDS, EXACT, "torch trains 1.33 times as fast as paddle (1.33 to 1.33), 1.50 times as fast as keras"),
        ({"torch": 0.06, "keras": 0.06}, Noise(0.001), "as fast as {other} within 0."),
        ({"torch": 0.06, "keras": 0.0602}, Noise(0.1), "not surely faster than {other} ("),
        ({"torch": 0.06}, EXACT, "torch trains 1,067 pairs a second."),
    ],
)
def test_the_headline_says_what_the_intervals_allow(seconds: dict[str, float], noise: Noise, expected: str) -> None:
    results = results_of(recording(plan_of(seconds), seconds, noise=noise))
    first, *others = (row.label for row in results.rows)
    assert results.headline.startswith(f"{first} trains ")
    assert expected.format(other=others[0] if others else "") in results.headline
    assert results.headline.endswith(".")


def test_the_headline_names_each_other_row_once() -> None:
    said = results_of(recording(plan_of(lanes=BOTH), installed=1.5)).headline
    assert said.count(" as fast as ") == 3
    assert said.endswith(")."), said
    assert " and 1.67 times as fast as keras:example" in said
    assert "as installed" not in said


def test_before_there_is_an_answer_the_headline_says_so() -> None:
    assert results_of(recording(generations=0)).headline == "Nothing was measured yet."
    assert results_of(recording(generations=1)).headline == (
        "No answer yet: a comparison needs two generations and two rows that pass parity."
    )
    assert any("fewer than two generations" in warning for warning in results_of(recording(generations=1)).warnings)
    uncertified = changed(recording(), Certified, lambda line: None)
    assert results_of(uncertified).headline.startswith("No answer yet")


def test_where_all_rows_are_as_installed_they_are_the_question() -> None:
    results = results_of(recording(plan_of(lanes=("default",))))
    assert results.headline.startswith("torch, as installed trains 1.3")
    assert results.baseline == "keras:example, as installed"
    assert results.reached is not None


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        (list(SECONDS), "", "keras:example"),
        (["torch", "keras", "paddle"], "", "keras"),
        (list(SECONDS), "paddle", "paddle"),
        (["torch"], "", "torch"),
    ],
)
def test_the_baseline_is_what_was_asked_for_or_the_example_or_the_slowest(names, asked, expected) -> None:
    assert results_of(recording(plan_of(names, baseline=asked))).baseline == expected


def test_a_baseline_that_is_not_compared_is_none() -> None:
    broken = changed(
        recording(),
        Certified,
        lambda line: Certified(line.cell, certificate(line.cell, line.cell.backend != "keras:example")),
    )
    assert results_of(broken).baseline == "keras"


def test_no_speed_without_equality() -> None:
    def change(line: Certified) -> Certified | None:
        version = "0.9" if line.cell.backend == "torch" else "1.0"
        made = certificate(line.cell, line.cell.backend != "keras", version)
        return None if line.cell.backend == "keras:example" else Certified(line.cell, made)

    results = results_of(changed(recording(), Certified, change))
    assert [row.label for row in results.rows] == ["paddle", "torch", "keras", "keras:example"]
    assert {row.label: row.why_not for row in results.rows} == {
        "paddle": "",
        "torch": "there is no parity certificate of this version",
        "keras": "parity is broken, and `rosetta parity` explains where",
        "keras:example": "there is no parity certificate of this version",
    }, "a certificate of another version is none"
    assert not any({"torch", "keras"} & {pair.left, pair.right} for pair in results.pairs)
    assert row(results, "torch").certificate is None
    assert (
        "not compared: torch, keras:example, because there is no parity certificate of this version"
        in results.warnings
    )
    assert row(results, "torch").speed, "its time is told all the same"


def test_a_loss_that_is_not_finite_or_another_version_is_not_compared() -> None:
    made = recording()

    def diverged(cell: Cell, visit: Visit) -> Visit:
        return msgspec.structs.replace(visit, finite=cell != Cell("torch"))

    assert row(results_of(each_visit(made, diverged, number=3)), "torch").why_not == "the loss is not finite"

    def other(generation: Generation) -> Generation:
        starts = [
            msgspec.structs.replace(s, facts=replace(s.facts, version="2.0")) if generation.number == 1 else s
            for s in generation.starts
        ]
        return msgspec.structs.replace(generation, starts=starts)

    assert row(results_of(changed(made, Generation, other)), "keras").why_not == (
        "the generations ran in more than one version"
    )


def test_why_one_row_is_slower_is_told_from_the_parts_of_their_steps() -> None:
    why = {(pair.left, pair.right): pair.why for pair in results_of(recording(noise=EXACT)).pairs}
    assert why["torch", "keras"].startswith("keras's step is 30 ms longer than torch's: ")
    assert "15 ms more in its LSTM kernels" in why["torch", "keras"]
    without = changed(recording(), Evidence, lambda line: msgspec.structs.replace(line, profile=None))
    assert {pair.why for pair in results_of(without).pairs} == {""}


def test_rows_that_are_apart_are_held_against_their_own_plain_row() -> None:
    plan = plan_of([*SECONDS, "torch:bfloat16"], "standard", lanes=BOTH)
    results = results_of(recording(plan, SECONDS | {"torch:bfloat16": 0.04}, installed=2.0, seed=1))
    apart = {pair.kind: (pair.left, pair.right, pair.ratio.value) for pair in results.pairs if pair.right == "torch"}
    approx = {
        kind: (left, right, pytest.approx(ratio, rel=0.03))
        for kind, left, right, ratio in [
            ("installed", "torch, as installed", "torch", 0.5),
            ("bucketed", "torch, masked and bucketed", "torch", 2.0),
            ("reduced", "torch:bfloat16", "torch", 1.5),
        ]
    }
    assert {kind: apart[kind] for kind in approx} == approx
    (control,) = (pair for pair in results.pairs if pair.kind == "control")
    assert (control.left, control.right, control.word) == ("keras:example", "keras:example, again", "same")
    groups = {name: {row.label for row in results.of_group(name)} for name in ("main", "bucketed", "reduced")}
    assert "torch:bfloat16" in groups["reduced"]
    assert "torch, as installed" in groups["main"]
    assert "torch:bfloat16, masked and bucketed" in groups["bucketed"]
    assert not any(", again" in row.label for row in results.rows)
    mixed = [
        pair
        for pair in results.pairs
        if pair.kind == "frameworks" and (("bfloat16" in pair.left) != ("bfloat16" in pair.right))
    ]
    assert all("bucketed" in pair.left for pair in mixed), "precisions are not mixed"
    assert results.headline.startswith("torch trains")


def test_a_control_as_installed_is_held_against_itself() -> None:
    results = results_of(recording(plan_of(["torch"], "standard", lanes=("default",))))
    (control,) = (pair for pair in results.pairs if pair.kind == "control")
    assert (control.left, control.right) == ("torch, as installed", "torch, as installed, again")


def test_reduced_rows_under_another_interpreter_are_held_against_the_plain_row_there() -> None:
    plan = plan_of(["torch", "torch:bfloat16"])
    elsewhere = tuple(msgspec.structs.replace(cell, python="/opt/python") for cell in plan.cells)
    plan = msgspec.structs.replace(plan, cells=(*plan.cells, *elsewhere))
    pairs = results_of(recording(plan, {"torch": 0.06, "torch:bfloat16": 0.04})).pairs
    assert {(pair.left, pair.right) for pair in pairs if pair.kind == "reduced"} == {
        ("torch:bfloat16", "torch"),
        ("torch:bfloat16, under /opt/python", "torch, under /opt/python"),
    }


def test_a_row_that_is_told_apart_from_itself_widens_all_intervals_and_is_said() -> None:
    plan = plan_of(["torch", "keras"], "standard")
    plain = recording(plan, dict.fromkeys(("torch", "keras"), 0.06))
    biased = slowed(plain, "torch, again", 1.05)
    results, before = results_of(biased), results_of(plain)
    assert any(
        warning.startswith("torch, again seems faster or slower") and "all intervals are widened by it" in warning
        for warning in results.warnings
    )
    (pair,) = (p for p in results.pairs if p.kind == "frameworks" and "bucketed" not in p.left)
    (old,) = (p for p in before.pairs if p.kind == "frameworks" and "bucketed" not in p.left)
    assert pair.ratio.half_width > old.ratio.half_width + 0.045
    assert not [warning for warning in before.warnings if "itself" in warning]


def test_intervals_wider_than_asked_are_said() -> None:
    results = results_of(recording(plan_of(within=0.01), noise=RESTLESS))
    (said,) = (warning for warning in results.warnings if "the widest interval" in warning)
    assert said.endswith("1% was asked for: the time ran out; a longer --budget makes it narrower")
    assert f"reaches {results.reached:.1%} to one side" in said


def test_threads_and_denormals_that_are_not_as_asked_are_said() -> None:
    made = each_start(recording(), "paddle", threads=1, settings={"denormals": "kept"})
    warnings = results_of(made).warnings
    assert "paddle computed on 1 threads, although 2 were asked for" in warnings
    (told,) = (warning for warning in warnings if warning.startswith("denormal numbers"))
    assert told.endswith("are not treated alike: flushed in torch, keras, keras:example; kept in paddle")


def test_advice_names_the_settings_that_make_the_difference_and_what_to_type() -> None:
    made = recording(plan_of(["torch"], lanes=BOTH), installed=2.0)
    cell = Cell("torch", "default")
    made.lines += [
        Cause(cell, ["threads"], 0.2, 0.19, 0.1),
        Cause(cell, ["threads", "library"], 0.2, 0.19, 0.1),
        Cause(cell, ["threads", "library", "memory"], 0.2, 0.1, 0.1),
    ]
    (advice,) = results_of(made).advice
    assert advice.startswith(
        "A step of torch as installed takes 2.00 times as long as with all settings matched; 100%"
    )
    assert "OMP_NUM_THREADS=2" in advice
    assert "GLIBC_TUNABLES=" in advice


def test_a_row_that_is_slow_no_more_gets_no_advice() -> None:
    made = recording(plan_of(["torch"], lanes=BOTH))
    made.lines.append(Cause(Cell("torch", "default"), ["threads"], 0.1, 0.1, 0.1))
    assert results_of(made).advice == []


def test_settings_that_did_not_make_a_row_faster_are_no_advice() -> None:
    made = recording(plan_of(["torch"], lanes=BOTH), installed=2.0)
    made.lines.append(Cause(Cell("torch", "default"), ["threads"], 0.2, 0.3, 0.1))
    assert results_of(made).advice == []


def test_dropped_cycles_and_waiting_are_told() -> None:
    results = results_of(recording(busy=[(1, 0), (2, 1)]))
    assert (results.generations, results.cycles, results.dropped) == (6, 6 * CYCLES, 2)
    assert results.waited == pytest.approx(0.06 * 6 * CYCLES * len(SECONDS))
    assert 0.01 < results.others < 0.05


def test_sentences_have_what_each_row_of_the_question_makes_of_them() -> None:
    plan = plan_of(["torch", "keras"], "standard", lanes=BOTH)

    def change(line: Decoded) -> Decoded:
        said = ["C'est rouge.", "Est-ce que c'est rouge ?"] if line.cell.backend == "keras" else line.translations
        return msgspec.structs.replace(line, translations=said)

    first, second = results_of(changed(recording(plan), Decoded, change)).sentences
    assert (first.source, list(first.references), first.held_out) == ("It is red.", ["C'est rouge."], False)
    assert first.said == [(["torch", "keras"], "C'est rouge.")]
    assert second.said == [(["torch"], "Est-ce rouge ?"), (["keras"], "Est-ce que c'est rouge ?")]


def test_decoding_is_compared_by_the_character() -> None:
    results = results_of(recording())
    assert {pair.left for pair in results.decoding} <= {"torch", "paddle"}
    ratio = results.ratio("torch", "keras", results.alone)
    assert ratio
    assert ratio.value == pytest.approx(1.5, rel=0.02)
    assert row(results, "torch").decoding.alone_characters == 40
    example = row(results, "keras:example").decoding
    assert example.batch_character is example.alone_character is None
    assert example.once_character == pytest.approx(0.05)
    assert row(results, "torch").decoding.once_character is None


def test_a_step_is_told_as_a_share_of_the_fastest_product() -> None:
    results = results_of(recording(noise=EXACT))
    roofline = row(results, "torch").resources.roofline
    assert roofline.share == pytest.approx(roofline.flop / 0.06 / 2e11, rel=1e-6)
    assert results.peaks[0].flops == 2e11
    none = results_of(changed(recording(), Evidence, lambda line: None))
    assert row(none, "torch").resources.roofline is None
    assert row(none, "torch").resources.step_parts == {}


def test_the_parts_of_a_step_sum_to_it() -> None:
    for one in results_of(recording()).rows:
        assert sum(one.resources.step_parts.values()) == pytest.approx(one.speed.step.value)
    assert row(results_of(recording()), "keras:example").resources.data_share is None


def test_trainings_are_told_epoch_by_epoch_and_their_peak_is_the_rows() -> None:
    made = recording(plan_of(["torch"], "standard"))
    made.lines += [trained(Cell("torch"), seed) for seed in range(3)]
    found = row(results_of(made), "torch")
    assert [training.seed for training in found.learning] == [0, 1, 2]
    assert [epoch.chrf for epoch in found.learning[0].epochs] == [10.0, 20.0, 30.0]
    assert found.resources.peak == 700_000_000
    assert row(results_of(recording(plan_of(["torch"]))), "torch").resources.peak == 600_000_000


def test_the_json_answer_has_the_keys_that_others_read() -> None:
    content = as_json(results_of(recording(plan_of(preset="standard", lanes=BOTH))))
    assert content.keys() >= {"headline", "command", "machine", "rows", "pairs", "decoding", "alone", "sentences"}
    for name in ("pairs", "decoding", "alone"):
        assert content[name]
        for pair in content[name]:
            assert pair.keys() >= {"left", "right", "ratio", "low", "high"}
            assert pair["low"] <= pair["ratio"] <= pair["high"]
    sentence = content["sentences"][0]
    assert sentence.keys() >= {"source", "references", "translations"}
    assert sentence["translations"].keys() == set(SECONDS)
    assert {row["label"] for row in content["rows"]} >= set(SECONDS)
    json.dumps(content, allow_nan=False)


def test_a_slow_visit_to_one_row_is_in_its_interval_and_not_in_the_others_ratio() -> None:
    """One generation of torch, half again as slow: its ratios stay within their wider intervals."""

    def slow(cell: Cell, visit: Visit) -> Visit:
        steps = [1.5 * seconds for seconds in visit.steps]
        return msgspec.structs.replace(visit, steps=steps, loop=2 * visit.loop) if cell == Cell("torch") else visit

    results = results_of(each_visit(recording(), slow, number=4))
    ratio, other = results.ratio("torch", "keras"), results.ratio("paddle", "keras")
    assert ratio
    assert other
    assert ratio.holds(1.5)
    assert other.value == pytest.approx(0.09 / 0.08, rel=0.01)
