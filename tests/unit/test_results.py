"""Results of a measurement: the headline, rows and pairs,
warnings and advice, and what is not compared."""

import re
from dataclasses import replace
from math import log, sqrt

import msgspec
import pytest

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.sentences import SHOWN, Sentences
from benchmarks.measure.statistics import UNSURE_FROM
from benchmarks.report.bench_results import BenchResults
from benchmarks.report.page import report_of_bench
from benchmarks.report.repeated import RepeatedResults, are_repeated
from benchmarks.schema import Certified, Decoded, Round
from common.corpus import prepare
from common.run import BUNDLED_RUN, RunDirectory
from common.settings import DataConfig
from tests.support.measurements import (
    CYCLES,
    QUIET,
    SECONDS,
    Noise,
    certificate,
    changed,
    each_turn,
    measurement,
    plan_of,
    slowed,
)

EXACT = Noise(0.0, 0.0, 0.0)
UNCERTIFIED = "there is no parity certificate of this version"
TOO_FEW = "too few rounds can be used for an interval; give a longer --budget"
ONLY_TWO = "only 2 rounds can be used, and 3 are the least for figures to rely on"
BUSY = "other programs used 0.34 cores during the turns"
LEFT_OUT = (
    "of 24 cycles are left out because other programs were at work; close other programs and "
    "measure again"
)
OUTSIDE = (
    "{} spent over 5% of its time outside the timed steps, so the device may still have been at "
    "work"
)
NEAR = {"torch": 0.06, "keras": 0.0602}  # seconds of rows that are hard to tell apart
NEARER = {"torch": 0.06, "keras": 0.0601, "paddle": 0.9}


def busy(rounds: int) -> Measurement:
    """A measurement of six rounds with other programs at work in so many."""
    return measurement(
        busy=[(number, place) for number in range(1, rounds + 1) for place in range(CYCLES)]
    )


@pytest.mark.parametrize(
    ("seconds", "noise", "expected"),
    [
        (SECONDS, QUIET, "PyTorch trains 1.3 times as fast as Paddle and 1.5 as Keras"),
        (NEAR, EXACT, "PyTorch trains 1.003 times as fast as Keras"),
        (NEAR, Noise(0.1), "PyTorch and Keras are not told apart yet"),
        (NEARER, Noise(0.01), "PyTorch trains 15 times as fast as Paddle and as fast as Keras"),
        (
            NEARER,
            Noise(0.1),
            "Keras trains 16 times as fast as Paddle; Keras and PyTorch are not told apart yet",
        ),
        (
            NEARER,
            Noise(0.6),
            "Keras trains faster than Paddle; Keras and PyTorch are not told apart yet",
        ),
        ({"torch": 0.06}, EXACT, "PyTorch trains 1,067 pairs a second"),
    ],
)
def test_the_headline_says_what_the_intervals_allow(
    seconds: dict[str, float], noise: Noise, expected: str
) -> None:
    results = BenchResults(measurement(plan_of(seconds), seconds, noise=noise, seed=3))
    assert re.search(
        rf"(^As installed and t|\. T)uned, {re.escape(expected)}\.$", results.headline
    ), results.headline


def test_the_headline_and_the_page_name_a_further_model() -> None:
    plan = plan_of(["torch", "keras"])
    assert plan.training
    training = msgspec.structs.replace(plan.training, model="attention")
    bench = measurement(msgspec.structs.replace(plan, training=training))
    title = "LSTM encoder-decoder with attention"
    assert (
        BenchResults(bench).headline == f"{title}. As installed and tuned, PyTorch trains 1.5 "
        "times as fast as Keras."
    )
    assert f"| model | {title}, 256 units, batches of 64 |" in report_of_bench(bench).page


def test_one_baseline_is_the_reference_of_both_lanes() -> None:
    bench = slowed(measurement(plan_of(["torch", "keras"])), 2.0, "torch, as installed")
    results = BenchResults(bench)
    assert (results.baseline, [*results.backends]) == ("keras", ["keras", "torch"]), (
        "the fastest as installed"
    )
    assert results.headline == (
        "As installed, Keras trains 1.3 times as fast as PyTorch. Tuned, PyTorch trains 1.5 times "
        "as fast as Keras."
    )
    assert results.gain == "Settings make PyTorch 2.0 times as fast. No setting helps Keras."
    named = BenchResults(measurement(plan_of(["torch", "keras", "paddle"], baseline="paddle")))
    assert named.headline == (
        "As installed and tuned, Paddle trains 1.1 times as fast as Keras; "
        "PyTorch trains 1.3 times as fast as Paddle."
    )


def test_a_backend_that_no_setting_helps_has_one_row_in_both_lanes() -> None:
    results = BenchResults(measurement(plan_of(["torch", "keras"])))
    assert results.backends["keras"]["installed"] is results.backends["keras"]["tuned"]
    assert results.gain == "No gain is seen in PyTorch. No setting helps Keras."
    assert results.headline == "As installed and tuned, PyTorch trains 1.5 times as fast as Keras."
    seconds = {"torch": 0.06, "numpy": 0.09}
    numpy = BenchResults(measurement(plan_of(seconds), seconds))
    assert numpy.gain.endswith("No setting was measured for NumPy."), (
        "which the table does not have"
    )


