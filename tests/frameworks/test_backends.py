"""Every backend of the table against the referee, which is NumPy in float64: a class for each component.

The ladder compares, by its bounds of float32, and by tighter ones in float64. A framework that is missing fails,
unless ROSETTA_ALLOW_MISSING names it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest

from backends import BASELINE, TABLE
from backends.process.translating import translate
from benchmarks.ladder.judge.check import Check
from benchmarks.ladder.parity.climb import Climber
from benchmarks.ladder.parity.course import Answers
from common.weights import SLOT_PREFIX, ModelState, in_dtype
from tests import conftest
from tests.conftest import ALLOW_MISSING, LATENT_DIM, CourseOf, Plant, require_framework
from tests.support import child

EXAMPLES_DIM = 256  # units of the example, with which the bounds of float32 are the narrow ones
# The variants that mask in ways of their own; others are compared where padding counts.
MASKED = ("keras:on-tensorflow",)
# Errors in float64 that are allowed, by rung, where the ladder allows more. They are measured as the ladder does.
TIGHTER = {"gradients": 1e-13, "slots": 1e-13, "trajectory": 1e-13, "counts": 1e-13}


def ways() -> Iterator[tuple[str, str, str]]:
    """Each backend of the table with the precision of its weights and the mode of padding."""
    for name, entry in TABLE.items():
        exact = "float32" if entry.float32_only else "float64"
        if ":" not in name:
            yield name, "float32", "space"
            yield name, exact, "mask"
        else:
            yield name, exact, "mask" if name in MASKED else "space"


@pytest.fixture(scope="module", params=ways(), ids=" ".join)
def backend(request: pytest.FixtureRequest, course_of: CourseOf) -> Iterator[Climber]:
    """A backend and the referee, both of which answer what the ladder asks."""
    name, dtype, padding = request.param
    small = ":" in name or dtype == "float64"
    course = course_of(LATENT_DIM if small else EXAMPLES_DIM, padding)
    with course.start(name, dtype) as process:
        yield Climber(course, Answers(process, dtype, course.questions))


def held(backend: Climber, rung: str, slots: bool = False) -> list[Check]:
    """The checks of a rung, all of which must pass; of a step those of the weights, or of the slots."""
    checks = [check for check in backend.rung(rung) if check.tensor.startswith(SLOT_PREFIX) == slots]
    bound = TIGHTER.get("slots" if slots else rung, inf) if backend.dtype == "float64" else inf
    assert checks
    assert [check for check in checks if not check.error <= min(check.tolerance, bound)] == []
    return checks


class TestForward:
    def test_tensors_states_and_probabilities(self, backend: Climber) -> None:
        held(backend, "tensors")
        held(backend, "forward")


class TestLoss:
    def test_loss(self, backend: Climber) -> None:
        held(backend, "loss")

    def test_a_character_that_is_all_but_ruled_out_costs_all_of_it(self, backend: Climber) -> None:
        """A softmax that is clipped says 64 where logits are 100 apart, a probability that is clipped 16."""
        course = backend.course
        bias = course.probe.weights["dense/bias"].copy()
        bias[course.model.start_token] += 100  # which is never asked for
        state = ModelState(course.probe.weights | {"dense/bias": bias}, course.probe.mean_squares)
        question = replace(course.questions["gradients"], state=state)
        got, expected = (side.ask(question)["loss"][0] for side in (backend.right, course.referee))
        assert expected > 99
        assert got == pytest.approx(expected, rel=10 * backend.tolerances["loss"])


class TestGradients:
    def test_gradient_of_each_weight(self, backend: Climber) -> None:
        assert {check.tensor for check in held(backend, "gradients")} == set(backend.course.probe.weights)


class TestStep:
    def test_weights_after_a_step(self, backend: Climber) -> None:
        held(backend, "step")

    def test_losses_of_several_steps(self, backend: Climber) -> None:
        held(backend, "trajectory")

    def test_steps_are_reported_and_a_report_ends_them(self, backend: Climber) -> None:
        """The second bias of torch and Paddle stays zero meanwhile."""
        asked, size = backend.right.questions["trajectory"], backend.course.settings.batch_size
        batch = replace(asked.corpus.take(asked.rows[: 4 * size]), dtype=backend.dtype)
        state = in_dtype(asked.state, backend.dtype)
        got = backend.process.call(child.steps, state=state, batch=batch, batch_size=size, last=3)
        assert [step for step, _ in got.reported] == [1, 2, 3]
        if batch.padding == "space":  # masked, a step's loss is not the mean over its own batch's positions
            assert [loss for _, loss in got.reported] == pytest.approx(got.losses, rel=1e-6)
        expected = backend.left["trajectory"]["losses"][:3]
        assert got.losses == pytest.approx(expected, rel=backend.tolerances["trajectory"])
        if backend.process.name.startswith(("torch", "paddle")):
            assert backend.process.call(child.second_biases) == 0.0


class TestSlots:
    def test_mean_squares_after_a_step(self, backend: Climber) -> None:
        held(backend, "step", slots=True)


class TestCounts:
    def test_what_training_and_evaluation_count(self, backend: Climber) -> None:
        not_counted = [check.tensor for check in held(backend, "counts") if "counts none" in check.note]
        assert not_counted == (["train correct_real"] if backend.process.name == BASELINE else [])


class TestDecoding:
    def test_strings(self, backend: Climber) -> None:
        held(backend, "strings")

    def test_a_sentence_is_translated_alone_as_it_is_among_others(self, backend: Climber) -> None:
        if backend.process.name == BASELINE:
            return  # which translates one after another anyway
        course, asked = backend.course, backend.right.questions["strings"]
        # Weights so large that every row says something else, and a bias so that some end early.
        weights = {name: 8 * values for name, values in course.probe.weights.items()}
        weights["dense/bias"][course.model.stop_token] += 8
        question = replace(asked, state=ModelState(weights, course.probe.mean_squares))
        together = backend.right.ask(question)["ids"]  # as many as before, for which it is compiled
        assert len(set((together != course.model.stop_token).sum(axis=1))) > 3, "rows must end at different places"
        for row, expected in zip(asked.rows[:6], together[:6], strict=True):
            (alone,) = backend.right.ask(replace(question, rows=np.array([row])))["ids"]
            assert np.array_equal(alone, expected)

    def test_beams_and_their_scores(self, backend: Climber) -> None:
        course = backend.course
        # Weights that prefer some characters clearly, so that no two translations are nearly as probable.
        weights = {name: 6 * weight for name, weight in course.fresh.weights.items()}
        state = ModelState(weights, course.fresh.mean_squares)
        for side in (backend.right, course.referee):
            side.process.call(child.load, state=in_dtype(state, side.dtype))
        # A graph that is traced for the first size must take the others. Variants compile what takes any size.
        for num_rows, width in ((1, 11), (12, 12), (1, 9))[: 1 if ":" in backend.process.name else 3]:
            texts = [course.material.pairs[row][0][:width] for row in range(num_rows)]
            vocabularies = course.material.encoder_vocabulary, course.material.decoder_vocabulary
            encoder, decoder = ("".join(known.characters) for known in vocabularies)
            asked: dict[str, Any] = {"texts": texts, "encoder_characters": encoder, "decoder_characters": decoder}
            asked |= {"width": width, "max_length": 8}
            sides = (backend.right, course.referee)
            answers = [side.process.call(translate, **asked, beam=4) for side in sides]
            got, expected = ([answer.candidates for answer in of_side] for of_side in answers)
            for ours, theirs in zip(sum(got, ()), sum(expected, ()), strict=True):
                assert ours.translation == theirs.translation
                bound = 10 * backend.tolerances["loss"]  # for each of 8 characters, whose logarithms are summed
                assert ours.score == pytest.approx(theirs.score, rel=bound, abs=8 * bound)
        narrow, greedy = (backend.process.call(translate, **asked, beam=beam) for beam in (1, None))
        assert [answer.translation for answer in narrow] == [answer.translation for answer in greedy]


class TestResume:
    def test_a_state_comes_back_to_the_bit(self, backend: Climber) -> None:
        held(backend, "weights")
        held(backend, "weights", slots=True)

    def test_the_referee_and_it_go_on_with_each_others_training(self, backend: Climber) -> None:
        question, referee = backend.course.questions["trajectory"], backend.course.referee
        first, second = np.split(question.rows, 2)
        for begins, ends in ((referee, backend.right), (backend.right, referee)):
            begun = begins.ask(replace(question, rows=first))
            slots = {name: begun[SLOT_PREFIX + name] for name in question.state.weights}
            state = ModelState({name: begun[name] for name in slots}, slots)
            ended = ends.ask(replace(question, rows=second, state=state))
            losses = np.concatenate([begun["losses"], ended["losses"]])
            assert losses == pytest.approx(referee["trajectory"]["losses"], rel=backend.tolerances["trajectory"])


# For each test above a mistake in NumPy that it must see.
MISTAKES: dict[Callable[..., None], str] = {
    TestForward.test_tensors_states_and_probabilities: "GatesSwapped",
    TestLoss.test_loss: "TargetsPaddedWithZeros",
    TestLoss.test_a_character_that_is_all_but_ruled_out_costs_all_of_it: "FarLogitsClipped",
    TestGradients.test_gradient_of_each_weight: "WrongGradient",
    TestStep.test_weights_after_a_step: "OtherEpsilon",
    TestStep.test_losses_of_several_steps: "BatchesShuffled",
    TestStep.test_steps_are_reported_and_a_report_ends_them: "NothingReported",
    TestSlots.test_mean_squares_after_a_step: "OtherRho",
    TestCounts.test_what_training_and_evaluation_count: "LastBatchLeftOut",
    TestDecoding.test_strings: "StopsEarly",
    TestDecoding.test_a_sentence_is_translated_alone_as_it_is_among_others: "StopsEarlyAlone",
    TestDecoding.test_beams_and_their_scores: "BeamsStopEarly",
    TestResume.test_a_state_comes_back_to_the_bit: "TransposedOnce",
    TestResume.test_the_referee_and_it_go_on_with_each_others_training: "SlotsForgotten",
}


def test_every_test_of_a_component_has_a_mistake() -> None:
    components = [kind for name, kind in globals().items() if name.startswith("Test")]
    tests = {test for kind in components for name, test in vars(kind).items() if name.startswith("test_")}
    assert tests == set(MISTAKES)


@pytest.mark.parametrize(("test", "mistake"), MISTAKES.items(), ids=lambda given: getattr(given, "__name__", given))
def test_a_mistake_is_seen(course_of: CourseOf, planted: Plant, test: Callable[..., None], mistake: str) -> None:
    course = course_of()
    with course.start(planted(f"numpy:{mistake}"), "float64") as process:
        climber = Climber(course, Answers(process, "float64", course.questions))
        with pytest.raises(AssertionError):
            test(None, climber)


def test_a_missing_framework_fails_unless_the_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "find_spec", lambda package: package != "flax")
    require_framework(TABLE["numpy"])
    require_framework(TABLE["keras:on-torch"])
    for allowed, skipped in (("", False), ("torch,keras", False), ("torch,jax", True)):
        monkeypatch.setenv(ALLOW_MISSING, allowed)
        for name in ("jax", "keras:on-jax"):
            outcome = pytest.skip.Exception if skipped else pytest.fail.Exception
            with pytest.raises(outcome, match="jax is not installed"):
                require_framework(TABLE[name])
