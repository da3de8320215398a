"""Proof that two scripts of a race compute the same,
by the package rosetta-diff, which may be missing."""

from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING

from benchmarks.schema import MOST_OF_A_SENTENCE, Proof
from common.errors import CannotBeginError, RosettaError, refusing

if TYPE_CHECKING:
    from rosetta_diff.pair.mapping import MappingFile as MappingFile  # race.py takes it from here

NOT_INSTALLED = (
    "the package rosetta-diff, which compares records, is not installed; try: pip install ./porting"
)
MOST_REASONS = 20


def can_compare() -> bool:
    return find_spec("rosetta_diff") is not None


def read_mapping(path: Path) -> "MappingFile":
    """Raises CannotBeginError for a file that holds no mapping,
    and where rosetta-diff is missing."""
    if not can_compare():
        raise CannotBeginError(NOT_INSTALLED)
    from rosetta_diff.helpers import DiffError
    from rosetta_diff.pair.mapping import read_mapping as read

    try:
        return read(path)
    except DiffError as error:
        raise CannotBeginError(str(error)) from error


def keep_record(label: str, record: Path, copy: Path) -> None:
    """Copy the record of a script, since the next script may write its own over it.
    Raises RosettaError."""
    with refusing(f"{label} names {record} as its record, which cannot be read", kind=RosettaError):
        copytree(record, copy, ignore=not_of_a_record)


def not_of_a_record(folder: str, names: list[str]) -> list[str]:
    """Names in a folder that are no part of a record. A script may call any folder its record."""
    from rosetta_record.folder import CONTROL

    return [
        name
        for name in names
        if name not in ("record.json", CONTROL) and not name.endswith(".safetensors")
    ]


def proof(row: int, left: Path, right: Path, mapping: "MappingFile | None") -> Proof:
    """Compare the record of a row, `right`, with that of the first row."""
    from rosetta_diff.diff import compare_records
    from rosetta_diff.helpers import DiffError
    from rosetta_diff.read.side import Side

    try:
        diff = compare_records(Side(left), Side(right), mapping)
    except DiffError as error:
        return Proof(row, "not compared", [], None, [str(error)[:MOST_OF_A_SENTENCE]])
    if diff.broken or diff.wrong_alone:
        causes = [f"{cause.standing}: {cause.sentence}" for cause in diff.causes]
        why = [sentence[:MOST_OF_A_SENTENCE] for sentence in (*diff.explanation, *causes)]
        return Proof(row, "differs", diff.compared, None, why[:MOST_REASONS])
    if not diff.passed:
        return Proof(
            row, "not compared", diff.compared, None, [diff.why_failed[:MOST_OF_A_SENTENCE]]
        )
    return Proof(row, "same", diff.compared, max(check.error for check in diff.checks))
