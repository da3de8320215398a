"""From visits to observations: which cycles are used, which times, and how far what they say can be trusted."""

import math
from statistics import median

import msgspec
import numpy as np
import pytest

from benchmarks.measure.plan import Cell
from benchmarks.measure.recording import Generation, Visit
from benchmarks.results.rows import results_of
from benchmarks.results.timings import Timings, precision, widest
from tests.recordings import CYCLES, RESTLESS, SECONDS, changed, each_visit, plan_of, recording


def test_an_observation_is_the_mean_over_cycles_of_the_logarithm_of_a_visits_median() -> None:
    made = recording(noise=RESTLESS)
    generation = made.of_kind(Generation)[2]
    number = made.plan.cells.index(Cell("torch"))
    visits = [visit for cycle in generation.cycles for visit in cycle if visit.cell == number]
    expected = np.mean([math.log(median(visit.steps)) for visit in visits])
    assert Timings(made).steps.observed[2, "torch"] == pytest.approx(expected, rel=1e-12)


def test_steps_that_do_not_count_do_not() -> None:
    made = recording()

    def slow_lead(cell: Cell, visit: Visit) -> Visit:
        return msgspec.structs.replace(visit, lead=[9.0] * len(visit.lead), loop=9.0 * len(visit.lead) + visit.loop)

    assert Timings(each_visit(made, slow_lead)).steps.observed == Timings(made).steps.observed


def test_a_cycle_in_which_others_were_at_work_is_dropped_for_all_rows() -> None:
    made, busy = recording(noise=RESTLESS), recording(noise=RESTLESS, busy=[(2, 3)])
    timings = Timings(busy)
    assert (timings.dropped, len(timings.cycles), timings.trusted) == (1, 6 * CYCLES, True)
    changed_observations = {
        key for key, value in timings.steps.observed.items() if value != Timings(made).steps.observed[key]
    }
    assert changed_observations == {(1, row) for row in SECONDS}


def test_nothing_is_dropped_for_its_times() -> None:
    """One visit in a hundred times as slow as the others counts like them."""
    made = recording()

    def once(generation: Generation) -> Generation:
        if generation.number != 1:
            return generation
        first, *others = generation.cycles[0]
        slow = msgspec.structs.replace(first, steps=[100 * seconds for seconds in first.steps])
        return msgspec.structs.replace(generation, cycles=[[slow, *others], *generation.cycles[1:]])

    timings = Timings(changed(made, Generation, once))
    assert timings.dropped == 0
    row = made.plan.cells[made.of_kind(Generation)[0].cycles[0][0].cell].label
    grown = timings.steps.observed[0, row] - Timings(made).steps.observed[0, row]
    assert grown == pytest.approx(math.log(100) / CYCLES)


@pytest.mark.parametrize(("dropped", "trusted"), [(7, True), (8, False)])
def test_above_a_fifth_dropped_nobody_is_called_faster(dropped: int, trusted: bool) -> None:
    """A fifth of 36 cycles are 7.2."""
    busy = [(1 + n // CYCLES, n % CYCLES) for n in range(dropped)]
    made = recording(busy=busy)
    assert Timings(made).trusted == trusted
    results = results_of(made)
    assert (results.dropped, results.cycles) == (dropped, 36)
    assert bool(results.pairs) == bool(results.decoding) == bool(results.alone) == trusted
    assert results.headline.startswith("torch trains" if trusted else "No answer: other processes were at work in 8")
    told = next(warning for warning in results.warnings if "dropped" in warning)
    assert told.startswith(f"{dropped} of 36 cycles were dropped because other processes used 0.5 cores meanwhile")
    assert ("no row is called faster" in told) == (not trusted)


def test_a_generation_without_any_cycle_that_can_be_used_is_left_out() -> None:
    made = recording(busy=[(2, place) for place in range(CYCLES)])
    assert len(Timings(made).steps.of_row("torch")) == 5
    assert results_of(recording(generations=1, busy=[(1, place) for place in range(CYCLES)])).rows[0].speed is None


def test_bucketed_steps_count_by_their_mean() -> None:
    """Their widths differ, and what is asked is the time of all of them."""
    plan = plan_of(["torch"], "standard")
    cell = next(cell for cell in plan.cells if cell.bucketed)

    def uneven(of: Cell, visit: Visit) -> Visit:
        steps = [0.01] * 6 + [0.08] if of == cell else visit.steps
        return msgspec.structs.replace(visit, steps=steps, loop=sum(visit.lead) + sum(steps))

    found = Timings(each_visit(recording(plan), uneven)).steps.seconds(cell.label)
    assert found
    assert found.value == pytest.approx(0.02)


def test_decoding_is_told_by_the_character() -> None:
    timings = Timings(recording())
    together, alone = timings.batches.seconds("torch"), timings.alone.seconds("torch")
    assert together
    assert alone
    assert together.value == pytest.approx(10 * SECONDS["torch"] / 2000, rel=0.01)
    assert alone.value == pytest.approx(10 * SECONDS["torch"] / 40, rel=0.01)
    assert timings.batches.seconds("keras:example") is None, "which has no batch"


def test_settling_compares_the_early_and_the_late_steps_of_the_long_visits() -> None:
    made = recording()

    def long(cell: Cell, visit: Visit) -> Visit:
        steps = [0.063] * 10 + [0.060] * 10
        return msgspec.structs.replace(visit, steps=steps) if cell.backend == "torch" else visit

    timings = Timings(each_visit(made, long))
    assert timings.settling(Cell("torch")) == pytest.approx(0.05)
    assert timings.settling(Cell("keras")) == 0.0


def test_time_outside_the_steps_is_told() -> None:
    made = recording()
    assert Timings(made).outside(Cell("torch")) == pytest.approx(0.001, rel=0.01)

    def late(cell: Cell, visit: Visit) -> Visit:
        return msgspec.structs.replace(visit, loop=1.2 * visit.loop) if cell.backend == "torch" else visit

    warnings = results_of(each_visit(made, late)).warnings
    (told,) = (warning for warning in warnings if "outside the timed steps" in warning)
    assert told.startswith("torch spent over 5% of its time")


def test_precision_is_how_far_the_widest_interval_of_the_question_reaches() -> None:
    made = recording(plan_of(preset="standard", lanes=("matched", "default")), noise=RESTLESS)
    timings = Timings(made)
    ratios = [
        timings.steps.ratio(left, right).half_width  # type: ignore[union-attr]
        for left in SECONDS
        for right in SECONDS
        if left != right
    ]
    assert precision(made) == pytest.approx(max(ratios))
    assert precision(recording(generations=1)) is None
    assert widest(Timings(recording(generations=0))) is None
    # The question is of the plain rows: those that are apart may be as uncertain as they like.
    wild = each_visit(
        made,
        lambda cell, visit: (
            msgspec.structs.replace(visit, steps=[s * (9.0 if visit.waited else 1.0) for s in visit.steps])
            if cell.bucketed
            else visit
        ),
    )
    assert precision(wild) == pytest.approx(max(ratios), rel=1e-6)


def test_one_row_alone_has_a_precision_of_its_own() -> None:
    made = recording(plan_of(["torch"]), noise=RESTLESS)
    found = Timings(made).steps.seconds("torch")
    assert found
    assert precision(made) == pytest.approx(found.half_width)
    results = results_of(made)
    assert results.headline.startswith("torch trains 1,")
    assert not [warning for warning in results.warnings if "no intervals" in warning]
