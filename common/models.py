"""The models: the weights and the states of each,
in NumPy's terms and in the canonical layout, which is Keras's.

A weight has a shape, a way to draw it, and axes. The axes name a place in it, and say along which
of them the hidden units stand.
"""

from collections.abc import Callable
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.settings import ModelConfig, ModelName

Shape = tuple[int, ...]
Axes = tuple[str, ...]

# Axes along which the hidden units stand, with the blocks that follow each other there:
# each block has all units.
UNITS: dict[str, tuple[str, ...]] = {
    "unit": ("unit",),
    "from unit": ("from unit",),  # of the step before
    "output or context": ("output, unit", "context, unit"),
    "gate": ("input gate, unit", "forget gate, unit", "candidate gate, unit", "output gate, unit"),
}
RECTIFIED = "inner unit"  # an axis of units that a ReLU follows

# The transformer's sizes, as in Keras's example
MOST_HEADS = 8  # of an attention; there are gcd(MOST_HEADS, units)
FEED_FORWARD = 8  # hidden units for each unit


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
    # Those that the encoder hands to the decoder's first step, and each step to the next.
    states: dict[str, Axes]
    sizes: Callable[[ModelConfig], Shape] = sizes  # the arguments of the model file's Seq2Seq


def zeros(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Zeros, which draw nothing."""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Ones, which draw nothing."""
    return np.ones(shape)


def small(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Keras's uniform distribution of embeddings."""
    return rng.uniform(-0.05, 0.05, shape)


def forget_one(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """The bias of an LSTM: one for the forget gate, else zero, which draws nothing."""
    return np.repeat([0.0, 1.0, 0.0, 0.0], shape[0] // 4)


def glorot(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Glorot's uniform distribution."""
    limit = np.sqrt(6 / sum(shape))
    return rng.uniform(-limit, limit, shape)


def orthogonal(rng: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Rows that are orthogonal and of length one; no more of them than columns."""
    # As in Keras: Q of a matrix of normal numbers,
    # its columns signed by R's diagonal, so that Q is uniform.
    q, r = np.linalg.qr(rng.standard_normal(shape[::-1]))
    return np.asarray((q * np.sign(np.diag(r))).T)


def lstm_weights(name: str, num_tokens: int, units: int) -> dict[str, Weight]:
    """The weights of an LSTM layer. Their columns are those of the gates i,
    f, c, o, in this order."""
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


def _dense(name: str, inputs: int, outputs: int, axes: Axes) -> dict[str, Weight]:
    return {
        f"{name}/kernel": Weight((inputs, outputs), glorot, axes),
        f"{name}/bias": Weight((outputs,), zeros, axes[1:]),
    }


def _embeddings(name: str, tokens: int, config: ModelConfig) -> dict[str, Weight]:
    """A row for each character, and one for each position."""
    units = config.latent_dim
    return {
        f"{name}/characters/kernel": Weight((tokens, units), small, ("character", "unit")),
        f"{name}/positions/kernel": Weight((config.max_length, units), small, ("position", "unit")),
    }


def _attention_layer(name: str, units: int) -> dict[str, Weight]:
    """Its keys have no bias: it would add one number to all scores of a query,
    which softmax does not see."""
    weights: dict[str, Weight] = {}
    for kind in ("query", "key", "value"):
        weights |= _dense(f"{name}/{kind}", units, units, ("unit", "unit of the heads"))
    del weights[f"{name}/key/bias"]
    return (
        weights
        | _dense(f"{name}/projection", units, units, ("unit of the heads", "unit"))
        | _norm(name, units)
    )


def _feed_forward(name: str, units: int) -> dict[str, Weight]:
    hidden = FEED_FORWARD * units
    return {
        **_dense(f"{name}/hidden", units, hidden, ("unit", RECTIFIED)),
        **_dense(f"{name}/projection", hidden, units, (RECTIFIED, "unit")),
        **_norm(name, units),
    }


def _norm(name: str, units: int) -> dict[str, Weight]:
    return {
        f"{name}/norm/gamma": Weight((units,), ones, ("unit",)),
        f"{name}/norm/beta": Weight((units,), zeros, ("unit",)),
    }


def _transformer(config: ModelConfig) -> dict[str, Weight]:
    units, tokens = config.latent_dim, config.num_decoder_tokens
    return {
        **_embeddings("encoder", config.num_encoder_tokens, config),
        **_attention_layer("encoder/attention", units),
        **_feed_forward("encoder/feed_forward", units),
        **_embeddings("decoder", tokens, config),
        **_attention_layer("decoder/attention", units),
        **_attention_layer("decoder/cross_attention", units),
        **_feed_forward("decoder/feed_forward", units),
        **_dense("dense", units, tokens, ("unit", "character")),
    }


def _transformer_sizes(config: ModelConfig) -> Shape:
    """The sizes that every model has, and the numbers of heads, hidden units and positions."""
    units = config.latent_dim
    return *sizes(config), gcd(MOST_HEADS, units), FEED_FORWARD * units, config.max_length


OF_LSTM: dict[str, Axes] = {"state_h": ("row", "unit"), "state_c": ("row", "unit")}
MODELS: dict[ModelName, Model] = {
    "lstm": Model(_lstm, "LSTM encoder-decoder", OF_LSTM),
    # The mask is one on time steps that are attended to, else zero.
    "attention": Model(
        _attention,
        "LSTM encoder-decoder with attention",
        OF_LSTM
        | {"encoder_outputs": ("row", "time step", "unit"), "encoder_mask": ("row", "time step")},
    ),
    # The decoder has read as many characters as `position` says.
    # Its keys and values are zeros from there on.
    "transformer": Model(
        _transformer,
        "Transformer encoder-decoder",
        {
            "encoder_keys": ("row", "time step", "unit of the heads"),
            "encoder_values": ("row", "time step", "unit of the heads"),
            "encoder_mask": ("row", "time step"),
            "decoder_keys": ("row", "position", "unit of the heads"),
            "decoder_values": ("row", "position", "unit of the heads"),
            "position": ("row",),
        },
        _transformer_sizes,
    ),
}


def model_of(config: ModelConfig) -> Model:
    """The model that these settings choose."""
    return MODELS[config.model]


def axis_of_units(config: ModelConfig) -> tuple[str, int]:
    """A weight, and the number of an axis of it along which all hidden units stand once."""
    return next(
        (name, number)
        for name, weight in model_of(config).weights(config).items()
        for number, axis in enumerate(weight.axes)
        if len(UNITS.get(axis, ())) == 1
    )


def rectified_biases(config: ModelConfig) -> list[str]:
    """The names of the biases that a ReLU follows, in the order of computing."""
    return [
        name
        for name, weight in model_of(config).weights(config).items()
        if weight.axes == (RECTIFIED,)
    ]


def permute(
    array: NDArray[np.floating], axes: Axes, order: NDArray[np.integer]
) -> NDArray[np.floating]:
    """A copy with the hidden units in another order: `order` (H,) names their old positions."""
    for number, axis in enumerate(axes):
        if axis in UNITS:
            blocks = np.arange(len(UNITS[axis]))[:, None] * len(order)
            array = array.take((blocks + order).ravel(), axis=number)
    return array
