"""The parity ladder: it lets correct backends pass, and catches planted mistakes where they belong."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from backends import BASELINE, TABLE
from backends.process.parent import Runtime
from benchmarks.compare.bounds import TOLERANCES
from benchmarks.compare.comparer import RUNGS
from benchmarks.compare.course import QUICK, Answers, Course, Size
from benchmarks.compare.parity import Climber, Parity, backends_and_dtypes, climb
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError
from common.machine import has_bfloat16
from common.weights import ModelState, in_dtype
from tests import child
from tests.conftest import EXACT
from tests.sharing import Processes, SharingCourse

LATENT_DIM, SMALL = 256, 64
SETTINGS = TrainConfig(seed=7, batch_size=QUICK.batch_rows)  # so that what is compiled is compiled for few shapes
LONG = replace(QUICK, steps=50, permutations=5)  # with a trajectory as long as the whole ladder's
PRECISIONS = ["float64", "float32"]
# How each backend climbs: in both precisions with padding that counts, and with its padding masked.
ALL = [("float64", "space"), ("float32", "space"), ("float64", "mask")]
# Keras takes longest, and a variant is climbed by where it is not the plain backend. keras:jit has loops of its own,
# and trains in float64 as Keras does; keras:fast reads ids, and masks as keras:jit does; keras:example does not mask;
# torch:compile and paddle:cell decode, and torch:masked masks. Keras's engines run one program.
FEWER = {
    "keras": ALL[1:],
    "keras:jit": ALL[:1],
    "keras:fast": [("float32", "mask")],
    BASELINE: ALL[1:2],
    "keras:on-tensorflow": ALL[2:],
    "keras:on-jax": ALL[1:2],
    "keras:on-torch": ALL[1:2],
    "torch:compile": ALL[1:2],
    "torch:masked": ALL[2:],
    "paddle:cell": ALL[1:2],
}
CLIMBERS = [(name, *way) for name in EXACT for way in FEWER.get(name, ALL)]
CourseOf = Callable[..., Course]
NO_BFLOAT16 = "this processor does not compute in bfloat16"
IN_BFLOAT16 = "InBfloat16"  # ends the names of mistakes in torch:bfloat16


@pytest.fixture(scope="module")
def course_of(processes: Processes) -> Iterator[CourseOf]:
    """Makes each course once for all tests. What holds of a model of any size is shown by a small one."""
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1))  # of NumPy, as in the processes of backends

        @cache
        def made(
            latent_dim: int = SMALL, padding: str = "space", size: Size = QUICK, settings: TrainConfig = SETTINGS
        ) -> Course:
            own = DataConfig(), settings, latent_dim, size, Runtime(threads=1), padding
            return stack.enter_context(SharingCourse(*own, processes=processes))

        yield made


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Enter a class of tests/planted_*.py into the table of backends, as a variant's; gives its name there."""

    def enter(name: str) -> str:
        framework, class_name = name.split(":")
        like = "torch:bfloat16" if name.endswith(IN_BFLOAT16) else framework
        monkeypatch.setitem(TABLE, name, replace(TABLE[like], target=f"tests.planted_{framework}:{class_name}"))
        return name

    return enter


def climbed(course: Course, name: str, dtype: str) -> Parity:
    return climb(course, [name], [dtype], Parity())


def broken(found: Parity) -> set[str]:
    return {check.rung for check in found.checks if not check.passed}


@pytest.fixture(scope="module", params=CLIMBERS, ids=" ".join)
def climber(request: pytest.FixtureRequest, course_of: CourseOf) -> Iterator[Climber]:
    """A backend that has climbed, in its process, which has compiled all that the ladder asks for."""
    name, dtype, padding = request.param
    # The example's size in the example's precision, whose bounds are the narrow ones.
    course = course_of(LATENT_DIM if dtype == "float32" and ":" not in name else SMALL, padding)
    with course.start(name, dtype) as process:
        climber = Climber(course, Answers(process, dtype, course.questions))
        climber.checks = list(climber.climb())
        yield climber


def test_every_backend_reaches_the_top(climber: Climber) -> None:
    found = Parity(climber.checks, whole=True)
    assert found.passed, [check for check in found.checks if not check.passed]
    assert {check.rung for check in found.checks} == set(RUNGS)
    told = [check.tensor for check in found.checks if "counts none" in check.note]
    assert told == (["train correct_real"] if climber.process.name == BASELINE else [])
    json.dumps(found.as_json(), allow_nan=False)