def test_no_speed_without_equality() -> None:
    bench = measurement()
    certificates = {
        "paddle": certificate(),
        "torch": certificate(version="0.9"),
        "keras": certificate(passed=False),
    }

    def change(line: Certified) -> Certified | None:
        kept = certificates.get(bench.plan.rows[line.row].backend)
        return kept and Certified(line.row, kept)

    results = BenchResults(changed(bench, Certified, change))
    assert {row.label: row.why_not for row in results.rows if not row.row.installed} == {
        "paddle": "",
        "torch": UNCERTIFIED,
        "keras": "parity is broken, and `rosetta parity` explains where",
        "keras:example": UNCERTIFIED,
    }, "a certificate of another version is none"
    assert {pair.kind for pair in results.pairs} == {"installed"}, (
        "Paddle has nothing else to be compared with"
    )
    assert (
        f"not compared: torch, as installed, torch, keras:example, because {UNCERTIFIED}"
        in results.doubts
    )
    assert results.by_label["torch"].step, "its time is told all the same"
    diverged = each_turn(bench, lambda _, turn: msgspec.structs.replace(turn, finite=False))
    assert BenchResults(diverged).by_label["torch"].why_not == "the loss is not finite"


def test_rows_as_installed_are_compared_with_their_plain_row() -> None:
    results = BenchResults(measurement(plan_of([*SECONDS]), SECONDS))
    special = {
        (pair.left, pair.right): pair.ratio.value
        for pair in results.pairs
        if pair.kind != "frameworks"
    }
    assert special == {
        (f"{name}, as installed", name): pytest.approx(1.0, rel=0.02)
        for name in ("torch", "paddle")
    }
    others = [{p.left, p.right} for p in results.pairs if p.kind == "frameworks"]
    assert {"paddle", "torch, as installed"} not in others, "rows of one lane are compared"
    assert others.count({"keras", "keras:example"}) == 1, "rows of both lanes once"


@pytest.mark.parametrize(
    ("process", "advice"),
    [(0.03, "--budget 13m would do"), (0.2, "an hour would not do on this machine")],
)
def test_no_advice_is_beyond_an_hour(process: float, advice: str) -> None:
    bench = measurement(plan_of([*NEAR]), NEAR, noise=Noise(process), seed=3)
    (note,) = (note for note in BenchResults(bench).notes if "the widest interval" in note)
    assert note.endswith(advice)
    shown = report_of_bench(bench).page
    assert "not told apart yet" in shown
    assert ("more minutes would do" in shown) == (process < 0.1)


def test_an_interval_that_says_nothing_is_given_no_figure() -> None:
    bench = measurement(plan_of([*NEAR]), NEAR, noise=Noise(1.0), rounds=2, seed=3)
    results = BenchResults(bench)
    assert (results.reached or 0) > UNSURE_FROM
    (note,) = (note for note in results.notes if "the widest interval" in note)
    assert note.startswith("the widest interval is too wide to rely on, although 5")


def repeated(*keras: float) -> list[Measurement]:
    """Measurements of torch, whose step takes 60 ms, and of Keras,
    whose step takes so many seconds."""
    plan = plan_of(["torch", "keras"])
    return [measurement(plan, {"torch": 0.06, "keras": seconds}, noise=EXACT) for seconds in keras]


def test_an_interval_of_measurements_holds_a_further_measurement() -> None:
    """By hand: Student's t of two degrees of freedom,
    and the deviation of one further logarithm and of the mean."""
    measurements = repeated(0.09, 0.099, 0.1089)
    assert are_repeated(measurements)
    results = RepeatedResults(measurements)
    ratio = results.ratio(results.by_label["torch"], results.by_label["keras"])
    assert ratio is not None
    assert ratio.value == pytest.approx(1.65)
    assert log(ratio.high / ratio.value) == pytest.approx(
        4.302653 * log(1.1) * sqrt(1 + 1 / 3), rel=1e-4
    )
    assert (results.rounds, results.backends["keras"]["tuned"].step.value) == (
        18,
        pytest.approx(0.099),
    )
    assert results.headline.startswith("As installed and tuned, PyTorch trains faster than Keras")
    page = report_of_bench(*measurements).page
    assert (
        "Figures are means of 3 measurements on one machine. ± is where a further measurement falls"
    ) in page


def test_a_row_that_one_measurement_does_not_compare_has_no_ratio() -> None:
    first, second = repeated(0.09, 0.09)
    keras = next(index for index, row in enumerate(first.plan.rows) if row.backend == "keras")
    broken = changed(
        first, Certified, lambda line: Certified(line.row, certificate(passed=line.row != keras))
    )
    results = RepeatedResults([broken, second])
    assert results.ratio(*(results.by_label[name] for name in ("torch", "keras"))) is None
    assert results.doubts == BenchResults(broken).doubts != []


