"""The number of floating-point operations of the model, by formula.

Only matrix products are counted: two operations, a multiplication and an addition, for each pair of numbers that are
multiplied. Gates, softmax and optimizer are left out: they are some per cent of the operations.
"""

from benchmarks.measure.recording import Sizes
from common.interface import BackendFacts


def multiplies_one_hot(facts: BackendFacts) -> bool:
    """Whether a backend multiplies its one-hot inputs by the kernels. If not, it looks rows of the kernels up."""
    return bool(facts.settings.get("one_hot_products", True))


def forward_flop(sizes: Sizes, batch_size: int, latent_dim: int, one_hot: bool = True) -> int:
    """Floating-point operations of the forward pass over one batch.

    `one_hot` says whether one-hot inputs are multiplied by the kernels like any other matrix. If not, rows of the
    kernels are looked up, which costs no operation.
    """
    s, gates = sizes, 4 * latent_dim
    encoder = s.max_encoder_seq_length * (s.num_encoder_tokens * one_hot + latent_dim) * gates
    decoder = s.max_decoder_seq_length * (s.num_decoder_tokens * one_hot + latent_dim) * gates
    dense = s.max_decoder_seq_length * latent_dim * s.num_decoder_tokens
    return 2 * batch_size * (encoder + decoder + dense)


def step_flop(sizes: Sizes, batch_size: int, latent_dim: int, one_hot: bool = True) -> int:
    """Floating-point operations of a training step: the forward pass, and the gradients of weights and hidden states.

    The gradient of a weight takes as many operations as the forward product with it. The gradient of the inputs is
    not counted, since nothing needs it.
    """
    # The products with states and in the dense layer, which are those of a forward pass without one-hot inputs.
    return 2 * forward_flop(sizes, batch_size, latent_dim, one_hot) + forward_flop(
        sizes, batch_size, latent_dim, False
    )
