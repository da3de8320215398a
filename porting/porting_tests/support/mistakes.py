"""Mistakes that people make in porting, each planted in three models of porting_tests.support.zoo.

A block stands in three of four surroundings: a decoder as Llama's, a tagger with a GRU,
convolutions of text, whose channels stand first in torch and Paddle, and an encoder as BERT's. The
right side has the mistake.

`python -m porting_tests.support.mistakes [WORDS]` plants them all, or those whose names have the
words, and prints a table: in how many of the three models the place is right, and the cause; and
all that is told where something is not.
"""

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

from porting_tests.support.pairs import (
    ADAM,
    DENSE,
    NORM,
    SGD,
    TIME,
    Pair,
    computed,
    pair_of,
    record_pairs,
    rounded,
    told,
)
from porting_tests.support.side import FRAMEWORKS, Side
from porting_tests.support.zoo import KINDS, Config
from rosetta_diff.diff import compare_records
from rosetta_diff.explain.broken import LIKELY, MORE
from rosetta_diff.helpers import DiffError
from rosetta_diff.read.side import Side as Recorded

RMSPROP, ADAMW = {**SGD, "name": "rmsprop"}, {**SGD, "name": "adamw", "decay": rounded(0.01)}
DECAYED = {**ADAMW, "name": "adam"}
CLIPPED = {**SGD, "clip": 0.1}
RMSNORM = {"kind": "rmsnorm", "cut": "framework"}
BATCHNORM, NORMED = {"kind": "batchnorm", "momentum": 0.75}, {"kind": "weight_norm", "cut": "alone"}
LSTM, ONE_WAY = (
    {"kind": "recurrent", "of": of, "units": 6, "both": False, "cut": "both"}
    for of in ("lstm", "gru")
)
GRU = {"kind": "recurrent", "of": "gru", "units": 3}
DROPOUT = {"kind": "dropout", "rate": 0.5}
HEADS = {"kind": "attention", "heads": 2, "groups": 2, "rope": False, "bias": True}
MASKED = {**HEADS, "cut": "framework", "mask": "padding"}
CAUSAL = {**HEADS, "size": 3, "mask": "causal"}
GROUPED = {**HEADS, "heads": 4, "size": 2}
TURNED = {**HEADS, "heads": 4, "size": 4, "rope": "halves", "base": 1e4}
MLP, FEEDFORWARD = {"kind": "mlp", "units": 6}, {"kind": "feedforward", "units": 7}
IMAGE, CONVNET = {"kind": "image", "channels": 2, "time": TIME}, {"kind": "convnet", "channels": 4}
POSITIONS = {"kind": "positions", "time": TIME}
OF_QKV, THREE, OF_PAIRS = "q+k+v", "q k v", "grouped gate+up"
# What stands around a block: the model, the blocks before and after it.
DECODER, TAGGER, TEXT, ENCODER = range(4)
SURROUNDINGS: tuple[tuple[Config, list[Config], list[Config]], ...] = (
    (
        {"width": 8, "norm": RMSNORM},
        [{**MLP, "cut": "gate up"}],
        [{**TURNED, "cut": THREE, "mask": "causal"}],
    ),
    ({"width": 6}, [{**GRU, "cut": "both"}], [{**DENSE, "activation": "tanh"}]),
    ({"width": 10}, [{"kind": "conv"}], [CONVNET]),
    ({"width": 12, "norm": NORM}, [FEEDFORWARD], [MASKED]),
)
# The frameworks on both sides of the three models, in turns;
# where one is not allowed, others come in turns.
TURNS = (
    [("torch", "paddle"), ("paddle", "torch"), ("keras", "torch")],
    [("torch", "keras"), ("paddle", "torch"), ("keras", "paddle")],
)
# How both sides have an attention, in turns.
CUTS = ((THREE, THREE), (OF_QKV, OF_QKV), (THREE, OF_QKV))


