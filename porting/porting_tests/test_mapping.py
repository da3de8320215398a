"""Mapping files: a line arranges both sides alike, exchanged to the byte too, and is refused with
the equation that fails. Weights find each other by their numbers in every such arrangement."""

from pathlib import Path

import numpy as np
import pytest

from porting_tests.support.records import compared, dense, linear, mapping_of, mine, write_layers
from rosetta_diff.arrays import Array
from rosetta_diff.carry import carry_weights
from rosetta_diff.diff import compare_records
from rosetta_diff.helpers import CannotBeginError
from rosetta_diff.pair.by_value import find_by_value
from rosetta_diff.pair.drafts import line_of
from rosetta_diff.pair.mapping import expand_all
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.pair.pairs import TensorPair
from rosetta_diff.read.side import Side
from rosetta_diff.read.view import Shape

RNG = np.random.default_rng(0)
Arrays = dict[str, Array]


def shapes(arrays: Arrays) -> dict[str, Shape]:
    return {name: array.shape for name, array in arrays.items()}


def entries(folder: Path, text: str, left: Arrays, right: Arrays) -> list[TensorPair]:
    return expand_all(mapping_of(folder, text), shapes(left), shapes(right))


def numbers(*shape: int) -> Array:
    return RNG.normal(size=shape)


def cases() -> dict[str, tuple[str, Arrays, Arrays]]:
    """A line of [weights], the left arrays and the right ones,
    which NumPy makes of the left ones."""
    qkv = numbers(9, 4)
    bias = numbers(9)
    grouped = numbers(2 * 4 * 3, 5)
    rope = numbers(2 * 3 * 2, 4)
    moe, norm = numbers(3, 4, 5), np.arange(4.0)
    kernel, stacked = numbers(6, 3, 2, 5), [numbers(4, 2), numbers(4, 2)]
    of_groups, halves = grouped.reshape(2, 4, 3, 5), rope.reshape(2, 3, 2, 4)
    return {
        "transposed": ('"w" = {to = "k", axes = "n m -> m n"}', {"w": qkv}, {"k": qkv.T}),
        "fused": (
            '"l.{i}.qkv" = {to = ["b_{i}/q", "b_{i}/k", "b_{i}/v"], axes = "parts m -> m parts"}',
            {"l.0.qkv": qkv, "l.1.qkv": qkv + 1},
            {
                f"b_{i}/{name}": (qkv[3 * j : 3 * j + 3] + i).T
                for i in (1, 0)
                for j, name in enumerate("qkv")
            },
        ),
        "fused, unequal, by position": (
            '"l.*.qkv" = {to = ["b_*/q", "b_*/kv"], axes = "parts"}',
            {"l.4.qkv": bias},
            {"b_4/q": bias[:7], "b_4/kv": bias[7:]},
        ),
        "fused on the right": (
            '"q, k" = {to = "qk", axes = "m parts -> parts m"}',
            {"q": qkv[:4].T, "k": qkv[4:].T},
            {"qk": qkv},
        ),
        "grouped": (
            '"qkv" = {to = ["q", "k", "v"], axes = "(g parts d) m -> m (g parts d)", sizes = {g = '
            "2, d = 3}}",
            {"qkv": grouped},
            {
                "q": of_groups[:, :2].reshape(12, 5).T,
                "k": of_groups[:, 2].reshape(6, 5).T,
                "v": of_groups[:, 3].reshape(6, 5).T,
            },
        ),
        "RoPE, interleaved and halved": (
            '"wq" = {to = "q", axes = "(h d two) m -> m (h two d)", sizes = {h = 2, two = 2}}',
            {"wq": rope},
            {"q": halves.swapaxes(1, 2).reshape(12, 4).T},
        ),
        "packed experts": (
            '"moe.{i}" = {to = "moe{i}/e{e}/w", axes = "parts n m -> m n"}',
            {"moe.7": moe},
            {f"moe7/e{e}/w": moe[e].T for e in (2, 0, 1)},
        ),
        "stacked layers on the right": (
            '"l.{i}.w" = {to = "all", axes = "n m -> n parts m"}',
            {f"l.{i}.w": stacked[i] for i in (1, 0)},
            {"all": np.stack(stacked, 1)},
        ),
        "shifted numbers": (
            '"l.{i}.w" = {to = "block{i+1}", axes = "n m"}',
            {"l.0.w": stacked[0], "l.1.w": stacked[1]},
            {"block1": stacked[0], "block2": stacked[1]},
        ),
        "a norm's one": (
            '"n" = {to = "scale", add = -1, times = 2}',
            {"n": norm},
            {"scale": 2 * norm - 1},
        ),
        "channels first and last": (
            '"c" = {to = "k", axes = "out in h w -> h w in out"}',
            {"c": kernel},
            {"k": kernel.transpose(2, 3, 1, 0)},
        ),
        "an axis of one": (
            '"g" = {to = "gain", axes = "n 1 -> n"}',
            {"g": norm[:, None]},
            {"gain": norm},
        ),
    }


