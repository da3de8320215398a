"""Two records of one model that were cut otherwise: weights, outputs, gradients and slots find each other, by their
numbers or their shapes, and what is wrong with one is named."""

from collections.abc import Callable, Mapping
from cProfile import Profile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.compare.alignment import MOST_ALONE
from benchmarks.compare.carry import carried
from benchmarks.compare.comparer import Array
from benchmarks.compare.diff import compare_records
from benchmarks.compare.drafts import write_mapping
from benchmarks.compare.mapping import read_mapping
from benchmarks.compare.pairing import paired
from benchmarks.compare.record import Side
from common.errors import CannotBeginError
from tests.records import Layers, of_layers

N, T, M, G, D = 2, 3, 6, 2, 2  # rows, positions, width, groups of heads, size of a head


def record(path: Path, framework: str, layers: Layers, gradients: Mapping[str, Array]) -> Side:
    return Side(of_layers(path, framework, layers, gradients))


Split = Callable[[Array], list[Array]]  # of the last axis into query, key and value


def blocks(array: Array) -> list[Array]:
    return [part.copy() for part in np.split(array, 3, -1)]


def grouped(array: Array) -> list[Array]:
    """Of each group of heads two queries, a key and a value."""
    parts = array.reshape(*array.shape[:-1], G, 4, D)
    found = parts[..., :2, :], parts[..., 2, :], parts[..., 3, :]
    return [part.reshape(*array.shape[:-1], -1) for part in found]


SPLITS = pytest.mark.parametrize(
    ("split", "width"), [(blocks, 3 * M), (grouped, 4 * G * D)], ids=["blocks", "groups"]
)


def sides(
    folder: Path, split: Split, width: int, seed: int = 3, zero_bias: bool = True, change: Any = None
) -> tuple[Side, Side]:
    """An attention whose projections are one Linear on the left, in torch, and three Dense on the right, in Keras."""
    normal, out = np.random.default_rng(seed).normal, np.random.default_rng(0).normal(size=(M, M))
    kernel, bias = normal(size=(M, width)), normal(size=width) * (not zero_bias)
    output, last = normal(size=(N, T, width)), normal(size=(N, T, M))
    of_kernel, of_bias, of_out = normal(size=(M, width)), normal(size=width), normal(size=(M, M))
    left: Layers = {
        "block.qkv": (["Linear"], {"weight": kernel.T, "bias": bias}, output),
        "block.out": (["Linear"], {"weight": out.T}, last),
    }
    of_left = {"block.qkv.weight": of_kernel.T, "block.qkv.bias": of_bias, "block.out.weight": of_out.T}
    right: Layers = {}
    of_right = {"block/out/kernel": of_out}
    for name, *parts in zip("qkv", *map(split, (kernel, bias, output, of_kernel, of_bias)), strict=True):
        right[f"block/{name}"] = (["Dense"], {"kernel": parts[0], "bias": parts[1]}, parts[2])
        of_right |= {f"block/{name}/kernel": parts[3], f"block/{name}/bias": parts[4]}
    right["block/out"] = (["Dense"], {"kernel": out}, last.copy())
    if change:
        change(right, of_right)
    folder.mkdir(exist_ok=True)
    return record(folder / "left", "torch", left, of_left), record(folder / "right", "keras", right, of_right)


