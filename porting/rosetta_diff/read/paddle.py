"""PaddlePaddle."""

import math
from collections.abc import Container, Iterator, Mapping
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
    INSIDE,
    NORM_OF_ALL,
    NORM_OF_EACH,
    VALUES,
    Settings,
    canonical,
    rule,
)
from rosetta_diff.read.torch import ATTENTION, LINEAR, STACKED, TORCH_RNN
from rosetta_diff.read.view import Tensor

BATCHNORM = rule(
    "batchnorm", gamma="weight", beta="bias", moving_mean="_mean", moving_variance="_variance"
)
LEGACY = Deviation(
    "is made in float32 whatever Paddle's default dtype is; give it dtype, or take BatchNorm2D",
    "paddle-legacy-batchnorm",
)
EPSILON = Deviation("Paddle rounds epsilon to float32", "paddle-norm-epsilon")
AVERAGE = Deviation("a position's share of the average", "paddle-average-gradient")
SMALLEST_POWER = 1e-30  # of a beta, that float32 has with all its digits


@final
class Paddle(Framework):
    name = "paddle"
    layers = {
        **STACKED,
        "Linear": rule("dense", kernel="weight", bias="bias"),
        "_BatchNormBase": BATCHNORM,
        "BatchNorm": BATCHNORM,
        "SimpleRNN": TORCH_RNN,
        "compat.Linear": LINEAR,
        "compat.MultiheadAttention": ATTENTION,
    }
    settings = canonical(
        epsilon="_epsilon",
        momentum="_momentum",
        rate="p dropout",
        padding_idx="_padding_idx",
        time_first="time_major",
        approximate="_approximate",
        activation="_act",
        num_heads="num_heads",
        negative_slope="_negative_slope",
        stride="_stride",
        dilation="_dilation",
        padding="_padding padding",
        ceil_mode="ceil_mode",
        groups="_num_groups _groups",
        padding_mode="_padding_mode",
        axis="_axis",
        mode="mode",
    )
    meanings = {"_padding_idx": lambda row: None if row == -1 else row}
    always = {"lstm": GATED, "gru": {"reset_after": True, **GATED}}
    channels_first = True
    made_in_float32 = {"BatchNorm": LEGACY}
    float32_epsilons = dict.fromkeys(
        ("LayerNorm", "_BatchNormBase", "BatchNorm", "_InstanceNormBase"), EPSILON
    )
    float32_gradients = {"AdaptiveAvgPool2D": AVERAGE, "AvgPool2D": AVERAGE}
    rounds_momentum = True
    optimizers = canonical(
        learning_rate="learning_rate",
        epsilon="_epsilon",
        beta_1="_beta1",
        beta_2="_beta2",
        momentum="_momentum",
        rho="_rho",
        weight_decay="_weight_decay regularization._coeff _regularization_coeff",
        nesterov="_use_nesterov",
        centered="_centered",
        amsgrad="_amsgrad",
    )
    epsilons = {"Adam": AFTER_CORRECTION, "AdamW": AFTER_CORRECTION, "RMSProp": INSIDE}
    clips = {
        "ClipGradByGlobalNorm": NORM_OF_ALL,
        "ClipGradByNorm": NORM_OF_EACH,
        "ClipGradByValue": VALUES,
    }
    files = (".pdparams", ".safetensors")

    def clipping(self, settings: Settings) -> tuple[str, Any] | None:
        """By an object of one of these classes."""
        way = self.clips.get(str(settings.get("clipping")))
        return (
            (way, settings.get("clipping.clip_norm", settings.get("clipping.max"))) if way else None
        )

    def counters(self, settings: Settings) -> set[int]:
        """Adam keeps powers of its betas, beginning with beta itself."""
        beta, powers = settings.get("_beta2"), settings.get("beta2_pow_acc")
        if not isinstance(beta, float) or not 0 < beta < 1 or not isinstance(powers, list):
            return set()
        known = (
            power for power in powers if isinstance(power, float) and SMALLEST_POWER < power <= 1
        )
        return {round(math.log(power) / math.log(beta)) - 1 for power in known}

    def float32_settings(self, backend: str | None) -> Mapping[str, tuple[str, ...]]:
        return {
            "RMSProp": ("rho", "epsilon", "momentum", "learning_rate"),
            "Momentum": ("momentum",),
        }

    def second_names(
        self, classes: Container[str], parameters: Mapping[str, str]
    ) -> dict[str, str]:
        """Second names of recurrent layers; Paddle warns of a file that lacks them."""
        both = any(role.endswith("_reverse") for role in parameters)
        aliases = {}
        for role, name in parameters.items() if "RNNBase" in classes else ():
            kind, _, place = role.partition("_l")
            number, _, backward = place.partition("_")
            cell = "cell_bw" if backward else "cell_fw" if both else "cell"
            aliases[name.removesuffix(role) + f"{number}.{cell}.{kind}"] = name
        return aliases

    def outputs(self, layer: Recurrent, parts: Parts) -> dict[str, Tensor]:
        return stacked_outputs(layer, parts)

    def idle_settings(self, settings: Settings) -> Iterator[str]:
        yield from super().idle_settings(settings)
        yield from idle_in_stacked(settings)
