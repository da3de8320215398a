"""Parity lets correct backends pass,
and catches planted mistakes at the stage where they belong."""

import json
from dataclasses import replace
from itertools import product
from threading import Event
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from backends.process.parent import Runtime
from benchmarks.parity.cases import QUICK, Cases, StageArrays
from benchmarks.parity.comparison import (
    STAGES,
    Comparison,
    Parity,
    Subject,
    compare_backends,
    subjects_of,
)
from common.errors import CannotBeginError
from common.settings import DataConfig, Precision
from tests.conftest import CasesOf, Plant
from tests.support.planted import FED, FED_MASKED
from tests.support.sharing import CASE_SETTINGS

LONG = replace(QUICK, steps=50, permutations=5)  # with a trajectory as long as the whole parity's
PRECISIONS = ["float64", "float32"]


def compared(cases: Cases, name: str, dtype: str) -> Parity:
    return compare_backends(cases, [name], [dtype], Parity())


def broken(found: Parity) -> set[str]:
    return {check.stage for check in found.checks if not check.passed}


# Each mistake, the stage at which it falls, and what the explanation must say.
# Those of porting are planted in torch.
OF_PORTING = {
    "GatesSwapped": ("forward", ["state_h"]),
    "StatesExchanged": ("forward", ["state_h"]),
    "BiasLeftOut": ("forward", ["probabilities"]),
    "TeacherForcingOffByOne": ("tensors", ["decoder_input_data of batch 1", "row 0, time step 0"]),
    "TargetsPaddedWithZeros": ("loss", ["look at the targets, their padding"]),
    "DividedByItsOwnPositions": ("loss", []),
    "EncoderNotTaught": ("gradients", ["encoder/"]),
    "SecondBiasTrained": ("step", ["/bias", "its list of parameters"]),
    "EpsilonOutsideTheRoot": ("step", ["where epsilon stands"]),
    "OtherRho": ("step", ["rmsprop/", "look at its constants"]),
}
PLANTED = {f"torch:{mistake}": expected for mistake, expected in OF_PORTING.items()}
PLANTED |= {
    # The only one in JAX, which compiles each anew.
    "jax:StatesExchanged": OF_PORTING["StatesExchanged"],
    "numpy:SquareTransposed": ("forward", []),
    "numpy:TransposedOnce": ("weights", ["encoder/recurrent_kernel", "input gate"]),
    "numpy:OneRowDisturbed": ("weights", ["decoder/recurrent_kernel", "from unit 23"]),
    "numpy:NotANumber": ("forward", ["state_c", "not finite at [3, 7]"]),
    "numpy:LaterStepsDisturbed": ("forward", ["probabilities"]),
    "numpy:WrongGradient": ("gradients", ["encoder/kernel", "forget gate"]),
    "numpy:OtherEpsilon": ("step", ["look at its constants"]),
    "numpy:ConstantsBuiltIn": ("step", ["look at its constants"]),
    "numpy:LearningRateIgnored": ("step", []),
    "numpy:StartScaled": ("forward", ["probabilities step by step"]),
    "numpy:RowsMixed": ("strings", ["got ", "expected "]),
    "numpy:BatchesShuffled": ("trajectory", ["look at the order of batches"]),
    "numpy:WeightsOfTheFirstStep": ("trajectory", ["what is kept between steps"]),
    "numpy:LossOfALastBatchWeighedAsAWhole": ("counts", ["evaluate loss_sums", "batch 2"]),
    "numpy:LastBatchLeftOut": ("counts", ["evaluate ", "shape (1,), expected (2,)"]),
    "numpy:CountedAfterTheStep": ("counts", ["train correct", "look at which positions count"]),
    "numpy:StopsNotCountedAsReal": (
        "counts",
        ["correct_real", "which positions count as right and as real"],
    ),
    "numpy:PaddingCountedThoughMasked": ("counts", []),
    "numpy:StopsEarlyAlone": ("strings", []),
}
WHERE_PADDING_IS_MASKED = ("DividedByItsOwnPositions", "PaddingCountedThoughMasked")  # these show


@pytest.mark.parametrize("target", PLANTED)
def test_planted_mistakes_are_caught_at_their_stage(
    cases_of: CasesOf, planted: Plant, target: str
) -> None:
    """In float32, whose bounds are the wide ones."""
    stage, words = PLANTED[target]
    padding = "mask" if target.partition(":")[2] in WHERE_PADDING_IS_MASKED else "space"
    found = compared(cases_of(padding=padding), planted(target), "float32")
    assert not found.passed
    assert broken(found) == {stage}
    assert found.checks[-1].stage == stage, "nothing is compared after the stage that broke"
    (explanation,) = found.explanations
    for word in words:
        assert word in explanation, explanation
    (certificate,) = found.certificates.values()
    assert not certificate.passed


def test_each_stage_sees_a_mistake_first() -> None:
    assert {stage for stage, _ in PLANTED.values()} == set(STAGES)


@pytest.mark.parametrize(
    ("mistake", "padding"), [*product(FED, ["space", "mask"]), *product(FED_MASKED, ["mask"])]
)
def test_other_tensors_are_seen_at_tensors(
    cases_of: CasesOf, planted: Plant, mistake: str, padding: str
) -> None:
    found = compared(cases_of(padding=padding), planted(f"numpy:{mistake}"), "float32")
    assert broken(found) == {"tensors"}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("changed", ["missing", "unexpected"])
def test_tensors_are_compared_by_their_names(cases_of: CasesOf, stage: str, changed: str) -> None:
    cases = cases_of()
    with cases.start("numpy", "float64") as process:
        comparison = Comparison(cases, StageArrays(process, "float64", cases.by_stage))
        answered = comparison.actual["gradients" if stage == "loss" else stage]
        name, tensor = next(iter(answered.items()))
        if changed == "missing":
            del answered[name]
        else:
            name = "more"
            answered[name] = tensor
        (check,) = comparison.stage(stage)
    assert not check.passed
    assert f"{changed}: {name}" in check.note


