"""The comparers of parity and of the tool: equal arrays pass;
each kind of difference fails, with its place."""

from math import inf

import numpy as np
import pytest
from rosetta_diff.arrays import largest, largest_difference, pieces

from benchmarks.parity.comparison import Check, compare

Array = np.ndarray
SCALES = {
    "absolute": {"scale": 1.0},
    "largest": {"scale": None},
    "relative": {"scale": 1.0, "relative": True},
}


def array(*shape: int) -> Array:
    """Values between one and two, of either sign."""
    rng = np.random.default_rng(0)
    return np.asarray((1 + rng.random(shape)) * rng.choice([-1.0, 1.0], shape))


def compared(
    got: Array, expected: Array, scale: str = "absolute", dtype: str | None = None
) -> Check:
    """The check of an array that is promised to be finite and of its own dtype, or of this one."""
    return compare(
        "forward", "it", expected, got, 1e-9, dtype=dtype or str(got.dtype), **SCALES[scale]
    )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(), (2, 3, 4)])
def test_one_number_that_is_off_is_found(scale: str, shape: tuple[int, ...]) -> None:
    where, got = tuple(size - 1 for size in shape), np.zeros(shape)
    for expected in (array(*shape), got):
        assert compared(expected.copy(), expected, scale).error == 0
    got[where] = 1.0
    found = compared(got, np.zeros(shape), scale)
    assert found.error >= 1
    assert (found.where, found.note) == (where, "got 1.0, expected 0.0")


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")])
def test_another_dtype_than_promised_fails(dtypes: tuple[str, str]) -> None:
    got, promised = dtypes
    found = compared(np.ones(3, got), np.ones(3), dtype=promised)
    assert (found.error, found.note) == (inf, f"dtype {got}, expected {promised}")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("sides", [("got",), ("expected",), ("got", "expected")])
def test_a_number_that_is_not_finite_fails_on_any_side(
    value: float, sides: tuple[str, ...]
) -> None:
    both = {"got": array(4, 5), "expected": array(4, 5)}
    for side in sides:
        both[side][2, 3] = value
    found = compared(**both)
    assert (found.error, found.note) == (
        inf,
        f"the array that was {sides[0]} is not finite at [2, 3]",
    )


def test_each_scale_measures_what_it_says_in_float64() -> None:
    expected = np.array([100.0, -1.0, 10.0])
    found = {
        scale: compared(expected + np.array([2.0, 0.5, -1.0]), expected, scale) for scale in SCALES
    }
    expected_errors = {"absolute": 2.0, "largest": 0.02, "relative": 0.5}
    assert {scale: check.error for scale, check in found.items()} == pytest.approx(expected_errors)
    assert [check.where for check in found.values()] == [(0,), (0,), (1,)]
    assert 1e-9 < compared(array(50, 50).astype(np.float32), array(50, 50)).error < 2e-7


def test_large_arrays_are_compared_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rosetta_diff.arrays.NUMBERS_AT_ONCE", 6)
    one = np.arange(40.0).reshape(10, 4)
    other = one.copy()
    other[7, 2] += 5
    assert largest_difference(other, one) == (5.0, (7, 2))
    assert largest_difference(
        other, one, lambda rows: np.full((rows.stop - rows.start, 4), 2.0)
    ) == (3.0, (7, 2))
    assert largest(other) == 39.0
    assert [rows.start for rows in pieces(one.shape)] == list(range(10))
