"""Two records of one model that were cut otherwise: weights, outputs and gradients find each other,
by their numbers or their shapes, and what is wrong with one is named."""

import shlex
from collections.abc import Callable, Mapping
from cProfile import Profile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from porting_tests.support.program import rosetta
from porting_tests.support.records import (
    INNER,
    Layer,
    Layers,
    compared,
    dense,
    edited,
    linear,
    mapping_of,
    mine,
    resaved,
    tagger,
    write_layers,
    write_tagger,
)
from rosetta_diff.arrays import Array
from rosetta_diff.carry import carry_weights
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.helpers import CannotBeginError
from rosetta_diff.pair.drafts import write_mapping
from rosetta_diff.pair.mapping import read_mapping
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.read.side import Side

N, T, M, G, D = 2, 3, 6, 2, 2  # rows, positions, width, groups of heads, size of a head
RNG = np.random.default_rng(5)
KERNEL, EXPERTS = RNG.normal(size=(M, M)), RNG.normal(size=(2, M, M))


def both(
    folder: Path, left: Layers, right: Layers, *gradients: Mapping[str, Array]
) -> tuple[Side, Side]:
    """Records of torch and of Keras, perhaps with gradients."""
    of_left, of_right = gradients or ({}, {})
    one = write_layers(folder / "left", "torch", left, of_left)
    return Side(one), Side(write_layers(folder / "right", "keras", right, of_right))


Split = Callable[[Array], list[Array]]  # of the last axis into query, key and value


def blocks(array: Array) -> list[Array]:
    return [part.copy() for part in np.split(array, 3, -1)]


def grouped(array: Array) -> list[Array]:
    """Each group of heads has two queries, a key and a value."""
    parts = array.reshape(*array.shape[:-1], G, 4, D)
    found = parts[..., :2, :], parts[..., 2, :], parts[..., 3, :]
    return [part.reshape(*array.shape[:-1], -1) for part in found]


def passes_with_what_is_written(folder: Path, left: Side, right: Side) -> Diff:
    write_mapping(folder / "mapping.toml", pair_sides(left, right))
    mapping = read_mapping(folder / "mapping.toml")
    found = compare_records(left, right, mapping)
    assert found.passed, found.explanation
    for name, array in carry_weights(pair_sides(left, right, mapping)).items():
        own = right.arrays("weights")[name]
        assert (array.shape, array.tobytes()) == (own.shape, own.tobytes())
    return found


def test_a_plain_rnn_has_the_sum_of_its_biases(tmp_path: Path) -> None:
    """Under whatever numbers, and carried into the first one."""
    rng, output = np.random.default_rng(0), np.ones((2, 4, 3))
    kernel, recurrent, bias, second = (rng.normal(size=size) for size in ((5, 3), (3, 3), 3, 3))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    of_torch = dict(zip(names, (kernel.T, recurrent.T, bias, second), strict=True))
    of_keras = {"kernel": kernel, "recurrent_kernel": recurrent, "bias": bias + second}
    torch, keras = (
        Side(write_layers(tmp_path / framework, framework, {"rnn": Layer(classes, own, output)}))
        for framework, classes, own in (
            ("torch", ["RNN", "RNNBase"], of_torch),
            ("keras", ["SimpleRNN", "RNN"], of_keras),
        )
    )
    assert [pair.left.kind for pair in pair_sides(torch, keras).pairs] == ["rnn"]
    assert compare_records(torch, keras).passed
    made = carry_weights(pair_sides(keras, torch))
    np.testing.assert_array_equal(made["rnn.bias_ih_l0"], bias + second)
    assert not made["rnn.bias_hh_l0"].any()


