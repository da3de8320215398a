"""Comparison: equal arrays pass, and every way of not being equal fails, by name and place."""

from collections.abc import Callable

import numpy as np
import pytest

from common.comparison import (
    TOLERANCES,
    TOLERANCES_OF_ANY_MODEL,
    Comparison,
    ParityError,
    compare,
    largest,
    largest_difference,
    pieces,
)

Array = np.ndarray
SCALES = ["absolute", "largest", "relative"]
scales = pytest.mark.parametrize("scale", SCALES)


def array(*shape: int, seed: int = 0) -> Array:
    """Values between one and two, of either sign."""
    rng = np.random.default_rng(seed)
    return (1 + rng.random(shape)) * rng.choice([-1.0, 1.0], shape)


def compared(got: Array, expected: Array, scale: str = "absolute") -> Comparison:
    return compare("the array", got, expected, dtype=str(got.dtype), scale=scale)


@scales
@pytest.mark.parametrize("shape", [(), (1,), (5, 7), (2, 3, 4)])
def test_equal_arrays_have_no_error_at_all(scale: str, shape: tuple[int, ...]) -> None:
    expected = np.asarray(array(*shape))
    assert compared(expected.copy(), expected, scale).error == 0
    assert compared(np.zeros(shape), np.zeros(shape), scale).error == 0


@scales
def test_a_value_where_zero_is_expected_is_an_error(scale: str) -> None:
    got = np.zeros((2, 3))
    got[1, 2] = 1.0
    result = compared(got, np.zeros((2, 3)), scale)
    assert result.error >= 1
    assert result.where == (1, 2)


@scales
def test_float32_is_compared_with_the_referees_float64(scale: str) -> None:
    expected = array(50, 50)
    assert 1e-9 < compared(expected.astype(np.float32), expected, scale).error < 2e-7


SHAPES = [((3, 4), (4, 3)), ((12,), (3, 4)), ((1, 4), (3, 4)), ((4,), (3, 4)), ((), (1,)), ((3, 4, 1), (3, 4))]


@scales
@pytest.mark.parametrize(("got", "expected"), SHAPES)
def test_another_shape_fails_even_where_it_would_broadcast(
    scale: str, got: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    with pytest.raises(ParityError, match="the array: shape") as caught:
        compared(np.ones(got), np.ones(expected), scale)
    assert f"{got}, expected {expected}" in str(caught.value)


@pytest.mark.parametrize(
    ("got", "promised"), [("float32", "float64"), ("float64", "float32"), ("float16", "float32")]
)
def test_another_dtype_than_promised_fails(got: str, promised: str) -> None:
    with pytest.raises(ParityError, match=f"the array: dtype {got}, expected {promised}"):
        compare("the array", np.ones(3, got), np.ones(3), dtype=promised)


@scales
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sides", [("got",), ("expected",), ("got", "expected")])
def test_a_number_that_is_not_finite_fails_on_either_side_and_on_both(
    scale: str, value: float, sides: tuple[str, ...]
) -> None:
    both = {"got": array(4, 5), "expected": array(4, 5)}
    for side in sides:
        both[side][2, 3] = value
    with pytest.raises(ParityError, match=rf"the array: the array that was {sides[0]} is not finite at \[2, 3\]"):
        compared(**both, scale=scale)


@scales
def test_one_disturbed_element_of_a_million_is_found_at_its_place(scale: str) -> None:
    expected = array(1000, 1000)
    got = expected.copy()
    got[123, 987] += 1e-5
    result = compared(got, expected, scale)
    assert 4e-6 < result.error < 2e-5
    assert (result.where, result.got, result.expected) == ((123, 987), got[123, 987], expected[123, 987])


def swapped_gates(kernel: Array) -> Array:
    i, f, c, o = np.split(kernel, 4, axis=-1)
    return np.concatenate([i, c, f, o], axis=-1)


def of_equal_mean(values: Array) -> Array:
    """The same numbers, their mean and their norm, in other places."""
    return np.roll(values, 1, axis=0)


@scales
@pytest.mark.parametrize("change", [np.transpose, swapped_gates, of_equal_mean, np.negative])
def test_a_rearranged_square_matrix_is_far_off(scale: str, change: Callable[[Array], Array]) -> None:
    expected = array(8, 8)
    assert compared(np.ascontiguousarray(change(expected)), expected, scale).error > 0.1


def test_each_scale_measures_what_it_says() -> None:
    expected = np.array([100.0, -1.0, 10.0])
    got = expected + np.array([2.0, 0.5, -1.0])
    results = {scale: compared(got, expected, scale) for scale in SCALES}
    assert {scale: result.error for scale, result in results.items()} == pytest.approx(
        {"absolute": 2.0, "largest": 0.02, "relative": 0.5}
    )
    assert {scale: result.where for scale, result in results.items()} == {
        "absolute": (0,),
        "largest": (0,),
        "relative": (1,),
    }


def test_an_unknown_scale_is_not_taken_for_another() -> None:
    with pytest.raises((ValueError, KeyError)):
        compared(np.ones(3), np.ones(3), "largst")


def test_a_coarser_precision_is_held_less_closely_everywhere() -> None:
    for bounds in TOLERANCES.values():
        assert 0 < bounds["float64"] < bounds["float32"] <= 1e-5 < bounds["bfloat16"] < 0.1
    for bounds in TOLERANCES_OF_ANY_MODEL.values():
        assert 0 < bounds["float64"] < bounds["float32"] < bounds["bfloat16"]


def test_large_arrays_are_compared_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.comparison.NUMBERS_AT_ONCE", 6)
    one = np.arange(40.0).reshape(10, 4)
    other = one.copy()
    other[7, 2] += 5
    assert largest_difference(one, other) == (5.0, (7, 2))
    assert largest_difference(one, other, lambda rows: np.full((rows.stop - rows.start, 4), 2.0)) == (3.0, (7, 2))
    assert largest(other) == 39.0
    assert [rows.start for rows in pieces(one.shape)] == list(range(10))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_differs_from_all_but_itself(value: float) -> None:
    one = np.array([1.0, value])
    assert largest_difference(one, one) == (0.0, (0,))
    difference, where = largest_difference(one, np.array([2.0, 3.0]))
    assert not np.isfinite(difference)
    assert where == (1,)
    assert largest_difference(one, np.array([2.0, value])) == (1.0, (0,))
    assert largest(one) == 1.0
