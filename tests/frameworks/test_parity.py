"""Every backend of the table against the reference,
which is NumPy in float64: a class for each component.

The bounds are those of parity, and tighter ones in float64. A framework that is missing fails,
unless ROSETTA_ALLOW_MISSING names it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest

from backends import TABLE, lookup
from backends.interface import Characters
from benchmarks.parity.cases import StageArrays
from benchmarks.parity.comparison import Check, Comparison
from common.weights import SLOT_PREFIX, ModelState, in_dtype
from tests import conftest
from tests.conftest import ALLOW_MISSING, AT_LENGTH, LATENT_DIM, CasesOf, Plant, require_framework
from tests.support import child

EXAMPLES_DIM = 256  # units of the example, with which the bounds of float32 are the narrow ones
ONE_PROGRAM = ("keras:on-jax", "keras:on-torch")  # that of keras:example; at length alone
# Errors in float64 that are allowed, by stage, where the bounds of parity allow more.
TIGHTER = {"gradients": 1e-13, "slots": 1e-13, "trajectory": 1e-13, "counts": 1e-13}


def ways() -> Iterator[tuple[str, str, str]]:
    """Each backend of the table with the precision of its weights and the mode of padding."""
    for name, entry in TABLE.items():
        if name in ONE_PROGRAM and not AT_LENGTH:
            continue
        exact = "float32" if entry.float32_only else "float64"
        yield name, exact if ":" in name else "float32", "space"
        # JAX compiles anew for each width of trimmed batches
        if ":" not in name and (name != "jax" or AT_LENGTH):
            yield name, exact, "mask"


# Others decode a sentence alone anyway. JAX compiles anew for one row; at length alone.
DECODING_BATCHES = [
    (name, *way)
    for name, *way in ways()
    if lookup(name).decodes_batches and (name != "jax" or AT_LENGTH)
]
# keras:example searches for one sentence after another; at length alone.
BEAMS = [way for way in ways() if AT_LENGTH or ":" not in way[0]]


@pytest.fixture(scope="module", params=ways(), ids=" ".join)
def backend(request: pytest.FixtureRequest, cases_of: CasesOf) -> Iterator[Comparison]:
    """A backend and the reference, both of which compute the cases."""
    name, dtype, padding = request.param
    small = ":" in name or dtype == "float64"
    cases = cases_of(LATENT_DIM if small else EXAMPLES_DIM, padding)
    with cases.start(name, dtype) as process:
        yield Comparison(cases, StageArrays(process, dtype, cases.by_stage))


def held(backend: Comparison, stage: str, slots: bool = False) -> list[Check]:
    """The checks of a stage, all of which must pass;
    of a step those of the weights, or of the slots."""
    checks = [
        check for check in backend.stage(stage) if check.tensor.startswith(SLOT_PREFIX) == slots
    ]
    bound = TIGHTER.get("slots" if slots else stage, inf) if backend.dtype == "float64" else inf
    assert checks
    assert [check for check in checks if not check.error <= min(check.bound, bound)] == []
    return checks


class TestForward:
    def test_tensors_states_and_probabilities(self, backend: Comparison) -> None:
        held(backend, "tensors")
        held(backend, "forward")


class TestLoss:
    def test_loss(self, backend: Comparison) -> None:
        held(backend, "loss")

    def test_a_character_that_is_all_but_ruled_out_costs_all_of_it(
        self, backend: Comparison
    ) -> None:
        """A softmax that is clipped says 64 where logits are 100 apart,
        a probability that is clipped 16."""
        cases = backend.cases
        bias = cases.probe.weights["dense/bias"].copy()
        bias[cases.model.start_token] += 100  # which is never asked for
        state = ModelState(cases.probe.weights | {"dense/bias": bias}, cases.probe.mean_squares)
        case = replace(cases.by_stage["gradients"], state=state)
        got, expected = (side.ask(case)["loss"][0] for side in (backend.actual, cases.reference))
        assert expected > 50
        # Under which Keras clips probabilities.
        if TABLE[backend.process.name].engine in ("jax", "torch"):
            expected = -np.log(1e-7)
        assert got == pytest.approx(expected, rel=10 * backend.bounds["loss"])

    def test_equal_losses_are_not_rounded_one_after_another(self, backend: Comparison) -> None:
        """A plain sum in XLA is off by 8e-6 where all positions have the same loss,
        and correct ones by 7e-7."""
        case, probe = backend.cases.by_stage["gradients"], backend.cases.probe
        state = ModelState(
            {name: 0 * weight for name, weight in probe.weights.items()}, probe.mean_squares
        )
        got, expected = (
            side.ask(replace(case, state=state))["loss"][0]
            for side in (backend.actual, backend.cases.reference)
        )
        assert got == pytest.approx(expected, rel=4 * backend.bounds["loss"])


class TestGradients:
    def test_gradient_of_each_weight(self, backend: Comparison) -> None:
        assert {check.tensor for check in held(backend, "gradients")} == set(
            backend.cases.probe.weights
        )


class TestStep:
    def test_weights_after_a_step(self, backend: Comparison) -> None:
        held(backend, "step")

    def test_losses_of_several_steps(self, backend: Comparison) -> None:
        held(backend, "trajectory")

    def test_steps_are_reported_and_a_report_ends_them(self, backend: Comparison) -> None:
        """The second bias of torch and Paddle stays zero meanwhile."""
        asked, size = backend.actual.by_stage["trajectory"], backend.cases.settings.batch_size
        batch = replace(asked.corpus.take(asked.rows[: 4 * size]), dtype=backend.dtype)
        state = in_dtype(asked.state, backend.dtype)
        got = backend.process.call(child.steps, state=state, batch=batch, batch_size=size, last=3)
        assert [step for step, _ in got.reported] == [1, 2, 3]
        # Masked, a step's loss is not the mean over its own batch's positions.
        if batch.padding == "space":
            assert [loss for _, loss in got.reported] == pytest.approx(got.losses, rel=1e-6)
        expected = backend.expected["trajectory"]["losses"][:3]
        assert got.losses == pytest.approx(expected, rel=backend.bounds["trajectory"])
        if backend.process.name.startswith(("torch", "paddle")):
            assert backend.process.call(child.second_biases) == 0.0


class TestSlots:
    def test_mean_squares_after_a_step(self, backend: Comparison) -> None:
        held(backend, "step", slots=True)


class TestCounts:
    def test_what_training_and_evaluation_count(self, backend: Comparison) -> None:
        not_counted = [
            check.tensor for check in held(backend, "counts") if "counts none" in check.note
        ]
        assert not_counted == (
            ["train correct_real"] if lookup(backend.process.name).uses_fit else []
        )


class TestDecoding:
    def test_strings(self, backend: Comparison) -> None:
        held(backend, "strings")

    @pytest.mark.parametrize(
        "backend", DECODING_BATCHES, ids=" ".join, indirect=True, scope="module"
    )
    def test_a_sentence_is_translated_alone_as_it_is_among_others(
        self, backend: Comparison
    ) -> None:
        cases, asked = backend.cases, backend.actual.by_stage["strings"]
        # Weights so large that every row says something else, and a bias so that some end early.
        weights = {name: 8 * values for name, values in cases.probe.weights.items()}
        weights["dense/bias"][cases.model.stop_token] += 8
        case = replace(asked, state=ModelState(weights, cases.probe.mean_squares))
        together = backend.actual.ask(case)["ids"]  # as many as before, for which it is compiled
        assert len(set((together != cases.model.stop_token).sum(axis=1))) > 3, (
            "rows must end at different places"
        )
        for row, expected in zip(asked.rows[:6], together[:6], strict=True):
            (alone,) = backend.actual.ask(replace(case, rows=np.array([row])))["ids"]
            assert np.array_equal(alone, expected)

    @pytest.mark.parametrize("backend", BEAMS, ids=" ".join, indirect=True, scope="module")
    def test_beams_and_their_scores(self, backend: Comparison) -> None:
        cases = backend.cases
        # Weights that prefer some characters clearly,
        # so that no two translations are nearly as probable.
        weights = {name: 6 * weight for name, weight in cases.fresh.weights.items()}
        state = ModelState(weights, cases.fresh.mean_squares)
        for side in (backend.actual, cases.reference):
            side.process.call(child.load, state=in_dtype(state, side.dtype))
        # A graph that is traced for the first size must take the others.
        # Variants compile what takes any size.
        for num_rows, width in ((1, 11), (12, 12), (1, 9))[
            : 1 if ":" in backend.process.name else 3
        ]:
            texts = [cases.material.pairs[row][0][:width] for row in range(num_rows)]
            vocabularies = cases.material.encoder_vocabulary, cases.material.decoder_vocabulary
            asked: dict[str, Any] = {
                "texts": texts,
                "characters": Characters(*vocabularies, width, 8),
            }
            sides = (backend.actual, cases.reference)
            answers = [side.process.call(child.translate, **asked, beam=4) for side in sides]
            got, expected = ([answer.candidates for answer in of_side] for of_side in answers)
            for ours, theirs in zip(sum(got, ()), sum(expected, ()), strict=True):
                assert ours.translation == theirs.translation
                # For each of 8 characters, whose logarithms are summed.
                bound = 10 * backend.bounds["loss"]
                assert ours.score == pytest.approx(theirs.score, rel=bound, abs=8 * bound)
        narrow, greedy = (
            backend.process.call(child.translate, **asked, beam=beam) for beam in (1, None)
        )
        assert [answer.translation for answer in narrow] == [
            answer.translation for answer in greedy
        ]


class TestResume:
    def test_a_state_comes_back_to_the_bit(self, backend: Comparison) -> None:
        held(backend, "weights")
        held(backend, "weights", slots=True)

    def test_the_reference_and_it_go_on_with_each_others_training(
        self, backend: Comparison
    ) -> None:
        case, reference = backend.cases.by_stage["trajectory"], backend.cases.reference
        first, second = np.split(case.rows, 2)
        for begins, ends in ((reference, backend.actual), (backend.actual, reference)):
            begun = begins.ask(replace(case, rows=first))
            slots = {name: begun[SLOT_PREFIX + name] for name in case.state.weights}
            state = ModelState({name: begun[name] for name in slots}, slots)
            ended = ends.ask(replace(case, rows=second, state=state))
            losses = np.concatenate([begun["losses"], ended["losses"]])
            assert losses == pytest.approx(
                reference["trajectory"]["losses"], rel=backend.bounds["trajectory"]
            )


# For each test above a mistake that it must see: in NumPy in float64,
# or in the framework that is named in float32.
MISTAKES: dict[Callable[..., None], str] = {
    TestForward.test_tensors_states_and_probabilities: "GatesSwapped",
    TestLoss.test_loss: "TargetsPaddedWithZeros",
    TestLoss.test_a_character_that_is_all_but_ruled_out_costs_all_of_it: "FarLogitsClipped",
    TestLoss.test_equal_losses_are_not_rounded_one_after_another: "jax:LossByAPlainSum",
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
    TestResume.test_the_reference_and_it_go_on_with_each_others_training: "SlotsForgotten",
}


def test_every_test_of_a_component_has_a_mistake() -> None:
    components = [kind for name, kind in globals().items() if name.startswith("Test")]
    tests = {
        test for kind in components for name, test in vars(kind).items() if name.startswith("test_")
    }
    assert tests == set(MISTAKES)


# By day those of NumPy alone: another framework starts for its own.
DAILY = {test: mistake for test, mistake in MISTAKES.items() if AT_LENGTH or ":" not in mistake}


@pytest.mark.parametrize(
    ("test", "mistake"), DAILY.items(), ids=lambda given: getattr(given, "__name__", given)
)
def test_a_mistake_is_seen(
    cases_of: CasesOf, planted: Plant, test: Callable[..., None], mistake: str
) -> None:
    cases = cases_of()
    name, dtype = (mistake, "float32") if ":" in mistake else (f"numpy:{mistake}", "float64")
    with cases.start(planted(name), dtype) as process:
        comparison = Comparison(cases, StageArrays(process, dtype, cases.by_stage))
        with pytest.raises(AssertionError):
            test(None, comparison)


def test_a_missing_framework_fails_unless_the_variable_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conftest, "find_spec", lambda package: package != "flax")
    require_framework(TABLE["numpy"])
    require_framework(TABLE["keras:on-torch"])
    for allowed, skipped in (("", False), ("torch,keras", False), ("torch,jax", True)):
        monkeypatch.setenv(ALLOW_MISSING, allowed)
        for name in ("jax", "keras:on-jax"):
            outcome = pytest.skip.Exception if skipped else pytest.fail.Exception
            with pytest.raises(outcome, match="jax is not installed"):
                require_framework(TABLE[name])