@pytest.mark.parametrize("zero_bias", [True, False], ids=["biases of zeros", "biases"])
@pytest.mark.parametrize(
    ("split", "width"), [(blocks, 3 * M), (grouped, 4 * G * D)], ids=["blocks", "groups"]
)
def test_one_layer_is_three_of_the_other_side_on_every_stage(
    split: Split, width: int, zero_bias: bool, tmp_path: Path
) -> None:
    """An attention whose projections are one Linear on the left, in torch,
    and three Dense on the right, in Keras."""
    normal = np.random.default_rng(3).normal
    whole, out, of_out = normal(size=(M, width)), normal(size=(M, M)), normal(size=(M, M))
    bias = normal(size=width) * (not zero_bias)
    output = normal(size=(N, T, width))
    last = normal(size=(N, T, M))
    of_whole, of_bias = normal(size=(M, width)), normal(size=width)
    left: Layers = {"block.qkv": linear(whole, output, bias=bias), "block.out": linear(out, last)}
    of_left = {
        "block.qkv.weight": of_whole.T,
        "block.qkv.bias": of_bias,
        "block.out.weight": of_out.T,
    }
    right: Layers = {}
    of_right = {"block/out/kernel": of_out}
    for name, *parts in zip(
        "qkv", *map(split, (whole, output, bias, of_whole, of_bias)), strict=True
    ):
        right[f"block/{name}"] = dense(parts[0], parts[1], bias=parts[2])
        of_right |= {f"block/{name}/kernel": parts[3], f"block/{name}/bias": parts[4]}
    right["block/out"] = dense(out, last)
    sides = both(tmp_path, left, right, of_left, of_right)
    found = compare_records(*sides)
    assert found.passed, found.explanation
    assert {
        ("weights", "block.qkv weight"),
        ("weights", "block.qkv bias"),
        ("forward", "block.qkv output"),
        ("gradients", "block.qkv weight"),
        ("step", "block.qkv weight"),
        ("step", "block.qkv bias"),
    } <= {(check.stage, check.tensor) for check in found.checks}
    assert any(note.startswith("paired by value: ") for note in found.notes)
    assert compare_records(*sides[::-1]).passed
    assert {pair.how for pair in passes_with_what_is_written(tmp_path, *sides).pairing.pairs} == {
        "mapping"
    }


def test_a_refusal_names_similar_weights_of_the_same_role(tmp_path: Path) -> None:
    """A gain without a counterpart comes first,
    and another layer's gain has as many numbers as the bias."""
    rng = np.random.default_rng(0)
    left: Layers = {
        "norm": mine(INNER, gain=rng.random(5)),
        "conv": linear(rng.random((3, 4)), bias=rng.random(4)),
    }
    right: Layers = {
        "conv": dense(rng.random((5, 4)), bias=rng.random(4)),
        "mine": mine(INNER, gain=rng.random(4)),
    }
    with pytest.raises(
        CannotBeginError,
        match=r"^conv \(dense: kernel 3×4.* left conv \(dense: kernel "
        r"5×4.*\[skip\]",
    ):
        pair_sides(*both(tmp_path, left, right)).require()


def test_unpaired_weights_are_refused_with_a_line_that_works(tmp_path: Path) -> None:
    sides = both(tmp_path, {"l": mine(INNER, w=KERNEL)}, {"l": mine(INNER, k=INNER)})
    with pytest.raises(CannotBeginError) as error:
        pair_sides(*sides).require()
    assert "\n" not in str(error.value)
    section, _, line = str(error.value).rpartition(": ")[2].partition(" ")
    assert section == "[skip]"
    alone = pair_sides(*sides, mapping_of(tmp_path, f"{section}\n{line}\n")).left
    assert not alone


# The numbers of the right layers 0, 1 and so on, and the left layers to which they belong.
TOO_MANY = {
    "carried, one in front": ([7, 0, 1, 2], [None, 0, 1, 2]),
    "not carried, one at the end": ([7, 8, 9, 6], [0, 1, 2, None]),
    "not carried, none": ([7, 8, 9], [0, 1, 2]),
}