@pytest.mark.parametrize("zero_bias", [True, False], ids=["biases of zeros", "biases"])
@SPLITS
def test_one_layer_is_three_of_the_other_side_on_every_rung_and_is_carried_both_ways_to_the_byte(
    split: Split, width: int, zero_bias: bool, tmp_path: Path
) -> None:
    left, right = sides(tmp_path, split, width, zero_bias=zero_bias)
    found = compare_records(left, right)
    assert found.passed, found.explanation
    assert found.control.passed
    assert {
        ("weights", "block.qkv weight"),
        ("weights", "block.qkv bias"),
        ("forward", "block.qkv output"),
        ("gradients", "block.qkv weight"),
        ("step", "mean_square of block.qkv weight"),
        ("step", "block.qkv bias"),
    } <= {(check.rung, check.tensor) for check in found.checks}
    assert any(note.startswith("paired by value: ") for note in found.notes)
    assert compare_records(right, left).passed
    write_mapping(tmp_path / "mapping.toml", found.pairing)
    mapping = read_mapping(tmp_path / "mapping.toml")
    again = compare_records(left, right, mapping)
    assert again.passed
    assert {pair.found for pair in again.pairing.pairs} == {"mapping"}
    other_left, other_right = sides(tmp_path / "other", split, width, seed=4, zero_bias=False)
    for one, like, expected in ((left, other_right, right), (right, other_left, left)):  # the file in both directions
        arrays = carried(paired(one, like, mapping))
        for name, array in expected.arrays("weights").items():
            assert (arrays[name].shape, arrays[name].tobytes()) == (array.shape, array.tobytes())
    if split is blocks:  # what is not carried yet is paired by shapes that add up
        for name, array in carried(paired(left, other_right)).items():
            np.testing.assert_array_equal(array, right.arrays("weights")[name])


def put(array: Array) -> None:
    array.flat[1] = 9.0


# What is done to the right side's layers and gradients, the rung that breaks, and what is named.
MISTAKES: dict[str, tuple[Callable[[Layers, dict[str, Array]], Any], str, str]] = {
    "an output": (
        lambda layers, _: (put(layers["block/k"][2]), put(layers["block/out"][2])), "forward", "block.qkv output"
    ),
    "a bias's gradient": (lambda _, gradients: put(gradients["block/q/bias"]), "gradients", "block.qkv bias"),
    "a weight": (lambda layers, _: put(layers["block/q"][1]["kernel"]), "weights", "block.qkv weight"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_one_of_the_three_is_named(mistake: str, tmp_path: Path) -> None:
    change, rung, words = MISTAKES[mistake]
    found = compare_records(*sides(tmp_path, blocks, 3 * M, change=change))
    assert found.broken == rung
    assert words in found.explanation[1]


def test_what_cannot_be_paired_is_refused_with_a_line_to_begin_with(tmp_path: Path) -> None:
    def without_value(layers: Layers, gradients: dict[str, Array]) -> None:
        layers.pop("block/v")
        for name in "qk":
            layers[f"block/{name}"][1]["kernel"][:] = 1.0

    left, right = sides(tmp_path, blocks, 3 * M, change=without_value)
    with pytest.raises(CannotBeginError) as error:
        compare_records(left, right)
    assert '[weights] "block.qkv.weight" = {to = "block/q/kernel", axes = "n m -> m n"}' in str(error.value)
    assert "\n" not in str(error.value)


RNG = np.random.default_rng(5)


def both(folder: Path, left: Layers, right: Layers) -> tuple[Side, Side]:
    return record(folder / "left", "torch", left, {}), record(folder / "right", "keras", right, {})


def passes_with_what_is_written(folder: Path, left: Side, right: Side) -> None:
    write_mapping(folder / "mapping.toml", paired(left, right))
    mapping = read_mapping(folder / "mapping.toml")
    found = compare_records(left, right, mapping)
    assert found.passed, found.explanation
    for name, array in carried(paired(left, right, mapping)).items():
        np.testing.assert_array_equal(array, right.arrays("weights")[name])


def test_what_stands_between_layers_shows_in_the_layer_that_contains_them(tmp_path: Path) -> None:
    """A residual that one side lacks: the layers in the block agree, and the block does not."""
    kernel, inside = RNG.normal(size=(M, M)), RNG.normal(size=(N, T, M))
    left: Layers = {
        "block.fc": (["Linear"], {"weight": kernel.T}, inside),
        "block": (["mine.Block"], {}, inside + 1),
        "head": (["mine.Head"], {}, inside * 2),
    }
    right: Layers = {
        "block/fc": (["Dense"], {"kernel": kernel}, inside),
        "block": (["mine.Block"], {}, inside),
        "head": (["mine.Head"], {}, inside),
    }
    found = compare_records(*both(tmp_path, left, right))
    assert found.broken == "forward"
    assert found.explanation[1].startswith("block output")


def test_weights_of_own_layers_find_each_other_whatever_they_are_called(tmp_path: Path) -> None:
    """The first of one side has the shape of the other's second, and a name of two words."""
    one, two, output = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 4, 3)), RNG.normal(size=(N, M))
    left: Layers = {"moe": (["mine.Moe"], {"w 1": one, "w2": two}, output)}
    right: Layers = {"moe": (["mine.Moe"], {"first": one.swapaxes(1, 2), "w1": two.swapaxes(1, 2)}, output.copy())}
    sides = both(tmp_path, left, right)
    found = compare_records(*sides)
    assert found.passed
    assert sum(check.rung == "weights" for check in found.checks) == 2
    passes_with_what_is_written(tmp_path, *sides)


