"""The weight of padding in the loss. The ladder does not ask it of a backend, since all are fed the same weights."""

from dataclasses import replace

import numpy as np
import pytest

from backends import numpy_model
from backends.interface import Backend
from common.weights import ModelState, in_dtype, initial_state
from tests.conftest import SETTINGS, batch_of, model


def reference(padding: str = "space") -> Backend:
    """With weights as after some training, so that no block of them is zero or all alike."""
    backend, fresh = (
        Backend(numpy_model, replace(model("float64"), padding=padding), SETTINGS),
        initial_state(model("float32"), 7),
    )
    rng = np.random.default_rng(3)
    weights = {name: w + 0.02 * rng.standard_normal(w.shape, np.float32) for name, w in fresh.weights.items()}
    backend.load(in_dtype(ModelState(weights, fresh.mean_squares), "float64"))
    return backend


def test_a_batch_without_its_last_padding_changes_the_loss() -> None:
    """Padding counts, as in the example: the mean is over all N x T_dec positions."""
    batch = batch_of(8, "float64")
    longest = int(batch.decoder_lengths.max())
    cut = replace(batch, decoder_ids=batch.decoder_ids[:, :longest])
    assert cut.decoder_ids.shape != batch.decoder_ids.shape
    assert abs(reference().gradients(cut)[0] - reference().gradients(batch)[0]) > 1e-6


def test_a_character_weighs_the_same_in_batches_of_any_length() -> None:
    """Padding masked, batches teach together what all of their rows do, however the rows are put together."""
    corpus = replace(batch_of(60, "float64"), padding="mask")
    by_length = np.argsort(corpus.decoder_lengths, kind="stable")
    short, long = (corpus.take(rows).trimmed() for rows in np.split(by_length, 2))
    assert short.target_weights.sum() < 0.8 * long.target_weights.sum()
    backend = reference("mask")
    (loss, whole), (short_loss, short_part), (long_loss, long_part) = map(backend.gradients, (corpus, short, long))
    assert loss == pytest.approx((short_loss + long_loss) / 2, rel=1e-12)
    for tensor, gradient in whole.items():
        assert gradient == pytest.approx((short_part[tensor] + long_part[tensor]) / 2, rel=1e-9, abs=1e-12), tensor
