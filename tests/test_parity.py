"""The referee held to definition and to a case by hand, and what the ladder does not ask of a backend."""

from dataclasses import replace
from math import atanh, cosh, log, tanh

import numpy as np
import pytest

from backends.numpy_backend import Lstm, NumpyBackend
from common.weights import ModelState, in_dtype, initial_state
from tests.conftest import SETTINGS, batch_of, model


def start(dtype: str) -> ModelState:
    """Weights and slots as after some training, so that no block of them is zero or all alike."""
    fresh = initial_state(model("float32"), SETTINGS.seed)
    rng = np.random.default_rng(3)
    weights = {name: w + 0.02 * rng.standard_normal(w.shape, np.float32) for name, w in fresh.weights.items()}
    slots = {name: np.float32(1e-6) * rng.random(w.shape, np.float32) for name, w in fresh.weights.items()}
    return in_dtype(ModelState(weights, slots), dtype)


def referee(padding: str = "space") -> NumpyBackend:
    backend = NumpyBackend(replace(model("float64"), padding=padding), SETTINGS)
    backend.load(start("float64"))
    return backend


def test_two_steps_of_an_lstm_are_those_computed_by_hand() -> None:
    """One unit, weights zero, biases such that i = o = 3/4, f = candidate = 1/2 at both steps; inputs 2 and 3."""
    bias = np.array([log(3), 0.0, atanh(0.5), log(3)])
    zero = np.zeros((1, 1))
    lstm = Lstm(np.array([[[2.0], [3.0]]]), (zero, zero), np.zeros((1, 4)), np.zeros((1, 4)), bias)
    c1, c2 = 3 / 8, 9 / 16  # 3/4 x 1/2, then 1/2 x 3/8 + 3/8
    assert lstm.c[1:].ravel() == pytest.approx([c1, c2], rel=1e-15)
    assert lstm.outputs.ravel() == pytest.approx([3 / 4 * tanh(c1), 3 / 4 * tanh(c2)], rel=1e-15)
    got, _, _ = lstm.backward(None, np.ones((1, 1)), None)
    d_c2 = 3 / 4 / cosh(c2) ** 2
    d_c1 = d_c2 / 2
    # By the gates before activation, at either step: input, forget, candidate, output.
    d1 = np.array([d_c1 * 1 / 2 * 3 / 16, 0.0, d_c1 * 3 / 4 * 3 / 4, 0.0])
    d2 = np.array([d_c2 * 1 / 2 * 3 / 16, d_c2 * c1 / 4, d_c2 * 3 / 4 * 3 / 4, tanh(c2) * 3 / 16])
    assert got["bias"] == pytest.approx(d1 + d2, rel=1e-14)
    assert got["kernel"][0] == pytest.approx(2 * d1 + 3 * d2, rel=1e-14)
    assert got["recurrent_kernel"][0] == pytest.approx(3 / 4 * tanh(c1) * d2, rel=1e-14)


@pytest.mark.parametrize("padding", ["space", "mask"])
def test_gradients_by_hand_are_finite_differences_of_the_loss(padding: str) -> None:
    """The referee itself is held to the definition of a derivative."""
    backend, batch = referee(padding), replace(batch_of(4, "float64"), padding=padding)
    _, gradients = backend.gradients(batch)
    rng = np.random.default_rng(5)
    for tensor, weight in backend.parameters.items():
        direction = rng.standard_normal(weight.shape)
        original, losses = weight.copy(), []
        for sign in (1, -1):
            weight[:] = original + sign * 1e-5 * direction
            losses.append(backend.gradients(batch)[0])
        weight[:] = original
        slope = (losses[0] - losses[1]) / 2e-5
        assert slope == pytest.approx((gradients[tensor] * direction).sum(), rel=1e-6), tensor


def test_a_batch_without_its_last_padding_changes_the_loss() -> None:
    """Padding counts, as in the example: the mean is over all N x T_dec positions."""
    batch = batch_of(8, "float64")
    longest = int(batch.decoder_lengths.max())
    cut = replace(batch, decoder_ids=batch.decoder_ids[:, :longest])
    assert cut.decoder_ids.shape != batch.decoder_ids.shape
    assert abs(referee().gradients(cut)[0] - referee().gradients(batch)[0]) > 1e-6


def test_a_character_weighs_the_same_in_a_batch_of_short_sentences_as_in_one_of_long_ones() -> None:
    """Padding masked, batches teach together what all of their rows do, however the rows are put together."""
    corpus = replace(batch_of(60, "float64"), padding="mask")
    by_length = np.argsort(corpus.decoder_lengths, kind="stable")
    short, long = (corpus.take(rows).trimmed() for rows in np.split(by_length, 2))
    assert short.target_weights.sum() < 0.8 * long.target_weights.sum()
    backend = referee("mask")
    (loss, whole), (short_loss, short_part), (long_loss, long_part) = map(backend.gradients, (corpus, short, long))
    assert loss == pytest.approx((short_loss + long_loss) / 2, rel=1e-12)
    for tensor, gradient in whole.items():
        assert gradient == pytest.approx((short_part[tensor] + long_part[tensor]) / 2, rel=1e-9, abs=1e-12), tensor