FUSED, APART = {"qkv": 3 * M, "out": M, "gate_up": 2 * M}, dict.fromkeys(("q", "k", "v", "o", "up", "gate"), M)
RUN = {"qkv": ["q", "k", "v"], "out": ["o"], "gate_up": ["up", "gate"]}  # in which order parts ran


def dense(framework: str, widths: Mapping[str, int], names: str = "{name}", blocks: int = 1) -> Layers:
    """Layers of so many blocks, of M inputs each, with numbers that the other side lacks."""
    found: Layers = {}
    for block in range(blocks):
        for name, width in widths.items():
            kernel, path = RNG.normal(size=(M, width)), names.format(block=block, name=name, count=len(found))
            own = {"weight": kernel.T} if framework == "torch" else {"kernel": kernel}
            found[path] = (["Linear" if framework == "torch" else "Dense"], own, RNG.normal(size=(N, width)))
    return found


def partners(sides: tuple[Side, Side]) -> dict[str, list[str]]:
    return {pair.name: [layer.path for layer in pair.right.layers] for pair in paired(*sides).pairs}


@pytest.mark.parametrize("names", ["blocks.{block}.{name}", "{name}_{block}", "model/dense_{count}"])
def test_without_numbers_parts_are_those_of_their_own_block_in_the_order_of_the_wholes_name(
    names: str, tmp_path: Path
) -> None:
    """Or in which they ran, where names tell nothing. A layer has the shape of three others until these are one."""
    left, right = dense("torch", FUSED, names, 3), dense("keras", APART, names, 3)
    wanted = {}
    for block in range(3):
        for whole, parts in RUN.items():
            parts = parts if "name" not in names else sorted(parts, key=whole.find)
            one, *others = (
                names.format(block=block, name=name, count=len(of) * block + [*of].index(name))
                for of, name in [(FUSED, whole), *((APART, part) for part in parts)]
            )
            wanted[one] = others
    assert partners(both(tmp_path, left, right)) == wanted


def test_parts_are_of_one_parent_where_order_leaves_several_ways_and_are_not_told_where_too_much_is_alone(
    tmp_path: Path,
) -> None:
    left, parts = dense("torch", {"qkv": 3 * M}), dense("keras", dict.fromkeys("qkv", M), "attention/{name}")
    found = partners(both(tmp_path, left, dense("keras", {"first": M}) | parts))
    assert found == {"qkv": ["attention/q", "attention/k", "attention/v"]}
    alone = dense("torch", dict.fromkeys(map(str, range(MOST_ALONE + 1)), M + 1))
    assert partners(both(tmp_path / "alone", alone | left, parts)) == {}


