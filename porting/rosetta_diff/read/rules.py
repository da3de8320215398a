"""Describes as data how layers of a framework keep their arrays:
rules that lead to canonical tensors.

The canonical layout is Keras's. The files that bear the frameworks' names have the rules;
groups.py applies them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]

# Axes of an array, and of the canonical one, as a line of a mapping has them;
# "..." stands for any others.
TURNED = "out in ... -> ... in out"  # what is kept as (in, out, *k) becomes (*k, out, in)
# Torch and Paddle have a GRU's three gates in the order r z n, Keras in the order z r h.
SWAPPED = 3, (1, 0, 2)
# In names of classes: Conv1d and Conv2D are Conv.
DIMENSIONS_OR_CELL = re.compile("[123][dD]|Cell$")
COUNTERS = ("num_batches_tracked",)  # buffers that compute nothing
# Paddle's word for a dropout that passes on its input in evaluation
UPSCALED = {"mode": "upscale_in_train"}

# Kinds of groups.
RECURRENT = ("rnn", "lstm", "gru")
# Settings of an LSTM and of a GRU.
GATED = {"activation": "tanh", "recurrent_activation": "sigmoid"}
# Kinds of layers whose channels follow the rows or stand last,
# and those whose last axis is always that of features.
CHANNELLED = ("conv", "conv_transpose", "batchnorm", "groupnorm")
# Kinds of layers that may have an activation in them; of batch normalizations Paddle's older one.
ACTIVATED = ("dense", "conv", "conv_transpose", "batchnorm")
TAP = "tap"  # what a program recorded between layers, by a name
PARENT = "parent"  # a layer without weights of its own that contains others

# Kinds of optimizers of one family.
FAMILIES = {"Momentum": "SGD", "RMSProp": "RMSprop", "AdamW": "Adam"}
# Where an optimizer has epsilon.
AFTER_CORRECTION = "added to the root after its bias is corrected"
BEFORE_CORRECTION = "added to the root before its bias is corrected"
INSIDE, OUTSIDE = "inside the root", "outside the root"
# Where it takes weight decay from.
GRADIENT, STRAIGHT = "through the gradient", "straight to the weight"
# How it clips gradients.
NORM_OF_ALL, NORM_OF_EACH, VALUES = "to a norm of all", "each to a norm", "to values"
# Keras's names
CLIPS = {"global_clipnorm": NORM_OF_ALL, "clipnorm": NORM_OF_EACH, "clipvalue": VALUES}


@dataclass(frozen=True)
class Own:
    """An array as a framework keeps it, and how it becomes canonical."""

    # The layer's name for it; "*" is what tells a stacked layer's parts apart,
    # such as "_l0_reverse".
    role: str
    # Of each array, where the role is several names, which are the "parts" of one.
    axes: str = "n ..."
    parts: int = 1  # how many equal parts its axis "parts" has, such as gates
    kept: tuple[int, ...] = (0,)  # those of them that are canonical, in order
    # Places along axes that the canonical array lacks.
    picked: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """The arrays of a layer. Several arrays for one tensor are added up."""

    kind: str
    tensors: dict[str, tuple[Own, ...]]
    part: str = ""  # where a layer follows several rules


# Rules by the names of classes; where the settings decide, a function of them.
Rules = Mapping[str, tuple[Rule, ...] | Rule | Callable[[Settings], tuple[Rule, ...]]]


def rule(kind: str, part: str = "", **tensors: Own | str | tuple[Own, ...]) -> Rule:
    """A rule; a text stands for an array that is canonical as it is."""
    arrays = {
        n: (Own(t),) if isinstance(t, str) else (t,) if isinstance(t, Own) else t
        for n, t in tensors.items()
    }
    return Rule(kind, arrays, part)


def same(*names: str) -> dict[str, str]:
    """Names that are the canonical ones."""
    return {name: name for name in names}


def turned(role: str, *parts: Any) -> Own:
    return Own(role, TURNED.replace("out", "parts") if parts else TURNED, *parts)


def of_heads(inputs: int, outputs: int) -> tuple[Rule, ...]:
    """A layer of which the projections of an attention are made:
    so many axes of inputs and outputs are merged."""
    merged, results = (
        " ".join(f"{of}{n}" for n in range(count))
        for of, count in (("in", inputs), ("out", outputs))
    )
    kernel = Own("kernel", f"{merged} {results} -> ({merged}) ({results})")
    return (rule("dense", kernel=kernel, bias=Own("bias", "n ... -> (n ...)")),) if inputs else ()


def canonical(**named: str) -> dict[str, str]:
    """The canonical name of each of a framework's own names;
    a canonical name may have several, or none."""
    return {name: canonical for canonical, names in named.items() for name in names.split()}