def test_training_reports_its_losses_ends_where_a_report_says_so_and_leaves_second_biases_zero(
    climber: Climber,
) -> None:
    asked, size = climber.right.questions["trajectory"], SETTINGS.batch_size
    batch = replace(asked.corpus.take(asked.rows[: 4 * size]), dtype=climber.dtype)
    state = in_dtype(asked.state, climber.dtype)
    got = climber.process.call(child.steps, state=state, batch=batch, batch_size=size, last=3)
    assert [step for step, _ in got.reported] == [1, 2, 3]
    if batch.padding == "space":  # masked, a step's loss is not the mean over its own batch's positions
        assert [loss for _, loss in got.reported] == pytest.approx(got.losses, rel=1e-6)
    assert got.losses == pytest.approx(climber.left["trajectory"]["losses"][:3], rel=1e-4)
    if climber.process.name in ("torch", "paddle"):
        assert climber.process.call(child.second_biases) == 0.0


def test_a_character_that_is_all_but_ruled_out_costs_all_of_it(climber: Climber) -> None:
    """A softmax that is clipped says 64 where logits are 100 apart, a probability that is clipped 16."""
    course = climber.course
    bias = course.probe.weights["dense/bias"].copy()
    bias[course.model.start_token] += 100  # which is never asked for
    state = ModelState(course.probe.weights | {"dense/bias": bias}, course.probe.mean_squares)
    question = replace(course.questions["gradients"], state=state)
    got, expected = (side.ask(question)["loss"][0] for side in (climber.right, course.referee))
    assert expected > 99
    assert got == pytest.approx(expected, rel=1e-12 if climber.dtype == "float64" else 1e-6)


def test_a_sentence_is_translated_alone_as_it_is_among_others(climber: Climber) -> None:
    if climber.process.name == BASELINE:
        return  # which has no other way than to translate one after another
    course, asked = climber.course, climber.right.questions["strings"]
    # Weights so large that every row says something else, and a bias so that some end early.
    weights = {name: 8 * values for name, values in course.probe.weights.items()}
    weights["dense/bias"][course.model.stop_token] += 8
    question = replace(asked, state=ModelState(weights, course.probe.mean_squares))
    together = climber.right.ask(question)["ids"]  # as many as before, for which it is compiled
    assert len(set((together != course.model.stop_token).sum(axis=1))) > 3, "rows must end at different places"
    for row, expected in zip(asked.rows[:6], together[:6], strict=True):
        (alone,) = climber.right.ask(replace(question, rows=np.array([row])))["ids"]
        assert np.array_equal(alone, expected)


# Each mistake, the rung on which it falls, and what the explanation must say.
PLANTED = {
    "numpy:GatesSwapped": ("forward", ["state_h"]),
    "numpy:SquareTransposed": ("forward", []),
    "numpy:TransposedOnce": ("weights", ["encoder/recurrent_kernel", "input gate"]),
    "numpy:OneRowDisturbed": ("weights", ["decoder/recurrent_kernel", "row 23"]),
    "numpy:NotANumber": ("forward", ["state_c", "not finite at [3, 7]"]),
    "numpy:LaterStepsDisturbed": ("forward", ["probabilities"]),
    "torch:TargetsPaddedWithZeros": ("loss", ["look at the targets, their padding"]),
    "torch:DividedByItsOwnPositions": ("loss", []),
    "numpy:WrongGradient": ("gradients", ["encoder/kernel", "forget gate"]),
    "torch:SecondBiasTrained": ("step", ["/bias", "its list of parameters"]),
    "torch:EpsilonOutsideTheRoot": ("step", ["where epsilon stands"]),
    "torch:OtherRho": ("step", ["rmsprop/", "look at its constants"]),
    "numpy:OtherEpsilon": ("step", ["look at its constants"]),
    "numpy:BatchesShuffled": ("trajectory", ["look at the order of batches"]),
    "numpy:LossOfALastBatchWeighedAsAWhole": ("counts", ["evaluate loss_sums", "batch 2"]),
    "numpy:LastBatchLeftOut": ("counts", ["evaluate ", "shape (1,), expected (2,)"]),
    "numpy:CountedAfterTheStep": ("counts", ["train correct", "look at which positions count"]),
    "numpy:StopsNotCountedAsReal": ("counts", ["correct_real", "which positions count as right and as real"]),
    "numpy:PaddingCountedThoughMasked": ("counts", []),
    "numpy:StopsEarlyAlone": ("strings", []),
    "torch:GatesSwappedInBfloat16": ("forward", []),
    "torch:TargetsPaddedWithZerosInBfloat16": ("loss", []),
    "torch:OtherRhoInBfloat16": ("step", []),
    "torch:WeightsRoundedOnceInBfloat16": ("trajectory", []),
    "torch:StopsEarlyInBfloat16": ("strings", []),
}
WHERE_PADDING_IS_MASKED = ("torch:DividedByItsOwnPositions", "numpy:PaddingCountedThoughMasked")  # these show


