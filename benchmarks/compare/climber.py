"""The rungs of the parity ladder, from tensors up to decoded strings: a backend's record against the referee's."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import BASELINE
from backends.groups.engines import ENGINES
from backends.process.group import ask_each
from backends.process.parent import BackendProcess
from benchmarks.compare.bounds import BUDGET, MISCOUNTED, NEAR_TIE, PARTED, SPREADS, TOLERANCES
from benchmarks.compare.comparer import RUNGS, Check, Item, judge
from benchmarks.compare.course import Answers, Course
from benchmarks.compare.in_child import TENSORS
from common.weights import SLOT_PREFIX, permute_units

# How differences of numbers that are always float64 are measured, and those of tensors whose size is not known.
RELATIVE: dict[str, Any] = {"relative": True, "dtype": "float64"}
TO_LARGEST: dict[str, Any] = {"scale": None}
EXACT_STEPS = 10  # of a training in less than float64; the losses of later steps differ by rounding alone


class Climber:
    """Compares the record of one backend, the right side, with the referee's. `climb` yields its checks by rung."""

    checks: list[Check]  # those of all rungs that were climbed

    def __init__(self, course: Course, right: Answers, left: Answers | None = None) -> None:
        self.course, self.right, self.left = course, right, left or course.referee
        self.process, self.dtype = right.process, right.dtype
        self.precision = self.process.facts.precision  # in which it computes, which may be coarser than `dtype`
        self.tolerances = {name: bounds[self.precision] for name, bounds in TOLERANCES.items()}
        backend, _, variant = self.process.name.partition(":")
        self.check = partial(Check, backend, variant, self.dtype)

    def climb(self) -> Iterator[Check]:
        """The checks of each rung, up to the first rung that fails."""
        for rung in RUNGS:
            checks = self.rung(rung)
            yield from checks
            if not all(check.passed for check in checks):
                return

    def rung(self, name: str) -> list[Check]:
        """The checks of one rung."""
        return list(getattr(self, f"_{name}")())

    def compared(
        self, rung: str, tensor: str, right: NDArray[Any], left: NDArray[Any], tolerance: float, **how: Any
    ) -> Check:
        """The check that two arrays agree. `how` has the fields of the Item that are not as usual: differences are
        absolute, and the right array has the promised dtype."""
        arrays = partial(np.asarray, right), partial(np.asarray, left)
        usual: dict[str, Any] = {"scale": 1.0, "dtype": self.dtype}
        return judge(Item(rung, tensor, *arrays, tolerance, **usual | how), self.check)

    def held(self, rung: str, tensor: str, tolerance: float, **how: Any) -> Check:
        """The check that both records have the same array of this rung and name."""
        right, left = self.right[rung].get(tensor, np.array(np.nan)), self.left[rung][tensor]
        return self.compared(rung, tensor, right, left, tolerance, **how)

    def _tensors(self) -> Iterator[Check]:
        for name in TENSORS:
            yield self.held("tensors", name, 0.0)

    def _weights(self) -> Iterator[Check]:
        for name in self.left["weights"]:
            yield self.held("weights", name, 0.0)

    def _forward(self) -> Iterator[Check]:
        for name in ("state_h", "state_c", "probabilities"):  # the probabilities follow from the states
            bound = self.tolerances[name]
            if self.precision == "float32":
                bound = min(bound, BUDGET * self.course.float32_errors[name])
            yield self.held("forward", name, bound)

    def _loss(self) -> Iterator[Check]:
        got, expected = (side["gradients"]["loss"][0] for side in (self.right, self.left))
        yield self.compared("loss", "loss", got, expected, self.tolerances["loss"], **RELATIVE)

    def _gradients(self) -> Iterator[Check]:
        for name in self.course.probe.weights:
            yield self.held("gradients", name, self.tolerances["gradients"], **TO_LARGEST)

    def _step(self) -> Iterator[Check]:
        settings = self.course.settings
        for name, before in self.course.probe.weights.items():
            if self.precision == "float64":
                tolerance = 1e-10 * float(np.abs(self.left["step"][name] - before).max())
            else:
                # An update is learning_rate * gradient / sqrt(mean square + epsilon), so an error of the gradient
                # becomes at most learning_rate / sqrt(epsilon) times as large in the weight. Two float32 roundings
                # of the weight come on top.
                stretch = settings.learning_rate / sqrt(settings.epsilon)
                error = float(np.abs(self.right["gradients"][name] - self.left["gradients"][name]).max())
                tolerance = stretch * error + 2 * float(np.spacing(np.float32(np.abs(before).max())))
            yield self.held("step", name, tolerance)
        for name in self.course.probe.weights:
            yield self.held("step", SLOT_PREFIX + name, self.tolerances["slots"], **TO_LARGEST)

    def _losses(self, rung: str, name: str, got: NDArray[Any], expected: NDArray[Any]) -> Check:
        """The check of a training's losses, of those of the first steps where later ones differ by rounding alone."""
        exact = len(expected) if self.precision == "float64" else EXACT_STEPS
        name = f"losses of {exact} steps{name}"
        bound = self.tolerances["trajectory"]
        return self.compared(rung, name, got[:exact], expected[:exact], bound, **RELATIVE)

    def _trajectory(self) -> Iterator[Check]:
        got, expected = self.right["trajectory"]["losses"], self.left["trajectory"]["losses"]
        yield self._losses("trajectory", "", got, expected)
        # In bfloat16 permuting the units shows no rounding error, since a weight is rounded alike wherever it stands.
        if self.precision == "bfloat16":
            name, bound = "mean of the losses", self.tolerances["trajectory"]
            yield self.compared("trajectory", name, got.mean(), expected.mean(), bound, **RELATIVE)
        elif self.precision == "float32" and self.course.size.permutations:
            yield self._mean_loss(got, expected)
        if self.course.workers > 1 and self.process.name in ENGINES:
            with self.course.start_group(self.process.name, self.dtype) as processes:
                yield from self.of_group(processes)

    def _mean_loss(self, got: NDArray[Any], expected: NDArray[Any]) -> Check:
        """The check that the mean loss is as near as those of trainings with permuted units are to one another."""
        rng, question = np.random.default_rng(self.course.settings.seed), self.right.questions["trajectory"]
        means = [got.mean()]
        for _ in range(self.course.size.permutations):
            state = permute_units(question.state, rng.permutation(self.course.model.latent_dim))
            means.append(self.right.ask(replace(question, state=state))["losses"].mean())
        spread, error = float(np.std(means, ddof=1)), abs(float(got.mean() - expected.mean()))
        note = f"got {got.mean():.9f}, expected {expected.mean():.9f}; standard deviation of runs {spread:.1e}"
        diverged = not isfinite(spread)  # one of the trainings
        errors = (inf, 0.0) if diverged else (error, SPREADS * spread)
        return self.check("trajectory", "mean loss", *errors, note=note)

    def of_group(self, processes: Sequence[BackendProcess]) -> Iterator[Check]:
        """The checks that a group of workers trains as the referee does alone, and that they end in one state."""
        question, expected = self.right.questions["group"], self.left["group"]
        all_steps = ask_each(processes, lambda process: Answers(process, self.dtype, {}).ask(question))
        got, of_workers = all_steps[0], f"{len(processes)} workers"
        yield self._losses("trajectory", f", {of_workers}", got["losses"], expected["losses"])
        for name in expected if self.precision == "float64" else ():
            if name != "losses":
                both, bound = (got[name], expected[name]), self.tolerances["slots"]
                yield self.compared("trajectory", f"{name} of {of_workers}", *both, bound, **TO_LARGEST)
        same = all(
            np.array_equal(got[name], other[name]) for other in all_steps for name in expected if name != "losses"
        )
        note = "" if same else "they end with different weights or slots"
        yield self.check("trajectory", f"states of {of_workers}", 0.0 if same else inf, 0.0, note=note)

    def _counts(self) -> Iterator[Check]:
        for tensor in self.left["counts"]:
            how, name = tensor.split()
            near_ties = MISCOUNTED[self.precision] * float(self.left["counts"][f"{how} weight_sums"].min())
            counts_none = self.process.name == BASELINE and np.isnan(self.right["counts"][tensor]).all()
            if counts_none and tensor == "train correct_real":
                note = f"{BASELINE} counts none, since the example's own `fit` does not"
                yield self.check("counts", tensor, 0.0, 0.0, note=note)
            elif name == "loss_sums":
                yield self.held("counts", tensor, self.tolerances["loss_sums"], **RELATIVE)
            else:
                yield self.held("counts", tensor, near_ties if "correct" in name else 0.0, dtype="float64")

    def _strings(self) -> Iterator[Check]:
        course, words = self.course, self.course.material.decoder_vocabulary
        most = course.size.sentences_of_example if self.process.name == BASELINE else None
        rows, got = course.questions["strings"].rows[:most], course.decoded(self.right, most)
        decoded = list(zip(rows, got, course.expected_ids, strict=False))
        different = [one for one in decoded if not np.array_equal(one[1], one[2])]
        wrong = [one for one in different if course.margin(*one) > NEAR_TIE[self.precision]]
        error = inf if wrong else len(different) / len(decoded)
        distinct = len(np.unique(course.expected_ids, axis=0))
        note = f"{len(decoded)} sentences, {distinct} distinct strings, {len(different)} near-ties"
        if wrong:
            row, *both = wrong[0]
            text, expected = (words.text_of(ids) for ids in both)
            note = f"{course.material.pairs[row][0]!r}: got {text!r}, expected {expected!r}"
        yield self.check("strings", "strings", error, PARTED[self.precision], note=note)
