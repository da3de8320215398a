"""Causes in the loss, the gradients and a step: they are computed anew in the ways in which ports differ."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from benchmarks.ladder.arrays import Array, head, largest
from benchmarks.ladder.explain.broken import ANOTHER_DIVISOR, TWO_BIASES, Broken, Space, Spaces, number
from benchmarks.ladder.explain.computed import rooted
from benchmarks.ladder.read.layouts import FLOAT32_SETTINGS, RECURRENT, SAME_SLOTS
from benchmarks.ladder.read.record import Side

# Paddle's classes, and Keras's and optax's settings of clipping.
CLIPPING = {
    "ClipGradByGlobalNorm": "to a norm of all",
    "ClipGradByNorm": "each to a norm",
    "ClipGradByValue": "to values",
    "global_clipnorm": "to a norm of all",
    "clipnorm": "each to a norm",
    "clipvalue": "to values",
    "clip_by_global_norm.max_norm": "to a norm of all",
    "clip.max_delta": "to values",
}
USUAL_LIMITS = (1.0, 0.5, 0.1, 5.0, 10.0)  # to which gradients are clipped
ADDED_BY_TORCH = 1e-6  # to the norm by which its clip_grad_norm_ divides
TENSORS_TRIED = 4
MOST_ADDED_UP = 1000  # passes, of which gradients are added up
LARGEST_OUTPUT = 1 << 24  # numbers, of which the loss is computed anew
SMOOTHINGS = (0.0, 0.1, 0.05, 0.2, 0.01, 0.02, 0.15, 0.3)
# What is made of the loss of each position (N, ...), of which 1 or 0 is counted.
MEANS: dict[str, Callable[[Array, Array], Any]] = {
    "a mean over the positions that count": lambda each, counts: each.sum() / counts.sum(),
    "a mean over all positions": lambda each, counts: each.mean(),
    "a mean over the rows": lambda each, counts: each.sum() / len(each),
    "a sum": lambda each, counts: each.sum(),
    "a mean of the means of rows": lambda each, counts: (
        each.reshape(len(each), -1).sum(1) / counts.reshape(len(each), -1).sum(1)
    ).mean(),
}
WITHIN, BEFORE = "inside the root", "added to the root before its bias is corrected"
ADAM_PLACES = ("added to the root after its bias is corrected", BEFORE, WITHIN)
RMSPROP_PLACES = ("outside the root", WITHIN)
DECAY_GOES, WEIGHT_DECAY = "weight decay of {} goes", "the optimizer's weight_decay is"
STRAIGHT = "straight to the weight"
DECAYS = ("through the gradient", STRAIGHT)
MOVED = "moved by the optimizer"
KEPT_SHARE = "momentum, as the share of the old statistics that is kept, is"


def losses(broken: Broken) -> Spaces:
    """Cross-entropies of each output and each target."""
    arrays = broken.rungs.left.arrays("inputs")
    inputs = {name: arrays[name] for name in arrays if not name.startswith("batch")}
    recorded = [array for array in broken.rungs.left.arrays("outputs").values() if array.ndim > 1]
    outputs = [one for array in recorded for one in (array, np.moveaxis(array, 1, -1))[: 1 if array.ndim < 3 else 2]]
    for output, target in product(outputs, inputs.values()):  # classes may stand last or second
        if output.size <= LARGEST_OUTPUT and target.dtype.kind in "iu" and target.shape == output.shape[:-1]:
            made = cross_entropies(output.astype(np.float64), target.astype(np.int64), inputs)
            values = [np.array(number(side.says.loss)) for side in broken.sides]
            one, other = (Space(*made, broken, value, output.size) for value in values)
            yield [one], [other], (3, 2)


def cross_entropies(output: Array, target: Array, inputs: Mapping[str, Array]) -> tuple[dict[str, Any], Any]:
    """Of outputs (N, ..., V) and labels (N, ...)."""
    ids = [name for name, array in inputs.items() if array.shape == target.shape and (array == 0).any()]
    kept = {"all positions": np.ones(target.shape, bool)}
    kept |= {"those whose label is not -100": target != -100} if (target == -100).any() else {}
    kept |= {f"those whose {name} is not 0": inputs[name] != 0 for name in ids}
    powers = output - output.max(-1, keepdims=True)
    logs = {"logits": powers - np.log(np.exp(powers).sum(-1, keepdims=True))}
    twice = np.exp(logs["logits"])
    logs["logits of which it takes the softmax twice"] = twice - np.log(np.exp(twice).sum(-1, keepdims=True))
    logs |= {"probabilities": np.log(output), "log-probabilities": output}
    late, early = (slice(None), slice(1, None)), (slice(None), slice(0, -1))
    ways = {0: ((), ()), 1: (early, late), -1: (late, early)} if target.ndim > 1 else {0: ((), ())}

    def compute(reads: str, shift: int, counted: str, mean: str, smoothing: float) -> Array:
        of_output, of_target = ways[shift]
        found, labels, counts = logs[reads][of_output], target[of_target], kept[counted][of_target]
        right = np.take_along_axis(found, np.clip(labels, 0, found.shape[-1] - 1)[..., None], -1)[..., 0]
        each = -right if smoothing == 0 else -(1 - smoothing) * right - smoothing * found.mean(-1)
        return np.asarray(MEANS[mean](np.where(counts, each, 0.0), counts))

    means = [*MEANS]
    if len(kept) == 1:  # all positions count
        means = ["a mean over the positions that count", "a mean over the rows", "a sum"]
    if target.ndim == 1:  # each row is one position
        means = [words for words in means if "rows" not in words]
    aspects = {
        "the loss takes the outputs for": [*logs],
        "labels are shifted by": [*ways],
        "in the loss count": [*kept],
        "the loss is": means,
        "labels are smoothed by": SMOOTHINGS,
    }
    return aspects, compute


def gradients(broken: Broken) -> Spaces:
    """The gradients that differ are those of one side, clipped or multiplied."""
    pairs = [(check.item.right(), check.item.left()) for check in broken.failed[-TENSORS_TRIED:]]
    if any(one is None or other is None or one.shape != other.shape for one, other in pairs):
        return
    both = [[head(pair[place]).astype(np.float64) for pair in pairs] for place in (1, 0)]  # type: ignore[arg-type]
    shapes = [array.shape for array in broken.rungs.left.arrays("inputs").values()]
    counts = {prod(shape[:axes]) for shape in shapes for axes in (1, 2) if len(shape) >= axes} - {0, 1}
    factors = {"as they are": 1.0}
    for count in sorted(counts):
        words = f"(as between the mean over {count} rows or positions and their sum)"
        factors |= {f"{count} times as large {words}": count, f"{count} times smaller {words}": 1 / count}
    norms_of_both = [norm(of) for of in both]
    for large, small in (norms_of_both, norms_of_both[::-1]):
        ratio = large / (small or 1.0)
        if 1.5 < ratio < MOST_ADDED_UP and round(ratio) not in counts:
            words = f"(as where those of {round(ratio)} passes are added up)"
            factors[f"{round(ratio)} times as large {words}"] = round(ratio)
    for base, other, side, other_side in zip(both, both[::-1], broken.sides, broken.sides[::-1], strict=True):
        norms = [norm(other), norm_of_all(other_side), max(map(largest, other))]
        limits = [float(f"{one:.3g}") for one in norms] + [*USUAL_LIMITS]
        clips = [clippings(array, norm_of_all(side), other_side, limits) for array in base]

        def compute(clips_to: str, multiplied: str, clips: Any = clips) -> Array:
            return np.concatenate([of[clips_to].ravel() * factors[multiplied] for of in clips])

        wanted = [np.concatenate([array.ravel() for array in of]) for of in both]
        aspects = {"gradients are clipped": [*clips[0]], "gradients are": [*factors]}
        one, two = (Space(aspects, compute, broken, w) for w in wanted)
        yield [one], [two], (1, 1)


def norm(arrays: Sequence[Array]) -> float:
    return float(np.sqrt(sum(float((array.astype(np.float64) ** 2).sum()) for array in arrays)))


def norm_of_all(side: Side) -> float:
    arrays = side.arrays("gradients")
    return norm([arrays[name] for name in side.once("gradients")])


def clipping(side: Side) -> tuple[str, float] | None:
    """How the optimizer itself clips gradients, and to what; None where it does not. In torch it never does."""
    settings = side.optimizer.settings
    own = str(settings.get("clipping"))  # the class of Paddle's
    if own in CLIPPING:
        return CLIPPING[own], number(settings.get("clipping.clip_norm", settings.get("clipping.max")))
    return next(((words, number(settings[name])) for name, words in CLIPPING.items() if settings.get(name)), None)


def clippings(gradient: Array, of_all: float, side: Side, limits: Sequence[float]) -> dict[str, Array]:
    """A gradient, clipped as a side does it, by how it is clipped. `of_all` is the norm of all gradients."""
    found = {"nowhere": gradient}
    for limit in dict.fromkeys(limit for limit in limits if limit > 0):
        for how, size in (("to a norm of all", of_all), ("each to a norm", norm([gradient]))):
            found[f"{how} of {limit}"] = gradient * min(1.0, limit / (size or 1.0))
            if side.framework == "torch":
                added = f"{how}, to which {ADDED_BY_TORCH} is added, of {limit}"
                found[added] = gradient * min(1.0, limit / (size + ADDED_BY_TORCH))
        found[f"to values of {limit}"] = np.clip(gradient, -limit, limit)
    return found


def steps(broken: Broken) -> Spaces:
    """What the first step makes of a weight, or of what the optimizer keeps of it; and of running statistics."""
    kinds = [SAME_SLOTS.get(side.optimizer.kind, side.optimizer.kind) for side in broken.sides]
    if broken.groups and broken.item.name.startswith("moving_"):
        yield from of_statistics(broken)
    elif broken.groups and kinds[0] == kinds[1] in UPDATES:
        one, other = (of_step(broken, place, kinds[0]) for place in range(2))
        if one and other:
            yield [one], [other], (2, 2)


def of_statistics(broken: Broken) -> Spaces:
    """Running means and variances, of which the left side's batch has those that its momentum leads to."""
    (right, left), start = broken.moved, broken.groups[0].tensor(broken.item.name)
    shares = [number(share) for share in broken.settings("momentum")]
    if not 0 < shares[0] < 1 or start is None or not left.shape == right.shape == head(start).shape:
        return
    old = head(start).astype(np.float64)
    batch = left / (1 - shares[0]) + old
    shapes = [broken.sides[0].shape(parts[0], "layers") for parts in broken.groups[0].calls if parts]
    counts = {prod(shape) // left.size for shape in shapes if left.size and broken.item.name == "moving_variance"}
    ratios = [ratio for count in counts - {0, 1} for ratio in (count / (count - 1), (count - 1) / count)]

    def compute(kept: float, variance: float) -> Array:
        return (1 - kept) * (variance * batch - old)

    aspects = {KEPT_SHARE: list(dict.fromkeys(one for share in shares for one in (share, round(1 - share, 12))))}
    aspects[ANOTHER_DIVISOR] = [1.0, *ratios]
    one, other = (Space(aspects, compute, broken, array) for array in (left, right))
    yield [one], [other], (0, 2)


def of_step(broken: Broken, place: int, kind: str) -> Space | None:
    group, side, item = broken.groups[place], broken.sides[place], broken.item
    arrays = group.tensor(item.name, "gradients"), group.tensor(item.name), broken.moved[1 - place]
    if any(array is None or not array.size or array.shape != group.shapes[item.name] for array in arrays[:2]):
        return None
    gradient, start, wanted = (head(array).astype(np.float64) for array in arrays)  # type: ignore[arg-type]

    def values(setting: str, as_installed: float) -> list[float]:
        """A setting of the optimizer on the left and on the right."""
        found = [one.optimizer_settings.get(setting) for one in broken.sides]
        if setting == "learning_rate":
            found = [one.first_rate for one in broken.sides]
        return list(dict.fromkeys(as_installed if value is None else number(value) for value in found))

    own, left = [found for found in map(clipping, broken.sides) if found], broken.sides[0]
    clips = clippings(gradient, norm_of_all(side), side, [limit for _, limit in own] + [*USUAL_LIMITS])
    of_left = [f"{words} of {limit}" for words, limit in own[:1] if clipping(left)]
    decoupled = left.optimizer.kind == "AdamW" or left.framework == "keras"
    ways = [way for way in (DECAYS[::-1] if decoupled else DECAYS) if way != STRAIGHT or decays_straight(side)]
    rounded = FLOAT32_SETTINGS.get(side.platform, {}).get(side.optimizer.kind, ())
    update, settings, choices = UPDATES[kind]
    aspects: dict[str, Sequence[Any]] = {
        "gradients are clipped": list(dict.fromkeys((*of_left, *clips))),
        DECAY_GOES: [*ways, "nowhere"],
        WEIGHT_DECAY: values("weight_decay", 0.0),
        "{} is": [MOVED, f"not {MOVED}"],
        "the learning rate of the first step is": values("learning_rate", 0.0),
        **{f"the optimizer's {name} is": values(name, as_installed) for name, as_installed in settings.items()},
        **{name: sorted(words, key=lambda one: one != left.place_of_epsilon) for name, words in choices.items()},
        TWO_BIASES: [1, 2] if group.kind in RECURRENT and item.name == "bias" else [1],
    }

    def compute(clips_to: str, decay: str, weight_decay: float, moved: str, rate: float, *more: Any) -> Array | None:
        if moved != MOVED:
            return np.zeros_like(start) if item.is_update and gradient.any() else None
        *own_values, biases = more
        names = zip((*settings, *choices), own_values, strict=True)
        constants = [float(np.float32(value)) if name in rounded else value for name, value in names]
        g = clips[clips_to] + (weight_decay * start if decay == "through the gradient" else 0.0)
        kept, step = update(g, *constants)
        if not item.is_update:
            return kept.get(item.tensor.partition(" of ")[0])
        straight = weight_decay * start if decay == STRAIGHT else 0.0
        return np.asarray(-rate * (biases * step + straight))

    return Space(aspects, compute, broken, wanted, gradient.size)


def decays_straight(side: Side) -> bool:
    """Whether the optimizer may take weight decay from the weight itself; the others' goes through the gradient."""
    own = "." in side.optimizer.class_name
    return own or side.optimizer.kind == "AdamW" or side.framework in ("keras", "flax", "arrays")


# What an optimizer keeps of a weight, and the update, as a multiple of the rate.
Kept = tuple[dict[str, Array], Array]


def sgd(g: Array, momentum: float, nesterov: float) -> Kept:
    return {"momentum": g}, g + momentum * g if nesterov else g


def adam(g: Array, beta_1: float, beta_2: float, epsilon: float, root: str, corrected: str, counter: int) -> Kept:
    m, v = (1 - beta_1) * g, (1 - beta_2) * g**2
    one, two = (1 - beta_1**counter, 1 - beta_2**counter) if corrected == "corrected" else (1.0, 1.0)
    divisor = (np.sqrt(v) + epsilon) / two**0.5 if root == BEFORE else rooted(v / two, epsilon, root)
    return {"momentum": m, "mean_square": v}, m / one / divisor


def rmsprop(g: Array, rho: float, epsilon: float, root: str, started: float) -> Kept:
    v = rho * started + (1 - rho) * g**2
    return {"mean_square": v}, g / rooted(v, epsilon, root)


# What each kind of optimizer computes, its settings as installed, and what else there is to choose.
UPDATES: dict[str, tuple[Callable[..., Kept], dict[str, float], dict[str, Sequence[Any]]]] = {
    "SGD": (sgd, {"momentum": 0.0, "nesterov": 0.0}, {}),
    "Adam": (
        adam,
        {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
        {
            "epsilon is": ADAM_PLACES,
            "the bias of Adam's means is": ["corrected", "not corrected"],
            "Adam counts the first step as": [1, 2],
        },
    ),
    "RMSprop": (
        rmsprop,
        {"rho": 0.9, "epsilon": 1e-8},
        {"epsilon is": RMSPROP_PLACES, "mean squares begin with": [0.0, 1.0]},
    ),
}
