"""The parity ladder: it lets correct backends pass, and catches planted mistakes where they belong."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from backends import TABLE
from backends.numpy_backend import NumpyBackend
from backends.process.parent import Runtime
from benchmarks.compare.bounds import TOLERANCES
from benchmarks.compare.certificate import QUICK, WHOLE, Rung, Size
from benchmarks.compare.climber import Climber
from benchmarks.compare.comparer import RUNGS, Check
from benchmarks.compare.course import Answers, Course
from benchmarks.compare.parity import Parity, backends_and_dtypes, climb, rungs_of
from benchmarks.compare.shown import ladder_table
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError
from common.machine import has_bfloat16
from common.tensors import Batch
from common.weights import permute_units
from tests.conftest import EXACT, FRAMEWORKS

LATENT_DIM, SMALL = 256, 64
SETTINGS = TrainConfig(seed=7, batch_size=QUICK.batch_rows)  # so that what is compiled is compiled for few shapes
PRECISIONS = ["float64", "float32"]
# Two variants of Keras climb in float64 alone: there a mistake shows, and they take longest.
IN_FLOAT64 = ("keras:jit", "keras:fast")
BOTH = backends_and_dtypes(EXACT, PRECISIONS)
CLIMBERS = [(name, dtype) for name, dtype in BOTH if name not in IN_FLOAT64 or dtype == "float64"]
PLAIN = ("numpy", *FRAMEWORKS)
# keras:jit masks as keras:fast does, and the example does not.
MASKED = [
    (name, dtype)
    for name, dtype in CLIMBERS
    if name in PLAIN or (dtype == "float64" and name not in ("keras:jit", "keras:example"))
]


def course_fixture(size: Size, latent_dim: int, padding: str = "space", settings: TrainConfig = SETTINGS) -> Any:
    """A fixture that makes a course for all tests of this file."""

    @pytest.fixture(scope="module")
    def made() -> Iterator[Course]:
        with Course(DataConfig(), settings, latent_dim, size, Runtime(threads=1), padding) as course:
            yield course

    return made


course = course_fixture(QUICK, LATENT_DIM)
small_course = course_fixture(QUICK, SMALL)  # for what holds of a model of any size
masked_course = course_fixture(QUICK, SMALL, "mask")
whole_course = course_fixture(WHOLE, SMALL, settings=TrainConfig(seed=7))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Enter a class of tests/planted_*.py into the table of backends, as a variant's; gives its name there."""

    def enter(name: str, like: str = "") -> str:
        framework, class_name = name.split(":")
        entry = replace(TABLE[like or framework], target=f"tests.planted_{framework}:{class_name}")
        monkeypatch.setitem(TABLE, name, entry)
        return name

    return enter


needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor does not compute in bfloat16")


def climbed(course: Course, name: str, dtype: str) -> Parity:
    return climb(course, [name], [dtype], Parity())


@pytest.mark.parametrize(("name", "dtype"), CLIMBERS, ids=lambda value: value)
def test_every_backend_reaches_the_top(course: Course, small_course: Course, name: str, dtype: str) -> None:
    # The example's size in the example's precision, whose bounds are the narrow ones.
    found = climbed(course if dtype == "float32" and name in PLAIN else small_course, name, dtype)
    assert found.passed, "\n".join(found.explanations)
    assert {check.rung for check in found.checks} == set(RUNGS)
    told = [check.tensor for check in found.checks if "counts none" in check.note]
    assert told == (["train correct_real"] if name == "keras:example" else [])
    assert found.certificates[f"{name} {dtype}"].passed is True
    json.dumps(found.as_json(), allow_nan=False)


@pytest.mark.parametrize(("name", "dtype"), MASKED, ids=lambda value: value)
def test_every_backend_reaches_the_top_with_its_padding_masked(masked_course: Course, name: str, dtype: str) -> None:
    found = climbed(masked_course, name, dtype)
    assert found.passed, "\n".join(found.explanations)


def test_masked_padding_may_be_of_any_width(masked_course: Course) -> None:
    """And the example's may not: there padding is read and counts."""
    batch = masked_course.material.batch.take(slice(32))
    vocabularies = masked_course.material.encoder_vocabulary, masked_course.material.decoder_vocabulary
    three = [np.full((32, 3), vocabulary.id_of[" "], np.uint8) for vocabulary in vocabularies]
    ids = {"encoder_ids": np.hstack([batch.encoder_ids, three[0]])}
    wider = replace(batch, **ids, decoder_ids=np.hstack([batch.decoder_ids, three[1]]))

    def loss(padding: str, batch: Batch) -> float:
        referee = NumpyBackend(replace(masked_course.model, padding=padding), SETTINGS)
        referee.load(masked_course.probe)
        return referee.gradients(replace(batch, padding=padding))[0]

    assert loss("mask", wider) == pytest.approx(loss("mask", batch), rel=1e-14)
    assert loss("space", wider) != pytest.approx(loss("space", batch), rel=1e-6)


