"""All rules by which numbers that differ pass, or are not compared.
A result has a remark on each rule that it used.

judge/, alone.py and diff.py apply them, and porting/excuses.md is this table.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """A reason for which numbers that are not equal within their bound pass,
    or are not compared."""

    name: str  # what holds, in the words of the guide
    remark: str  # a line of a result, with {words} of the place

    def told(self, **words: Any) -> str:
        """The remark with the words of the place."""
        return self.remark.format(**words)


# What is compared in another form, where it is not equal as it is.
TURNED = Rule(
    "a mapping turns the axes of the right array", "axes turned, {stage}: {names}: {turn}"
)
ACTIVATED = Rule(
    "one side's layer has its activation in it, which the other side computes after the layer",
    "compared after the activation that one side's layer has in it, {stage}: {names}",
)
TIES = Rule(
    "a token differs where the best scores, which are compared, are a tie",
    "numbers differ where the best scores are a tie, {stage}: {names}",
)
ONES = Rule(
    "one side alone has axes of one number", "compared without axes of one number, {stage}: {names}"
)
VALUES = Rule(
    "types or signs of zeros are others", "only values are compared of {names}: {difference}"
)
CARRIED = Rule(
    "a weight that a mapping scales is equal as the right side keeps it, since `rosetta-carry` "
    "rounds",
    "compared as the right side keeps them, {stage}: {names}",
)
VARIANCE = Rule(
    "one side divides a running variance by n, and the other one by n - 1",
    "converted, {stage}: running variances of {names}, which one side divides by n and the other "
    "one by n - 1 (docs/deviations.md#batchnorm-variance)",
)
# What has a wider bound, where it is beyond the usual one.
SMALL = Rule(
    "a gradient or an update is small beside the model's largest one, of which its differences are "
    "a share",
    "small beside the model's largest, by which they are measured, {stage}: {names}",
)
EXPLAINED = Rule(
    "the gradients' accepted differences explain the difference after a step, which is no farther "
    "than the step moved any weight",
    "explained by differences of gradients that are within their bound, {stage}: {names}",
)
MOMENTUM = Rule(
    "one side's framework rounds the momentum of running statistics to float32",
    "within what a momentum rounded to float32 makes, {stage}: {names}",
)
COARSE = Rule(
    "a framework computes some layers with constants of float32",
    "bounds are {times:.0f} times as wide, since constants are float32 in {names}",
)
NOISY = Rule(
    "rounding alone moves a tensor by more than a quarter of what the table allows",
    "rounding alone moves {quantity} by {most:.0e}, which counts for {names}",
)
NO_VERDICT = Rule(
    "rounding alone may change a tensor completely",
    "no verdict on {names}: rounding alone can change them completely",
)
# What differs beyond its bound, and passes.
FOLDED = Rule(
    "an exporter made other weights",
    "inside, {stage}: {names} differ, as they may where an exporter made others of them; outputs "
    "tell whether it matters",
)
AGREES = Rule(
    "a layer is given other numbers, or nobody recorded what, and the model's outputs agree, or a "
    "loss that is not 0",
    "inside, {outputs}, and what the model gives agrees: {first}",
)
PADDED = Rule(
    "a recurrent layer differs at padded positions alone",
    "inside, {outputs}, and at padded positions alone: {first}",
)
LATER = Rule(
    "the other side has later, in any order, what a layer gives",
    "inside, {outputs}, and one side gives what the other one has later: {first}",
)
BY_ITSELF = Rule(
    "a replay shows a layer that differs by itself, and the model's outputs agree",
    "places that differ though what the model gives agrees, since they are cut, masked or called "
    "otherwise: {number}, such as {first}",
)
UNMOVED = Rule(
    "a layer is given other numbers, and what it gives agrees",
    "given other numbers, and what it gives agrees: {names}",
)
# What is not compared. The remark begins with `NOT_COMPARED`.
NOT_COMPARED = "not compared, {stage}: "
NO_FILE = Rule("a side recorded nothing of a kind", "{sides} recorded no {what}")
NO_LOSS = Rule("a side recorded no loss", "not recorded on both sides")
ONE_SIDE = Rule("one side alone has an input or an output", "{names}, recorded on one side only")
ONE_MODEL = Rule("one side's model alone has a weight", "{names}, of {side} alone")
NO_ARRAY = Rule("a layer gives no array", "outputs of {names}, in which {sides} recorded no array")
SHAPES = Rule(
    "a layer that may give anything gives other shapes, and an output of the model that depends on "
    "it agrees",
    "outputs of {names}, which are of other shapes{unless}",
)
CALLS = Rule(
    "a layer is called another number of times, and an output of the model that depends on it "
    "agrees",
    "outputs of {names}, which was called {left} and {right} times",
)
NOT_CALLED = Rule(
    "one side calls functions in place of a layer",
    "outputs of {names}, which one side computes without such layers",
)
FURTHER = Rule(
    "a layer's outputs after the first are of another number or shape, and may mean other things",
    "further outputs of {names}, whose numbers or shapes differ",
)
UNKNOWN = Rule(
    "one side's layer has an activation in it that is not known here",
    "{names}, whose activation nobody here knows",
)
IDLE = Rule(
    "a gradient is zeros on one side and missing on the other one",
    "{names}, of which one side has no gradient and the other one zeros",
)
OUTSIDE = Rule(
    "an optimizer trains what is no weight of the model",
    "{number} of the model, which {side}'s optimizer trains",
)
NO_WEIGHTS = Rule(
    "the weights after a step are not recorded",
    "{names}, of which neither side recorded the weights after it",
)
UNDERFLOW = Rule(
    "the square of a gradient, of which the optimizer keeps a mean, is below the smallest normal "
    "number of float16",
    "{some} of {all} numbers of {names}, where the squares of gradients are below float16's normal "
    "numbers",
)
FOLLOWS = Rule(
    "losses differ after a step of which numbers are left out", "losses after such a step"
)
ONE_STEP = Rule("a side recorded a single step", "no losses of several steps on both sides")
MORE_STEPS = Rule("one side recorded more steps", "{number} steps, which one side alone recorded")

FORMS = (TURNED, ACTIVATED, TIES, ONES, VALUES, CARRIED, VARIANCE)
WIDER = (SMALL, EXPLAINED, MOMENTUM, COARSE, NOISY, NO_VERDICT)
EXCUSES = (FOLDED, AGREES, PADDED, LATER, BY_ITSELF, UNMOVED)
LEFT_OUT = (
    NO_FILE, NO_LOSS, ONE_SIDE, ONE_MODEL, NO_ARRAY, SHAPES, CALLS, NOT_CALLED, FURTHER, UNKNOWN,
    IDLE, OUTSIDE,
    NO_WEIGHTS, UNDERFLOW, FOLLOWS, ONE_STEP, MORE_STEPS,
)  # fmt: skip
