"""Compares the arrays of every backend with the reference's,
stage by stage from tensors up to decoded strings.

Each stage assumes that those before it passed, so the first one that fails has the cause. A
difference between two arrays has a size and a place.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from math import inf, isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backends import TABLE, lookup
from backends.process.group import ask_each
from backends.process.parent import BackendProcess
from benchmarks.parity.cases import REFERENCE, Cases, StageArrays
from benchmarks.parity.stages_in_child import STEPPED
from benchmarks.schema import Certificate, StageResult
from common.errors import CannotBeginError
from common.models import UNITS, Axes, model_of, rectified_biases
from common.settings import Padding, Precision
from common.tensors import Batches
from common.weights import SLOT_PREFIX

# The stages in their order, each with what its failure says about the cause,
# given that all stages before it passed.
BREAKS = {
    "tensors": "its model file gets tensors that differ from the batch's",
    "weights": "weights are changed on their way in or out",
    "forward": "the same weights and inputs give other outputs",
    "loss": "the outputs agree and their loss does not: look at the targets, their padding, and "
    "the mean",
    "gradients": "the loss agrees and its gradients do not",
    "step": "the gradients agree and the optimizer's step does not: look at its constants, at "
    "where epsilon stands, and at its list of parameters",
    "trajectory": "one step agrees and several steps do not: in float32 an error near the bound "
    "may be rounding; else look at the order of batches, and at what is kept between steps; where "
    "workers are named, look at the rows of each, at the divisor of its loss, and at the state "
    "that all must share",
    "counts": "training agrees and its counts do not: look at which positions count as right and "
    "as real, and at a smaller last batch",
    "strings": "the probabilities agree and the decoded text does not: look at the decoding loop",
}
STAGES = tuple(BREAKS)
# The tensors that a model file is given for each batch. Where padding is masked, it is given
# encoder_lengths too.
# Which Keras's `fit` takes.
FIELDS_OF_FIT = ("encoder_input_data", "decoder_input_data", "decoder_target_data")
FIELDS = (
    *FIELDS_OF_FIT,
    "decoder_target_ids",
    "target_weights",
    "real_positions",
    "loss_positions",
)
# The words for the axes of tensors that every model has.
TENSOR_AXES: dict[str, Axes] = {
    **dict.fromkeys((*FIELDS_OF_FIT, "probabilities"), ("row", "time step", "character")),
    "train": ("batch",),
    "evaluate": ("batch",),
}
EXACT_STEPS = 10  # of a training in float32; the losses of later steps differ by rounding alone

# Bounds: the largest error that a backend may have against the reference, by its precision

BOUNDS = {
    "state_h": {"float64": 1e-13, "float32": 1e-6},  # absolute
    "state_c": {"float64": 1e-13, "float32": 1e-6},  # absolute
    "encoder_outputs": {"float64": 1e-13, "float32": 1e-6},  # absolute
    "encoder_mask": {"float64": 0.0, "float32": 0.0},
    # Absolute. They reach 4.9, and NumPy's own error 4.4e-6, where an LSTM's states stay below 1.
    "encoder_keys": {"float64": 1e-13, "float32": 2e-5},
    "encoder_values": {"float64": 1e-13, "float32": 2e-5},
    "decoder_keys": {"float64": 0.0, "float32": 0.0},  # still empty
    "decoder_values": {"float64": 0.0, "float32": 0.0},
    "position": {"float64": 0.0, "float32": 0.0},
    # Absolute. The transformer's reach 0.54, and NumPy's own error 1.2e-6; an LSTM's 0.01 and 1e-8.
    "probabilities": {"float64": 1e-13, "float32": 5e-6},
    "loss": {"float64": 1e-13, "float32": 5e-7},  # relative
    "gradients": {"float64": 1e-12, "float32": 5e-6},  # relative to a tensor's largest number
    # Relative to a slot's largest number after a step. A slot is a mean of squares;
    # squaring doubles relative errors.
    "slots": {"float64": 1e-12, "float32": 1e-5},
    "trajectory": {"float64": 1e-12, "float32": 1e-6},  # relative, for the loss of each step
    # Rounding takes a number across ReLU's corner in some trainings, and the Transformer's first
    # steps, whose losses go from 5 to 8.6 and back to 3.5, make the difference larger. In ten steps
    # NumPy's
    # own float32 was off by 2e-7 to 3.2e-4 in 40 trainings with permuted units; two rows exchanged
    # between two batches change losses by 1.3e-2 or more.
    "trajectory with ReLU": {"float64": 1e-12, "float32": 5e-3},
    "scores": {"float64": 1e-11, "float32": 5e-4},  # absolute, of logarithms of probabilities
    "loss_sums": {"float64": 1e-12, "float32": 1e-6},  # relative, with large weights
}
# An updated weight may be off by this share of the tensor's largest update. In float32 the bound
# follows from the error of the gradient.
UPDATES = 1e-10
# In float32 a backend's states and probabilities may be off by this many times the error of NumPy's
# own float32, and never by more than BOUNDS.
TIMES_FLOAT32 = 4.0
# A loss of a float32 training may be off by BOUNDS, or by this many times the largest error of
# NumPy's own float32 where that is more. With 512 units correct backends were off by 7 times that
# error, 1.3e-6.
TIMES_FLOAT32_LOSSES = 16.0
# The mean loss of a float32 training may differ from the reference's by this many standard
# deviations, taken over NumPy's own float32 trainings with permuted hidden units. Correct backends
# needed up to 12 of them; mistakes of the optimizer need two million and more.
SPREADS = 30.0
# A decoded text may part from the reference's at a character where the reference's two highest
# probabilities differ by no more than NEAR_TIE. PARTED is the share of sentences that may do so. On
# the first sentences of fra-eng torch, Keras and Paddle part from the reference in one of 50, at
# 4.6e-5.
NEAR_TIE = {"float64": 0.0, "float32": 1e-4}
PARTED = {"float64": 0.0, "float32": 0.02}
# The share of a batch's positions that may be counted as right by one of the two alone,
# since they are near-ties.
MISCOUNTED = {"float64": 0.0, "float32": 3e-3}


# Two arrays


@dataclass(frozen=True)
class Check:
    """The result of one comparison; a stage has one or several."""

    stage: str
    tensor: str
    error: float  # infinite where shape, dtype or finiteness already differ
    bound: float  # largest error that passes
    where: tuple[int, ...] = ()  # index of the largest difference
    place: str = ""  # this index in words, such as "row 3, forget gate, unit 5"
    note: str = ""  # the two values at that index, or another remark

    @property
    def passed(self) -> bool:
        return self.error <= self.bound

    @property
    def used(self) -> float:
        """The error as a share of the bound; the error itself if the bound is zero."""
        return self.error / self.bound if self.bound else self.error

    @property
    def finite_error(self) -> float | None:
        """The error, or None if it is not finite."""
        return self.error if isfinite(self.error) else None

    def as_json(self) -> dict[str, Any]:
        """An error that is not finite is null."""
        return vars(self) | {"error": self.finite_error, "passed": self.passed}


def other_names(stage: str, expected: Collection[str], actual: Collection[str]) -> list[Check]:
    """A check that fails, where one side has a tensor that the other lacks;
    none where both have the same names."""
    missing, unexpected = sorted({*expected} - {*actual}), sorted({*actual} - {*expected})
    note = f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}"
    return [Check(stage, "names", inf, 0.0, note=note)] if missing or unexpected else []


def compare(
    stage: str,
    tensor: str,
    expected: ArrayLike,
    actual: ArrayLike,
    bound: float,
    *,
    dtype: str,
    scale: float | None = 1.0,
    relative: bool = False,
    axes: Axes = (),
) -> Check:
    """Compare two arrays; the actual one has the promised `dtype`.

    The error is the largest difference divided by `scale`, or by the largest expected number if
    that is None. A `relative` error is the largest of the differences, each divided by its expected
    number. The `axes` are the words for the place of the largest difference.
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    if wrong := _incomparable(expected, actual, dtype):
        return Check(stage, tensor, inf, bound, note=wrong)
    with np.errstate(divide="ignore"):
        differences = np.asarray(np.abs(actual.astype(np.float64) - expected))
        if relative:
            np.divide(differences, np.abs(expected), out=differences, where=differences != 0)
    where = tuple(int(index) for index in np.unravel_index(differences.argmax(), differences.shape))
    error = float(differences[where]) / (scale or float(np.abs(expected).max()) or 1.0)
    note = f"got {np.float64(actual[where])!s}, expected {np.float64(expected[where])!s}"
    return Check(stage, tensor, error, bound, where, _place(axes, where, expected.shape), note)


