"""Flax NNX, and optax's optimizers, which are chains of transformations."""

from collections.abc import Sequence
from typing import Any, final

from rosetta_diff.read.base import Framework, Parts, Recurrent, sequence_and_states
from rosetta_diff.read.keras import CONV, CONV_TRANSPOSE, DENSE
from rosetta_diff.read.rules import (
    AFTER_CORRECTION,
    GRADIENT,
    INSIDE,
    NORM_OF_ALL,
    OUTSIDE,
    STRAIGHT,
    SWAPPED,
    UPSCALED,
    VALUES,
    Own,
    Rule,
    Settings,
    canonical,
    of_heads,
    rule,
)
from rosetta_diff.read.view import Tensor

GATES = "in parts -> in parts", *SWAPPED
# Transformations, and the kind of optimizer that a chain with one of them is.
OPTAX = {
    "scale_by_adam": "Adam",
    "scale_by_amsgrad": "Adam",
    "scale_by_rms": "RMSprop",
    "scale_by_stddev": "RMSprop",
    "adamw": "AdamW",  # these four where their settings are kept in the state
    "adam": "Adam",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
    "trace": "SGD",
    "scale": "SGD",
}


def general(settings: Settings) -> tuple[Rule, ...]:
    return of_heads(*(len(settings.get(f"{name}_features", [])) for name in ("in", "out")))


def conv_transpose(settings: Settings) -> tuple[Rule, ...]:
    """Without this setting the kernel is the other way round, which no line of axes says."""
    return (CONV_TRANSPOSE,) if settings.get("transpose_kernel") else ()


@final
class Flax(Framework):
    name = "flax"
    layers = {
        "Linear": DENSE,
        "LinearGeneral": general,
        "Embed": rule("embedding", embeddings="embedding"),
        "LayerNorm": rule("layernorm", gamma="scale", beta="bias"),
        "GroupNorm": rule("groupnorm", gamma="scale", beta="bias"),
        "RMSNorm": rule("rmsnorm", gamma="scale"),
        "BatchNorm": rule(
            "batchnorm", gamma="scale", beta="bias", moving_mean="mean", moving_variance="var"
        ),
        "Conv": CONV,
        "ConvTranspose": conv_transpose,
        "Simple": rule(
            "rnn", kernel="dense_i.kernel", recurrent_kernel="dense_h.kernel", bias="dense_i.bias"
        ),
        "OptimizedLSTM": rule(
            "lstm", kernel="dense_i.kernel", recurrent_kernel="dense_h.kernel", bias="dense_h.bias"
        ),
        "LSTM": rule(
            "lstm",
            kernel=Own("ii.kernel if_.kernel ig.kernel io.kernel", "in out -> in (parts out)"),
            recurrent_kernel=Own(
                "hi.kernel hf.kernel hg.kernel ho.kernel", "in out -> in (parts out)"
            ),
            bias=Own("hi.bias hf.bias hg.bias ho.bias", "out -> (parts out)"),
        ),
        "GRU": rule(
            "gru",
            kernel=Own("dense_i.kernel", *GATES),
            recurrent_kernel=Own("dense_h.kernel", *GATES),
            bias=Own("dense_i.bias", "parts", *SWAPPED),
            # Which it has only in a person's own cell.
            recurrent_bias=Own("dense_h.bias", "parts", *SWAPPED),
        ),
    }
    settings = canonical(
        epsilon="epsilon",
        momentum="momentum",
        rate="rate dropout_rate",
        time_first="time_major",
        num_heads="num_heads",
        stride="strides",
        dilation="kernel_dilation",
        padding="padding",
        groups="num_groups",
    )
    meanings = {"padding": lambda padding: padding.lower() if isinstance(padding, str) else padding}
    float32_within = {"MultiHeadAttention": "flax-attention-float32"}
    always = {"gru": {"reset_after": True}, "embedding": {"padding_idx": None}, "dropout": UPSCALED}
    optimizers = canonical(
        learning_rate="hyperparams.learning_rate",
        epsilon="scale_by_adam.eps scale_by_rms.eps scale_by_stddev.eps hyperparams.eps",
        beta_1="scale_by_adam.b1 hyperparams.b1",
        beta_2="scale_by_adam.b2 hyperparams.b2",
        momentum="trace.decay hyperparams.momentum",
        rho="scale_by_rms.decay scale_by_stddev.decay hyperparams.decay",
        weight_decay="add_decayed_weights.weight_decay hyperparams.weight_decay",
        nesterov="trace.nesterov hyperparams.nesterov",
    )
    epsilons = {"Adam": AFTER_CORRECTION, "AdamW": AFTER_CORRECTION, "RMSprop": INSIDE}
    decays = (GRADIENT, STRAIGHT)
    clips = {"clip_by_global_norm.max_norm": NORM_OF_ALL, "clip.max_delta": VALUES}
    files = (".safetensors",)

    def counters(self, settings: Settings) -> set[int]:
        return {
            value
            for name, value in settings.items()
            if name.endswith(".count") and isinstance(value, int)
        }

    def is_custom_optimizer(self, name: str) -> bool:
        """Names are those of transformations."""
        return False

    def kind_of_optimizer(self, classes: Sequence[str], name: str) -> str:
        """The kind of optimizer that a chain of transformations amounts to."""
        known = next((known for known in OPTAX if known in classes), None)
        if known is None:
            return super().kind_of_optimizer(classes, name)
        decoupled = "add_decayed_weights" in classes[classes.index(known) :]
        return "AdamW" if OPTAX[known] == "Adam" and decoupled else OPTAX[known]

    def settings_of_optimizer(self, settings: Settings) -> dict[str, Any]:
        step = settings.get("scale.step_size")  # updates are added
        return super().settings_of_optimizer(settings) | (
            {"learning_rate": -step} if isinstance(step, float) else {}
        )

    def place_of_epsilon(self, kind: str, settings: Settings) -> str | None:
        return (
            self.epsilons.get(kind) if settings.get("scale_by_rms.eps_in_sqrt", True) else OUTSIDE
        )

    def outputs(self, layer: Recurrent, parts: Parts) -> dict[str, Tensor]:
        """The states come first, a cell's before its output."""
        kept = bool(layer.settings.get("reverse") and layer.settings.get("keep_order"))
        backwards = bool(layer.settings.get("reverse", kept)) != kept
        return sequence_and_states(layer, parts[::-1], backwards, kept)
