"""The models: the weights and the states of each, in NumPy's terms and in the canonical layout, which is Keras's.

A weight has a shape, a way to draw it, and axes. The axes name a place in it, and say along which of them the hidden
units stand.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.settings import ModelConfig, ModelName

Shape = tuple[int, ...]
Axes = tuple[str, ...]

# Axes along which the hidden units stand, with the blocks that follow each other there: each block has all units.
UNITS: dict[str, tuple[str, ...]] = {
    "unit": ("unit",),
    "from unit": ("from unit",),  # of the step before
    "output or context": ("output, unit", "context, unit"),
    "gate": ("input gate, unit", "forget gate, unit", "candidate gate, unit", "output gate, unit"),
}
RECTIFIED = "hidden unit"  # an axis of units that a ReLU follows


class Weight(NamedTuple):
    """A trained tensor."""

    shape: Shape
    draw: Callable[[np.random.Generator, Shape], NDArray[np.float64]]
    axes: Axes


def sizes(config: ModelConfig) -> Shape:
    """The sizes that every model has."""
    return config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim


class Model(NamedTuple):
    """An encoder-decoder."""

    weights: Callable[[ModelConfig], dict[str, Weight]]  # by canonical name, in canonical order
    title: str  # in words
    states: dict[str, Axes]  # those that the encoder hands to the decoder's first step, and each step to the next
    sizes: Callable[[ModelConfig], Shape] = sizes  # the arguments of the model file's Seq2Seq


def zeros(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Zeros, which draw nothing."""
    return np.zeros(shape)


def forget_one(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """The bias of an LSTM: one for the forget gate, else zero, which draws nothing."""
    return np.repeat([0.0, 1.0, 0.0, 0.0], shape[0] // 4)


def glorot(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Glorot's uniform distribution."""
    limit = np.sqrt(6 / sum(shape))
    return rng.uniform(-limit, limit, shape)


def orthogonal(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Rows that are orthogonal and of length one; no more of them than columns."""
    # As in Keras: Q of a matrix of normal numbers, its columns signed by R's diagonal, so that Q is uniform.
    q, r = np.linalg.qr(rng.standard_normal(shape[::-1]))
    return np.asarray((q * np.sign(np.diag(r))).T)


def lstm_weights(name: str, num_tokens: int, units: int) -> dict[str, Weight]:
    """The weights of an LSTM layer. Their columns are those of the gates i, f, c, o, in this order."""
    return {
        f"{name}/kernel": Weight((num_tokens, 4 * units), glorot, ("character", "gate")),
        f"{name}/recurrent_kernel": Weight((units, 4 * units), orthogonal, ("from unit", "gate")),
        f"{name}/bias": Weight((4 * units,), forget_one, ("gate",)),
    }


def _lstm(config: ModelConfig) -> dict[str, Weight]:
    units, tokens = config.latent_dim, config.num_decoder_tokens
    return {
        **lstm_weights("encoder", config.num_encoder_tokens, units),
        **lstm_weights("decoder", tokens, units),
        "dense/kernel": Weight((units, tokens), glorot, ("unit", "character")),
        "dense/bias": Weight((tokens,), zeros, ("character",)),
    }


def _attention(config: ModelConfig) -> dict[str, Weight]:
    units, tokens = config.latent_dim, config.num_decoder_tokens
    kernel = Weight((2 * units, tokens), glorot, ("output or context", "character"))
    return _lstm(config) | {"dense/kernel": kernel}


OF_LSTM: dict[str, Axes] = {"state_h": ("row", "unit"), "state_c": ("row", "unit")}
MODELS: dict[ModelName, Model] = {
    "lstm": Model(_lstm, "LSTM encoder-decoder", OF_LSTM),
    # The mask is one on time steps that are attended to, else zero.
    "attention": Model(
        _attention,
        "LSTM encoder-decoder with attention",
        OF_LSTM | {"encoder_outputs": ("row", "time step", "unit"), "encoder_mask": ("row", "time step")},
    ),
}


def model_of(config: ModelConfig) -> Model:
    """The model that these settings choose."""
    return MODELS[config.model]


def rectified_biases(config: ModelConfig) -> list[str]:
    """The names of the biases that a ReLU follows, in the order of computing."""
    return [name for name, weight in model_of(config).weights(config).items() if weight.axes == (RECTIFIED,)]


def permute(array: NDArray[np.floating], axes: Axes, order: NDArray[np.integer]) -> NDArray[np.floating]:
    """A copy with the hidden units in another order: `order` (H,) names their old positions."""
    for number, axis in enumerate(axes):
        if axis in UNITS:
            blocks = np.arange(len(UNITS[axis]))[:, None] * len(order)
            array = array.take((blocks + order).ravel(), axis=number)
    return array
