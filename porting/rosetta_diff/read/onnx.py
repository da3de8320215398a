"""Exported models in ONNX: operators,
whose initializers an exporter may have made of several weights."""

from functools import partial
from typing import Any, final

from rosetta_diff.read.base import SEQUENCE, STATE, Framework, Parts, Recurrent
from rosetta_diff.read.rules import UPSCALED, Own, Rule, Settings, canonical, rule, turned
from rosetta_diff.read.view import Tensor, View, flat

GATES = {"rnn": (0,), "gru": (0, 1, 2), "lstm": (0, 2, 3, 1)}  # the canonical ones by their places


def gemm(settings: Settings) -> tuple[Rule, ...]:
    """A product and what is added to it, by the operator itself or after it."""
    kernel = turned("B") if settings.get("transB") else "B"
    return (rule("dense", kernel=kernel, bias=(Own("C"), Own("bias"))),)


def recurrent(kind: str, settings: Settings) -> tuple[Rule, ...]:
    """A rule for each direction. An array has both biases, which a GRU does not add up."""
    gates, number = GATES[kind], len(GATES[kind])
    axes = "direction parts in -> in parts" if number > 1 else "direction out in -> in out"
    rules = []
    for place in range(1 + (settings.get("direction") == "bidirectional")):
        picked = {"direction": place}
        tensors: dict[str, Any] = {
            name: Own(role, axes, number, gates, picked)
            for name, role in (("kernel", "W"), ("recurrent_kernel", "R"))
        }
        biases = [
            Own(
                "B",
                "direction parts -> parts",
                2 * number,
                tuple(first + gate for gate in gates),
                picked,
            )
            for first in (0, number)
        ]
        tensors |= (
            {"bias": biases[0], "recurrent_bias": biases[1]}
            if kind == "gru"
            else {"bias": (*biases,)}
        )
        rules.append(rule(kind, "reverse" if place else "", **tensors))
    return tuple(rules)


@final
class Onnx(Framework):
    name = "onnx"
    folds_weights = True
    layers = {
        "Gemm": gemm,
        "MatMul": gemm,
        "Conv": rule("conv", kernel=turned("W"), bias="B"),
        "ConvTranspose": rule("conv_transpose", kernel=turned("W"), bias="B"),
        "Gather": rule("embedding", embeddings="data"),
        "LayerNormalization": rule("layernorm", gamma="Scale", beta="B"),
        "RMSNormalization": rule("rmsnorm", gamma="scale"),
        "GroupNormalization": rule("groupnorm", gamma="scale", beta="bias"),
        "BatchNormalization": rule(
            "batchnorm",
            gamma="scale",
            beta="B",
            moving_mean="input_mean",
            moving_variance="input_var",
        ),
        "LSTM": partial(recurrent, "lstm"),
        "GRU": partial(recurrent, "gru"),
        "RNN": partial(recurrent, "rnn"),
    }
    settings = canonical(
        epsilon="epsilon",
        reset_after="linear_before_reset",
        time_first="layout",
        approximate="approximate",
        stride="strides",
        dilation="dilations",
        padding="pads",
        ceil_mode="ceil_mode",
    )
    meanings = {
        "linear_before_reset": bool,
        "layout": lambda layout: not layout,
        "approximate": lambda approximate: approximate == "tanh",
        "pads": lambda pads: pads[: len(pads) // 2],
    }
    always = {"embedding": {"padding_idx": None}, "dropout": UPSCALED}
    channels_first = True
    optimizers = {}  # it does not train

    def outputs(self, layer: Recurrent, parts: Parts) -> dict[str, Tensor]:
        """The sequence (T, D, N, H), and the last states (D, N, H);
        with another layout the rows come first."""
        order = [("time",), ("direction",), ("row",), ("unit",)]
        if not layer.time_first:
            order = [("row",), ("time",), ("direction",), ("unit",)]
        found = {}
        for name, (array, shape) in zip(("sequence", "last", "cell"), parts, strict=False):
            axes = tuple(axis for axis in order if name == "sequence" or axis != ("time",))
            view = View(
                array,
                axes,
                dict(zip(flat(axes), shape, strict=True)),
                {"direction": int(layer.part == "reverse")},
            )
            found[name] = Tensor((view,), SEQUENCE if name == "sequence" else STATE)
        return found