@dataclass(frozen=True)
class Mistake:
    """Where it breaks, and a pattern of words of its cause; "" where none can be known."""

    stage: str
    cause: str
    block: Config = field(default_factory=dict)
    wrong: Config = field(default_factory=dict)  # what is otherwise in the right side's block
    perhaps: str = ""  # a pattern of a cause that is right, and told in some models alone
    place: str = ""  # a pattern of what is named; "" for the block
    lefts: Sequence[str] = FRAMEWORKS
    rights: Sequence[str] = FRAMEWORKS
    cuts: Sequence[tuple[str, str]] = ()  # in turns
    within: Sequence[int] = ()  # surroundings; none for three of all in turns
    model: Config = field(default_factory=dict)  # of both sides
    instead: Config = field(default_factory=dict)  # what is otherwise in the right side's model

    def sides(self, time: int) -> tuple[Config, Config]:
        """The left side's block, and what is otherwise in the right side's."""
        left, right = (
            ({"cut": cut} for cut in self.cuts[time % len(self.cuts)]) if self.cuts else ({}, {})
        )
        return {**self.block, **left}, {**right, **self.wrong}

    def pairs(self, name: str, number: int) -> Iterator[tuple[Pair, str]]:
        """The three pairs and what is to be named."""
        turns = TURNS[number % 2]
        if not all(left in self.lefts and right in self.rights for left, right in turns):
            turns = [
                two
                for two in permutations(FRAMEWORKS, 2)
                if two[0] in self.lefts and two[1] in self.rights
            ]
        for time in range(3):
            which = self.within[time] if self.within else (number + time) % len(SURROUNDINGS)
            frameworks = turns[time % len(turns)]
            own, before, after = SURROUNDINGS[which]
            block, wrong = self.sides(time)
            blocks = [*before, *([block] if block else []), *after]
            changes = [*({} for _ in before), wrong]
            model = {"seed": 5 + time, **own, **self.model}
            pair = pair_of(*frameworks, *blocks, wrong=changes, instead=self.instead, **model)
            named = self.place or block_of(frameworks[0], blocks, len(before))
            label = re.sub(r"\W+", "-", name)
            yield replace(pair, name=f"{label}-{time}"), named


def block_of(framework: str, blocks: Sequence[Config], place: int) -> str:
    """The framework's name of a block."""
    if framework != "keras":
        return f"blocks.{place}"
    classes = [
        re.sub(r"(?<!^)(?=[A-Z])", "_", KINDS[one["kind"]].__name__).lower()
        for one in blocks[: place + 1]
    ]
    again = classes.count(classes[-1]) - 1
    return f"model/{classes[-1]}" + (f"_{again}" if again else "")


def converted(name: str) -> Config:
    return {"mistake": name}


def normed(**otherwise: Any) -> Config:
    return computed(norm=otherwise)


def of_loss(cause: str, right: Config, left: Config | None = None) -> Mistake:
    return Mistake("loss", cause, place="loss", model={"loss": left or {}}, instead={"loss": right})


def of_step(cause: str, left: Config, right: Config, **more: Any) -> Mistake:
    """A mistake of an optimizer: the left side's, and what is otherwise on the right."""
    changed = {"optimizer": {**left, **right}}
    return Mistake(
        "step", cause, **{"place": " ", "model": {"optimizer": left}, "instead": changed, **more}
    )