@pytest.mark.parametrize("name", TOO_MANY)
def test_a_layer_too_many_is_named(name: str, tmp_path: Path) -> None:
    """The other layers of its shape keep their partners, by their numbers or by their names."""
    kernels, (numbers, partners_of) = np.random.default_rng(6).random((10, 4, 4)), TOO_MANY[name]
    left = {f"model.{place}.fc": linear(kernels[place]) for place in range(3)}
    right = {f"net.{place}.fc": dense(kernels[number]) for place, number in enumerate(numbers)}
    pairing = pair_sides(*both(tmp_path, left, right))
    expected = {
        f"model.{of}.fc": f"net.{place}.fc"
        for place, of in enumerate(partners_of)
        if of is not None
    }
    assert {pair.left.name: pair.right.name for pair in pairing.pairs} == expected
    if None in partners_of:
        odd = f"net.{partners_of.index(None)}.fc"
        with pytest.raises(CannotBeginError, match=rf'^{odd} .* has no partner.*\[skip\] "{odd}"'):
            pairing.require()


def test_one_number_is_one_number_in_whatever_shape(tmp_path: Path) -> None:
    for number in (0.5, 0.25):
        of_left = {"l": mine(INNER, w=np.full(1, 0.5))}
        of_right = {"l": mine(INNER, w=np.array(number))}
        left, right = both(tmp_path / f"{number}", of_left, of_right)
        assert compare_records(left, right).passed == (number == 0.5)
        assert carry_weights(pair_sides(left, right))["l/w"].shape == ()
        assert carry_weights(pair_sides(right, left))["l.w"].tolist() == [number]


def test_biases_of_two_shapes_that_are_added_up_are_refused(tmp_path: Path) -> None:
    biases = "lstm.bias_ih_l0", "lstm.bias_hh_l0"
    record = write_tagger(tmp_path / "record", "torch", tagger())
    resaved(
        record, "weights", lambda weights: weights | {biases[1]: weights[biases[0]].reshape(-1, 3)}
    )
    with pytest.raises(
        CannotBeginError,
        match=rf"{biases[0]} has the shape \(24,\) and "
        rf"{biases[1]} \(8, 3\)",
    ):
        compared(record, record)


@pytest.mark.parametrize("name", ["w", "k"])
def test_axes_of_one_number_do_not_count(name: str, tmp_path: Path) -> None:
    """As of a scale of channels, which may stand before the axes of an image."""
    scale, inside = RNG.normal(size=M), {"l": mine(INNER, w=np.ones(2))}
    left, right = both(
        tmp_path,
        inside | {"scale": mine(INNER, w=scale.reshape(M, 1, 1))},
        inside | {"scale": mine(INNER, **{name: scale + 1})},
    )
    found = compare_records(left, right)
    assert (found.broken, carry_weights(found.pairing)[f"scale/{name}"].tolist()) == (
        "weights",
        scale.tolist(),
    )


def test_weights_of_custom_layers_pair_under_any_name(tmp_path: Path) -> None:
    """The first of one side has the shape of the other's second, and a name of two words."""
    one = RNG.normal(size=(2, 3, 4))
    two = RNG.normal(size=(2, 4, 3))
    output = RNG.normal(size=(N, M))
    left: Layers = {"moe": mine(output, **{"w 1": one, "w2": two})}
    right: Layers = {"moe": mine(output, first=one.swapaxes(1, 2), w1=two.swapaxes(1, 2))}
    found = passes_with_what_is_written(tmp_path, *both(tmp_path, left, right))
    assert sum(check.stage == "weights" for check in found.checks) == 2


FUSED = {"qkv": 3 * M, "out": M, "gate_up": 2 * M}
APART = dict.fromkeys(("q", "k", "v", "o", "up", "gate"), M)
RUN = {"qkv": ["q", "k", "v"], "out": ["o"], "gate_up": ["up", "gate"]}  # in which order parts ran


