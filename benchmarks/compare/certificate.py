"""Parity certificates: how far a backend is from the referee, shown in reports beside the backend's speed."""

from dataclasses import dataclass
from typing import Annotated

import msgspec


@dataclass(frozen=True)
class Size:
    """How much the ladder compares."""

    num_samples: int  # pairs of the corpus, all of which are trained on
    steps: int  # training steps of the trajectory
    batch_rows: int  # rows of the batch that the rungs from tensors to step use, and of a whole batch of counts
    sentences: int  # number of decoded sentences
    permutations: int  # float32 trainings with permuted hidden units; if 0, only the first ten losses are compared
    sentences_of_example: int = 3  # of these, keras:example decodes so many, since it takes seconds for each


WHOLE = Size(num_samples=1500, steps=50, batch_rows=64, sentences=200, permutations=5)
QUICK = Size(num_samples=640, steps=10, batch_rows=32, sentences=50, permutations=0, sentences_of_example=1)


class Rung(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The result of one rung, with the error of the check that came nearest to its tolerance or exceeded it most.

    This need not be the largest error, since the checks of a rung have different tolerances.
    """

    error: float | None  # None where it is not a number: a wrong shape or dtype, or values that are not finite
    tolerance: float
    passed: bool  # whether every check of the rung passed


class Certificate(msgspec.Struct, frozen=True):
    """The result of the ladder for one backend with float32 weights. Older recordings have more fields, which are not
    looked at."""

    version: str  # of the backend's framework
    referee: str  # its backend, version and precision
    passed: bool
    rungs: Annotated[dict[str, Rung], msgspec.Meta(max_length=20)]  # the rungs that were climbed, by name
