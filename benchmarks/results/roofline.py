"""The number of floating-point operations of the model, by formula.

Only matrix products are counted: two operations, a multiplication and an addition, for each pair of numbers that are
multiplied. Gates, softmax and optimizer are left out: they are some per cent of the operations.
"""

from dataclasses import dataclass

from benchmarks.measure.plan import Plan
from benchmarks.measure.recording import Sizes
from common.interface import BackendFacts


@dataclass(frozen=True)
class StepSizes:
    """The sizes of a training step's tensors."""

    batch_size: int  # N
    max_encoder_seq_length: int  # T_enc
    max_decoder_seq_length: int  # T_dec
    num_encoder_tokens: int  # V_enc
    num_decoder_tokens: int  # V_dec
    latent_dim: int  # H

    @classmethod
    def of(cls, plan: Plan, sizes: Sizes) -> "StepSizes":
        """The sizes of the training step that a benchmark measures."""
        lengths = sizes.max_encoder_seq_length, sizes.max_decoder_seq_length
        tokens = sizes.num_encoder_tokens, sizes.num_decoder_tokens
        return cls(plan.settings.batch_size, *lengths, *tokens, plan.latent_dim)


def multiplies_one_hot(facts: BackendFacts) -> bool:
    """Whether a backend multiplies its one-hot inputs by the kernels. If not, it looks rows of the kernels up."""
    return bool(facts.settings.get("one_hot_products", True))


def forward_flop(sizes: StepSizes, one_hot: bool = True) -> int:
    """Floating-point operations of the forward pass over one batch.

    `one_hot` says whether one-hot inputs are multiplied by the kernels like any other matrix. If not, rows of the
    kernels are looked up, which costs no operation.
    """
    s, gates = sizes, 4 * sizes.latent_dim
    encoder = s.max_encoder_seq_length * (s.num_encoder_tokens * one_hot + s.latent_dim) * gates
    decoder = s.max_decoder_seq_length * (s.num_decoder_tokens * one_hot + s.latent_dim) * gates
    dense = s.max_decoder_seq_length * s.latent_dim * s.num_decoder_tokens
    return 2 * s.batch_size * (encoder + decoder + dense)


def step_flop(sizes: StepSizes, one_hot: bool = True) -> int:
    """Floating-point operations of a training step: the forward pass, and the gradients of weights and hidden states.

    The gradient of a weight takes as many operations as the forward product with it. The gradient of the inputs is
    not counted, since nothing needs it.
    """
    s, gates = sizes, 4 * sizes.latent_dim
    states = (s.max_encoder_seq_length + s.max_decoder_seq_length) * s.latent_dim * gates
    dense = s.max_decoder_seq_length * s.latent_dim * s.num_decoder_tokens
    return 2 * forward_flop(sizes, one_hot) + 2 * s.batch_size * (states + dense)