def layers_of(
    framework: str, widths: Mapping[str, int], names: str = "{name}", blocks: int = 1
) -> Layers:
    """Layers of so many blocks, of M inputs each, with numbers that the other side lacks."""
    found: Layers = {}
    for block in range(blocks):
        for name, width in widths.items():
            kernel, path = RNG.normal(size=(M, width)), names.format(block=block, name=name)
            found[path] = (linear if framework == "torch" else dense)(
                kernel, RNG.normal(size=(N, width))
            )
    return found


def partners(sides: tuple[Side, Side]) -> dict[str, list[str]]:
    return {
        pair.name: [layer.path for layer in pair.right.layers] for pair in pair_sides(*sides).pairs
    }


@pytest.mark.parametrize("names", ["blocks.{block}.{name}", "{name}_{block}"])
def test_without_numbers_parts_are_of_one_block_in_name_order(names: str, tmp_path: Path) -> None:
    """A layer has the shape of three others until these are one."""
    left, right = layers_of("torch", FUSED, names, 3), layers_of("keras", APART, names, 3)
    wanted = {}
    for block in range(3):
        for whole, parts in RUN.items():
            one, *others = (
                names.format(block=block, name=name)
                for name in (whole, *sorted(parts, key=whole.find))
            )
            wanted[one] = others
    assert partners(both(tmp_path, left, right)) == wanted


def test_parts_are_of_one_parent_and_follow_what_is_like_on_both_sides(tmp_path: Path) -> None:
    left = layers_of("torch", {"qkv": 3 * M})
    parts = layers_of("keras", dict.fromkeys("qkv", M), "attention/{name}")
    assert partners(both(tmp_path, left, parts)) == {
        "qkv": ["attention/q", "attention/k", "attention/v"]
    }
    assert partners(both(tmp_path / "odd", left, layers_of("keras", {"first": M}) | parts)) == {}
    assert (
        partners(both(tmp_path / "alone", layers_of("torch", {"first": M + 1}) | left, parts)) == {}
    )


def test_twice_as_many_layers_are_paired_by_twice_as_much_work(tmp_path: Path) -> None:
    """Each in a block, whose output is compared, too."""
    calls = []
    for number in (100, 200):
        profile = Profile()
        outer: Layers = {f"b{block}": mine(np.ones(2)) for block in range(number)}
        inner = [
            layers_of(framework, {"fc": M}, "b{block}.{name}", number)
            for framework in ("torch", "keras")
        ]
        found = profile.runcall(
            pair_sides, *both(tmp_path / f"{number}", inner[0] | outer, inner[1] | outer)
        )
        assert len(found.pairs) == 2 * number
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[1] < 2.2 * calls[0]


WIDE, IMAGE = RNG.normal(size=(12, 5)), RNG.normal(size=(N, 5, 4, 6))  # an image as torch has it
# As after an image with channels first on one side.
TURNED = WIDE.reshape(3, 4, 5).swapaxes(0, 1).reshape(12, 5)
OTHER_IMAGE = IMAGE.copy()
OTHER_IMAGE[1, 2, 3, 4] += 9
CONV = RNG.normal(size=(5, 3, 1, 1))


