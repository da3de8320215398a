"""Weights are paired by their numbers: in every arrangement that porters use, and never where a number differs."""

import numpy as np
import pytest

from benchmarks.compare.by_value import found_by_value
from benchmarks.compare.comparer import Array
from benchmarks.compare.mapping import line_of
from tests.test_mapping import cases

NOT_BY_VALUE = {"a norm's one"}  # whose numbers differ


def holds(left: dict[str, Array], right: dict[str, Array]) -> tuple[set[str], set[str]]:
    """The names on both sides of the entries that are found, each of which is seen to hold."""
    names: tuple[set[str], set[str]] = set(), set()
    for entry in found_by_value(left, right):
        np.testing.assert_array_equal(entry.left.together(left), entry.right.together(right))
        made = {name: np.array(right[name]) for name in entry.right.own}
        entry.right.apart(entry.left.together(left), made)
        for name, array in made.items():
            np.testing.assert_array_equal(array, right[name])
        names[0].update(entry.left.own)
        names[1].update(entry.right.own)
    return names


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([3, 4, 5, 0, 1, 2], 'axes = "parts m -> parts m", order = [1, 0]'),
        ([1, 3, 5, 0, 2, 4], 'axes = "(n parts) m -> (parts n) m", sizes = {n = 3}, order = [1, 0]'),
        ([3, 0, 4, 1, 5, 2], 'axes = "(parts n) m -> (n parts) m", sizes = {n = 3}, order = [1, 0]'),
        (  # of three groups two queries, a key and a value, against all queries, all keys, all values
            [0, 1, 6, 9, 2, 3, 7, 10, 4, 5, 8, 11],
            'axes = "parts m -> parts m", order = [0, 1, 6, 9, 2, 3, 7, 10, 4, 5, 8, 11]',
        ),
    ],
    ids=["halves exchanged", "pairs of halves exchanged", "halves of pairs exchanged", "heads"],
)
def test_parts_in_another_order_are_found(rows: list[int], words: str) -> None:
    size = 1 if len(rows) == 6 else 2
    array = np.random.default_rng(6).normal(size=(size * len(rows), 3))
    right = array.reshape(len(rows), size, 3)[rows].reshape(array.shape)
    (entry,) = found_by_value({"w": array}, {"k": right})
    assert words in line_of(entry)
    np.testing.assert_array_equal(entry.left.together({"w": array}), entry.right.together({"k": right}))


@pytest.mark.parametrize("name", sorted(cases().keys() - NOT_BY_VALUE))
def test_arrays_in_every_arrangement_find_each_other_unless_a_number_differs(name: str) -> None:
    _, left, right = cases()[name]
    rng = np.random.default_rng(1)
    noise = {f"noise{number}": rng.normal(size=(4, 3)) for number in range(3)}
    assert holds({**noise, **left}, {**right, **noise}) == ({*noise, *left}, {*noise, *right})
    changed = {key: np.array(array) for key, array in right.items()}
    worst = max(changed, key=lambda key: changed[key].size)
    changed[worst].flat[1] += 1e-9
    assert worst not in holds(left, changed)[1]


def test_parts_that_have_axes_of_heads_are_found() -> None:
    """As those of Keras's attention, (inputs, heads, size), beside one array of torch's for query, key and value."""
    qkv = np.random.default_rng(7).normal(size=(12, 5))
    parts = {name: part.T.reshape(5, 2, 2) for name, part in zip("qkv", np.split(qkv, 3), strict=True)}
    biases = np.random.default_rng(8).normal(size=12)
    parts |= {f"{name}_bias": part.reshape(2, 2) for name, part in zip("qkv", np.split(biases, 3), strict=True)}
    assert holds(parts, {"w": qkv, "b": biases}) == ({*parts}, {"w", "b"})


def test_rows_of_padding_are_left_out_where_other_arrays_are_as_long_as_a_row() -> None:
    table, gain = np.random.default_rng(3).normal(size=(7, 4)), np.random.default_rng(4).normal(size=4)
    assert holds({"table": table, "gain": gain}, {"t": table[:5], "g": gain}) == ({"table", "gain"}, {"t", "g"})
