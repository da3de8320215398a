"""Changes each array of a right side in turn, and tells which changes a comparison does not see.

`python -m porting_tests.support.altered` does so with the equal pairs of support/forty.py.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file, save_file

from rosetta_diff.arrays import Array
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.helpers import DiffError
from rosetta_diff.read.rules import COUNTERS
from rosetta_diff.read.side import Side
from rosetta_record.folder import FILES


def other_numbers(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype.kind == "f":
        return np.asarray(rng.normal(size=array.shape), array.dtype)
    return np.asarray(array ^ True if array.dtype.kind == "b" else array + 1)


def not_a_number(array: Array, rng: np.random.Generator) -> Array:
    return np.full_like(array, np.nan) if array.dtype.kind == "f" else array


def another_last_number(array: Array, rng: np.random.Generator) -> Array:
    changed = array.copy()
    changed.reshape(-1)[-1:] = other_numbers(array, rng).reshape(-1)[-1:]
    return changed


CHANGES: tuple[Callable[[Array, np.random.Generator], Array], ...] = (
    other_numbers,
    not_a_number,
    another_last_number,
)


class Altered(NamedTuple):
    """A change of one array of a right side."""

    file: str
    name: str
    change: str
    seen: bool  # True: the comparison fails, or a remark tells


def altered(
    left: Path, right: Path, rng: np.random.Generator, share: float = 1.0
) -> Iterator[Altered]:
    """Yield what a comparison makes of each change, or of a share of all changes by chance. The
    right record is as it was in the end. What nothing is compared with is left as it is: counts of
    batches, and what a container gives that the left side lacks, which its last layer gives."""
    equal = compare_records(Side(left), Side(right))
    before = remarks(equal)
    has_partner = {of.path for pair in equal.pairing.pairs for of in pair.right.layers}
    has_partner.add(Side(right).root)
    named: dict[bool, set[str]] = {True: set(), False: set()}
    for call in Side(right).says.calls:
        named[call.layer in has_partner].update(call.parts, call.inputs.values())
    alone = named[False] - named[True]
    for file in FILES:
        path = right / f"{file}.safetensors"
        arrays = load_file(path) if path.exists() else {}
        for name, array in arrays.items():
            for change in CHANGES:
                changed = change(array, rng)
                is_alone = name in alone or name.endswith(COUNTERS)
                if is_alone or array.tobytes() == changed.tobytes() or rng.random() >= share:
                    continue
                shutil.copy(path, beside := path.with_suffix(".kept"))
                save_file({**arrays, name: changed}, path)
                try:
                    found = compare_records(Side(left), Side(right))
                    seen = not found.passed or remarks(found) != before or name in before
                except DiffError:
                    seen = True
                shutil.move(beside, path)
                yield Altered(file, name, change.__name__, seen)


def remarks(found: Diff) -> str:
    """The remarks of a comparison, and the name of each output that is excused."""
    inside = [check.tensor for check in found.checks if check.inside]
    return "\n".join([*found.notes, *inside])


def main() -> None:
    import torch

    from porting_tests.support.forty import EQUAL, compare

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    folder, rng = Path(tempfile.mkdtemp(prefix="porting-altered-")), np.random.default_rng(0)
    changes = unseen = 0
    for expected in EQUAL:
        name = expected.model.__name__
        compare(expected.model, folder / name)
        for made in altered(folder / name / "left", folder / name / "right", rng):
            changes, unseen = changes + 1, unseen + (not made.seen)
            if not made.seen:
                print(name, *made)
    print(f"{unseen} of {changes} changes are not seen")
    sys.exit(bool(unseen))


if __name__ == "__main__":
    main()