# What both sides have, where they differ, what else is told,
# and perhaps what is told where left is right.
TOLD: dict[str, tuple[Any, ...]] = {
    "a residual that one side lacks, though the layers in the block agree": (
        {"block.fc": linear(KERNEL), "block": mine(INNER + 1), "head": mine(INNER * 2)},
        {"block/fc": dense(KERNEL), "block": mine(INNER), "head": mine(INNER)},
        "block output", "",
    ),
    "exchanged experts, which one side has packed": (
        {"moe": mine(INNER, w=EXPERTS), "head": mine(INNER)},
        {
            "moe/0": dense(EXPERTS[1], RNG.normal(size=(N, M))),
            "moe/1": dense(EXPERTS[0], RNG.normal(size=(N, M))),
            "moe": mine(INNER + 1),
            "head": mine(INNER + 1),
        },
        "moe output", "moe has the numbers of moe/1/kernel + moe/0/kernel, which run in another "
                      "order",
    ),
    "a kernel in another order": (
        {"fc": linear(WIDE, bias=np.zeros(5))}, {"fc": dense(TURNED, bias=np.zeros(5))},
        "fc kernel",
        '"fc.weight" = {to = "fc/kernel", axes = "m (b c) -> (c b) m", sizes = {b = 3, c = 4}}; '
        "if the right layer computes with them where they are, --write-mapping writes this",
    ),
    "a place by channel and position": (
        {"c": Layer(["Conv2d"], {"weight": CONV}, IMAGE)},
        {"c": Layer(["Conv2D"], {"kernel": CONV.transpose(2, 3, 1, 0)}, np.moveaxis(OTHER_IMAGE, 1,
        -1))},
        "c output", "row 1, channel 2, position 3, position 4",
        "row 1, position 3, position 4, channel 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_is_cut_otherwise_and_wrong_is_told(name: str, tmp_path: Path) -> None:
    of_left, of_right, place, words, *back = TOLD[name]
    left, right = both(tmp_path, of_left, of_right)
    found = compare_records(left, right)
    assert found.explanation[1].startswith(place)
    assert words in "\n".join([found.explanation[1], *(cause.sentence for cause in found.causes)])
    assert all(line in compare_records(right, left).explanation[1] for line in back)
    # No number tells whether the layer computes accordingly, so what is written passes.
    if found.broken == "weights":
        passes_with_what_is_written(tmp_path, left, right)


def test_numbers_beyond_float32_are_paired_without_a_warning(tmp_path: Path) -> None:
    far = KERNEL * 1e300
    (pair,) = pair_sides(*both(tmp_path, {"a": linear(far)}, {"b": dense(far)})).pairs
    assert (pair.left.name, pair.right.name) == ("a", "b")


def test_weights_outside_layers_are_paired_by_name(tmp_path: Path) -> None:
    """As Record.weights records them."""

    def record_arrays(name: str, framework: str, **arrays: Array) -> Side:
        path = write_layers(tmp_path / name, framework, {"l": mine(INNER)})
        save_file(arrays, path / "weights.safetensors")
        return Side(path)

    one, two = RNG.normal(size=(M, M)), RNG.normal(size=(M, M))
    left = record_arrays("left", "arrays", w=one, v=two)
    assert compare_records(left, record_arrays("same", "keras", v=two, w=one)).passed
    found = compare_records(left, record_arrays("other", "arrays", v=two, w=one + 5))
    assert (found.broken, found.explanation[1].partition(":")[0]) == ("weights", "w weight")
    assert compare_records(left, record_arrays("turned", "keras", w=one.T, v=two)).passed
    fewer = record_arrays("fewer", "keras", w=one[:2], v=two)
    for sides in ((left, fewer), (fewer, left)):
        with pytest.raises(CannotBeginError, match=r"^w .*has no partner"):
            compare_records(*sides)
    for names, alone in (("w", "v"), ("w v u", "u")):
        right = record_arrays(
            names, "arrays", **{name: RNG.normal(size=(M, M)) for name in names.split()}
        )
        with pytest.raises(CannotBeginError, match=f"^{alone} .*has no partner"):
            compare_records(left, right)


# Names of layers of one shape on both sides in the order in which they ran,
# and the right one of each left one.
NAMES: dict[str, tuple[list[str], list[str], list[int]]] = {
    "equal names": (["mlp.gate", "mlp.up"], ["mlp/up", "mlp/gate"], [1, 0]),
    "equal last parts": (
        ["a.0.gate", "a.0.up", "a.1.up"],
        ["b_0/up", "b_0/gate", "b_1/up"],
        [1, 0, 2],
    ),
    "equal names with numbers": (["n.fc1", "n.fc2"], ["fc2", "fc1"], [1, 0]),
    "some equal names": (["gate", "up", "first"], ["start", "up", "gate"], [2, 1, 0]),
    "numbers that begin elsewhere": (["net.0", "net.1"], ["net/1", "net/2"], [0, 1]),
    "other names": (["query", "key"], ["left", "right"], [0, 1]),
}


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_one_shape_are_carried_to_those_of_their_names(name: str, tmp_path: Path) -> None:
    """A pair that only the order tells is told as a guess."""
    of_left, of_right, wanted = NAMES[name]
    left = {own: linear(RNG.normal(size=(M, M))) for own in of_left}
    sides = both(tmp_path, left, {own: dense(RNG.normal(size=(M, M))) for own in of_right})
    pairing = pair_sides(*sides)
    made = carry_weights(pairing)
    for own, place in zip(of_left, wanted, strict=True):
        np.testing.assert_array_equal(made[f"{of_right[place]}/kernel"], left[own].own["weight"].T)
    guesses = {"some equal names": 1, "numbers that begin elsewhere": 2, "other names": 2}
    assert [pair.how for pair in pairing.pairs].count("order") == guesses.get(name, 0)


@pytest.mark.parametrize("kind", ["order", "shape"])
def test_carry_tells_a_guess_and_the_command_that_writes_all(kind: str, tmp_path: Path) -> None:
    kernel = RNG.normal(size=(M, M))
    left: Layers = {f"layer{place}": linear(kernel + place) for place in range(3)}
    right: Layers = {f"dense_{place}": dense(kernel - place - 1) for place in range(3)}
    if kind == "shape":
        left = {name: mine(INNER, scale=layer.own["weight"]) for name, layer in left.items()}
        right = {name: mine(INNER, gamma=layer.own["kernel"]) for name, layer in right.items()}
    sides = both(tmp_path, left, right)
    out, drafted = tmp_path / "out.safetensors", tmp_path / "drafted.toml"
    status, told, _ = rosetta(
        "carry", sides[0].path, "--to", "keras", "--like", sides[1].path, "-o", out
    )
    (guess,) = [
        line
        for line in told.splitlines()
        if line.startswith(f"paired by {kind}: 3 lines, such as [")
    ]
    assert status == 0
    if kind == "order":
        assert '[layers] "layer0" = "dense_0"; ' in guess
        (cause,) = [
            cause.sentence for cause in compare_records(*sides).causes if "order" in cause.sentence
        ]
        assert cause.startswith("layer0 and dense_0 were paired by the order")
    first, _, command = guess.partition("] ")[2].partition("; rosetta-")
    assert (
        rosetta(*shlex.split(command.removesuffix(" writes all").replace("FILE", str(drafted))))[0]
        == 0
    )
    written = [
        line for line in drafted.read_text("utf-8").splitlines() if line.endswith(f"# by {kind}")
    ]
    assert len(written) == 3
    assert written[0] == f"{first}  # by {kind}"


def test_layers_without_weights_are_told_at_the_next_layer(tmp_path: Path) -> None:
    """Where a mapping pairs them, they are compared themselves."""
    other = np.asarray(RNG.normal(size=(M, M)))
    left: Layers = {
        "first": linear(KERNEL),
        "n.relu": Layer(["ReLU"], {}, INNER),
        "out": linear(other),
    }
    right: Layers = {"first": dense(KERNEL), "act": Layer(["Activation"], {}, INNER + 1)}
    sides = both(tmp_path, left, {**right, "out": dense(other, INNER + 1)})
    for side, rate in zip(sides, (0.1, 0.2), strict=True):
        edited(
            side.path,
            lambda said, rate=rate: said["layers"][1].update(settings={"negative_slope": rate}),
        )
    sides = Side(sides[0].path), Side(sides[1].path)
    found = compare_records(*sides)
    assert found.explanation[1].startswith("out output")
    words = "before out the left side calls ReLU n.relu, the right side Activation act"
    slopes = "of n.relu negative_slope is 0.1 on the left and 0.2 on the right"
    assert [cause.sentence for cause in found.causes][:2] == [words, slopes]
    mapping = mapping_of(tmp_path, '[layers]\n"n.relu" = "act"\n')
    assert compare_records(*sides, mapping).explanation[1].startswith("n.relu output")
