"""`rosetta-carry`: each weight arrives in its own layer, and what cannot be carried is refused."""

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from porting_tests.support.program import refusal, rosetta
from porting_tests.support.records import (
    DATA,
    arrays,
    dense,
    edited,
    linear,
    resaved,
    write_layers,
    write_tagger,
)
from porting_tests.support.side import Side as FrameworkSide
from porting_tests.support.side import run_program
from rosetta_diff.carry import carry_weights, write_carried
from rosetta_diff.helpers import UNFINISHED, CannotBeginError, write_atomically
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.read.side import Side


def sides(folder: Path) -> tuple[Path, Path]:
    """Records of one tagger in Paddle and in Keras."""
    return write_tagger(folder / "left", "paddle", DATA), write_tagger(
        folder / "right", "keras", DATA
    )


BACKBONE = """
import sys
import keras
from rosetta_record import Record

class Backbone(keras.Model):
    def __init__(self):
        self.second = keras.layers.Dense(3, name="second")
        layers = [keras.layers.BatchNormalization(), keras.layers.Dense(3)]
        self.block = keras.Sequential(layers, name="block")
        self.first = keras.layers.Dense(3, name="first")
        x = keras.Input((3,))
        super().__init__(x, self.second(self.block(self.first(x))))

keras.utils.set_random_seed(len(sys.argv[2]) + ord(sys.argv[2][1]))
model = Backbone()
if len(sys.argv) > 3:
    model.load_weights(sys.argv[3])
Record(sys.argv[1]).model(model)
"""


def test_keras_loads_each_weight_into_its_own_layer(
    side_of: Callable[[str], FrameworkSide], tmp_path: Path
) -> None:
    """Also where a functional model keeps layers as attributes,
    in another order than they compute."""
    for side in ("left", "like"):
        side_of("keras").do(run_program, text=BACKBONE, arguments=[str(tmp_path / side), side])
    left, like, out = tmp_path / "left", tmp_path / "like", tmp_path / "model.h5"
    assert not np.array_equal(
        arrays(left, "weights")["first/kernel"], arrays(left, "weights")["second/kernel"]
    )
    assert rosetta("carry", left, "--to", "keras", "--like", like, "-o", out)[0] == 0
    side_of("keras").do(
        run_program, text=BACKBONE, arguments=[str(tmp_path / "loaded"), "like", str(out)]
    )
    np.testing.assert_equal(arrays(tmp_path / "loaded", "weights"), arrays(left, "weights"))


def test_an_h5_file_is_refused_where_kerass_order_is_unknown(tmp_path: Path) -> None:
    paddle, keras = sides(tmp_path)
    for order, words in (
        ([], "does not tell the order"),
        ([["emb/embeddings"]], "is in no layer of model.layers"),
    ):
        edited(keras, lambda says, order=order: says.update(loaded=order))
        line = refusal(
            2, "carry", paddle, "--to", "keras", "--like", keras, "-o", tmp_path / "model.h5"
        )
        assert words in line
    assert not (tmp_path / "model.h5").exists()


def test_what_cannot_be_carried_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paddle, keras = map(Side, sides(tmp_path))
    out, to_keras = tmp_path / "out.safetensors", carry_weights(pair_sides(paddle, keras))
    with pytest.raises(CannotBeginError, match=r"no file of paddle; give it the ending \.pdparams"):
        write_carried(tmp_path / "model.onnx", paddle, carry_weights(pair_sides(keras, paddle)))
    with pytest.raises(CannotBeginError, match=r"expected \.h5 alone.*try: -o model\.h5"):
        write_carried(tmp_path / "model.weights.h5", keras, to_keras)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CannotBeginError, match="not installed here; try: pip install h5py"):
        write_carried(tmp_path / "model.h5", keras, to_keras)
    write_carried(out, keras, to_keras)
    with pytest.raises(CannotBeginError, match="exists"):
        write_carried(out, keras, to_keras)
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CannotBeginError, match="exists"):
        write_carried(tmp_path / "folder.safetensors", keras, to_keras, overwrite=True)
    for change in (0, 1):
        arrays = {name: array + change for name, array in to_keras.items()}
        write_carried(out, keras, arrays, overwrite=True)
        np.testing.assert_equal(load_file(out), arrays)
    again = "--to", "keras", "--like", keras.path, "-o", out
    assert "--overwrite" in refusal(2, "carry", paddle.path, *again)
    assert rosetta("carry", paddle.path, *again, "--overwrite")[0] == 0
    np.testing.assert_equal(load_file(out), to_keras)
    assert "--like" in refusal(2, "carry", paddle.path, "--to", "keras", "-o", out)
    wrong = refusal(
        2, "carry", paddle.path, "--to", "torch", "-o", tmp_path / "out.pt", "--like", keras.path
    )
    assert "is a record of keras" in wrong
    resaved(paddle.path, "weights", lambda of: {name: of[name] for name in of if name != "fc.bias"})
    edited(
        paddle.path,
        lambda says: [says["layers"][-1]["parameters"].pop("bias"), says["weights"].pop("fc.bias")],
    )
    with pytest.raises(CannotBeginError, match="do not both have bias"):
        carry_weights(pair_sides(Side(paddle.path), keras))


def test_files_of_killed_processes_go_with_the_next_write(tmp_path: Path) -> None:
    left, out = tmp_path / f".other{UNFINISHED}", tmp_path / "out"
    left.touch()
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)  # as another process holds it while it writes
    write_atomically(out, "first")
    assert left.exists()
    os.close(other)
    write_atomically(out, "second")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert out.read_text() == "second"


def test_a_layer_that_one_side_lacks_is_named_with_its_neighbours(tmp_path: Path) -> None:
    kernels = {
        name: np.full((size, size), size * 1.0) for name, size in (("a", 2), ("b", 3), ("c", 4))
    }
    left = write_layers(
        tmp_path / "l", "torch", {name: linear(kernel) for name, kernel in kernels.items()}
    )
    right = write_layers(
        tmp_path / "r", "keras", {name: dense(kernels[name]) for name in ("a", "c")}
    )
    line = refusal(
        2, "carry", left, "--to", "keras", "--like", right, "-o", tmp_path / "m.safetensors"
    )
    assert "b (dense: kernel 3×3) of l has no partner" in line
    assert "nearest stand a (dense: kernel 2×2) with a, and c (dense: kernel 4×4) with c;" in line
