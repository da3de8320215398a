"""The floating-point operations of the model, counted by formula: two for each multiplication in a matrix product.

Gates, softmax and optimizer are left out: they are some per cent of the operations and none of them is a product.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """Of a training step's tensors."""

    batch_size: int  # N
    max_encoder_seq_length: int  # T_enc
    max_decoder_seq_length: int  # T_dec
    num_encoder_tokens: int  # V_enc
    num_decoder_tokens: int  # V_dec
    latent_dim: int  # H
    one_hot: bool = True  # inputs are multiplied with the kernels; else the kernels' rows are looked up

    def multiplied(self, settings: Mapping[str, Any]) -> "Sizes":
        """These, where a backend with such settings runs."""
        return replace(self, one_hot=settings.get("one_hot_products", True))

    def at(self, axis: str, value: int) -> "Sizes":
        """These at a point of a sweep: see benchmarks.plan.Sweep for the axes."""
        both = ("max_encoder_seq_length", "max_decoder_seq_length")
        changed = {"seq_length": both, "num_samples": ()}.get(axis, (axis,))
        values: dict[str, Any] = dict.fromkeys(changed, value)
        return replace(self, **values)


def forward_flop(sizes: Sizes) -> int:
    """Of the forward pass over one batch, one-hot inputs multiplied as dense ones."""
    s, gates = sizes, 4 * sizes.latent_dim
    encoder = s.max_encoder_seq_length * (s.num_encoder_tokens * s.one_hot + s.latent_dim) * gates
    decoder = s.max_decoder_seq_length * (s.num_decoder_tokens * s.one_hot + s.latent_dim) * gates
    dense = s.max_decoder_seq_length * s.latent_dim * s.num_decoder_tokens
    return 2 * s.batch_size * (encoder + decoder + dense)


def step_flop(sizes: Sizes) -> int:
    """Of a training step: forward, the gradient of each weight, and of each hidden state; inputs need none."""
    s, gates = sizes, 4 * sizes.latent_dim
    states = (s.max_encoder_seq_length + s.max_decoder_seq_length) * s.latent_dim * gates
    dense = s.max_decoder_seq_length * s.latent_dim * s.num_decoder_tokens
    return 2 * forward_flop(sizes) + 2 * s.batch_size * (states + dense)