@pytest.mark.parametrize("name", cases())
def test_a_line_arranges_both_sides_alike(name: str, tmp_path: Path) -> None:
    line, left, right = cases()[name]
    found = entries(tmp_path, f"[weights]\n{line}\n", left, right)
    assert names(found) == [{*left}, {*right}]
    for pair in found:
        of_left, of_right = pair.left.of(left.get), pair.right.of(right.get)
        assert of_right is not None
        assert pair.line
        np.testing.assert_array_equal(pair.to_left(of_right), of_left)
        back = pair.exchange()
        assert (back.times, back.add) == (1 / pair.times, -pair.add / pair.times)
        for tensor, whole, own in ((pair.right, of_right, right), (back.right, of_left, left)):
            assert whole is not None
            made = {name: np.full(own[name].shape, np.nan) for name in tensor.names}
            tensor.write(whole, made)
            for each, array in made.items():
                assert (array.shape, array.tobytes()) == (own[each].shape, own[each].tobytes())
    written = "".join(f"{line_of(pair)}\n" for pair in found)
    again = entries(tmp_path, f"[weights]\n{written}", left, right)
    assert again == found


def names(found: list[TensorPair]) -> list[set[str]]:
    """The names of both sides that stand in pairs."""
    return [{name for pair in found for name in pair.both[side].names} for side in (0, 1)]


@pytest.mark.parametrize("name", sorted(cases().keys() - {"a norm's one"}))  # whose numbers differ
def test_arrays_in_every_arrangement_find_each_other(name: str) -> None:
    _, left, right = cases()[name]
    noise = {f"noise{number}": numbers(4, 3) for number in range(3)}
    assert names(find_by_value({**noise, **left}, {**right, **noise})) == [
        {*noise, *left},
        {*noise, *right},
    ]
    worst = max(right, key=lambda one: right[one].size)
    changed = {**right, worst: np.array(right[worst])}
    changed[worst].flat[1] += 1e-9
    assert worst not in names(find_by_value(left, changed))[1]


@pytest.mark.parametrize("scaled", ["add = -1", "times = 3", "times = 0.7, add = 0.3"])
def test_scaled_float32_weights_equal_what_carry_writes(scaled: str, tmp_path: Path) -> None:
    """Carried to the right or to the left, and not where one is moved by its last digit."""
    gain, out = RNG.normal(size=64).astype(np.float32), np.ones((2, 3), np.float32)

    def record_arrays(name: str, **own: Array) -> Side:
        return Side(write_layers(tmp_path / name, "torch", {"norm": mine(out, **own)}))

    left = record_arrays("left", weight=gain)
    like = record_arrays("like", scale=np.zeros_like(gain))
    mapping = mapping_of(
        tmp_path, f'left = "left"\n[weights]\n"norm.weight" = {{to = "norm.scale", {scaled}}}\n'
    )
    written = carry_weights(pair_sides(left, like, mapping))["norm.scale"]
    for change, broken in ((0, None), (1, "weights")):
        written[7] += change * np.spacing(written[7])
        right = record_arrays(f"{change}", scale=written)
        found = compare_records(left, right, mapping)
        assert found.broken == broken
        is_told = "compared as the right side keeps them, weights: norm weight" in found.notes
        assert is_told == (broken is None)
        assert compare_records(right, left, mapping).broken == broken


def test_a_file_says_whose_names_stand_left(tmp_path: Path) -> None:
    array = np.arange(9.0).reshape(3, -1)
    left, right = (
        Side(write_layers(tmp_path / f"of-{name}", name, {"l": mine(np.ones((2, 3)), w=weight)}))
        for name, weight in (("torch", array), ("paddle", array * 4))
    )
    for name in ("torch", "of-torch"):
        mapping = mapping_of(
            tmp_path, f'left = "{name}"\n[weights]\n"l.w" = {{to = "l.w", times = 4}}\n'
        )
        assert compare_records(left, right, mapping).passed
        assert compare_records(right, left, mapping).passed
        np.testing.assert_array_equal(carry_weights(pair_sides(right, left, mapping))["l.w"], array)