# Where each mistake is caught, and what the explanation must say.
PLANTED = [
    ("numpy:GatesSwapped", "forward", ["state_h", "time step: first seen with 1 of", "gate: "]),
    ("numpy:SquareTransposed", "forward", ["time step: first seen with 2 of", "gate: "]),
    ("numpy:TransposedOnce", "weights", ["encoder/recurrent_kernel", "input gate", "64 of 64 rows differ"]),
    ("numpy:OneRowDisturbed", "weights", ["decoder/recurrent_kernel", "row 23", "1 of 64 rows differ: row 23"]),
    ("numpy:NotANumber", "forward", ["state_c", "not finite at [3, 7]"]),
    ("numpy:LaterStepsDisturbed", "forward", ["probabilities", "first seen with 1 of", " and 6 of"]),
    ("torch:TargetsPaddedWithZeros", "loss", ["look at the targets, their padding"]),
    ("numpy:WrongGradient", "gradients", ["encoder/kernel", "forget gate", "gate: the forget gate of the encoder"]),
    ("torch:SecondBiasTrained", "step", ["/bias", "its list of parameters"]),
    ("torch:EpsilonOutsideTheRoot", "step", ["where epsilon stands"]),
    ("torch:OtherRho", "step", ["rmsprop/", "look at its constants"]),
    ("numpy:OtherEpsilon", "step", ["look at its constants"]),
    ("numpy:BatchesShuffled", "trajectory", ["look at the order of batches"]),
    ("numpy:LossOfALastBatchWeighedAsAWhole", "counts", ["evaluate loss_sums", "batch 2"]),
    ("numpy:LastBatchLeftOut", "counts", ["evaluate ", "shape (1,), expected (2,)"]),
    ("numpy:CountedAfterTheStep", "counts", ["train correct", "look at which positions count"]),
    ("numpy:StopsNotCountedAsReal", "counts", ["correct_real", "look at which positions count as right and as real"]),
    ("numpy:StopsEarlyAlone", "strings", []),
]


def in_precisions(planted: list[tuple[str, str, list[str]]]) -> pytest.MarkDecorator:
    """Each mistake in float32, whose bounds are the wide ones, and those that need no framework in float64, too."""
    each = [(*one, dtype) for one in planted for dtype in PRECISIONS if dtype == "float32" or "numpy" in one[0]]
    return pytest.mark.parametrize(("target", "rung", "said", "dtype"), each, ids=[f"{e[0]}-{e[-1]}" for e in each])


@in_precisions(PLANTED)
def test_planted_mistakes_are_caught_at_their_rung(
    small_course: Course, planted: Callable[..., str], target: str, rung: str, said: list[str], dtype: str
) -> None:
    found = climbed(small_course, planted(target), dtype)
    assert not found.passed
    broken = [check.rung for check in found.checks if not check.passed]
    assert set(broken) == {rung}
    assert found.checks[-1].rung == rung, "nothing is climbed above the rung that broke"
    (explanation,) = found.explanations
    for words in said:
        assert words in explanation, explanation
    assert found.certificates[f"{target} {dtype}"].passed is False


def test_a_certificate_names_the_error_that_broke_the_rung_and_not_the_largest() -> None:
    weights = Check("torch", "", "float32", "step", "dense/bias", error=1e-7, tolerance=6e-8)
    slots = Check("torch", "", "float32", "step", "rmsprop/dense/bias", error=2e-6, tolerance=1e-5)
    assert rungs_of([weights, slots]) == {"step": Rung(error=1e-7, tolerance=6e-8, passed=False)}


def test_a_split_that_leaves_few_pairs_nothing_is_nothing_to_the_ladder() -> None:
    data = DataConfig(split="grouped", validation_split=0.001)
    with Course(data, SETTINGS, 8, QUICK, Runtime(threads=1)) as course:
        assert len(course.questions["trajectory"].rows) == QUICK.steps * SETTINGS.batch_size


def test_what_backends_on_a_gpu_are_held_to_computes_on_none() -> None:
    with Course(DataConfig(), SETTINGS, 8, QUICK, Runtime(threads=1, device="gpu")) as course:
        assert set(course.float32_errors) == {"state_h", "state_c", "probabilities"}


