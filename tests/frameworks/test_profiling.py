"""Facts that backends tell beside results: times of steps and of their parts,
settings, interpreter."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.interface import Metrics
from backends.process.parent import BackendProcess, Runtime
from backends.process.translate_in_child import decode_greedily
from backends.process.tuned import thread_variables
from backends.profiling import Kernel, covered
from common.settings import ModelConfig
from common.weights import initial_state
from tests.conftest import AT_LENGTH, FRAMEWORKS, SETTINGS, StartBackend, batch_of, model
from tests.support import child

BACKENDS = ["numpy", *FRAMEWORKS, "keras:example"]
DAILY = (
    BACKENDS if AT_LENGTH else [name for name in BACKENDS if name not in ("jax", "keras:example")]
)
STEPS, BATCH_SIZE = 8, 32
TINY = ModelConfig(
    num_encoder_tokens=3, num_decoder_tokens=4, start_token=0, stop_token=1, latent_dim=4
)


def fresh(name: str, **runtime: Any) -> BackendProcess:
    """A process of its own with the model of `backend_of`."""
    return BackendProcess(name, model("float32"), SETTINGS, Runtime(**runtime))


@pytest.mark.parametrize("name", DAILY)
def test_the_parts_of_a_step_are_told(backend_of: StartBackend, name: str, tmp_path: Path) -> None:
    process, batch = backend_of(name, "float32"), batch_of(STEPS * BATCH_SIZE, "float32")

    for metrics in process.call(child.trained_and_evaluated, batch=batch, batch_size=BATCH_SIZE):
        assert len(metrics.step_seconds) == STEPS
        assert min(metrics.step_seconds) > 0
    assert process.facts.threads == 1
    requires_products(process, tmp_path)


def requires_products(process: BackendProcess, folder: Path) -> None:
    """Profile a few steps, of which products take a part, under load too.
    No file is left where they run."""
    few = batch_of(3 * BATCH_SIZE, "float32")
    traced = process.call(child.traced, folder=str(folder), batch=few, batch_size=BATCH_SIZE)
    assert traced.files == []
    _, products, others = traced.profiled
    assert products > 0.05 * (products + others)
    assert others > 0


def test_copies_that_paddle_makes_outside_its_kernels_are_no_waiting(
    backend_of: StartBackend,
) -> None:
    assert backend_of("paddle", "float32").call(child.part_of_a_copied_view) > 0.5


def test_a_moment_of_several_kernels_counts_once() -> None:
    spans = [(20, 30), (0, 10), (5, 12), (6, 8), (30, 31)]
    assert covered(Kernel("", began, ended) for began, ended in spans) == 12 + 11
    assert covered([]) == 0
    # Start, steps, read back.
    metrics = Metrics.of(np.ones((2, 3)), [(3.0, 3.0), (2.0, 2.0)], [10.0, 11.0, 13.0, 13.5])
    np.testing.assert_array_equal(metrics.step_seconds, [1.0, 2.0])
    assert metrics.seconds == 3.5


def test_keras_trains_without_tensorflows_format_of_profiles(backend_of: StartBackend) -> None:
    missing = "tensorflow.tsl.profiler.protobuf.xplane_pb2"
    backend_of("keras", "float32").call(
        child.import_without, module="backends.profiling.keras", missing=missing
    )


@pytest.mark.at_length
def test_tensorflow_has_onednn_unless_the_shell_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with fresh("keras", threads=1) as process:
        assert process.facts.settings["matrix_library"] == "Eigen"


# Each of Keras's engines, and the version that its row tells.
ENGINES = {
    "keras:example": ("tensorflow", r", tf [\d.]+$"),
    "keras:on-jax": ("jax", r", jax [\d.]+$"),
    "keras:on-torch": ("torch", r", torch [\d.]+\S*$"),
}


@pytest.mark.parametrize("name", ENGINES if AT_LENGTH else ["keras:example"])
def test_keras_computes_under_the_engine_that_its_row_names(
    backend_of: StartBackend, name: str, tmp_path: Path
) -> None:
    engine, version = ENGINES[name]
    process = backend_of(name, "float32")
    assert process.call(child.variable, name="KERAS_BACKEND") == engine
    facts = process.facts
    assert re.search(version, facts.version)
    assert (facts.device.lower(), facts.threads, facts.precision) in {
        ("cpu", 1, "float32"),
        ("cpu:0", 1, "float32"),
    }
    assert facts.settings["jit_compile"] == (engine == "jax")
    requires_products(process, tmp_path)


@pytest.fixture(scope="module")
def torch_on_two_threads() -> Iterator[BackendProcess]:
    """A process of torch that has not trained yet, on two threads."""
    cores = os.sched_getaffinity(0)
    # A process of `make test` keeps to one core.
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        process = fresh("torch", variables=thread_variables(2))
    finally:
        os.sched_setaffinity(0, cores)
    with process:
        yield process


def test_torch_runs_two_threads(
    torch_on_two_threads: BackendProcess, backend_of: StartBackend
) -> None:
    facts = torch_on_two_threads.facts
    assert facts.threads == 2
    assert facts.os_threads > backend_of("torch", "float32").facts.os_threads


def test_torch_translates_and_trains_without_its_compiler(
    torch_on_two_threads: BackendProcess,
) -> None:
    batch = batch_of(2, "float32")
    state = initial_state(model("float32"), 0)
    process = torch_on_two_threads
    process.call(child.load, state=state)
    process.call(
        decode_greedily,
        encoder_ids=batch.encoder_ids,
        encoder_lengths=batch.encoder_lengths,
        max_length=3,
    )
    process.call(child.steps, state=state, batch=batch, batch_size=2)
    assert "torch._dynamo" not in process.call(child.imported)
    process.call(child.optimizer_of_torch)
    assert "torch._dynamo" in process.call(child.imported), "the register is out of date"