def _incomparable(expected: NDArray[Any], actual: NDArray[Any], dtype: str) -> str:
    """The reason why two arrays cannot be compared; "" if they can."""
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, expected {expected.shape}"
    if actual.dtype != dtype:
        return f"dtype {actual.dtype}, expected {dtype}"
    if not expected.size:
        return f"shape {expected.shape}, which holds nothing to compare"
    for side, array in (("got", actual), ("expected", expected)):
        if not np.isfinite(array).all():
            return (
                f"the array that was {side} is not finite at "
                f"{np.argwhere(~np.isfinite(array))[0].tolist()}"
            )
    return ""


def _place(axes: Axes, where: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """An index in words. Batches are counted from 1, all else from 0."""
    if not axes:
        return f"index {', '.join(map(str, where))}" if where else ""
    words = []
    for axis, number, length in zip(axes, where, shape, strict=True):
        blocks = UNITS.get(axis, (axis,))
        block, within = divmod(number, length // len(blocks))
        words.append(f"{blocks[block]} {within + (axis == 'batch')}")
    return ", ".join(words)


# A backend


class Comparison:
    """One backend compared with the reference. `run` yields its checks by stage."""

    def __init__(self, cases: Cases, actual: StageArrays) -> None:
        self.cases, self.actual, self.expected = cases, actual, cases.reference
        self.process, self.dtype = actual.process, actual.dtype
        self.entry = lookup(self.process.name)
        model = model_of(cases.model)
        of_weights = {name: axes for name, (*_, axes) in model.weights(cases.model).items()}
        self.axes = TENSOR_AXES | model.states | of_weights
        self.bounds = {name: bounds[self.dtype] for name, bounds in BOUNDS.items()}
        if not self.entry.decodes_batches:
            strings = actual.by_stage["strings"]
            fewer = replace(strings, rows=strings.rows[: cases.size.sentences_of_example])
            actual.by_stage = {**actual.by_stage, "strings": fewer}

    def run(self) -> Iterator[Check]:
        """The checks of each stage, up to the first stage that fails."""
        for name in STAGES:
            checks = self.stage(name)
            yield from checks
            if not all(check.passed for check in checks):
                return

    def stage(self, name: str) -> list[Check]:
        """The checks of one stage; a single one that fails
        where the two sides' tensors have different names."""
        asked = "gradients" if name == "loss" else name
        expected = self.batches if name == "tensors" else self.expected[asked]
        return other_names(name, expected, self.actual[asked]) or list(getattr(self, f"_{name}")())

    @cached_property
    def batches(self) -> dict[str, NDArray[Any]]:
        """The tensors of the stage "tensors", made of the ids without a backend."""
        case = self.cases.by_stage["tensors"]
        corpus = replace(case.corpus, dtype=self.dtype)
        lengths = ["encoder_lengths"] if corpus.padding == "mask" else []
        fields = [*(FIELDS_OF_FIT if self.entry.uses_fit else FIELDS), *lengths]
        batches = enumerate(Batches(corpus, case.rows, case.batch_size, case.trimmed), 1)
        return {
            f"{name} of batch {number}": getattr(batch, name)
            for number, batch in batches
            for name in fields
        }

    def _compare(self, stage: str, tensor: str, bound: float, **how: Any) -> Check:
        """Compare the arrays that both sides computed for this stage; see `compare`."""
        expected, actual = self.expected[stage][tensor], self.actual[stage][tensor]
        how = {"dtype": self.dtype, "axes": self._axes(tensor)} | how
        return compare(stage, tensor, expected, actual, bound, **how)

    def _axes(self, tensor: str) -> Axes:
        """The words for the axes of a weight, a slot, a state,
        or a tensor that every model has; () for others."""
        return self.axes.get(tensor.removeprefix(SLOT_PREFIX).partition(" ")[0], ())

    def _tensors(self) -> Iterator[Check]:
        for name, expected in self.batches.items():
            actual = self.actual["tensors"][name]
            # JAX has integers of 32 bits, unless it computes in float64.
            integer = "int32" if actual.dtype == "int32" else "int64"
            dtype = integer if expected.dtype.kind in "iu" else self.dtype
            yield compare(
                "tensors", name, expected, actual, 0.0, dtype=dtype, axes=self._axes(name)
            )

    def _weights(self) -> Iterator[Check]:
        return (self._compare("weights", name, 0.0) for name in self.expected["weights"])

    def _forward(self) -> Iterator[Check]:
        # Which follow from the states.
        for name in (*model_of(self.cases.model).states, "probabilities"):
            yield self._compare("forward", name, self._output_bound(name))
        # Of which the decoder gives the same one by one.
        steps = self.expected["forward"][STEPPED].shape[1]
        whole = self.expected["forward"]["probabilities"][:, :steps]
        stepped = self.actual["forward"][STEPPED]
        how: dict[str, Any] = {"dtype": self.dtype, "axes": self._axes(STEPPED)}
        yield compare(
            "forward", STEPPED, whole, stepped, self._output_bound("probabilities"), **how
        )

    def _output_bound(self, name: str) -> float:
        """The bound of states or probabilities; in float32 it follows NumPy's own rounding."""
        if self.dtype == "float64":
            return self.bounds[name]
        rounded, exact = (side["forward"][name] for side in (self.cases.float32, self.expected))
        return min(self.bounds[name], TIMES_FLOAT32 * float(np.abs(rounded - exact).max()))

    def _loss(self) -> Iterator[Check]:
        expected, actual = (side["gradients"]["loss"] for side in (self.expected, self.actual))
        yield compare(
            "loss", "loss", expected, actual, self.bounds["loss"], relative=True, dtype="float64"
        )

    def _gradients(self) -> Iterator[Check]:
        bound = self.bounds["gradients"]
        return (
            self._compare("gradients", name, bound, scale=None) for name in self.cases.probe.weights
        )

    def _step(self) -> Iterator[Check]:
        settings = self.cases.settings
        for name, before in self.cases.probe.weights.items():
            if self.dtype == "float64":
                bound = UPDATES * float(np.abs(self.expected["step"][name] - before).max())
            else:
                # An update is learning_rate * gradient / sqrt(mean square + epsilon), so an error
                # of the gradient becomes at most learning_rate / sqrt(epsilon) times as large in
                # the weight. Two float32 roundings of the weight come on top.
                stretch = settings.learning_rate / sqrt(settings.epsilon)
                error = float(
                    np.abs(self.actual["gradients"][name] - self.expected["gradients"][name]).max()
                )
                bound = stretch * error + 2 * float(np.spacing(np.float32(np.abs(before).max())))
            yield self._compare("step", name, bound)
        for name in self.cases.probe.weights:
            yield self._compare("step", SLOT_PREFIX + name, self.bounds["slots"], scale=None)

    def _losses(
        self, case: str, expected: NDArray[Any], actual: NDArray[Any], of: str = ""
    ) -> Check:
        """The check of a training's losses; in float32 of the first steps,
        since later ones differ by rounding."""
        exact, relu = len(expected), bool(rectified_biases(self.cases.model))
        bound = self.bounds["trajectory with ReLU" if relu else "trajectory"]
        if self.dtype == "float32":
            exact = EXACT_STEPS
        tensor, both = f"losses of {exact} steps{of}", (expected[:exact], actual[:exact])
        check = compare("trajectory", tensor, *both, bound, relative=True, dtype="float64")
        if check.passed or relu or self.dtype == "float64":
            return check
        # NumPy's float32 trains only where it decides.
        return replace(
            check, bound=max(bound, TIMES_FLOAT32_LOSSES * self.cases.loss_error(case, exact))
        )

    def _trajectory(self) -> Iterator[Check]:
        expected, actual = (side["trajectory"]["losses"] for side in (self.expected, self.actual))
        yield self._losses("trajectory", expected, actual)
        if self.dtype == "float32" and self.cases.permutations:
            bound = SPREADS * self.cases.spread
            yield compare(
                "trajectory", "mean loss", expected.mean(), actual.mean(), bound, dtype="float64"
            )
        if self.cases.workers > 1 and self.entry.group:
            with self.cases.start_group(self.process.name, self.dtype) as processes:
                yield from self.of_group(processes)

    def of_group(self, processes: Sequence[BackendProcess]) -> Iterator[Check]:
        """The checks that a group of workers trains as the reference does alone,
        and that they end in one state."""
        case, expected = self.actual.by_stage["group"], dict(self.expected["group"])
        all_steps = ask_each(
            processes, lambda process: StageArrays(process, self.dtype, {}).ask(case)
        )
        if wrong := [
            check for steps in all_steps for check in other_names("trajectory", expected, steps)
        ]:
            yield from wrong
            return
        of_workers = f"{len(processes)} workers"
        losses = [steps.pop("losses") for steps in all_steps]
        yield self._losses("group", expected.pop("losses"), losses[0], f", {of_workers}")
        how: dict[str, Any] = {"scale": None, "dtype": self.dtype}
        for name in expected if self.dtype == "float64" else ():
            both, bound = (expected[name], all_steps[0][name]), self.bounds["slots"]
            axes = self._axes(name)
            yield compare("trajectory", f"{name} of {of_workers}", *both, bound, axes=axes, **how)
        first, *rest = (
            np.concatenate([steps[name].ravel() for name in expected]) for steps in all_steps
        )
        states = np.tile(first, (len(rest), 1)), np.array(rest)
        yield compare("trajectory", f"states of {of_workers}", *states, 0.0, dtype=self.dtype)

    def _counts(self) -> Iterator[Check]:
        for tensor in self.expected["counts"]:
            how, name = tensor.split()
            near_ties = MISCOUNTED[self.dtype] * float(
                self.expected["counts"][f"{how} weight_sums"].min()
            )
            counts_none = self.entry.uses_fit and np.isnan(self.actual["counts"][tensor]).all()
            if counts_none and tensor == "train correct_real":
                note = f"{self.process.name} counts none, since the example's own `fit` does not"
                yield Check("counts", tensor, 0.0, 0.0, note=note)
            elif name == "loss_sums":
                yield self._compare(
                    "counts", tensor, self.bounds["loss_sums"], relative=True, dtype="float64"
                )
            else:
                yield self._compare(
                    "counts", tensor, near_ties if "correct" in name else 0.0, dtype="float64"
                )

    def _strings(self) -> Iterator[Check]:
        cases, rows = self.cases, self.actual.by_stage["strings"].rows
        stop_token, bound = cases.model.stop_token, self.bounds["scores"]
        actual, expected = self.actual["strings"], self.expected["strings"]
        yield compare(
            "strings",
            "scores of beams",
            expected["scores"],
            actual["scores"],
            bound,
            dtype="float64",
        )
        translations = actual["ids"], expected["ids"]
        decoded = zip(rows, *translations, strict=False)
        different = [row for row in decoded if not np.array_equal(*row[1:])]
        wrong = [row for row in different if cases.margin(*row) > NEAR_TIE[self.dtype]]
        error, number = len(different) / len(rows), len(rows)
        distinct = len(np.unique(expected["ids"], axis=0))
        ended = int((expected["ids"] == stop_token).any(1).sum())
        note = (
            f"{number} sentences, {distinct} distinct strings, {ended} ended, {len(different)} "
            "near-ties"
        )
        if wrong:
            row, *both = wrong[0]
            got, right = map(cases.material.decoder_vocabulary.text_of, both)
            note = f"{cases.material.pairs[row][0]!r}: got {got!r}, expected {right!r}"
        if not ended:
            note = "no text ends, so nothing shows that rows end rightly"
        yield Check(
            "strings",
            "strings",
            inf if wrong or not ended else error,
            PARTED[self.dtype],
            note=note,
        )


def explained(name: str, checks: Sequence[Check]) -> str:
    """Lines on the stage at which these checks fail: the tensor,
    the place in it, the error against the bound."""
    failed = [check for check in checks if not check.passed]
    nearest = _nearest(failed)
    error = (
        ""
        if nearest.finite_error is None
        else (f"error {nearest.error:.1e}, bound {nearest.bound:.1e}; ")
    )
    at = f"{nearest.place}: " if nearest.place else ""
    lines = [
        f"{name} breaks at {nearest.stage}: {BREAKS[nearest.stage]}",
        f"{nearest.tensor}: {error}{at}{nearest.note}",
    ]
    if (of_stage := sum(check.stage == nearest.stage for check in checks)) > 1:
        lines.append(f"{len(failed)} of {of_stage} checks of this stage fail")
    return "\n  ".join(lines)


def _nearest(failed: Sequence[Check]) -> Check:
    """The failure of a stage that is nearest to the cause.

    It is the first in the order of computing, which is backwards for gradients; of a step, where
    each tensor has an update of its own, the worst.
    """
    if failed[0].stage == "gradients":
        return failed[-1]
    return max(failed, key=lambda check: check.error) if failed[0].stage == "step" else failed[0]


# All backends


class Subject(NamedTuple):
    """A backend that is compared with the reference, in one precision and one padding."""

    name: str
    dtype: Precision  # of its weights
    padding: Padding = "space"

    @property
    def label(self) -> str:
        """ "torch float32", or "torch float32 mask" where padding is masked."""
        return f"{self.name} {self.dtype}" + (" mask" if self.padding == "mask" else "")

    def as_json(self) -> dict[str, str]:
        backend, _, variant = self.name.partition(":")
        return {
            "backend": backend,
            "variant": variant,
            "dtype": self.dtype,
            "padding": self.padding,
        }


@dataclass
class Parity:
    """The results so far."""

    comparisons: dict[Subject, list[Check]] = field(default_factory=dict)
    explanations: list[str] = field(default_factory=list)  # why each failed backend failed
    certificates: dict[Subject, Certificate] = field(default_factory=dict)
    whole: bool = False  # whether every backend was compared

    @property
    def checks(self) -> list[Check]:
        return [*chain(*self.comparisons.values())]

    @property
    def passed(self) -> bool:
        return self.whole and all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        checks = [
            of.as_json() | check.as_json()
            for of, checks in self.comparisons.items()
            for check in checks
        ]
        return {"passed": self.passed, "checks": checks, "explanations": self.explanations}


def subjects_of(
    names: Sequence[str], dtypes: Sequence[Precision], padding: Padding = "space"
) -> list[Subject]:
    """The subjects among these backends and precisions that can be compared with the reference.

    Some backends have float32 alone, and the example has padding that counts alone. Raises
    CannotBeginError if no dtype is left.
    """
    why = why_float32_only(names)
    able = [
        (name, dtype) for name in names for dtype in dtypes if dtype == "float32" or name not in why
    ]
    if not able:
        raise CannotBeginError(f"{'; '.join(why.values())}; use --dtype float32")
    return [
        Subject(*one, padding) for one in able if padding == "space" or lookup(one[0]).masks_padding
    ]


def why_float32_only(names: Sequence[str]) -> dict[str, str]:
    """For each of these backends that is compared in float32 only a sentence that says why."""
    reasons = {name: TABLE[name].float32_only for name in names}
    return {
        name: f"{name} is compared in float32 only, since {why}"
        for name, why in reasons.items()
        if why
    }


def compare_backends(
    cases: Cases,
    names: Sequence[str],
    dtypes: Sequence[Precision],
    parity: Parity,
    on_check: Callable[[], None] = lambda: None,
    at_once: int = 1,
) -> Parity:
    """Compare every backend in every precision, `at_once` of them side by side,
    each in a process of its own.

    No more than `at_once` of these processes live at a time. Returns `parity`, which is filled
    backend by backend, so that the results before an error are kept. `on_check` is called after
    each of them. An error ends the processes of the cases.
    """
    facts = cases.reference.process.facts

    def compare_subject(subject: Subject) -> tuple[list[Check], Certificate]:
        with cases.start(subject.name, subject.dtype) as process:
            checks = list(
                Comparison(cases, StageArrays(process, subject.dtype, cases.by_stage)).run()
            )
            reference = f"{REFERENCE} {facts.version} float64"
            passed = all(check.passed for check in checks)
            return checks, Certificate(process.facts.version, reference, passed, _stages_of(checks))

    with ThreadPoolExecutor(at_once) as pool:
        subjects = subjects_of(names, dtypes, cases.model.padding)
        comparing = {subject: pool.submit(compare_subject, subject) for subject in subjects}
        try:
            for subject, future in comparing.items():
                checks, certificate = future.result()
                parity.comparisons[subject], parity.certificates[subject] = checks, certificate
                if not certificate.passed:
                    parity.explanations.append(explained(subject.label, checks))
                on_check()
        except BaseException:  # Ctrl-C too: the others are ended, since the pool waits for them
            pool.shutdown(wait=False, cancel_futures=True)
            cases.end()
            raise
    parity.whole = True
    return parity


def _stages_of(checks: Sequence[Check]) -> dict[str, StageResult]:
    """The results of the stages that these checks are of."""
    stages = {}
    for stage in dict.fromkeys(check.stage for check in checks):
        of_stage = [check for check in checks if check.stage == stage]
        worst = max(of_stage, key=lambda check: check.used)
        stages[stage] = StageResult(
            worst.finite_error, worst.bound, all(check.passed for check in of_stage)
        )
    return stages