def test_measurements_of_other_versions_are_not_repeated() -> None:
    first, second = repeated(0.09, 0.09)
    machine = {**second.head.machine, "versions": {"torch": "2.0"}}
    assert not are_repeated(
        [first, replace(second, head=msgspec.structs.replace(second.head, machine=machine))]
    )


def on_one_thread(line: Round) -> Round:
    starts = [
        msgspec.structs.replace(start, facts=replace(start.facts, threads=1))
        for start in line.starts
    ]
    return msgspec.structs.replace(line, starts=starts)


THREADS = [f"{row} computed on 1 thread, although 2 were asked for" for row in ("torch", "keras")]
LATE = each_turn(
    measurement(plan_of(["paddle"])),
    lambda _, turn: msgspec.structs.replace(turn, loop=2 * turn.loop),
)


@pytest.mark.parametrize(
    ("bench", "headline", "doubts", "notes"),
    [
        (measurement(rounds=0), "Nothing was measured yet.", [TOO_FEW], []),
        (
            measurement(rounds=1),
            "No answer yet: a comparison needs two rounds and two",
            [TOO_FEW],
            [],
        ),
        (
            measurement(rounds=2),
            "So far, after 2 rounds alone: As installed",
            [ONLY_TWO],
            ["the widest interval"],
        ),
        (busy(3), "As installed", [], [f"12 {LEFT_OUT}"]),
        (busy(4), "As installed", [BUSY], []),
        (changed(measurement(plan_of([*NEAR])), Round, on_one_thread), "As installed", THREADS, []),
        (
            LATE,
            "As installed",
            [OUTSIDE.format("paddle, as installed"), OUTSIDE.format("paddle")],
            [],
        ),
    ],
    ids="nothing one_round two_rounds half_busy busy threads late".split(),
)
def test_figures_that_are_not_to_be_relied_on_are_said(
    bench: Measurement, headline: str, doubts: list[str], notes: list[str]
) -> None:
    results = BenchResults(bench)
    assert results.headline.startswith(headline)
    assert any(pair.kind == "frameworks" for pair in results.pairs) == (
        "torch" in results.backends and bool(results.pairs)
    )
    for sentences, beginnings in ((results.doubts, doubts), (results.notes, notes)):
        assert len(sentences) == len(beginnings)
        assert all(
            sentence.startswith(beginning)
            for sentence, beginning in zip(sentences, beginnings, strict=True)
        ), sentences


def test_another_processor_or_model_than_that_of_the_settings_is_noted() -> None:
    bench = measurement(plan_of(["torch", "keras"]))
    note = (
        "the settings of the tuned lane were measured on AMD EPYC with AVX-512, 2 cores, with "
        "lstm, on 2026-12-01 and 2026-12-02, and not on this processor"
    )
    assert not BenchResults(bench).notes
    for processor in ("Intel(R) Xeon(R)", ""):
        bench.head = msgspec.structs.replace(
            bench.head, machine={**bench.head.machine, "processor": processor}
        )
        assert BenchResults(bench).notes == [note]
    training = msgspec.structs.replace(bench.plan.training, model="attention")
    bench.head = msgspec.structs.replace(
        bench.head, plan=msgspec.structs.replace(bench.plan, training=training)
    )
    assert BenchResults(bench).notes == [f"{note} or with this model"]
    nothing_set = measurement(plan_of(["keras"]))
    assert not BenchResults(nothing_set).notes


def test_each_sentence_has_the_translation_of_each_row() -> None:
    def change(line: Decoded) -> Decoded:
        translations = (
            ["C'est rouge.", "Est-ce que c'est rouge ?"] if line.row == 1 else line.translations
        )
        return msgspec.structs.replace(line, translations=translations)

    results = BenchResults(changed(measurement(plan_of(["torch", "keras"])), Decoded, change))
    assert [sentence.distinct for sentence in results.sentences] == [
        {"C'est rouge.": ["torch", "keras"]},
        {"Est-ce rouge ?": ["torch"], "Est-ce que c'est rouge ?": ["keras"]},
    ]
    assert results.alike == "All rows translate 1 of 2 sentences alike."


@pytest.mark.parametrize(
    ("num_samples", "units", "trained"), [(10_000, 256, SHOWN), (300, 256, 0), (10_000, 8, 0)]
)
def test_only_sentences_the_weights_saw_are_called_trained_on(num_samples, units, trained) -> None:
    material = prepare(DataConfig(num_samples=num_samples, split="grouped"), 0, "float32")
    shown = Sentences(material, units, "lstm", "", 0).shown
    assert [sentence.held_out for sentence in shown] == [False] * trained + [True] * SHOWN
    run = RunDirectory.open(BUNDLED_RUN).material()
    sources = {run.pairs[row][0] for row in run.training_rows} if trained else set()
    assert all((sentence.source in sources) != sentence.held_out for sentence in shown)