@pytest.mark.parametrize("target", PLANTED)
def test_planted_mistakes_are_caught_at_their_rung(
    course_of: CourseOf, planted: Callable[[str], str], target: str
) -> None:
    """In float32, whose bounds are the wide ones, and by those of bfloat16."""
    if target.endswith(IN_BFLOAT16) and not has_bfloat16():
        pytest.skip(NO_BFLOAT16)
    rung, words = PLANTED[target]
    padding = "mask" if target in WHERE_PADDING_IS_MASKED else "space"
    found = climbed(course_of(padding=padding), planted(target), "float32")
    assert not found.passed
    assert broken(found) == {rung}
    assert found.checks[-1].rung == rung, "nothing is climbed above the rung that broke"
    (explanation,) = found.explanations
    for word in words:
        assert word in explanation, explanation
    assert found.certificates[f"{target} float32"].passed is False


def test_mistakes_of_the_optimizer_leave_the_bound_of_the_float32_trajectory(
    course_of: CourseOf, planted: Callable[[str], str]
) -> None:
    """The bound that rounding sets is narrow enough to see them by the mean loss of 50 steps alone, and torch itself
    keeps within it."""
    course = course_of(latent_dim=16, size=LONG, settings=replace(SETTINGS, batch_size=8))
    for name in ("torch", planted("torch:SecondBiasTrained"), planted("torch:EpsilonOutsideTheRoot")):
        with course.start(name, "float32") as process:
            _, mean_loss = Climber(course, Answers(process, "float32", course.questions)).rung("trajectory")
        assert mean_loss.tensor == "mean loss"
        assert mean_loss.passed == (name == "torch"), mean_loss


@pytest.mark.skipif(not has_bfloat16(), reason=NO_BFLOAT16)
@pytest.mark.parametrize("padding", ["space", "mask"])
def test_bfloat16_reaches_the_top_within_bounds_of_its_own(course_of: CourseOf, padding: str) -> None:
    course = course_of(LATENT_DIM if padding == "space" else SMALL, padding)
    found = climbed(course, "torch:bfloat16", "float32")
    assert found.passed, "\n".join(found.explanations)
    errors = {check.rung: check.error for check in found.checks}
    assert errors["loss"] > TOLERANCES["loss"]["float32"], "it computed in float32"


def test_what_computes_in_less_than_float32_does_not_climb_in_float64() -> None:
    both, reduced = ("torch", "float64"), ("torch:bfloat16", "float32")
    assert backends_and_dtypes(["torch", "torch:bfloat16"], PRECISIONS) == [both, ("torch", "float32"), reduced]
    with pytest.raises(CannotBeginError, match=r"torch:bfloat16 is compared in float32 only, since .* bfloat16"):
        backends_and_dtypes(["torch:bfloat16"], ["float64"])


def test_keras_is_held_in_float64_on_tensorflow_alone() -> None:
    engines = ["keras:on-tensorflow", "keras:on-jax", "keras:on-torch"]
    assert backends_and_dtypes(engines, ["float64"]) == [("keras:on-tensorflow", "float64")]
    with pytest.raises(CannotBeginError, match=r"on JAX .*23704.*on torch .*23704"):
        backends_and_dtypes(engines[1:], ["float64"])


def test_what_backends_on_a_gpu_are_held_to_computes_on_none_whatever_share_is_held_out() -> None:
    data = DataConfig(split="grouped", validation_split=0.001)  # which leaves few pairs nothing
    with Course(data, SETTINGS, 8, QUICK, Runtime(threads=1, device="gpu")) as course:
        assert len(course.questions["trajectory"].rows) == QUICK.steps * SETTINGS.batch_size
        for record in (course.referee, course.float32):
            assert record["forward"].keys() == {"state_h", "state_c", "probabilities"}
