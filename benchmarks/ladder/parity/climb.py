"""The parity ladder, from tensors up to decoded strings: every backend's record is compared with the referee's, what
fails is explained, and certificates are made."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import BASELINE, TABLE
from backends.process.group import GROUP_BACKENDS, ask_each
from backends.process.parent import BackendProcess
from benchmarks.ladder.judge.bounds import BUDGET, BUDGET_OF_LOSSES, MISCOUNTED, NEAR_TIE, PARTED, SPREADS, TOLERANCES
from benchmarks.ladder.judge.check import RUNGS, Check, Item, explained, judge, nearest, no_array
from benchmarks.ladder.parity.certificate import Certificate, Rung
from benchmarks.ladder.parity.course import REFEREE, Answers, Course
from common.errors import CannotBeginError
from common.settings import Precision
from common.weights import SLOT_PREFIX, permute_units

# How differences of numbers that are always float64 are measured, and those of tensors whose size is not known.
RELATIVE: dict[str, Any] = {"relative": True, "dtype": "float64"}
TO_LARGEST: dict[str, Any] = {"scale": None}
EXACT_STEPS = 10  # of a training in less than float64; the losses of later steps differ by rounding alone
BREAKS = {
    "tensors": "its process does not make the same tensors of the same ids",
    "weights": "weights are changed on their way in or out",
}
# The words for the axes of tensors; "lstm gate" is an axis of the blocks of the four gates.
OF_LSTM = {"kernel": ("row", "lstm gate"), "recurrent_kernel": ("row", "lstm gate"), "bias": ("lstm gate",)}
AXES: dict[str, tuple[str, ...]] = {
    **{f"{lstm}/{name}": axes for lstm in ("encoder", "decoder") for name, axes in OF_LSTM.items()},
    "dense/kernel": ("unit", "character"),
    "state_h": ("row", "unit"),
    "state_c": ("row", "unit"),
    "probabilities": ("row", "time step", "character"),
    "train": ("batch",),
    "evaluate": ("batch",),
}


class Climber:
    """Compares the record of one backend, the right side, with the referee's. `climb` yields its checks by rung."""

    checks: list[Check]  # those of all rungs that were climbed

    def __init__(self, course: Course, right: Answers, left: Answers | None = None) -> None:
        self.course, self.right, self.left = course, right, left or course.referee
        self.process, self.dtype = right.process, right.dtype
        self.tolerances = {name: bounds[self.dtype] for name, bounds in TOLERANCES.items()}

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
        self, rung: str, tensor: str, left: NDArray[Any], right: NDArray[Any], tolerance: float, **how: Any
    ) -> Check:
        """The check that two arrays agree. `how` has the fields of the Item that are not as usual: differences are
        absolute, and the right array has the promised dtype."""
        arrays = partial(np.asarray, left), partial(np.asarray, right)
        axes = AXES.get(tensor.removeprefix(SLOT_PREFIX).partition(" ")[0], ())
        usual: dict[str, Any] = {"scale": 1.0, "dtype": self.dtype}
        usual |= {"axes": [axes], "units": self.course.model.latent_dim}
        return judge(Item(rung, tensor, *arrays, tolerance, **usual | how))

    def held(self, rung: str, tensor: str, tolerance: float, **how: Any) -> Check:
        """The check that both records have the same array of this rung and name."""
        left, right = self.left[rung][tensor], self.right[rung].get(tensor, np.array(np.nan))
        return self.compared(rung, tensor, left, right, tolerance, **how)

    def _tensors(self) -> Iterator[Check]:
        return (self.held("tensors", name, 0.0) for name in self.left["tensors"])

    def _weights(self) -> Iterator[Check]:
        return (self.held("weights", name, 0.0) for name in self.left["weights"])

    def _forward(self) -> Iterator[Check]:
        for name in ("state_h", "state_c", "probabilities"):  # the probabilities follow from the states
            bound = self.tolerances[name]
            if self.dtype == "float32":
                got, expected = (side["forward"][name] for side in (self.course.float32, self.course.referee))
                bound = min(bound, BUDGET * float(np.abs(got - expected).max()))
            yield self.held("forward", name, bound)

    def _loss(self) -> Iterator[Check]:
        left, right = (side["gradients"]["loss"][0] for side in (self.left, self.right))
        yield self.compared("loss", "loss", left, right, self.tolerances["loss"], **RELATIVE)

    def _gradients(self) -> Iterator[Check]:
        bound = self.tolerances["gradients"]
        return (self.held("gradients", name, bound, **TO_LARGEST) for name in self.course.probe.weights)

    def _step(self) -> Iterator[Check]:
        settings = self.course.settings
        for name, before in self.course.probe.weights.items():
            if self.dtype == "float64":
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

    def _losses(self, question: str, left: NDArray[Any], right: NDArray[Any], of: str = "") -> Check:
        """The check of a training's losses, of those of the first steps where later ones differ by rounding alone."""
        exact = len(left) if self.dtype == "float64" else EXACT_STEPS
        name, bound = f"losses of {exact} steps{of}", self.tolerances["trajectory"]
        if self.dtype == "float32":
            rounded = self.course.float32[question]["losses"][:exact]
            bound = max(bound, BUDGET_OF_LOSSES * float(np.abs(rounded / left[:exact] - 1).max()))
        return self.compared("trajectory", name, left[:exact], right[:exact], bound, **RELATIVE)

    def _trajectory(self) -> Iterator[Check]:
        left, right = (side["trajectory"]["losses"] for side in (self.left, self.right))
        yield self._losses("trajectory", left, right)
        if self.dtype == "float32" and self.course.size.permutations:
            bound = SPREADS * self._spread(right)
            yield self.compared("trajectory", "mean loss", left.mean(), right.mean(), bound, dtype="float64")
        if self.course.workers > 1 and self.process.name in GROUP_BACKENDS:
            with self.course.start_group(self.process.name, self.dtype) as processes:
                yield from self.of_group(processes)

    def _spread(self, losses: NDArray[Any]) -> float:
        """The standard deviation of the mean loss of this training and of those with permuted units; zero, which no
        training is near enough for, where one of them diverged."""
        rng, question = np.random.default_rng(self.course.settings.seed), self.right.questions["trajectory"]
        means = [losses.mean()]
        for _ in range(self.course.size.permutations):
            state = permute_units(question.state, rng.permutation(self.course.model.latent_dim))
            means.append(self.right.ask(replace(question, state=state))["losses"].mean())
        spread = float(np.std(means, ddof=1))
        return spread if isfinite(spread) else 0.0

    def of_group(self, processes: Sequence[BackendProcess]) -> Iterator[Check]:
        """The checks that a group of workers trains as the referee does alone, and that they end in one state."""
        question, expected = self.right.questions["group"], dict(self.left["group"])
        all_steps = ask_each(processes, lambda process: Answers(process, self.dtype, {}).ask(question))
        of_workers, losses = f"{len(processes)} workers", [steps.pop("losses") for steps in all_steps]
        yield self._losses("group", expected.pop("losses"), losses[0], f", {of_workers}")
        for name in expected if self.dtype == "float64" else ():
            both, bound = (expected[name], all_steps[0][name]), self.tolerances["slots"]
            yield self.compared("trajectory", f"{name} of {of_workers}", *both, bound, **TO_LARGEST)
        first, *rest = (np.concatenate([steps[name].ravel() for name in expected]) for steps in all_steps)
        states = np.tile(first, (len(rest), 1)), np.array(rest)
        yield self.compared("trajectory", f"states of {of_workers}", *states, 0.0)

    def _counts(self) -> Iterator[Check]:
        for tensor in self.left["counts"]:
            how, name = tensor.split()
            near_ties = MISCOUNTED[self.dtype] * float(self.left["counts"][f"{how} weight_sums"].min())
            counts_none = self.process.name == BASELINE and np.isnan(self.right["counts"][tensor]).all()
            if counts_none and tensor == "train correct_real":
                note = f"{BASELINE} counts none, since the example's own `fit` does not"
                yield Check(nothing("counts", tensor), 0.0, note=note)
            elif name == "loss_sums":
                yield self.held("counts", tensor, self.tolerances["loss_sums"], **RELATIVE)
            else:
                yield self.held("counts", tensor, near_ties if "correct" in name else 0.0, dtype="float64")

    def _strings(self) -> Iterator[Check]:
        course, question = self.course, self.right.questions["strings"]
        if self.process.name == BASELINE:
            question = replace(question, rows=question.rows[: course.size.sentences_of_example])
        translations = self.right.ask(question)["ids"], self.left["strings"]["ids"]
        answers = zip(question.rows, *translations, strict=False)
        different = [answer for answer in answers if not np.array_equal(*answer[1:])]
        wrong = [answer for answer in different if course.margin(*answer) > NEAR_TIE[self.dtype]]
        error, number = len(different) / len(question.rows), len(question.rows)
        distinct = len(np.unique(translations[1], axis=0))
        note = f"{number} sentences, {distinct} distinct strings, {len(different)} near-ties"
        if wrong:
            row, *both = wrong[0]
            text, expected = map(course.material.decoder_vocabulary.text_of, both)
            note = f"{course.material.pairs[row][0]!r}: got {text!r}, expected {expected!r}"
        item = nothing("strings", "strings", PARTED[self.dtype])
        yield Check(item, inf if wrong else error, note=note)


