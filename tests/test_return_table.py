"""The table of docs/lstm_returns.md, of what an LSTM layer returns in Keras, PyTorch and Paddle.

Each `*_rows` function takes the same NumPy weights, in Keras's layout (gates i, f, c, o; one bias), the same input
and the same two initial states, and returns the list of arrays that each row of the table gives. The rows are named
after return_sequences and return_state: "tf" is True and False.
A framework is imported inside its function only, and the tests call each function in a process of its own.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_backend import Lstm

N, T, V, H = 3, 5, 7, 4


def example() -> dict[str, np.ndarray]:
    """Weights, an input and a pair of initial states, all float32 and C-contiguous."""
    rng = np.random.default_rng(0)
    weights = {"kernel": (V, 4 * H), "recurrent_kernel": (H, 4 * H), "bias": (4 * H,)}
    shapes = weights | {"x": (N, T, V), "state_h": (N, H), "state_c": (N, H)}
    return {name: rng.normal(0.0, 0.5, shape).astype("float32") for name, shape in shapes.items()}


def keras_rows(a: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    from keras import layers

    def call(
        return_sequences: bool, return_state: bool, x: np.ndarray, states: list | None = None
    ) -> list[np.ndarray]:
        layer = layers.LSTM(H, return_sequences=return_sequences, return_state=return_state)
        layer.build(x.shape)
        layer.set_weights([a["kernel"], a["recurrent_kernel"], a["bias"]])
        result = layer(x, initial_state=states)
        assert isinstance(result, (list, tuple)) == return_state  # one tensor, or output, state_h, state_c
        return [np.asarray(r) for r in (result if return_state else [result])]

    states = [a["state_h"], a["state_c"]]
    rows = {"ff": (False, False), "tf": (True, False), "ft": (False, True), "tt": (True, True)}
    return {name: call(*returned, a["x"]) for name, returned in rows.items()} | {
        "initial_state": call(True, True, a["x"], states),
        "step": call(True, True, np.ascontiguousarray(a["x"][:, :1]), states),
    }


def rows_of(whole: tuple, with_states: tuple, step: tuple) -> dict[str, list[np.ndarray]]:
    """The rows of a framework without Keras's two options: of calls that give `output, (h_n, c_n)`."""
    tt, initial_state, one = ([r.numpy() for r in (out, h[-1], c[-1])] for out, (h, c) in (whole, with_states, step))
    output, state_h, state_c = tt
    assert np.array_equal(output[:, -1], state_h)
    assert [len(state) for state in whole[1]] == [1, 1]  # of one layer
    of_options = {"ff": [state_h], "tf": [output], "ft": [state_h, state_h, state_c], "tt": tt}
    return of_options | {"initial_state": initial_state, "step": one}


def torch_rows(a: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    import torch

    lstm = torch.nn.LSTM(V, H, batch_first=True)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.from_numpy(np.ascontiguousarray(a["kernel"].T)))
        lstm.weight_hh_l0.copy_(torch.from_numpy(np.ascontiguousarray(a["recurrent_kernel"].T)))
        lstm.bias_ih_l0.copy_(torch.from_numpy(a["bias"]))
        lstm.bias_hh_l0.zero_()

        x = torch.from_numpy(a["x"])
        states = tuple(torch.from_numpy(a[k]).unsqueeze(0) for k in ("state_h", "state_c"))  # (1, N, H)
        return rows_of(lstm(x), lstm(x, states), lstm(x[:, :1], states))


def paddle_rows(a: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    import paddle

    paddle.device.set_device("cpu")
    lstm = paddle.nn.LSTM(V, H)  # time_major=False by default: (N, T, V), as in Keras
    lstm.weight_ih_l0.set_value(np.ascontiguousarray(a["kernel"].T))
    lstm.weight_hh_l0.set_value(np.ascontiguousarray(a["recurrent_kernel"].T))
    lstm.bias_ih_l0.set_value(a["bias"])
    lstm.bias_hh_l0.set_value(np.zeros_like(a["bias"]))
    lstm.eval()

    with paddle.no_grad():
        x = paddle.to_tensor(a["x"])
        states = tuple(paddle.to_tensor(a[k]).unsqueeze(0) for k in ("state_h", "state_c"))  # (1, N, H)
        return rows_of(lstm(x), lstm(x, states), lstm(x[:, :1], states))


def expected_rows(a: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """The referee's, in float64."""
    a64 = {k: v.astype("float64") for k, v in a.items()}

    def lstm(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> list[np.ndarray]:
        layer = Lstm(x, (h, c), a64["kernel"], a64["recurrent_kernel"], a64["bias"])
        return [layer.outputs, layer.state_h, layer.state_c]

    zero = np.zeros_like(a64["state_h"])
    output, h, c = lstm(a64["x"], zero, zero)
    return {
        "ff": [h],
        "tf": [output],
        "ft": [h, h, c],
        "tt": [output, h, c],
        "initial_state": lstm(a64["x"], a64["state_h"], a64["state_c"]),
        "step": lstm(a64["x"][:, :1], a64["state_h"], a64["state_c"]),
    }


@pytest.mark.parametrize("framework", ["keras", "torch", "paddle"])
def test_every_row_is_the_same_array(framework: str, tmp_path: Path) -> None:
    where = tmp_path / "rows.npz"
    subprocess.run([sys.executable, __file__, framework, str(where)], check=True)
    expected = {
        f"{row}.{k}": array for row, arrays in expected_rows(example()).items() for k, array in enumerate(arrays)
    }
    assert expected["step.0"].shape == (N, 1, H)
    with np.load(where) as saved:
        assert set(saved.files) == set(expected)
        for name, want in expected.items():
            assert (saved[name].shape, saved[name].dtype) == (want.shape, np.float32), name
            np.testing.assert_allclose(saved[name], want, rtol=0, atol=2e-6, err_msg=f"{framework} {name}")


if __name__ == "__main__":
    made = {"keras": keras_rows, "torch": torch_rows, "paddle": paddle_rows}[sys.argv[1]](example())
    np.savez(sys.argv[2], **{f"{row}.{k}": r for row, rs in made.items() for k, r in enumerate(rs)})
