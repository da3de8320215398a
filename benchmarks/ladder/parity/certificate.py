"""The result of the ladder for one backend, as recordings keep it."""

from typing import Annotated

import msgspec


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