def nothing(rung: str, tensor: str, tolerance: float = 0.0) -> Item:
    """An item of no arrays, of what was compared elsewhere."""
    return Item(rung, tensor, no_array, no_array, tolerance)


def without_arrays(check: Check) -> Check:
    """The check, which holds no arrays in memory any more."""
    return replace(check, item=replace(check.item, left=no_array, right=no_array))


def explain(climber: Climber) -> str:
    """Lines on the rung that failed: the tensor, the place in it, such as its gate and unit, both values."""
    failed = [check for check in climber.checks if not check.passed]
    broken = nearest(failed)
    checks = sum(check.rung == broken.rung for check in climber.checks)
    name = f"{climber.process.name} {climber.dtype}"
    lines = explained(name, broken, len(failed), checks, BREAKS.get(broken.rung, ""))
    return "\n  ".join(lines)


@dataclass
class Parity:
    """The results of the ladder so far."""

    climbs: dict[str, list[Check]] = field(default_factory=dict)  # by "NAME dtype"
    explanations: list[str] = field(default_factory=list)  # why each failed backend failed
    certificates: dict[str, Certificate] = field(default_factory=dict)  # by "NAME dtype"
    whole: bool = False  # whether every backend has climbed

    @property
    def checks(self) -> list[Check]:
        return [*chain(*self.climbs.values())]

    @property
    def passed(self) -> bool:
        return self.whole and all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        checks = [whose(climb) | check.as_json() for climb, of in self.climbs.items() for check in of]
        return {"passed": self.passed, "checks": checks, "explanations": self.explanations}


