"""Two records of one model that were cut otherwise: weights, outputs, gradients and slots find each other, by their
numbers or their shapes, and what is wrong with one is named."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.compare.carry import carried
from benchmarks.compare.comparer import Array
from benchmarks.compare.diff import compare_records
from benchmarks.compare.drafts import write_mapping
from benchmarks.compare.mapping import read_mapping
from benchmarks.compare.pairing import paired
from benchmarks.compare.record import Side
from common.errors import CannotBeginError

N, T, M, G, D = 2, 3, 6, 2, 2  # rows, positions, width, groups of heads, size of a head
RATE = 0.1
Layers = dict[str, tuple[list[str], dict[str, Array], Array]]  # path -> classes, own arrays, output


def record(path: Path, framework: str, layers: Layers, gradients: Mapping[str, Array], seed: int = 0) -> Side:
    """A record of these layers, with one step of Adam, whose slots are made of the gradients."""
    dot = "/" if framework == "keras" else "."
    weights = {f"{layer}{dot}{role}": array for layer, (_, own, _) in layers.items() for role, array in own.items()}
    slot, square = ("momentum", "velocity") if framework == "keras" else ("exp_avg", "exp_avg_sq")
    files: dict[str, dict[str, Array]] = {
        "inputs": {"x": np.arange(float(N * T)).reshape(N, T)},
        "weights": weights,
        "gradients": {name: gradients[name] for name in weights if name in gradients},
        "outputs": {"y": list(layers.values())[-1][2]},
        "layers": {f"{path}:0": output for path, (_, _, output) in layers.items()},
    }
    files["step-1"] = {name: weights[name] - RATE * gradient for name, gradient in files["gradients"].items()}
    files["slots"] = {f"{name}|{slot}": 0.1 * g for name, g in files["gradients"].items()}
    files["slots"] |= {f"{name}|{square}": 0.01 * g**2 for name, g in files["gradients"].items()}
    path.mkdir()
    for name, arrays in files.items():
        save_file({key: np.array(array, order="C") for key, array in arrays.items()}, path / f"{name}.safetensors")
    said = {
        "format": "rosetta-record",
        "version": 1,
        "framework": {"name": framework},
        "precision": "float64",
        "layers": [
            {"path": name, "classes": classes, "parameters": {role: f"{name}{dot}{role}" for role in own}}
            for name, (classes, own, _) in layers.items()
        ],
        "calls": [{"layer": name, "parts": [f"{name}:0"]} for name in layers],
        "optimizer": {"class": "Adam"},
        "loss": 1.0,
        "steps": [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}],
    }
    (path / "record.json").write_text(json.dumps(said), "utf-8")
    return Side(path)


Split = Callable[[Array], list[Array]]  # of the last axis into query, key and value


def blocks(array: Array) -> list[Array]:
    return [part.copy() for part in np.split(array, 3, -1)]


def grouped(array: Array) -> list[Array]:
    """Of each group of heads two queries, a key and a value."""
    parts = array.reshape(*array.shape[:-1], G, 4, D)
    found = parts[..., :2, :], parts[..., 2, :], parts[..., 3, :]
    return [part.reshape(*array.shape[:-1], -1) for part in found]


def interleaved(array: Array) -> list[Array]:
    """Blocks, of which query's and key's features are in RoPE's other order."""
    query, key, value = blocks(array)
    turned = [part.reshape(*part.shape[:-1], -1, 2).swapaxes(-1, -2).reshape(part.shape) for part in (query, key)]
    return [*turned, value]


def sides(
    folder: Path, split: Split, width: int, carried_numbers: bool = True, zero_bias: bool = True, change: Any = None
) -> tuple[Side, Side]:
    """An attention whose projections are one Linear on the left, in torch, and three Dense on the right, in Keras."""
    rng = np.random.default_rng(3)

    def normal(*shape: int) -> Array:
        return rng.normal(size=shape)

    kernel, bias, out = normal(M, width), np.zeros(width) if zero_bias else normal(width), normal(M, M)
    output, last = normal(N, T, width), normal(N, T, M)
    gradients = normal(M, width), normal(width), normal(M, M)
    left: Layers = {
        "block.qkv": (["Linear"], {"weight": kernel.T, "bias": bias}, output),
        "block.out": (["Linear"], {"weight": out.T}, last),
    }
    of_left = {"block.qkv.weight": gradients[0].T, "block.qkv.bias": gradients[1], "block.out.weight": gradients[2].T}
    right: Layers = {}
    of_right = {"block/out/kernel": gradients[2]}
    parts = zip(
        "qkv", split(kernel), split(bias), split(output), split(gradients[0]), split(gradients[1]), strict=True
    )
    for name, own_kernel, own_bias, own_output, own_gradient, of_bias in parts:
        if not carried_numbers:
            own_kernel, own_bias = np.ones_like(own_kernel), np.ones_like(own_bias)
        right[f"block/{name}"] = (["Dense"], {"kernel": own_kernel, "bias": own_bias}, own_output)
        of_right |= {f"block/{name}/kernel": own_gradient, f"block/{name}/bias": of_bias}
    right["block/out"] = (["Dense"], {"kernel": out}, last.copy())
    if change:
        change(right, of_right)
    return record(folder / "left", "torch", left, of_left), record(folder / "right", "keras", right, of_right)


