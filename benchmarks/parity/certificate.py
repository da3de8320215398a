"""Certificates: how equal a backend was shown to be, to stand beside what is measured of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.parity.ladder import Size
from common.errors import CannotBeginError
from common.files import write_atomically


class Rung(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The check of a rung that used up most of what is allowed; errors of one rung are not all of one scale."""

    error: float | None  # None where no number can tell it: another shape or dtype, or numbers that are not finite
    tolerance: float
    passed: bool  # so did every check of the rung


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the ladder found of one backend with weights of one precision."""

    backend: str
    version: str  # of its framework
    device: str
    dtype: str  # of the weights
    precision: str  # that the backend computes in, which may be coarser
    latent_dim: int
    padding: str
    corpus_sha256: str
    size: Size  # `--quick` holds less against the referee
    referee: str
    machine: dict[str, Any]
    passed: bool
    rungs: dict[str, Rung]  # those climbed, by name


def write_certificates(path: Path, certificates: Mapping[str, Certificate]) -> None:
    """Write certificates by "NAME dtype" as JSON."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(certificates), indent=2) + b"\n")


def read_certificates(path: Path) -> dict[str, Certificate]:
    """The certificates in a file by "NAME dtype". Raises CannotBeginError for a file that holds anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Certificate])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CannotBeginError(
            f"{path} cannot be read: {why}; `rosetta parity --certificate {path}` writes such a file"
        ) from error
