"""The table of lstm_returns.md, of what an LSTM layer returns in Keras, PyTorch, Paddle and Flax.

The functions `lstm_returns` of support/in_FRAMEWORK.py take the same weights, in Keras's layout
(gates i, f, c, o; one bias), the same input and the same two initial states. They give the arrays
that calls return, of which the cells of the table make the arrays of a row. Rows are named after
return_sequences and return_state: "tf" is True and False.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from porting_tests.support.side import Array, Side, lstm_returns

N, T, V, H = 3, 5, 7, 4
PAGE = (Path(__file__).parents[1] / "lstm_returns.md").read_text("utf-8")
# By framework the column of its cells, and the names that they have for what a call returns.
COLUMNS = {
    "keras": (0, ""),
    "torch": (1, "output h_n c_n"),
    "paddle": (2, "outputs h c"),
    "flax": (3, "outputs h c"),
}


def cells(column: int) -> dict[str, list[str]]:
    """The code in a column's cells by row; Keras's say more after a semicolon."""
    rows = re.findall(r"^\| `([TF])\w+` \| `([TF])\w+` \| (.+) \|$", PAGE, re.MULTILINE)
    texts = {
        f"{sequences}{state}".lower(): rest.split(" | ")[column] for sequences, state, rest in rows
    }
    return {row: re.findall("`(.+?)`", text.partition(";")[0]) for row, text in texts.items()}


def example() -> dict[str, Array]:
    """Weights, an input and a pair of initial states, all float32."""
    rng = np.random.default_rng(0)
    weights = {"kernel": (V, 4 * H), "recurrent_kernel": (H, 4 * H), "bias": (4 * H,)}
    shapes = weights | {"x": (N, T, V), "state_h": (N, H), "state_c": (N, H)}
    return {name: rng.normal(0.0, 0.5, shape).astype("float32") for name, shape in shapes.items()}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def expected_rows(arrays: dict[str, Array]) -> dict[str, list[Array]]:
    """By NumPy, in float64."""
    x, h, c, *weights = (
        arrays[name].astype("float64")
        for name in ("x", "state_h", "state_c", "kernel", "recurrent_kernel", "bias")
    )

    def lstm(x: Array, h: Array, c: Array) -> list[Array]:
        kernel, recurrent_kernel, bias = weights
        outputs = []
        for x_t in x.swapaxes(0, 1):
            i, f, g, o = np.split(x_t @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return [np.stack(outputs, 1), h, c]

    output, state_h, state_c = lstm(x, np.zeros_like(h), np.zeros_like(c))
    return {
        "ff": [state_h],
        "tf": [output],
        "ft": [state_h, state_h, state_c],
        "tt": [output, state_h, state_c],
        "initial_state": lstm(x, h, c),
        "step": lstm(x[:, :1], h, c),
    }


@pytest.mark.parametrize("framework", ["keras", "torch", "paddle", "flax"])
def test_every_row_is_the_same_array(
    framework: str, side_of: Callable[[str], Side], tmp_path: Path
) -> None:
    inputs, rows = tmp_path / "example.safetensors", tmp_path / "rows.safetensors"
    save_file(example(), inputs)
    side_of(framework).do(lstm_returns, inputs=inputs, path=rows)
    column, names = COLUMNS[framework]
    of_row, arrays = cells(column), load_file(rows)
    assert list(of_row) == ["ff", "tf", "ft", "tt"]
    for row, wanted in expected_rows(example()).items():
        call = row if f"{row}.0" in arrays else "tt"
        got = [array for name, array in sorted(arrays.items()) if name.startswith(f"{call}.")]
        codes = of_row.get(row, of_row["tt"])
        if names:
            got = [eval(code, dict(zip(names.split(), got, strict=True))) for code in codes]
        elif row in of_row:  # such as "state_h (N, H)"
            assert [array.shape for array in got] == [
                eval(code.partition(" ")[2]) for code in codes
            ]
        for k, (array, expected) in enumerate(zip(got, wanted, strict=True)):
            assert (array.shape, array.dtype) == (expected.shape, np.float32), (row, k)
            np.testing.assert_allclose(
                array, expected, rtol=0, atol=2e-6, err_msg=f"{framework} {row} {k}"
            )