OF_HEADS = {"block": CAUSAL, "cuts": CUTS}
MISTAKES: dict[str, Mistake] = {
    # Attention
    "mask shifted": Mistake("forward",
        "mask is causal on the left and causal, one position too far on the right",
        wrong=computed(mask="causal, one position too far"), **OF_HEADS),
    "mask inverted": Mistake("forward",
        "where ids is not 0 on the left and where ids is 0 on the right", MASKED,
        computed(mask="words")),
    "scale forgotten": Mistake("forward",
        "by one over the root of a head's size on the left and 1 on the right",
        wrong=computed(scale=1.0), **OF_HEADS),
    "softmax over the queries": Mistake("forward",
        "softmax is over the keys on the left and queries on the right",
        wrong=computed(softmax="queries"), **OF_HEADS),
    "RoPE's kind": Mistake("forward", "are halves on the left and interleaved on the right", TURNED,
        computed(rope="interleaved"), cuts=CUTS),
    "RoPE's base": Mistake("forward", "is 10000 on the left and 500000 on the right", TURNED,
        computed(base=5e5),
        cuts=CUTS),
    "grouped qkv split in blocks": Mistake("", "", GROUPED,
        computed(cut=OF_QKV), cuts=[(f"grouped {OF_QKV}",) * 2]),
    "queries with the keys of other groups": Mistake("", "", GROUPED,
        {"computed": {"heads order": True}}, cuts=CUTS),
    "key and value exchanged": Mistake("", "", GROUPED,
        converted("keys and values exchanged"), cuts=[(OF_QKV, THREE), (THREE, OF_QKV), (THREE,
        THREE)]),
    # Feed-forward, norms, residuals, positions
    "gate and up exchanged": Mistake("", "as its gate on the", MLP, converted(
        "gate and up exchanged"),
        cuts=[("gate+up", "gate up"), ("gate up", "gate+up"), ("gate up", "gate up")]),
    "gate and up computed the other way": Mistake("forward", r"as (its|the) gate on the right", MLP,
        computed(gate="up"), cuts=[("gate+up",) * 2, ("gate up",) * 2]),
    "pairs of gate and up taken for halves": Mistake("", "",
        MLP, computed(cut="gate+up"), cuts=[(OF_PAIRS, OF_PAIRS)]),
    "activation": Mistake("forward", "is relu on the left and silu on the right", FEEDFORWARD,
        computed(activation="silu")),
    "GELU's approximation": Mistake("forward", "gelu on the left and gelu by tanh on the right",
        {**FEEDFORWARD, "activation": "gelu"}, computed(by_tanh=True)),
    "post-norm": Mistake("forward", "takes", FEEDFORWARD, computed(residual="post")),
    "residual of what is normed": Mistake("forward", r" \+ ", FEEDFORWARD,
        computed(residual="normed")),
    "LayerNorm's epsilon": Mistake("forward", "and 0.001 on the right", FEEDFORWARD,
        normed(epsilon=1e-3)),
    "epsilon out of the root": Mistake("forward",
        "inside the root on the left and added to the root on the right",
        FEEDFORWARD, normed(cut="own", outside=True)),
    "variance divided by n - 1": Mistake("forward", "divided by n on the left and n - 1",
        FEEDFORWARD,
        normed(cut="own", unbiased=True)),
    "gain without its 1": Mistake("forward", "by its gain on the left and its gain plus 1",
        FEEDFORWARD,
        normed(cut="own", plus=1.0)),
    "a mean that is not taken off": Mistake("forward",
        "takes off the mean on the left and keeps the mean",
        FEEDFORWARD, normed(cut="own", kind="rmsnorm")),
    "gain and shift exchanged": Mistake("", "the right side has the numbers of", FEEDFORWARD,
        converted("gain and shift exchanged")),
    "training flag of BatchNorm": Mistake("forward",
        "are those of the batch on the left and the running ones",
        BATCHNORM, instead={"training": False}, within=[DECODER, TEXT, ENCODER]),
    "BatchNorm's momentum": Mistake("step", "that is kept, is 0.75 on the left and 0.9 on",
        BATCHNORM,
        computed(momentum=0.9), place="moving_", lefts=["paddle", "keras"], rights=["paddle",
        "keras"]),
    "positions from 1": Mistake("forward", "is given is 1 more on the right", POSITIONS,
        computed(first=1)),
    "scale of the embedding": Mistake("forward",
        "the root of its width on the left|times as large on the right",
        place="blocks.0|norms.0|model/", model={"scaled": True}, instead={"scaled": False}),
    "padding_idx": Mistake("forward", "padding_idx is None", place="embedding output",
        rights=["paddle"],
        instead=computed(padding_idx=0)),
    "dropout left on": Mistake("forward", "", perhaps="of the right side|the right side's",
        block=DROPOUT,
        place="norms.2|blocks.2|model/norm_3", within=[DECODER, TEXT, ENCODER],
        model={"training": False}, instead={"training": True}),
    # Images
    "flatten in the other order": Mistake("", "flattened with its channels first on the left",
        IMAGE,
        computed(cut="last"), cuts=[("first", "first")]),
    "image transposed": Mistake("", "with its axes in the order 1, 0, 2, 3", IMAGE,
        converted("image transposed"),
        cuts=[("first", "first"), ("last", "last")]),
    "padding 'same' with a stride": Mistake("forward",
        "",
        {**CONVNET, "stride": 2, "pad": (0, 1)}, computed(pad=(1, 1))),
    "stride": Mistake("forward", "stride is", {**CONVNET, "stride": 2}, computed(stride=1)),
    "dilation": Mistake("forward", "dilation is", {**CONVNET, "dilation": 2, "pad": (2, 2)},
        computed(dilation=1, pad=(1, 1))),
    # Recurrent layers
    "tanh and sigmoid of a cell exchanged": Mistake("forward",
        "activation is",
        {**LSTM, "one_bias": True}, computed(exchanged=True), rights=["keras"]),
    "reset_after": Mistake("weights", "", ONE_WAY, computed(reset_after=False), rights=["keras"]),
    "initial state": Mistake("forward", "", ONE_WAY, computed(initial=0.5)),
    "time axis": Mistake("forward", "time_first is", ONE_WAY,
        computed(time_first=True), rights=["torch", "paddle"]),
    "lengths passed over": Mistake("", "", {**GRU, "lengths": True}, computed(lengths=False),
        cuts=[("both", "both")]),
    # Weights
    "transposed square kernel": Mistake("weights", "transposed", DENSE,
        converted("transposed square kernel")),
    "gate order": Mistake("weights", "gates in the order input, forget, output, candidate", LSTM,
        converted("gate order")),
    "directions exchanged": Mistake("", "", block=GRU,
        wrong=converted("directions exchanged"), cuts=[("both", "one each"), ("both", "both")]),
    "gains in another order": Mistake("", "", NORMED, converted("gains in another order"),
        perhaps="the right side has the same rows in another order"),
    # Loss and gradients
    "label smoothing": Mistake("loss", "", place="loss", instead={"smoothing": 0.1}),
    "labels shifted": of_loss("shifted by 0 on the left and 1", {"shift": 1}),
    "padding counts": of_loss("count those whose ids is not 0 on the left and all positions", {},
        {"counts": "real"}),
    "divided by all positions": of_loss(
        "over the positions that count on the left and a mean over all positions",
        {"counts": "real", "over": "all"}, {"counts": "real"}),
    "sum for a mean": of_loss("and a sum on the right", {"over": "nothing"}),
    "softmax twice": of_loss("softmax", {"twice": True}),
    "gradients added up": Mistake("gradients", "is 2 times", place=" ",
        instead={"loss": {"times": 2}}),
    "tied weights untied": Mistake("gradients", "", place="head", lefts=["torch"],
        model={"tied": True}, instead=computed(tied=False)),
    # Steps
    "second bias": Mistake("step", "trains two biases", {**LSTM, "one_bias": True},
        computed(one_bias=False),
        place="bias", lefts=["keras"], rights=["torch", "paddle"]),
    "place of RMSprop's epsilon": of_step("outside the root on the left and inside the root",
        RMSPROP,
        {"stock": True}, rights=["paddle", "keras"]),
    "weight decay's kind": of_step(
        "through the gradient on the left and straight to the weight on the right",
        DECAYED, ADAMW, lefts=["torch", "paddle"]),
    "Adam's counter": of_step("step counter is 1 on the left and 2", ADAM, {"counter": 1},
        rights=["torch", "keras"]),
    "clipped each to a norm": of_step("", CLIPPED, {"norm": "each"}, rights=["torch", "keras"],
        perhaps="to a norm of all of 0.1 on the left and each to a norm"),
    "clipped by value": of_step("", CLIPPED, {"norm": "value"},
        perhaps="to a norm of all of 0.1 on the left and to values"),
    "clipping forgotten": of_step("", CLIPPED, {"clip": 0.0},
        perhaps="clipped to a norm of all of 0.1 on the left and nowhere"),
    "schedule": of_step("learning rate of the first step is 0.05 on the left and 0.1 on the right",
        {**SGD, "warmup": [0.5, 1.0]}, {"warmup": None}),
    "Nesterov's momentum": of_step("nesterov is False on the left and True", SGD,
        {"nesterov": True}),
    "a weight that the optimizer lacks": of_step("not moved by", SGD, {"unlisted": 1},
        place="embedding",
        rights=["torch", "paddle"]),
    "order of batches": Mistake("tensors", "another batch", place="ids", model={"steps": 2},
        instead={"order": [1, 0]}),
    "momentum of SGD": Mistake("trajectory", "", place=" ", model={"steps": 3},
        instead={"optimizer": {**SGD, "momentum": rounded(0.5)}}),
}  # fmt: skip


