"""Keras 3, whose layout is the canonical one; and records that no framework made."""

from collections.abc import Mapping
from dataclasses import replace
from typing import final

from rosetta_diff.read.base import Deviation, Framework
from rosetta_diff.read.rules import (
    BEFORE_CORRECTION,
    CLIPS,
    GRADIENT,
    INSIDE,
    RECURRENT,
    STRAIGHT,
    UPSCALED,
    Own,
    Rule,
    Rules,
    Settings,
    canonical,
    of_heads,
    rule,
    same,
)


def einsum(settings: Settings) -> tuple[Rule, ...]:
    terms, _, result = str(settings.get("equation", "")).replace("...", "").partition("->")
    kernel = terms.partition(",")[2]
    # The axes that are summed over; they come first.
    inputs = sum(letter not in result for letter in kernel)
    in_order = not any(letter in result for letter in kernel[:inputs])
    return of_heads(inputs, len(kernel) - inputs) if in_order else ()


def gru(settings: Settings) -> tuple[Rule, ...]:
    """Its bias is (2, 3H) where the reset gate stands after the recurrent product,
    (3H,) where it stands before."""
    if not settings.get("reset_after", True):
        return (replace(RNN, kind="gru"),)
    bias, recurrent_bias = (Own("bias", "parts n -> (parts n)", 2, (part,)) for part in range(2))
    return (
        rule("gru", **same("kernel", "recurrent_kernel"), bias=bias, recurrent_bias=recurrent_bias),
    )


RNN = rule("rnn", **same("kernel", "recurrent_kernel", "bias"))
CONV = rule("conv", **same("kernel", "bias"))
CONV_TRANSPOSE = replace(CONV, kind="conv_transpose")
DENSE = replace(CONV, kind="dense")
SCALED = rule("layernorm", **same("gamma", "beta"))
LAYERS: Rules = {
    "Dense": DENSE,
    "EinsumDense": einsum,
    "Embedding": rule("embedding", **same("embeddings")),
    "LayerNormalization": SCALED,
    "GroupNormalization": replace(SCALED, kind="groupnorm"),
    "RMSNormalization": rule("rmsnorm", gamma="scale"),
    "BatchNormalization": rule(
        "batchnorm", **same("gamma", "beta", "moving_mean", "moving_variance")
    ),
    "Conv": CONV,
    "ConvTranspose": CONV_TRANSPOSE,
    # As the kernel of a convolution in as many groups as there are channels.
    "DepthwiseConv": rule("conv", kernel=Own("kernel", "... in n -> ... 1 (in n)"), bias="bias"),
    "SimpleRNN": RNN,
    "LSTM": replace(RNN, kind="lstm"),
    "GRU": gru,
}


SLICES = Deviation(
    "Keras on TensorFlow squares the gradients of an id that stands several times in a batch one "
    "by one",
    "keras-sparse-embeddings",
)


@final
class Keras(Framework):
    name = "keras"
    names_the_model = True
    layers = LAYERS
    settings = canonical(
        epsilon="epsilon",
        momentum="momentum",
        rate="rate dropout",
        reset_after="reset_after",
        approximate="approximate",
        activation="activation",
        recurrent_activation="recurrent_activation",
        num_heads="num_heads",
        negative_slope="negative_slope",
        stride="strides",
        dilation="dilation_rate",
        padding="padding",
        groups="groups",
        axis="axis",
    )
    always = {
        "embedding": {"padding_idx": None},
        "dropout": UPSCALED,
        **{kind: {"time_first": False} for kind in RECURRENT},
    }
    optimizers = canonical(
        learning_rate="learning_rate",
        epsilon="epsilon",
        beta_1="beta_1",
        beta_2="beta_2",
        momentum="momentum",
        rho="rho",
        weight_decay="weight_decay",
        nesterov="nesterov",
        centered="centered",
        amsgrad="amsgrad",
    )
    epsilons = {"Adam": BEFORE_CORRECTION, "AdamW": BEFORE_CORRECTION, "RMSprop": INSIDE}
    decays = (STRAIGHT, GRADIENT)
    clips = CLIPS
    entry_of_constants = "tensorflow-constants"
    files = (".h5", ".safetensors")

    def activation(self, kind: str, settings: Settings) -> str:
        """A configuration lacks the name where it has a function.
        A batch norm has no activation."""
        unnamed = settings and "activation" not in settings and kind != "batchnorm"
        return "function" if unnamed else super().activation(kind, settings)

    def counters(self, settings: Settings) -> set[int]:
        return {settings["iterations"]} if isinstance(settings.get("iterations"), int) else set()

    def float32_layers(self, backend: str | None) -> frozenset[str]:
        on_tensorflow = {"gelu", "MultiHeadAttention", "GroupedQueryAttention"}
        return frozenset(on_tensorflow if backend == "tensorflow" else ())

    def float32_settings(self, backend: str | None) -> Mapping[str, tuple[str, ...]]:
        adam = ("beta_1", "beta_2", "weight_decay")
        rounded = {"SGD": ("momentum", "weight_decay"), "Adam": adam, "AdamW": adam}
        return rounded if backend == "tensorflow" else {}

    def repeated_ids(self, backend: str | None, family: str) -> Deviation | None:
        return SLICES if backend == "tensorflow" and family in ("Adam", "RMSprop") else None


# Canonical names.
SETTINGS = (
    "epsilon momentum rate reset_after padding_idx time_first approximate activation "
    "recurrent_activation num_heads negative_slope stride dilation padding padding_mode ceil_mode "
    "groups axis mode"
).split()
OF_OPTIMIZERS = (
    "learning_rate epsilon beta_1 beta_2 momentum rho weight_decay nesterov centered amsgrad "
    "dampening"
).split()


@final
class NoFramework(Framework):
    """Records that no framework made, with canonical names for everything."""

    name = "arrays"
    layers = LAYERS
    settings = same(*SETTINGS)
    optimizers = same(*OF_OPTIMIZERS)
    decays = (GRADIENT, STRAIGHT)
    clips = CLIPS

    def is_custom_optimizer(self, name: str) -> bool:
        return True
