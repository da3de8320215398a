"""The canonical weights: how they are drawn, kept as bytes, and checked."""

from dataclasses import replace

import numpy as np
import pytest

from backends import numpy_model
from common.errors import RosettaError
from common.settings import ModelConfig
from common.weights import (
    ModelState,
    check_state,
    from_bytes,
    in_dtype,
    initial_state,
    permute_units,
)
from tests.support.small_run import assert_same, to_bytes

CONFIG = ModelConfig(
    num_encoder_tokens=20, num_decoder_tokens=30, start_token=0, stop_token=1, latent_dim=32
)


def test_fresh_weights_are_drawn_as_in_keras() -> None:
    fresh = initial_state(CONFIG, seed=0)
    weights = in_dtype(fresh, "float64").weights
    for name in ("encoder/kernel", "decoder/kernel", "dense/kernel"):
        kernel = weights[name]
        limit = np.sqrt(6 / sum(kernel.shape))
        assert 0.98 * limit < np.abs(kernel).max() <= limit * (1 + 1e-6)
        share_of_quarters = (
            np.histogram(kernel, bins=4, range=(-limit * 1.001, limit * 1.001))[0] / kernel.size
        )
        assert share_of_quarters == pytest.approx([0.25] * 4, abs=0.06)
    for name in ("encoder/recurrent_kernel", "decoder/recurrent_kernel"):
        kernel = weights[name]
        assert np.abs(kernel @ kernel.T - np.eye(32)).max() < 1e-6
        # LAPACK's QR alone gives first entries of one sign;
        # the sign of R makes Q uniform over the rotations.
        assert 0.35 < (kernel > 0).mean() < 0.65
        assert 0.2 < (np.diag(kernel) > 0).mean() < 0.8
    for name in ("encoder/bias", "decoder/bias"):
        assert np.array_equal(weights[name], np.repeat([0.0, 1.0, 0.0, 0.0], 32)), (
            "the forget gate's are one"
        )
    assert not any(zero.any() for zero in (weights["dense/bias"], *fresh.mean_squares.values()))


def test_a_seed_gives_the_same_weights_in_both_precisions() -> None:
    single, double, reseeded = (
        initial_state(replace(CONFIG, dtype=dtype), seed)
        for dtype, seed in [("float32", 4), ("float64", 4), ("float32", 5)]
    )
    assert_same(in_dtype(single, "float64").arrays(), double.arrays())
    assert_same(in_dtype(double, "float32").arrays(), single.arrays())
    drawn = [
        state.weights[f"{side}/recurrent_kernel"]
        for state in (single, reseeded)
        for side in ("encoder", "decoder")
    ]
    assert len({kernel.tobytes() for kernel in drawn}) == len(drawn)


def test_views_are_written_in_their_order() -> None:
    """Equal arrays that do not lie in memory in their order: transposed, reversed, every second."""
    weights = initial_state(CONFIG, seed=0).weights
    weights["dense/bias"][:3] = [
        -0.0,
        np.finfo("float32").smallest_subnormal,
        np.finfo("float32").max,
    ]
    views = {
        n: np.asfortranarray(w) if w.ndim == 2 else w[::-1].copy()[::-1] for n, w in weights.items()
    }
    strided = {name: np.repeat(w, 2, axis=-1)[..., ::2] for name, w in weights.items()}
    assert not any(view.flags.c_contiguous for view in [*views.values(), *strided.values()])
    for arrays in (views, strided):
        returned, _ = from_bytes(to_bytes(arrays, {}))
        assert {n: w.tobytes() for n, w in returned.items()} == {
            n: w.tobytes() for n, w in weights.items()
        }


def test_an_array_that_is_not_as_promised_is_named() -> None:
    for name, change, complaint in [
        ("dense/kernel", lambda w: w.T, r"\(30, 32\), expected float32 \(32, 30\)"),
        ("encoder/bias", lambda w: w.astype(np.float64), "float64 .*, expected float32"),
        ("decoder/kernel", lambda w: np.where(w == w.flat[77], np.float32(np.nan), w), "finite"),
        ("dense/bias", lambda w: np.append(w[:-1], np.float32(-np.inf)), "finite"),
    ]:
        for kind in ("weights", "mean_squares"):
            state = initial_state(CONFIG, seed=0)
            check_state(state, CONFIG)
            arrays = getattr(state, kind)
            arrays[name] = change(arrays[name])
            with pytest.raises(RosettaError, match=f"{name} .*{complaint}"):
                check_state(state, CONFIG)
            arrays["dense/gamma"] = arrays.pop("dense/bias")
            with pytest.raises(RosettaError, match="dense/bias, dense/gamma"):
                check_state(state, CONFIG)


def test_permuted_units_compute_the_same_function() -> None:
    rng = np.random.default_rng(0)
    fresh = initial_state(replace(CONFIG, dtype="float64"), seed=0).weights
    weights = {
        name: weight + 0.1 * rng.standard_normal(weight.shape) for name, weight in fresh.items()
    }
    state = permute_units(ModelState(weights, weights), CONFIG, rng.permutation(CONFIG.latent_dim))
    assert_same(state.weights, state.mean_squares)
    assert all(
        (state.weights[name] != weights[name]).any() for name in weights if name != "dense/bias"
    )
    model = numpy_model.Seq2Seq(20, 30, 32)
    ids = rng.integers(0, 20, (2, 3, 5))
    logits = []
    for model.weights in (weights, state.weights):
        logits.append(model(np.eye(20)[ids[0]], np.eye(30)[ids[1]])[0])
    assert np.abs(logits[0] - logits[1]).max() < 1e-12
