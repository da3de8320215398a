"""Causes in the loss, the gradients and a step: they are computed anew in the ways in which ports differ."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from benchmarks.compare.broken import Broken, Space, factor, number
from benchmarks.compare.comparer import Array, head, largest
from benchmarks.compare.computed import root
from benchmarks.compare.layouts import FLOAT32_SETTINGS, RECURRENT, SAME_SLOTS
from benchmarks.compare.record import Side

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
MEASURES: dict[str, Callable[[Array], Array]] = {
    "squares of differences": lambda x: x**2,
    "halves of squares of differences": lambda x: x**2 / 2,
    "differences": np.abs,
}
WITHIN, BEFORE = "inside the root", "added to the root before its bias is corrected"
ADAM_PLACES = ("added to the root after its bias is corrected", BEFORE, WITHIN)
RMSPROP_PLACES = ("outside the root", WITHIN)
Spaces = Iterator[tuple[Space, Space, tuple[int, int]]]


def losses(broken: Broken) -> Spaces:
    """Cross-entropies and differences of each output and each target."""
    arrays = broken.rungs.left.arrays("inputs")
    inputs = {name: arrays[name] for name in arrays if not name.startswith("batch")}
    recorded = broken.rungs.left.arrays("outputs").values()
    outputs = [one for array in recorded for one in (array, np.moveaxis(array, 1, -1))[: 1 if array.ndim < 3 else 2]]
    for output in outputs:  # classes may stand last or second
        for target in inputs.values() if output.size <= LARGEST_OUTPUT else ():
            if output.ndim > 1 and target.dtype.kind in "iu" and target.shape == output.shape[:-1]:
                made = cross_entropies(output.astype(np.float64), target.astype(np.int64), inputs)
            elif target.dtype.kind == "f" and target.shape == output.shape:
                made = differences(output.astype(np.float64) - target)
            else:
                continue
            values = [np.array(number(side.says.loss)) for side in broken.sides]
            one, other = (Space(*made, partial(left_over, broken, v), output.size) for v in values)
            yield one, other, (3, 2)


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
        each = np.where(counts, each, 0.0)
        if DIVISORS[mean] == "each":
            axes = tuple(range(1, counts.ndim))
            return np.asarray((each.sum(axes) / counts.sum(axes)).mean())
        over = {"counts": counts.sum(), "all": counts.size, "rows": len(labels), "nothing": 1}
        return np.asarray(each.sum() / over[DIVISORS[mean]])

    same = ({"all", "each"} if len(kept) == 1 else set()) | ({"rows", "each"} if target.ndim == 1 else set())
    means = [words for words, divisor in DIVISORS.items() if divisor not in same]
    aspects = {"reads": [*logs], "shift": [*ways], "counted": [*kept], "mean": means, "smoothing": SMOOTHINGS}
    return aspects, compute


DIVISORS = {
    "a mean over the positions that count": "counts",
    "a mean over all positions": "all",
    "a mean over the rows": "rows",
    "a sum": "nothing",
    "a mean of the means of rows": "each",
}


def differences(difference: Array) -> tuple[dict[str, Any], Any]:
    over = {"all": difference.size, "rows": len(difference), "nothing": 1}
    means = [words for words, divisor in DIVISORS.items() if divisor in over]

    def compute(measure: str, mean: str) -> Array:
        return np.asarray(MEASURES[measure](difference).sum() / over[DIVISORS[mean]])

    return {"measure": [*MEASURES], "mean": means}, compute


def gradients(broken: Broken) -> Spaces:
    """The gradients that differ are those of one side, clipped or multiplied."""
    pairs = [item.load() for item, _ in broken.failed[-TENSORS_TRIED:]]
    if any(one is None or other is None or one.shape != other.shape for one, other in pairs):
        return
    both = [[head(pair[place]).astype(np.float64) for pair in pairs] for place in (1, 0)]  # type: ignore[arg-type]
    shapes = [array.shape for array in broken.rungs.left.arrays("inputs").values()]
    counts = {prod(shape[:axes]) for shape in shapes for axes in (1, 2) if len(shape) >= axes} - {0, 1}
    factors = {"as they are": 1.0}
    for count in sorted(counts):
        words = f"(as between the mean over {count} rows or positions and their sum)"
        factors |= {f"{count} times as large {words}": count, f"{count} times smaller {words}": 1 / count}
    for name, array in broken.padded_inputs():
        real = int(np.count_nonzero(array))
        words = f"(as between the mean over {array.size} positions and over those {real} whose {name} is not 0)"
        factors |= {f"larger {words}": array.size / real, f"smaller {words}": real / array.size}
    norms_of_both = [norm(of) for of in both]
    for large, small in (norms_of_both, norms_of_both[::-1]):
        ratio = large / (small or 1.0)
        if 1.5 < ratio < MOST_ADDED_UP and round(ratio) not in counts:
            words = f"(as where those of {round(ratio)} passes are added up)"
            factors[f"{round(ratio)} times as large {words}"] = round(ratio)
    for place, base in enumerate(both):
        other = both[1 - place]
        norms = [norm(other), norm_of_all(broken.sides[1 - place]), max(map(largest, other))]
        limits = [float(f"{one:.3g}") for one in norms] + [*USUAL_LIMITS]
        clips = [
            clippings(array, norm_of_all(broken.sides[place]), broken.sides[1 - place], limits) for array in base
        ]

        def compute(clips_to: str, times: str, clips: Any = clips) -> Array:
            return np.concatenate([of[clips_to].ravel() * factors[times] for of in clips])

        wanted = [np.concatenate([array.ravel() for array in of]) for of in both]
        aspects = {"clips_to": [*clips[0]], "times": [*factors]}
        one, two = (Space(aspects, compute, partial(left_over, broken, w)) for w in wanted)
        yield one, two, (1, 1)


def left_over(broken: Broken, wanted: Array, made: Array | None) -> float:
    return broken.left_over(made, wanted)


def norm(arrays: Sequence[Array]) -> float:
    return float(np.sqrt(sum(float((array.astype(np.float64) ** 2).sum()) for array in arrays)))


def norm_of_all(side: Side) -> float:
    arrays = side.arrays("gradients")
    return norm([arrays[name] for name in arrays])


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
    """What the first step makes of a weight, or of what the optimizer keeps of it."""
    kinds = [SAME_SLOTS.get(side.optimizer.kind, side.optimizer.kind) for side in broken.sides]
    if broken.groups and not broken.item.name.startswith("moving_") and kinds[0] == kinds[1] in UPDATES:
        one, other = (of_step(broken, place, kinds[0]) for place in range(2))
        if one and other:
            yield one, other, (2, 2)


def of_step(broken: Broken, place: int, kind: str) -> Space | None:
    group, side, item = broken.groups[place], broken.sides[place], broken.item
    arrays = group.tensor(item.name, "gradients"), group.tensor(item.name), broken.moved[1 - place]
    if any(array is None or not array.size or array.shape != group.shapes[item.name] for array in arrays[:2]):
        return None
    gradient, start, wanted = (head(array).astype(np.float64) for array in arrays)  # type: ignore[arg-type]

    def values(setting: str, usual: float) -> list[float]:
        """A setting of the optimizer on the left and on the right."""
        found = [one.rates.get(1) if setting == "learning_rate" else None for one in broken.sides]
        found = [r if r else one.optimizer_settings.get(setting) for r, one in zip(found, broken.sides, strict=True)]
        return list(dict.fromkeys(usual if value is None else number(value) for value in found))

    own = [found for found in map(clipping, broken.sides) if found]
    clips = clippings(gradient, norm_of_all(side), side, [limit for _, limit in own] + [*USUAL_LIMITS])
    named, left = ([f"{words} of {limit}" for words, limit in own[:1]], broken.sides[0])
    clips_to = list(dict.fromkeys((*(named if clipping(left) else ()), *clips)))
    decays = ["through the gradient", "straight to the weight", "nowhere"]
    if left.optimizer.kind == "AdamW" or left.framework == "keras":
        decays = [decays[1], decays[0], decays[2]]
    names, update = UPDATES[kind]
    aspects: dict[str, Sequence[Any]] = {
        "clips_to": clips_to,
        "decay": decays,
        "weight_decay": values("weight_decay", 0.0),
    }
    aspects |= {name: one if isinstance(one, list) else values(name, one) for name, one in names.items()}
    if "place" in aspects:
        aspects["place"] = sorted(aspects["place"], key=lambda words: words != left.place_of_epsilon)
    aspects |= {"rate": rates(broken, kind, values("learning_rate", 0.0))}
    aspects["biases"] = [1, 2] if group.kind in RECURRENT and item.name == "bias" else [1]
    rounded = {n for one in broken.sides for n in FLOAT32_SETTINGS.get(one.platform, {}).get(one.optimizer.kind, ())}
    aspects["constants"] = ["as they are given", *(["rounded to float32"] if rounded else [])]

    def compute(
        clips_to: str, decay: str, weight_decay: float, biases: int, constants: str, rate: float, **more: Any
    ) -> Array | None:
        if constants != "as they are given":
            more = {name: float(np.float32(value)) if name in rounded else value for name, value in more.items()}
        g = clips[clips_to] + (weight_decay * start if decay == "through the gradient" else 0.0)
        kept, step = update(g, **more)
        if not item.is_update:
            return kept.get(item.tensor.partition(" of ")[0])
        return -rate * (biases * step + (weight_decay * start if decay == "straight to the weight" else 0.0))

    return Space(aspects, compute, lambda array: broken.left_over(array, wanted), gradient.size)


def rates(broken: Broken, kind: str, known: list[float]) -> list[float]:
    """Learning rates on the left and on the right, and by how much all tensors alike move more on the right; of SGD
    only where its momentum agrees, since otherwise it may be the gradients."""
    updates = [item for item, _ in broken.failed if item.is_update]
    trained = [name for _, name in broken.rungs.tensors_of_pairs("gradients") if not name.startswith("moving_")]
    momentum_agrees = broken.groups[0].slots(broken.item.name) and len(updates) == len(broken.failed)
    if len(known) > 1 or not len(trained) == len(updates) > 1 or (kind == "SGD" and not momentum_agrees):
        return known
    ratios = [factor(broken, *broken.moved_of(item)) or 0.0 for item in updates[:TENSORS_TRIED]]
    alike = max(ratios) - min(ratios) < 1e-6 * max(ratios)
    return [*known, float(f"{known[0] * ratios[0]:.6g}")] if alike else known


Kept = tuple[
    dict[str, Array], Array
]  # what an optimizer keeps of a weight, and the update, as a multiple of the rate


def sgd(g: Array, momentum: float, nesterov: float) -> Kept:
    return {"momentum": g}, g + momentum * g if nesterov else g


def adam(g: Array, beta_1: float, beta_2: float, epsilon: float, place: str, corrected: str, counter: int) -> Kept:
    m, v = (1 - beta_1) * g, (1 - beta_2) * g**2
    one, two = (1 - beta_1**counter, 1 - beta_2**counter) if corrected == "corrected" else (1.0, 1.0)
    divisor = (np.sqrt(v) + epsilon) / two**0.5 if place == BEFORE else root(v / two, epsilon, place)
    return {"momentum": m, "mean_square": v}, m / one / divisor


def rmsprop(g: Array, rho: float, epsilon: float, place: str, started: float) -> Kept:
    v = rho * started + (1 - rho) * g**2
    return {"mean_square": v}, g / root(v, epsilon, place)


# For each kind the aspects of its own, with what a setting is as installed or with all there is to choose.
UPDATES: dict[str, tuple[dict[str, Any], Callable[..., Kept]]] = {
    "SGD": ({"momentum": 0.0, "nesterov": 0.0}, sgd),
    "Adam": (
        {
            "beta_1": 0.9,
            "beta_2": 0.999,
            "epsilon": 1e-8,
            "place": [*ADAM_PLACES],
            "corrected": ["corrected", "not corrected"],
            "counter": [1, 2],
        },
        adam,
    ),
    "RMSprop": ({"rho": 0.9, "epsilon": 1e-8, "place": [*RMSPROP_PLACES], "started": [0.0, 1.0]}, rmsprop),
}
