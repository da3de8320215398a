"""Every backend against the float64 referee: the same weights and batches give the same numbers."""

from functools import cache

import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from common.comparison import TOLERANCES, compare
from common.tensors import Batch, Batches
from common.weights import ModelState, in_dtype, initial_state
from tests.child import packed, unpacked
from tests.conftest import FRAMEWORKS, SETTINGS, StartBackend, batch_of, in_float64, model

PRECISIONS = ["float64", "float32"]
# The official example keeps its stock optimizer constants, so it is held to float32's bounds alone.
CELLS = [(name, dtype) for name in ["numpy", *FRAMEWORKS] for dtype in PRECISIONS] + [("keras:example", "float32")]
cells = pytest.mark.parametrize(("name", "dtype"), CELLS, ids=lambda value: value)


@cache
def start(dtype: str) -> ModelState:
    """Weights and slots as after some training, so that no block of them is zero or all alike."""
    fresh = initial_state(model("float32"), SETTINGS.seed)
    rng = np.random.default_rng(3)
    weights = {name: w + 0.02 * rng.standard_normal(w.shape, np.float32) for name, w in fresh.weights.items()}
    slots = {name: np.float32(1e-6) * rng.random(w.shape, np.float32) for name, w in fresh.weights.items()}
    return in_dtype(ModelState(weights, slots), dtype)


def referee() -> NumpyBackend:
    backend = NumpyBackend(model("float64"), SETTINGS)
    backend.load(start("float64"))
    return backend


@cache
def referee_gradients() -> tuple[float, dict[str, np.ndarray]]:
    return referee().gradients(in_float64(batch_of(32, "float64")))


@cells
def test_weights_and_slots_come_out_as_they_went_in_to_the_bit(
    backend_of: StartBackend, name: str, dtype: str
) -> None:
    state = start(dtype)
    returned = unpacked(backend_of(name, dtype).call("tests.child:reload", 60, state=packed(state))["state"])
    for kind in ("weights", "mean_squares"):
        for tensor, expected in getattr(state, kind).items():
            got = getattr(returned, kind)[tensor]
            assert got.dtype == expected.dtype
            assert got.tobytes() == expected.tobytes(), f"{kind} {tensor}"


@cells
def test_probabilities_and_states_are_the_referees(backend_of: StartBackend, name: str, dtype: str) -> None:
    batch = batch_of(32, dtype)
    got = backend_of(name, dtype).call("tests.child:forward", 60, state=packed(start(dtype)), **batch.fields())
    expected = vars(referee().forward(in_float64(batch)))
    for tensor, array in expected.items():
        compare(tensor, got[tensor], array, TOLERANCES["forward"][dtype], dtype=dtype).require()


@cells
def test_loss_and_every_gradient_are_the_referees(backend_of: StartBackend, name: str, dtype: str) -> None:
    batch = batch_of(32, dtype)
    got = backend_of(name, dtype).call("tests.child:gradients", 60, state=packed(start(dtype)), **batch.fields())
    loss, gradients = referee_gradients()
    assert got["loss"] == pytest.approx(loss, rel=TOLERANCES["loss"][dtype], abs=0)
    assert got.keys() == {"loss", *gradients}
    for tensor, array in gradients.items():
        tolerance = TOLERANCES["gradients"][dtype]
        compare(tensor, got[tensor], array, tolerance, dtype=dtype, scale="largest").require()


@cells
def test_one_rmsprop_step_moves_every_weight_as_the_referees(backend_of: StartBackend, name: str, dtype: str) -> None:
    batch, before = batch_of(32, dtype), start(dtype)
    process, arguments = backend_of(name, dtype), {"state": packed(before), **batch.fields()}
    after = unpacked(process.call("tests.child:steps", 60, batch_size=32, **arguments)["state"])
    gradients = process.call("tests.child:gradients", 60, **arguments)
    expected = referee()
    expected.train(Batches(in_float64(batch), np.arange(32), 32), lambda step, loss: None)
    for tensor, weight in expected.dump().weights.items():
        update = weight - start("float64").weights[tensor]
        if dtype == "float64":
            tolerance = 1e-10 * np.abs(update).max()
        else:
            # learning_rate / sqrt(epsilon) = 3.2 is the most by which RMSprop can stretch an error of the gradient.
            gradient_error = np.abs(gradients[tensor] - referee_gradients()[1][tensor]).max()
            tolerance = 3.2 * gradient_error + 2 * np.spacing(np.abs(before.weights[tensor]).max())
        compare(f"{tensor} after a step", after.weights[tensor], weight, tolerance, dtype=dtype).require()
        slot, expected_slot = after.mean_squares[tensor], expected.dump().mean_squares[tensor]
        tolerance = 1e-12 if dtype == "float64" else 2e-5
        compare(f"{tensor}'s slot", slot, expected_slot, tolerance, dtype=dtype, scale="largest").require()


@cells
def test_losses_of_ten_steps_are_the_referees(backend_of: StartBackend, name: str, dtype: str) -> None:
    batch = batch_of(10 * 64 - 20, dtype)  # the last batch is smaller
    got = backend_of(name, dtype).call(
        "tests.child:steps", 120, state=packed(start(dtype)), batch_size=64, **batch.fields()
    )
    expected, batches = referee(), Batches(in_float64(batch), np.arange(len(batch)), 64)
    trained = expected.train(batches, lambda step, loss: None)
    compare(
        "losses",
        got["losses"],
        trained.step_losses,
        TOLERANCES["ten steps"][dtype],
        dtype="float64",
        scale="relative",
    ).require()
    evaluated = expected.evaluate(batches)
    tolerance = TOLERANCES["ten steps"][dtype] * 10  # of the weights that ten steps led to
    compare(
        "evaluated", got["evaluated"], evaluated.step_losses, tolerance, dtype="float64", scale="relative"
    ).require()
    assert np.abs(got["correct"] - trained.correct).max() <= (dtype == "float32")
    assert np.abs(got["evaluated_correct_real"] - evaluated.correct_real).max() <= (dtype == "float32")


@pytest.mark.parametrize("name", ["torch", "paddle"])
def test_the_second_bias_stays_zero(backend_of: StartBackend, name: str) -> None:
    process, batch = backend_of(name, "float64"), batch_of(64, "float64")
    process.call("tests.child:steps", 60, state=packed(start("float64")), batch_size=16, **batch.fields())
    assert process.call("tests.child:second_biases", 60)["largest"] == 0.0


@pytest.mark.parametrize("name", ["numpy", *FRAMEWORKS, "keras:example"])
def test_training_reports_the_loss_of_every_32nd_step(backend_of: StartBackend, name: str) -> None:
    batch = batch_of(70, "float32")
    got = backend_of(name, "float32").call(
        "tests.child:steps", 120, state=packed(start("float32")), batch_size=1, **batch.fields()
    )
    assert [step for step, _ in got["reported"]] == [32, 64]
    assert [loss for _, loss in got["reported"]] == pytest.approx(got["losses"][[31, 63]], rel=1e-6)


def test_gradients_by_hand_are_finite_differences_of_the_loss() -> None:
    """The referee itself is held to the definition of a derivative."""
    backend, batch = referee(), batch_of(4, "float64")
    _, gradients = backend.gradients(batch)
    rng = np.random.default_rng(5)
    for tensor, weight in backend.weights.items():
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
    cut = Batch(**batch.fields() | {"decoder_ids": batch.decoder_ids[:, :longest]})
    assert cut.decoder_ids.shape != batch.decoder_ids.shape
    assert abs(referee().gradients(cut)[0] - referee().gradients(batch)[0]) > 1e-6