def planted() -> dict[str, tuple[Mistake, list[tuple[Pair, str]]]]:
    """All mistakes by name, each with its pairs and what is named there."""
    return {
        name: (one, [*one.pairs(name, number)])
        for number, (name, one) in enumerate(MISTAKES.items())
    }


class Answer(NamedTuple):
    """The words of `diff` about a planted mistake."""

    place: bool  # whether it breaks where the mistake is
    cause: bool  # whether a cause, likely or recorded, is the mistake
    others: list[str]  # causes that are likely and are not the mistake
    told: str


def answer(mistake: Mistake, named: str, sides: tuple[Recorded, Recorded]) -> Answer:
    try:
        found = compare_records(*sides)
    except DiffError as error:
        return Answer(False, False, [], f"refused: {error}")
    patterns = [pattern for pattern in (mistake.cause, mistake.perhaps) if pattern]
    sentences = [cause.sentence for cause in found.causes if cause.standing != MORE]
    likely = [cause.sentence for cause in found.causes if cause.standing == LIKELY]
    right = [
        sentence
        for sentence in sentences
        if any(re.search(pattern, sentence) for pattern in patterns)
    ]
    shown = found.explanation[1] if found.explanation else ""
    place = not found.passed and (
        re.search(named, shown) if mistake.place else shown.startswith(named)
    )
    place = bool(place) and mistake.stage in ("", found.broken)
    return Answer(place, bool(right), [one for one in likely if one not in right], told(found))


def main() -> None:
    words, folder = " ".join(sys.argv[1:]), Path(tempfile.mkdtemp(prefix="porting-mistakes-"))
    started = {name: Side(name) for name in FRAMEWORKS}
    chosen = {name: found for name, found in planted().items() if words in name}
    sides = record_pairs(
        [pair for _, three in chosen.values() for pair, _ in three], started, folder, steps=1
    )
    wrong = 0
    for name, (mistake, three) in chosen.items():
        answers = [answer(mistake, named, sides.pop(0)) for _, named in three]
        places, causes, others = (
            sum(map(bool, column)) for column in [*zip(*answers, strict=True)][:3]
        )
        wrong += len(three) - places + others
        print(f"{name}: place {places}, cause {causes}, other causes {others}")
        for (pair, named), found in zip(three, answers, strict=True):
            if words or found.others or not found.place or (mistake.cause and not found.cause):
                print(f"{pair.frameworks}, expected {named} and {mistake.cause!r}: {found.told}")
    print(f"{wrong} places or causes are wrong; {folder} has their records")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
