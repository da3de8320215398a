"""Three deviations of the register do break parity: stock RMSprop, two trained biases, zeros as padding."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from backends.process.environment import child_environment
from backends.process.parent import BackendProcess
from backends.process.runtime import Runtime
from common.comparison import TOLERANCES, compare
from common.config import ModelConfig
from common.tensors import Batches
from common.weights import Arrays, initial_state
from tests import child
from tests.conftest import SETTINGS, batch_of, model

STEP = 1e-10  # of a weight's largest update, what the step of a right backend is held to


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return replace(model("float64"), latent_dim=16)


@pytest.fixture(scope="module")
def torch_process(config: ModelConfig) -> Iterator[BackendProcess]:
    with Runtime(threads=1).start("torch", config, SETTINGS) as process:
        yield process


@pytest.fixture
def referee(config: ModelConfig) -> NumpyBackend:
    backend = NumpyBackend(config, SETTINGS)
    backend.load(initial_state(config, SETTINGS.seed))
    return backend


def call(process: BackendProcess, mistake: str, config: ModelConfig) -> dict[str, Any]:
    arguments = {"state": initial_state(config, SETTINGS.seed), "batch": batch_of(32, "float64")}
    found = process.call(child.elsewhere, named=f"tests.shown_torch:{mistake}", arguments=arguments)
    return dict(found)


def updates(referee: NumpyBackend) -> tuple[Arrays, Arrays]:
    """The referee's weights before a step, and by how much it moves them."""
    batch = batch_of(32, "float64")
    before = referee.dump().weights
    referee.train(Batches(batch, np.arange(32), 32), lambda step, loss: None)
    return before, {name: weight - before[name] for name, weight in referee.dump().weights.items()}


def error_of_update(name: str, moved: np.ndarray, expected: np.ndarray) -> float:
    return compare(name, moved, expected, STEP, dtype="float64", scale="largest").error


def test_torchs_stock_rmsprop_breaks_the_first_step(
    torch_process: BackendProcess, config: ModelConfig, referee: NumpyBackend
) -> None:
    after = call(torch_process, "stock_rmsprop", config)
    before, expected = updates(referee)
    for name, update in expected.items():
        assert error_of_update(name, after[name] - before[name], update) > 0.1, name


def test_two_trained_biases_pass_loss_and_gradients_and_break_the_step(
    torch_process: BackendProcess, config: ModelConfig, referee: NumpyBackend
) -> None:
    got = call(torch_process, "two_biases", config)
    loss, gradients = referee.gradients(batch_of(32, "float64"))
    assert got["loss"] == pytest.approx(loss, rel=TOLERANCES["loss"]["float64"], abs=0)
    for name, gradient in gradients.items():
        compare(
            name,
            got["gradients"][name],
            gradient,
            TOLERANCES["gradients"]["float64"],
            dtype="float64",
            scale="largest",
        ).require()
    before, expected = updates(referee)
    for name, update in expected.items():
        moved = got["weights"][name] - before[name]
        if name in ("encoder/bias", "decoder/bias"):
            assert error_of_update(name, moved, 2 * update) < STEP, "the sum of two biases moves twice"
            assert error_of_update(name, moved, update) > 0.9
        else:
            assert error_of_update(name, moved, update) < STEP


def test_targets_padded_with_zeros_break_loss_and_gradients(
    torch_process: BackendProcess, config: ModelConfig, referee: NumpyBackend
) -> None:
    got = call(torch_process, "zero_padded_targets", config)
    loss, gradients = referee.gradients(batch_of(32, "float64"))
    assert abs(got["loss"] / loss - 1) > 0.1
    for name, gradient in gradients.items():
        error = compare(name, got["by_name"][name], gradient, 0.0, dtype="float64", scale="largest").error
        assert error > 0.01, name


def test_tensorflow_has_onednn_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert "TF_ENABLE_ONEDNN_OPTS" not in child_environment("default", 1, "cpu")
    assert child_environment("matched", 1, "cpu")["TF_ENABLE_ONEDNN_OPTS"] == "1"
    with Runtime(threads=1).start("keras", model("float32"), SETTINGS) as process:
        assert process.facts.settings["onednn"] is True


@pytest.mark.parametrize(("is_amd", "expected"), [(True, "5"), (False, None)])
def test_paddles_mkl_is_told_the_type_of_an_amd_processor(
    monkeypatch: pytest.MonkeyPatch, is_amd: bool, expected: str | None
) -> None:
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE", raising=False)
    monkeypatch.setattr("backends.process.environment.is_amd", lambda: is_amd)
    assert child_environment("matched", 1, "cpu").get("MKL_DEBUG_CPU_TYPE") == expected
    assert "MKL_DEBUG_CPU_TYPE" not in child_environment("default", 1, "cpu")