def test_twice_as_many_layers_are_paired_by_twice_as_much_work(tmp_path: Path) -> None:
    """Each in a block, whose output is compared, too."""
    calls = []
    for number in (100, 200):
        folder, profile = tmp_path / f"{number}", Profile()
        folder.mkdir()
        outer: Layers = {f"b{block}": (["mine.Block"], {}, np.ones(2)) for block in range(number)}
        inner = [dense(framework, {"fc": M}, "b{block}.{name}", number) for framework in ("torch", "keras")]
        found = profile.runcall(paired, *both(folder, inner[0] | outer, inner[1] | outer))
        assert len(found.pairs) == 2 * number
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[1] < 2.2 * calls[0]


def test_a_kernel_in_another_order_differs_and_passes_with_the_line_that_is_written(tmp_path: Path) -> None:
    """As after an image with channels first on one side: no number tells whether the layer computes accordingly."""
    kernel, output = RNG.normal(size=(12, 5)), RNG.normal(size=(N, 5))
    turned = kernel.reshape(3, 4, 5).swapaxes(0, 1).reshape(12, 5)
    left: Layers = {"fc": (["Linear"], {"weight": kernel.T, "bias": np.zeros(5)}, output)}
    right: Layers = {"fc": (["Dense"], {"kernel": turned, "bias": np.zeros(5)}, output.copy())}
    sides = both(tmp_path, left, right)
    found = compare_records(*sides)
    assert found.broken == "weights"
    (line,) = [cause.sentence for cause in found.causes if "--write-mapping writes this" in cause.sentence]
    assert '"fc.weight" = {to = "fc/kernel", axes = "m (b c) -> (c b) m", sizes = {b = 3, c = 4}}' in line
    passes_with_what_is_written(tmp_path, *sides)


def test_exchanged_experts_show_in_the_layer_that_contains_a_list_of_them(tmp_path: Path) -> None:
    """Where the other side has them packed."""
    kernels, output = RNG.normal(size=(2, M, M)), RNG.normal(size=(N, M))
    left: Layers = {"moe": (["mine.Moe"], {"w": kernels}, output), "head": (["mine.Head"], {}, output)}
    right: Layers = {
        f"moe/{number}": (["Dense"], {"kernel": kernels[1 - number]}, RNG.normal(size=(N, M))) for number in range(2)
    }
    right |= {"moe": (["mine.Moe"], {}, output + 1.0), "head": (["mine.Head"], {}, output + 1.0)}
    found = compare_records(*both(tmp_path, left, right))
    assert found.explanation[1].startswith("moe output")
    (cause,) = [cause.sentence for cause in found.causes if "another order" in cause.sentence]
    assert "moe has the numbers of moe/1/kernel + moe/0/kernel" in cause


@pytest.mark.parametrize("left_framework", ["torch", "keras"])
def test_a_place_in_a_convolutions_output_is_told_by_channel_and_position(
    left_framework: str, tmp_path: Path
) -> None:
    normal = np.random.default_rng(0).normal
    kernel, output = normal(size=(5, 3, 1, 1)), normal(size=(N, 5, 4, 6))  # as torch has them
    wrong = output.copy()
    wrong[1, 2, 3, 4] += 9
    sides = {}
    for framework in ("torch", "keras"):
        one = output if framework == left_framework else wrong
        if framework == "torch":
            layers: Layers = {"c": (["Conv2d"], {"weight": kernel}, one)}
        else:
            layers = {"c": (["Conv2D"], {"kernel": kernel.transpose(2, 3, 1, 0)}, np.moveaxis(one, 1, -1))}
        sides[framework] = record(tmp_path / framework, framework, layers, {})
    (other,) = sides.keys() - {left_framework}
    found = compare_records(sides[left_framework], sides[other])
    first_line = found.explanation[1]
    wanted = "row 1, channel 2, position 3, position 4"
    assert (wanted if left_framework == "torch" else "row 1, position 3, position 4, channel 2") in first_line