@pytest.mark.parametrize("zero_bias", [True, False], ids=["biases of zeros", "biases"])
@pytest.mark.parametrize(("split", "width"), [(blocks, 3 * M), (grouped, 4 * G * D)], ids=["blocks", "groups"])
def test_one_layer_is_three_of_the_other_side_on_every_rung(
    split: Split, width: int, zero_bias: bool, tmp_path: Path
) -> None:
    left, right = sides(tmp_path, split, width, zero_bias=zero_bias)
    found = compare_records(left, right)
    assert found.passed, found.explanation
    assert found.control.passed
    tensors = {(check.rung, check.tensor) for check in found.checks}
    for rung, tensor in [
        ("weights", "block.qkv weight"),
        ("weights", "block.qkv bias"),
        ("forward", "block.qkv output"),
        ("gradients", "block.qkv weight"),
        ("step", "mean_square of block.qkv weight"),
        ("step", "block.qkv bias"),
    ]:
        assert (rung, tensor) in tensors
    assert any(note.startswith("paired by value: ") for note in found.notes)
    assert compare_records(right, left).passed


def put(array: Array) -> None:
    array.flat[1] = 9.0


def exchange(layers: Layers) -> None:
    layers["block/q"][1]["kernel"], layers["block/k"][1]["kernel"] = (
        layers["block/k"][1]["kernel"],
        layers["block/q"][1]["kernel"] * 1.5,
    )


# What is done to the right side's layers and gradients, the rung that breaks, and what is named.
MISTAKES: dict[str, tuple[Callable[[Layers, dict[str, Array]], None], str, str]] = {
    "an output": (
        lambda layers, gradients: (put(layers["block/k"][2]), put(layers["block/out"][2])),
        "forward",
        "block.qkv output",
    ),
    "a gradient": (lambda layers, gradients: put(gradients["block/v/kernel"]), "gradients", "block.qkv weight"),
    "a bias's gradient": (lambda layers, gradients: put(gradients["block/q/bias"]), "gradients", "block.qkv bias"),
    "a weight": (lambda layers, gradients: put(layers["block/q"][1]["kernel"]), "weights", "block.qkv weight"),
    "parts exchanged": (lambda layers, gradients: exchange(layers), "weights", "block.qkv weight"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_one_of_the_three_is_named(mistake: str, tmp_path: Path) -> None:
    change, rung, words = MISTAKES[mistake]
    found = compare_records(*sides(tmp_path, blocks, 3 * M, change=change))
    assert found.broken == rung
    assert words in found.explanation[1]


@pytest.mark.parametrize(("split", "width"), [(blocks, 3 * M), (grouped, 4 * G * D)], ids=["blocks", "groups"])
def test_the_mapping_that_is_written_carries_both_ways_to_the_byte(split: Split, width: int, tmp_path: Path) -> None:
    left, right = sides(tmp_path, split, width)
    write_mapping(tmp_path / "mapping.toml", paired(left, right))
    mapping = read_mapping(tmp_path / "mapping.toml")
    (tmp_path / "empty").mkdir()
    _, empty = sides(tmp_path / "empty", split, width, carried_numbers=False)
    arrays = carried(paired(left, empty, mapping))
    for name, array in right.arrays("weights").items():
        assert (arrays[name].shape, arrays[name].tobytes()) == (array.shape, array.tobytes())
    (tmp_path / "other").mkdir()
    other, _ = sides(tmp_path / "other", split, width, change=lambda *of: None, zero_bias=False)
    back = carried(paired(right, other, mapping))  # the same file, from the right side to the left
    for name, array in left.arrays("weights").items():
        assert (back[name].shape, back[name].tobytes()) == (array.shape, array.tobytes())
    again = compare_records(left, right, mapping)
    assert again.passed
    assert {pair.found for pair in again.pairing.pairs} == {"mapping"}


def test_weights_that_are_not_carried_yet_are_paired_by_shapes_that_add_up(tmp_path: Path) -> None:
    left, right = sides(tmp_path, blocks, 3 * M, carried_numbers=False)
    arrays = carried(paired(left, right))
    (tmp_path / "expected").mkdir()
    _, expected = sides(tmp_path / "expected", blocks, 3 * M)
    for name, array in expected.arrays("weights").items():
        np.testing.assert_array_equal(arrays[name], array)


def test_what_stands_between_layers_shows_in_the_layer_that_contains_them(tmp_path: Path) -> None:
    """A residual that one side lacks: the layers in the block agree, and the block does not."""
    rng = np.random.default_rng(0)
    kernel, inside = rng.normal(size=(M, M)), rng.normal(size=(N, T, M))
    layers: dict[str, Layers] = {}
    for framework, own in (("torch", {"weight": kernel.T}), ("keras", {"kernel": kernel})):
        dot = "/" if framework == "keras" else "."
        layers[framework] = {
            f"block{dot}fc": (["Linear" if framework == "torch" else "Dense"], own, inside),
            "block": (["mine.Block"], {}, inside + (1.0 if framework == "torch" else 0.0)),
            "head": (["mine.Head"], {}, inside * 2 if framework == "torch" else inside),
        }
    sides = [record(tmp_path / name, name, of, {}) for name, of in layers.items()]
    found = compare_records(sides[0], sides[1])
    assert found.broken == "forward"
    assert found.explanation[1].startswith("block output")


def both(folder: Path, left: Layers, right: Layers) -> tuple[Side, Side]:
    return record(folder / "left", "torch", left, {}), record(folder / "right", "keras", right, {})


def passes_with_what_is_written(folder: Path, left: Side, right: Side) -> None:
    write_mapping(folder / "mapping.toml", paired(left, right))
    mapping = read_mapping(folder / "mapping.toml")
    found = compare_records(left, right, mapping)
    assert found.passed, found.explanation
    for name, array in carried(paired(left, right, mapping)).items():
        np.testing.assert_array_equal(array, right.arrays("weights")[name])


RNG = np.random.default_rng(5)


def test_weights_of_own_layers_find_each_other_whatever_they_are_called(tmp_path: Path) -> None:
    """The first of one side has the shape of the other's second."""
    one, two, output = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 4, 3)), RNG.normal(size=(N, M))
    left: Layers = {"moe": (["mine.Moe"], {"w1": one, "w2": two}, output)}
    right: Layers = {"moe": (["mine.Moe"], {"first": one.swapaxes(1, 2), "w1": two.swapaxes(1, 2)}, output.copy())}
    sides = both(tmp_path, left, right)
    assert compare_records(*sides).passed
    passes_with_what_is_written(tmp_path, *sides)


