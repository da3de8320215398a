"""PyTorch."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, final

from rosetta_diff.read.base import (
    Deviation,
    Framework,
    Parts,
    Recurrent,
    idle_in_stacked,
    stacked_outputs,
)
from rosetta_diff.read.rules import (
    AFTER_CORRECTION,
    GATED,
    OUTSIDE,
    SWAPPED,
    UPSCALED,
    Own,
    Rules,
    Settings,
    canonical,
    rule,
    turned,
)
from rosetta_diff.read.view import Tensor

TORCH_RNN = rule(
    "rnn",
    kernel=turned("weight_ih*"),
    recurrent_kernel=turned("weight_hh*"),
    bias=(Own("bias_ih*"), Own("bias_hh*")),
)
TORCH_CONV = rule("conv", kernel=turned("weight"), bias="bias")
TORCH_SCALED = rule("layernorm", gamma="weight", beta="bias")
LINEAR = rule("dense", kernel=turned("weight"), bias="bias")
# Either one array holds query, key and value, or each has its own,
# where they come from different widths.
ATTENTION = (
    *(
        rule(
            "dense",
            part,
            kernel=kernel,
            bias=(Own("in_proj_bias", "parts", 3, i), Own(f"{part[0]}_proj_bias")),
        )
        for i, part in (((0,), "query"), ((1,), "key"), ((2,), "value"))
        for kernel in (turned("in_proj_weight", 3, i), turned(f"{part[0]}_proj_weight"))
    ),
    rule("dense", "output", kernel=turned("out_proj.weight"), bias="out_proj.bias"),
)
# Layers that torch and Paddle keep alike.
STACKED: Rules = {
    "Embedding": rule("embedding", embeddings="weight"),
    "LayerNorm": TORCH_SCALED,
    "GroupNorm": replace(TORCH_SCALED, kind="groupnorm"),
    "RMSNorm": rule("rmsnorm", gamma="weight"),
    "Conv": TORCH_CONV,
    "ConvTranspose": replace(TORCH_CONV, kind="conv_transpose"),
    "LSTM": replace(TORCH_RNN, kind="lstm"),  # as Keras, both have the gates in the order i f c o
    "GRU": rule(
        "gru",
        kernel=turned("weight_ih*", *SWAPPED),
        recurrent_kernel=turned("weight_hh*", *SWAPPED),
        bias=Own("bias_ih*", "parts", *SWAPPED),
        recurrent_bias=Own("bias_hh*", "parts", *SWAPPED),
    ),
}


@final
class Torch(Framework):
    name = "torch"
    layers = {
        **STACKED,
        "Linear": LINEAR,
        "_BatchNorm": rule(
            "batchnorm",
            gamma="weight",
            beta="bias",
            moving_mean="running_mean",
            moving_variance="running_var",
        ),
        "RNN": TORCH_RNN,
        "MultiheadAttention": ATTENTION,
    }
    settings = canonical(
        epsilon="eps",
        momentum="momentum",
        rate="p dropout",
        padding_idx="padding_idx",
        time_first="batch_first",
        approximate="approximate",
        activation="nonlinearity",
        num_heads="num_heads",
        negative_slope="negative_slope",
        stride="stride",
        dilation="dilation",
        padding="padding",
        ceil_mode="ceil_mode",
        groups="num_groups groups",
        padding_mode="padding_mode",
        axis="dim",
    )
    meanings = {
        # The new batch's share, where Keras and Paddle have the old statistics';
        # None is a mean of all.
        "momentum": lambda share: share if share is None else round(1 - share, 12),
        "batch_first": lambda batch_first: not batch_first,
        "approximate": lambda approximate: approximate == "tanh",
    }
    always = {"lstm": GATED, "gru": {"reset_after": True, **GATED}, "dropout": UPSCALED}
    channels_first = True
    divides_by_n = False
    epsilon = "eps"
    float32_gradients = {"Hardsigmoid": Deviation("1/6", "torch-hardsigmoid-gradient")}
    optimizers = canonical(
        learning_rate="lr",
        epsilon="eps",
        momentum="momentum",
        rho="alpha",
        weight_decay="weight_decay",
        nesterov="nesterov",
        centered="centered",
        amsgrad="amsgrad",
        dampening="dampening",
    )
    epsilons = {"Adam": AFTER_CORRECTION, "AdamW": AFTER_CORRECTION, "RMSprop": OUTSIDE}
    files = (".pt", ".safetensors")

    def counters(self, settings: Settings) -> set[int]:
        steps = settings.get("step")
        return (
            {step for step in steps if isinstance(step, int)} if isinstance(steps, list) else set()
        )

    def settings_of_optimizer(self, settings: Settings) -> dict[str, Any]:
        betas = settings.get("betas")
        both = (
            dict(zip(("beta_1", "beta_2"), betas, strict=False)) if isinstance(betas, list) else {}
        )
        return super().settings_of_optimizer(settings) | both

    def outputs(self, layer: Recurrent, parts: Parts) -> dict[str, Tensor]:
        return stacked_outputs(layer, parts)

    def idle_settings(self, settings: Settings) -> Iterator[str]:
        yield from super().idle_settings(settings)
        yield from idle_in_stacked(settings)