@in_precisions([("torch:DividedByItsOwnPositions", "loss", []), ("numpy:PaddingCountedThoughMasked", "counts", [])])
def test_mistakes_that_show_only_where_padding_is_masked_are_caught(
    masked_course: Course, planted: Callable[..., str], target: str, rung: str, said: list[str], dtype: str
) -> None:
    found = climbed(masked_course, planted(target), dtype)
    assert {check.rung for check in found.checks if not check.passed} == {rung}, found.explanations


@needs_bfloat16
@pytest.mark.parametrize("padding", ["space", "mask"])
def test_bfloat16_reaches_the_top_within_bounds_of_its_own(request: pytest.FixtureRequest, padding: str) -> None:
    course = request.getfixturevalue("course" if padding == "space" else "masked_course")
    found = climbed(course, "torch:bfloat16", "float32")
    assert found.passed, "\n".join(found.explanations)
    errors = {check.rung: check.error for check in found.checks}
    assert errors["loss"] > TOLERANCES["loss"]["float32"], "it computed in float32"


@needs_bfloat16
@pytest.mark.parametrize(
    ("target", "rung"),
    [
        ("torch:GatesSwapped", "forward"),
        ("torch:TargetsPaddedWithZeros", "loss"),
        ("torch:OtherRho", "step"),
        ("torch:WeightsRoundedOnce", "trajectory"),
        ("torch:StopsEarly", "strings"),
    ],
)
def test_the_bounds_of_bfloat16_catch_mistakes(
    small_course: Course, planted: Callable[..., str], target: str, rung: str
) -> None:
    found = climbed(small_course, planted(f"{target}InBfloat16", "torch:bfloat16"), "float32")
    assert {check.rung for check in found.checks if not check.passed} == {rung}, found.explanations


def test_what_computes_in_less_than_float32_does_not_climb_in_float64() -> None:
    assert backends_and_dtypes(["torch", "torch:bfloat16"], PRECISIONS) == [
        ("torch", "float64"),
        ("torch", "float32"),
        ("torch:bfloat16", "float32"),
    ]
    with pytest.raises(CannotBeginError, match="torch:bfloat16 can be compared in float32 only"):
        backends_and_dtypes(["torch:bfloat16"], ["float64"])


def test_a_subclass_without_a_mistake_passes(small_course: Course, planted: Callable[..., str]) -> None:
    """So what the planted ones are caught by is their mistake."""
    assert climbed(small_course, planted("torch:Correct"), "float32").passed


@pytest.mark.parametrize("target", ["torch:SecondBiasTrained", "torch:EpsilonOutsideTheRoot"])
def test_mistakes_of_the_optimizer_leave_the_bound_of_the_float32_trajectory(
    whole_course: Course, planted: Callable[..., str], target: str
) -> None:
    """The bound that rounding sets is narrow enough to see them, even by the mean loss of 50 steps alone."""
    with whole_course.start(planted(target), "float32") as process:
        answers = Answers(process, "float32", whole_course.questions)
        _, mean_loss = Climber(whole_course, answers).rung("trajectory")
    assert not mean_loss.passed, mean_loss


def test_a_correct_backend_reaches_the_top_of_the_whole_ladder(whole_course: Course) -> None:
    found = climb(whole_course, ["paddle"], ["float32"], Parity())
    assert found.passed, "\n".join(found.explanations)
    assert "mean loss" in [check.tensor for check in found.checks]


def test_permuted_units_compute_the_same_function(small_course: Course) -> None:
    course = small_course
    order = np.random.default_rng(0).permutation(SMALL)
    permuted = permute_units(course.probe, order)
    back = permute_units(permuted, np.argsort(order))
    for kind in ("weights", "mean_squares"):
        for name, array in getattr(course.probe, kind).items():
            assert np.array_equal(getattr(back, kind)[name], array), name
            assert name == "dense/bias" or not np.array_equal(getattr(permuted, kind)[name], array), name
    got = course.referee.ask(replace(course.questions["forward"], state=permuted))
    expected = course.referee["forward"]
    assert np.abs(got["probabilities"] - expected["probabilities"]).max() < 1e-13
    assert np.abs(got["state_c"] - expected["state_c"][:, order]).max() < 1e-13


@pytest.mark.parametrize("name", [name for name in TABLE if ":" in name])
def test_a_variants_name_is_whole_in_the_table_of_a_narrow_terminal(name: str) -> None:
    backend, variant = name.split(":")
    console = Console(width=80)
    with console.capture() as capture:
        console.print(ladder_table([Check(backend, variant, "float32", rung, "", 1.2e-7, 1e-6) for rung in RUNGS]))
    assert {f"{backend}:", variant} <= {line.split()[0] for line in capture.get().splitlines() if line.strip()}
