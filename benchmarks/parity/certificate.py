"""The result of a comparison for one backend, as recordings keep it."""

from typing import Annotated

import msgspec


class StageResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The result of one stage, with the error of the check that came nearest to its bound or exceeded it most.

    This need not be the largest error, since the checks of a stage have different bounds.
    """

    error: float | None  # None where it is not a number: a wrong shape or dtype, or values that are not finite
    bound: float
    passed: bool  # whether every check of the stage passed


class Certificate(msgspec.Struct, frozen=True):
    """The result of all stages for one backend with float32 weights."""

    version: str  # of the backend's framework
    reference: str  # its backend, version and precision
    passed: bool
    stages: Annotated[dict[str, StageResult], msgspec.Meta(max_length=20)]  # the stages that were compared, by name