def test_a_layer_in_parts_has_each_weight_in_one_line(tmp_path: Path) -> None:
    """Whose biases, too, hold numbers that find each other."""
    kernel, bias, output = RNG.normal(size=(M, 2 * M)), RNG.normal(size=2 * M), RNG.normal(size=(N, 2 * M))
    left: Layers = {"kv": (["Linear"], {"weight": kernel.T, "bias": bias}, output)}
    right: Layers = {
        name: (["Dense"], {"kernel": kernel[:, part], "bias": bias[part]}, output[:, part].copy())
        for name, part in (("k", slice(M)), ("v", slice(M, None)))
    }
    right["end"] = (["mine.End"], {}, output)
    left["end"] = (["mine.End"], {}, output)
    sides = both(tmp_path, left, right)
    assert len(paired(*sides).pairs) == len({pair.name + str([*pair.left.tensors]) for pair in paired(*sides).pairs})
    passes_with_what_is_written(tmp_path, *sides)


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


@pytest.mark.parametrize("exchanged", [False, True])
def test_packed_experts_are_compared_with_the_layer_that_contains_a_list_of_them(
    exchanged: bool, tmp_path: Path
) -> None:
    kernels, output = RNG.normal(size=(2, M, M)), RNG.normal(size=(N, M))
    left: Layers = {"moe": (["mine.Moe"], {"w": kernels}, output), "head": (["mine.Head"], {}, output)}
    other = output + 1.0 if exchanged else output
    right: Layers = {
        f"moe/{number}": (["Dense"], {"kernel": kernel}, RNG.normal(size=(N, M)))
        for number, kernel in enumerate(kernels[::-1] if exchanged else kernels)
    }
    right |= {"moe": (["mine.Moe"], {}, other), "head": (["mine.Head"], {}, other)}
    found = compare_records(*both(tmp_path, left, right))
    assert "moe output" in [check.tensor for check in found.checks]
    assert found.passed != exchanged
    if exchanged:
        assert found.explanation[1].startswith("moe output")
        (cause,) = [cause.sentence for cause in found.causes if "another order" in cause.sentence]
        assert "moe with moe/1/kernel + moe/0/kernel" in cause


def test_an_embedding_with_more_rows_is_named(tmp_path: Path) -> None:
    table, output = RNG.normal(size=(5, M)), RNG.normal(size=(N, M))
    shifted = np.concatenate([RNG.normal(size=(1, M)), table, RNG.normal(size=(1, M))])
    left: Layers = {"emb": (["Embedding"], {"weight": table}, output)}
    found = compare_records(*both(tmp_path, left, {"emb": (["Embedding"], {"embeddings": shifted}, output)}))
    assert found.broken == "weights"
    assert found.explanation[1].startswith("emb")


def test_what_cannot_be_paired_is_refused_with_a_line_to_begin_with(tmp_path: Path) -> None:
    left, right = sides(tmp_path, interleaved, 3 * M, change=lambda layers, gradients: layers.pop("block/v"))
    with pytest.raises(CannotBeginError) as error:
        compare_records(left, right)
    assert '[weights] "block.qkv.weight" = {to = "block/q/kernel", axes = "n m -> m n"}' in str(error.value)
    assert "\n" not in str(error.value)