@pytest.mark.parametrize("grouped", [False, True])
def test_parts_with_heads_find_each_other(grouped: bool) -> None:
    """As those of Keras's attention, (inputs, heads, size), beside one array for query, key and
    value, or for those of each head."""
    qkv, biases = numbers(12, 5), numbers(12)
    parts = {
        name: part.T.reshape(5, 2, 2) for name, part in zip("qkv", np.split(qkv, 3), strict=True)
    }
    parts |= {
        f"{name}_bias": part.reshape(2, 2)
        for name, part in zip("qkv", np.split(biases, 3), strict=True)
    }
    if grouped:  # from three parts with two heads to two heads with three parts
        qkv, biases = (
            of.reshape(3, 2, 2, -1).swapaxes(0, 1).reshape(of.shape) for of in (qkv, biases)
        )
    assert names(find_by_value(parts, {"w": qkv, "b": biases})) == [{*parts}, {"w", "b"}]


REFUSED = {
    '"w" = {to = ["q", "k"], axes = "parts m -> m parts"}': (
        "the left side has 24 parts, the right one 8 + 4"
    ),
    '"w" = {to = "q", axes = "(h d two) m -> m (h two d)", sizes = {h = 5, two = 2}}': (
        "24 of w is not 5 × d × 2"
    ),
    '"w" = {to = "q", axes = "(h d) m -> m (d h)"}': "add: sizes = {h = …}",
    '"w" = {to = "q", axes = "n m k -> m n k"}': "w has the shape (24, 4), which are 2 axes",
    '"w" = {to = "q", axes = "n m -> m k"}': "k, n of 'n m -> m k' stands on one side",
    '"w" = {to = "q", axes = "n n -> n n"}': "the axis n stands twice",
    '"w" = {to = "q", axes = "n-1 m -> m n-1"}': "'n-1' is no name of an axis",
    '"w" = {to = ["q", "k"]}': "several arrays need axes",
    '"w" = {to = ["q", "k"], axes = "n m -> m n"}': "several arrays need an axis parts",
    '"w, x" = {to = ["q", "k"], axes = "parts m -> m parts"}': "2 arrays are to be 2",
    '"w" = {to = "q", axes = "n m -> m n", times = 0}': "and times not 0",
    '"w" = {to = "q", axes = "n m -> m n", sizes = {z = 2}}': "sizes are {'z': 2}",
    '"w" = "absent"': "no weight is named 'absent'; there are q, k, r, z",
    '"l.{i}" = "q{i}"': "no weight is named 'l.{i}'; there are w, x, y",
    '"x" = "r"\n"y" = "r"': "r of the right side stands in the lines x and y; expected once",
    '"none" = {to = "z", axes = "(h d) m -> m (d h)", sizes = {h = 1000000000000}}': (
        "and no numbers"
    ),
    # An index is all digits that stand there, so no digit is tried in two;
    # one that stands twice is one number.
    **{
        f'"{template}" = "q"': "no weight is named"
        for template in ("{a}1{b}1{c}1{d}1{e}1{f}1{g}1{h}x", "{i}" * 333, "*1" * 400, "l.{i}.{i}")
    },
    **dict.fromkeys(
        ["weights = 3", "[weights", '"a" = {too = "b"}', "\x00", "[more]\na = 1"],
        "holds no mapping",
    ),
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_mapping_that_does_not_fit_is_refused_with_what_fails(line: str, tmp_path: Path) -> None:
    left = {"w": numbers(24, 4), "x": numbers(4), "y": numbers(4), "none": numbers(0, 4)}
    left |= {name: numbers(2) for name in ("1" * 1000, "l.0.1", "w" + "9" * 5000)}
    right = {"q": numbers(4, 8), "k": numbers(4, 4), "r": numbers(4), "z": numbers(4, 0)}
    with pytest.raises(CannotBeginError) as error:
        entries(tmp_path, "[weights]\n" * line.startswith('"') + line, left, right)
    assert REFUSED[line] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_layer_that_a_line_pairs_is_compared_as_its_kind(tmp_path: Path) -> None:
    """Its activation follows it on the left, and its bias,
    which no line names, stands with its kernel."""
    kernel, bias, output = numbers(4, 6), numbers(6), numbers(3, 6)
    left = write_layers(tmp_path / "left", "torch", {"l": linear(kernel, output, bias=bias)})
    of_right = dense(kernel, np.maximum(output, 0), bias=bias)._replace(
        settings={"activation": "relu"}
    )
    right = write_layers(tmp_path / "right", "keras", {"l": of_right}, outputs={"y": output})
    mapping = mapping_of(
        tmp_path, '[weights]\n"l.weight" = {to = "l/kernel", axes = "o i -> i o"}\n'
    )
    found = compared(left, right, mapping)
    assert found.passed
    tensors = [check.tensor for check in found.checks if check.stage in ("weights", "forward")]
    assert tensors == ["l weight", "l bias", "l output", "y"]
