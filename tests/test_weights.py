"""The canonical weights: how they are drawn, kept as bytes, and checked."""

import json
from dataclasses import replace

import numpy as np
import pytest

from common.config import ModelConfig
from common.errors import RosettaError
from common.weights import ModelState, check_state, from_bytes, in_dtype, initial_state, to_bytes, weight_shapes

CONFIG = ModelConfig(num_encoder_tokens=20, num_decoder_tokens=30, start_token=0, stop_token=1, latent_dim=32)
METADATA = {"epoch": 3, "step": 12, "seed": 0, "note": "é 犬"}


def trained(dtype: str = "float32") -> ModelState:
    """Weights and slots none of which are alike."""
    rng, shapes = np.random.default_rng(5), weight_shapes(CONFIG)
    weights = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return ModelState(weights, {name: rng.random(shape).astype(dtype) for name, shape in shapes.items()})


def assert_same_bits(got: ModelState, expected: ModelState) -> None:
    for kind in ("weights", "mean_squares"):
        arrays, others = getattr(got, kind), getattr(expected, kind)
        assert arrays.keys() == others.keys()
        for name, array in others.items():
            assert (arrays[name].shape, arrays[name].dtype) == (array.shape, array.dtype), name
            assert arrays[name].tobytes() == array.tobytes(), name


# Drawn


@pytest.mark.parametrize("name", ["encoder/kernel", "decoder/kernel", "dense/kernel"])
def test_kernels_are_glorot_uniform(name: str) -> None:
    kernel = initial_state(CONFIG, seed=0).weights[name].astype(np.float64)
    limit = np.sqrt(6 / sum(kernel.shape))
    assert 0.98 * limit < np.abs(kernel).max() <= limit * (1 + 1e-6)
    share_of_quarters = np.histogram(kernel, bins=4, range=(-limit * 1.001, limit * 1.001))[0] / kernel.size
    assert share_of_quarters == pytest.approx([0.25] * 4, abs=0.06)


@pytest.mark.parametrize("name", ["encoder/recurrent_kernel", "decoder/recurrent_kernel"])
def test_recurrent_kernels_are_orthogonal_and_of_either_sign(name: str) -> None:
    kernel = initial_state(CONFIG, seed=0).weights[name].astype(np.float64)
    assert np.abs(kernel @ kernel.T - np.eye(32)).max() < 1e-6
    # LAPACK's QR alone gives first entries of one sign; the sign of R makes Q uniform over the rotations.
    assert 0.35 < (kernel > 0).mean() < 0.65
    assert 0.2 < (np.diag(kernel) > 0).mean() < 0.8


def test_biases_are_zero_and_the_forget_gates_one() -> None:
    weights = initial_state(CONFIG, seed=0).weights
    for name in ("encoder/bias", "decoder/bias"):
        assert np.array_equal(weights[name].reshape(4, 32), np.array([[0.0], [1.0], [0.0], [0.0]]).repeat(32, axis=1))
    assert not weights["dense/bias"].any()


def test_slots_begin_at_zero() -> None:
    assert not any(slot.any() for slot in initial_state(CONFIG, seed=0).mean_squares.values())


def test_a_seed_gives_the_same_canonical_weights_in_both_precisions_and_another_gives_others() -> None:
    single, double, other = (
        initial_state(replace(CONFIG, dtype=dtype), seed)
        for dtype, seed in [("float32", 4), ("float64", 4), ("float32", 5)]
    )
    assert {name: w.shape for name, w in double.weights.items()} == {
        "encoder/kernel": (20, 128),
        "encoder/recurrent_kernel": (32, 128),
        "encoder/bias": (128,),
        "decoder/kernel": (30, 128),
        "decoder/recurrent_kernel": (32, 128),
        "decoder/bias": (128,),
        "dense/kernel": (32, 30),
        "dense/bias": (30,),
    }
    assert_same_bits(in_dtype(single, "float64"), double)
    assert_same_bits(in_dtype(double, "float32"), single)
    for name in ("encoder/kernel", "decoder/recurrent_kernel", "dense/kernel"):
        assert not np.array_equal(single.weights[name], other.weights[name])
    assert not np.array_equal(single.weights["encoder/recurrent_kernel"], single.weights["decoder/recurrent_kernel"])


# Kept


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_give_the_same_bits_and_metadata_back(dtype: str) -> None:
    state = trained(dtype)
    state.weights["dense/bias"][:3] = [-0.0, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max]
    returned, metadata = from_bytes(to_bytes(state, METADATA))
    assert_same_bits(returned, state)
    assert metadata == METADATA


def test_views_are_written_in_their_order() -> None:
    """Equal arrays that do not lie in memory in their order: transposed, reversed, every second."""
    state = trained()
    views = {n: np.asfortranarray(w) if w.ndim == 2 else w[::-1].copy()[::-1] for n, w in state.weights.items()}
    strided = {name: np.repeat(slot, 2, axis=-1)[..., ::2] for name, slot in state.mean_squares.items()}
    assert not any(view.flags.c_contiguous for view in [*views.values(), *strided.values()])
    returned, _ = from_bytes(to_bytes(ModelState(views, strided), {}))
    assert_same_bits(returned, state)


def block_with(header: dict[str, object], data: bytes = b"") -> bytes:
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data


def test_damaged_bytes_are_an_error() -> None:
    whole = to_bytes(trained(), METADATA)
    type_that_numpy_lacks = {"w": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}
    for block in (
        whole[:100],
        whole + b"\0",
        (1 << 60).to_bytes(8, "little") + whole[8:],
        whole[:8] + b"[" + whole[9:],
        block_with({}),
        block_with({"__metadata__": {"format": "pt"}}),
        block_with({"__metadata__": {"rosetta": "{"}}),
        block_with({"__metadata__": {"rosetta": "[" * 100_000}}),
        block_with({"__metadata__": {"rosetta": "{}"}} | type_that_numpy_lacks, b"\0\0"),
    ):
        with pytest.raises(RosettaError, match="not a state that Rosetta wrote"):
            from_bytes(block)


@pytest.mark.parametrize("kind", ["weights", "mean_squares"])
def test_an_array_that_is_not_as_promised_is_named(kind: str) -> None:
    for name, change, complaint in [
        ("dense/kernel", lambda w: w.T, r"\(30, 32\), expected float32 \(32, 30\)"),
        ("encoder/bias", lambda w: w.astype(np.float64), "float64 .*, expected float32"),
        ("decoder/kernel", lambda w: np.where(w == w.flat[77], np.float32(np.nan), w), "finite"),
        ("dense/bias", lambda w: np.append(w[:-1], np.float32(-np.inf)), "finite"),
    ]:
        state = trained()
        check_state(state, CONFIG)
        arrays = getattr(state, kind)
        arrays[name] = change(arrays[name])
        with pytest.raises(RosettaError, match=f"{name} .*{complaint}"):
            check_state(state, CONFIG)
        arrays["dense/gamma"] = arrays.pop("dense/bias")
        with pytest.raises(RosettaError, match="dense/bias, dense/gamma"):
            check_state(state, CONFIG)