@pytest.mark.parametrize("changed", ["missing", "unexpected", ""])
def test_tensors_of_each_worker_are_compared_by_their_names(
    cases_of: CasesOf, changed: str
) -> None:
    cases = cases_of()
    right = cases.reference["group"]
    name, tensor = next(iter(right.items()))
    second = {
        "missing": {other: array for other, array in right.items() if other != name},
        "unexpected": {**right, "more": tensor},
        "": {**right},
    }
    workers: Any = [
        Mock(**{"call.return_value": answered}) for answered in ({**right}, second[changed])
    ]
    checks = [*Comparison(cases, cases.reference).of_group(workers)]
    if not changed:
        assert len(checks) == 18
        assert all(check.passed for check in checks)
        return
    (check,) = checks
    assert not check.passed
    assert f"{changed}: {name if changed == 'missing' else 'more'}" in check.note


def test_what_two_cases_share_is_sent_once(cases_of: CasesOf) -> None:
    process = Mock()
    arrays = StageArrays(process, "float32", cases_of().by_stage)
    for stage in ("forward", "gradients"):
        assert arrays[stage] is process.call.return_value
    first, second = (call.kwargs for call in process.call.call_args_list)
    assert {str(array.dtype) for array in first["new"].values()} == {"float32"}
    assert (second["new"], second["weights"], second["corpus"]) == (
        {},
        first["weights"],
        first["corpus"],
    )


def test_a_correct_backend_reaches_the_top(cases_of: CasesOf) -> None:
    found = compared(cases_of(), "torch", "float64")
    assert found.passed, [check for check in found.checks if not check.passed]
    assert {check.stage for check in found.checks} == set(STAGES)
    assert found.certificates[Subject("torch", "float64")].passed
    json.dumps(found.as_json(), allow_nan=False)


def test_processes_live_only_while_they_are_compared(
    cases_of: CasesOf, planted: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, living, most, last_began = cases_of(), set(), [], Event()
    names = ["numpy", *(planted(f"numpy:{mistake}") for mistake in list(FED)[:3])]
    start, run = cases.start, Comparison.run

    def counted(name: str, dtype: Precision) -> Any:
        living.add(name)
        most.append(len(living))
        process = start(name, dtype)
        close = process.close
        process.close = lambda: (living.discard(name), close())
        return process

    def slow_at_first(comparison: Comparison) -> Any:
        if comparison.process.name == names[-1]:
            last_began.set()
        assert comparison.process.name != "numpy" or last_began.wait(60)
        return run(comparison)

    monkeypatch.setattr(cases, "start", counted)
    monkeypatch.setattr(Comparison, "run", slow_at_first)
    assert len(compare_backends(cases, names, ["float32"], Parity(), at_once=2).comparisons) == 4
    assert (max(most), living) == (2, set())


def test_optimizer_mistakes_exceed_the_float32_trajectorys_bound(
    cases_of: CasesOf, planted: Plant
) -> None:
    """The bound that rounding sets is narrow enough to see them by the mean loss of 50 steps alone,
    and torch itself keeps within it."""
    cases = cases_of(latent_dim=16, size=LONG, settings=replace(CASE_SETTINGS, batch_size=8))
    for name in (
        "torch",
        planted("torch:SecondBiasTrained"),
        planted("torch:EpsilonOutsideTheRoot"),
    ):
        with cases.start(name, "float32") as process:
            losses, mean_loss = Comparison(
                cases, StageArrays(process, "float32", cases.by_stage)
            ).stage("trajectory")
        assert mean_loss.tensor == "mean loss"
        assert mean_loss.passed == (name == "torch"), mean_loss
        assert losses.passed == (name == "torch"), losses


def test_the_bound_of_float32_losses_follows_numpys_rounding(cases_of: CasesOf) -> None:
    """A training at so high a rate makes much of rounding,
    and NumPy's own float32 is no mistake."""
    cases = cases_of(latent_dim=16, settings=replace(CASE_SETTINGS, learning_rate=0.3))
    losses, *_ = Comparison(cases, cases.float32).stage("trajectory")
    assert losses.bound == pytest.approx(16 * losses.error)
    assert losses.error > 1e-6


def test_the_bound_of_float32_updates_is_rounding(cases_of: CasesOf) -> None:
    comparison = Comparison(cases_of(), cases_of().float32)
    after, checks = comparison.expected["step"], comparison.stage("step")
    for check, (name, before) in zip(checks, comparison.cases.probe.weights.items(), strict=False):
        assert (check.tensor, check.bound < 1e-3 * np.abs(after[name] - before).max()) == (
            name,
            True,
        )


def test_the_examples_program_is_held_in_float32_alone() -> None:
    assert subjects_of(["keras:on-jax", "torch"], ["float64"]) == [Subject("torch", "float64")]
    with pytest.raises(CannotBeginError, match="keras:on-jax is compared in float32 only"):
        subjects_of(["keras:on-jax"], ["float64"])


def test_references_for_a_gpu_are_computed_on_the_cpu() -> None:
    data = DataConfig(split="grouped", validation_split=0.001)  # which leaves few pairs nothing
    with Cases(data, CASE_SETTINGS, 8, QUICK, Runtime(threads=1, device="gpu")) as cases:
        assert len(cases.by_stage["trajectory"].rows) == QUICK.steps * CASE_SETTINGS.batch_size
        for record in (cases.reference, cases.float32):
            assert record["forward"].keys() >= {"state_h", "state_c", "probabilities"}
            assert record.process.facts.device.lower() == "cpu"