def whose(climb: str) -> dict[str, str]:
    """The backend, its variant, and the dtype of its weights, of "NAME dtype"."""
    name, _, dtype = climb.partition(" ")
    backend, _, variant = name.partition(":")
    return {"backend": backend, "variant": variant, "dtype": dtype}


def backends_and_dtypes(names: Sequence[str], dtypes: Sequence[Precision]) -> list[tuple[str, Precision]]:
    """Pairs of a backend and a dtype of its weights in which it can be compared with the referee.

    Backends of which the table tells why are compared in float32 only. Raises CannotBeginError if no pair is left.
    """
    why = why_float32_only(names)
    pairs = [(name, dtype) for name in names for dtype in dtypes if dtype == "float32" or name not in why]
    if not pairs:
        raise CannotBeginError(f"{'; '.join(why.values())}; use --dtype float32")
    return pairs


def why_float32_only(names: Sequence[str]) -> dict[str, str]:
    """For each of these backends that is compared in float32 only a sentence that says why."""
    reasons = {name: TABLE[name].float32_only for name in names}
    return {name: f"{name} is compared in float32 only, since {why}" for name, why in reasons.items() if why}


def climb(
    course: Course,
    names: Sequence[str],
    dtypes: Sequence[Precision],
    parity: Parity,
    on_check: Callable[[], None] = lambda: None,
    at_once: int = 1,
) -> Parity:
    """Let every backend climb in every precision, `at_once` of them side by side, each in a process of its own.

    Returns `parity`, which is filled backend by backend, so that the results before an error are kept. `on_check` is
    called after each of them. An error ends the course.
    """
    with ThreadPoolExecutor(at_once) as pool:

        def one(name: str, dtype: Precision) -> Climber:
            climber = Climber(course, Answers(course.start(name, dtype), dtype, course.questions))
            climber.checks = list(climber.climb())
            return climber

        pairs = backends_and_dtypes(names, dtypes)
        climbing = [pool.submit(one, name, dtype) for name, dtype in pairs]
        try:
            for (name, dtype), future in zip(pairs, climbing, strict=True):
                climber = future.result()
                parity.climbs[f"{name} {dtype}"] = [without_arrays(check) for check in climber.checks]
                if not all(check.passed for check in climber.checks):
                    parity.explanations.append(explain(climber))
                parity.certificates[f"{name} {dtype}"] = Certificate(
                    version=climber.process.facts.version,
                    referee=f"{REFEREE} {course.referee.process.facts.version} float64",
                    passed=all(check.passed for check in climber.checks),
                    rungs=rungs_of(climber.checks),
                )
                climber.process.close()
                on_check()
        except BaseException:  # Ctrl-C too: the others are ended, since the pool waits for them
            pool.shutdown(wait=False, cancel_futures=True)
            course.end()
            raise
    parity.whole = True
    return parity


def rungs_of(checks: Sequence[Check]) -> dict[str, Rung]:
    """The results of the rungs that these checks are of."""
    rungs = {}
    for rung in dict.fromkeys(check.rung for check in checks):
        of_rung = [check for check in checks if check.rung == rung]
        worst = max(of_rung, key=lambda check: check.used)
        rungs[rung] = Rung(worst.finite_error, worst.tolerance, all(check.passed for check in of_rung))
    return rungs
