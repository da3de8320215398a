"""Flax's side of the tests of porting: see side.py."""

from typing import Any

import jax
from flax import nnx

from porting_tests.support.zoo import Array


def reset(dtype: str) -> None:
    jax.config.update("jax_enable_x64", dtype == "float64")


def lstm_returns(arrays: dict[str, Array]) -> dict[str, list[Any]]:
    cell = nnx.OptimizedLSTMCell(
        *arrays["x"].shape[2:], len(arrays["recurrent_kernel"]), rngs=nnx.Rngs(0)
    )
    weights = {
        "kernel": cell.dense_i.kernel,
        "recurrent_kernel": cell.dense_h.kernel,
        "bias": cell.dense_h.bias,
    }
    for name, weight in weights.items():
        weight.set_value(arrays[name])
    lstm = nnx.RNN(cell, return_carry=True)
    x = arrays["x"]
    initial = (arrays["state_c"], arrays["state_h"])
    calls = {
        "tt": lstm(x),
        "initial_state": lstm(x, initial_carry=initial),
        "step": lstm(x[:, :1], initial_carry=initial),
    }
    return {row: [outputs, h, c] for row, ((c, h), outputs) in calls.items()}
