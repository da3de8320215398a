"""Facts that backends tell beside results: times of steps, kernels, settings, interpreter."""

import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest

from backends.interface import Metrics
from backends.process import child_environment
from backends.process.parent import BackendProcess, Runtime
from backends.profiling import Part, Profiled, covered
from benchmarks.in_child import greedy
from common.errors import CannotBeginError
from common.settings import ModelConfig, TrainConfig
from common.weights import initial_state
from tests.conftest import FRAMEWORKS, SETTINGS, StartBackend, batch_of, model
from tests.support import child

BACKENDS = ["numpy", *FRAMEWORKS, "keras:example"]
STEPS, BATCH_SIZE = 8, 32
TINY = ModelConfig(num_encoder_tokens=3, num_decoder_tokens=4, start_token=0, stop_token=1, latent_dim=4)

# The name that a framework's profiler gives to a product of matrices, or to an LSTM made of them; TensorFlow's and
# torch's are oneDNN's, on any processor.
PRODUCTS = {
    "numpy": r"numpy_lesson\.py:Lstm|tensordot",
    "keras": r"while/_MklMatMul",
    "keras:example": r"while/_MklMatMul",
    "torch": r"aten::mkldnn_rnn_layer",
    "paddle": r"rnn kernel launch|matmul kernel launch",
    "jax": r"dot",
}


def fresh(name: str, **runtime: Any) -> BackendProcess:
    """A process of its own with the model of `backend_of`."""
    return Runtime(**runtime).start(name, model("float32"), SETTINGS)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_tells_of_its_steps_and_kernels(backend_of: StartBackend, name: str, tmp_path: Path) -> None:
    process, batch = backend_of(name, "float32"), batch_of(STEPS * BATCH_SIZE, "float32")

    def steps_take_all_of_the_time() -> bool:
        both = process.call(child.trained_and_evaluated, batch=batch, batch_size=BATCH_SIZE)
        for metrics in both:
            assert len(metrics.step_seconds) == STEPS
            assert min(metrics.step_seconds) > 0
        return all(sum(metrics.step_seconds) == pytest.approx(metrics.seconds, rel=0.01) for metrics in both)

    # While counts are read back, another program may have the core once.
    assert any(steps_take_all_of_the_time() for _ in range(3))

    few = batch_of(3 * BATCH_SIZE, "float32")
    traced = process.call(child.profile, folder=str(tmp_path), batch=few, batch_size=BATCH_SIZE)
    assert traced.files == []
    profiled = traced.profiled
    seconds = [kernel.seconds for kernel in profiled.kernels]
    assert seconds == sorted(seconds, reverse=True)
    assert min(seconds) > -1e-6  # a difference of two readings of a clock
    assert all(kernel.calls >= 1 for kernel in profiled.kernels)
    most = {kernel.name for kernel in profiled.kernels[:6]}
    assert any(re.search(PRODUCTS.get(name, "."), kernel) for kernel in most), most
    spent: Counter[str] = Counter()
    for kernel in profiled.kernels:
        spent[kernel.part] += kernel.seconds
    assert spent["other"] < 0.1 * spent.total()
    assert spent["optimizer"] > 0 or name == "jax"  # whose compiler fuses it with other operators
    assert spent["LSTM"] + spent["products"] > 0.2 * spent.total()
    assert 0 < profiled.busy_seconds <= spent.total() * (1 + 1e-6)
    assert profiled.busy_seconds < 1.5 * profiled.seconds  # two clocks, which start and stop apart
    assert process.facts.threads == 1


def test_events_become_kernels_and_times_are_counted_once() -> None:
    parts: dict[Part, str] = {"products": r"mm$", "gates": r"^aten::"}
    events = [("aten::tanh", 1, 2.0), ("aten::mm", 2, 1.5), ("new_mm_kernel", 1, 0.5), ("aten::mm", 1, 1.5)]
    profiled = Profiled.of(events, parts, 7.0)
    assert [(kernel.name, kernel.calls, kernel.seconds, kernel.part) for kernel in profiled.kernels] == [
        ("aten::mm", 3, 3.0, "products"),
        ("aten::tanh", 1, 2.0, "gates"),
        ("new_mm_kernel", 1, 0.5, "other"),
    ]
    assert (profiled.seconds, profiled.busy_seconds) == (7.0, 5.5)
    assert Profiled.of(events, parts, 7.0, 4.0).busy_seconds == 4.0
    assert covered([(20, 30), (0, 10), (5, 12), (6, 8), (30, 31)]) == 12 + 11
    assert covered([]) == 0
    metrics = Metrics.of(
        np.ones((2, 3)), [(3.0, 3.0), (2.0, 2.0)], [10.0, 11.0, 13.0, 13.5]
    )  # start, steps, read back
    np.testing.assert_array_equal(metrics.step_seconds, [1.0, 2.0])
    assert metrics.seconds == 3.5


def test_keras_trains_without_tensorflows_format_of_profiles(backend_of: StartBackend) -> None:
    missing = "tensorflow.tsl.profiler.protobuf.xplane_pb2"
    backend_of("keras", "float32").call(child.import_without, module="backends.profiling.keras", missing=missing)


def test_tensorflow_has_onednn_unless_the_shell_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "TF_ENABLE_ONEDNN_OPTS" not in child_environment("default", 1, "cpu")
    assert child_environment("matched", 1, "cpu")["TF_ENABLE_ONEDNN_OPTS"] == "1"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with fresh("keras", threads=1) as process:
        assert process.facts.settings["matrix_library"] == "Eigen"


BLAS = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["version"]  # type: ignore[call-overload,index]
# The matrix library with its version, and what becomes of denormals, for which torch alone has a switch.
READ_BACK = {
    "numpy": (BLAS, "kept"),
    "keras": ("oneDNN", "flushed"),
    "torch": (r"oneDNN [\d.]+ in LSTMs, MKL [\d.]+ elsewhere$", "flushed"),
    "paddle": (r"MKL [\d.]+$", "kept"),
}


@pytest.mark.parametrize("name", READ_BACK)
def test_the_matrix_library_and_denormals_are_told(backend_of: StartBackend, name: str) -> None:
    library, denormals = READ_BACK[name]
    settings = backend_of(name, "float32").facts.settings
    assert settings["denormals"] == denormals
    if platform.machine() == "x86_64":  # there is no MKL elsewhere
        assert re.search(library, str(settings["matrix_library"]))


# What each of Keras's engines tells: its version, its library, what becomes of denormals, the name of its product.
ENGINES = {
    "tensorflow": (r", tf [\d.]+$", "oneDNN", "flushed", "while/_MklMatMul"),
    "jax": (r", jax [\d.]+$", "XLA's own", "flushed", "dot"),
    "torch": (r", torch [\d.]+\S*$", r"^MKL [\d.]+$", "kept", "aten::mm"),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_keras_computes_under_the_engine_that_its_row_names(
    backend_of: StartBackend, engine: str, tmp_path: Path
) -> None:
    version, library, denormals, product = ENGINES[engine]
    process = backend_of(f"keras:on-{engine}", "float32")
    assert process.call(child.variable, name="KERAS_BACKEND") == engine
    facts = process.facts
    assert re.search(version, facts.version)
    assert (facts.device.lower(), facts.threads, facts.precision) in {("cpu", 1, "float32"), ("cpu:0", 1, "float32")}
    assert facts.settings["denormals"] == denormals
    assert facts.settings["jit_compile"] == (engine == "jax")
    if platform.machine() == "x86_64":
        assert re.search(library, str(facts.settings["matrix_library"]))
    few = batch_of(3 * BATCH_SIZE, "float32")
    traced = process.call(child.profile, folder=str(tmp_path), batch=few, batch_size=BATCH_SIZE)
    assert product in {kernel.name for kernel in traced.profiled.kernels}


def test_torch_flushes_denormals_in_the_matched_lane_alone(backend_of: StartBackend) -> None:
    assert "ROSETTA_FLUSH_DENORMALS" not in child_environment("default", None, "cpu")
    assert backend_of("torch", "float32").call(child.denormals_without_the_switch) == "kept"


@pytest.fixture(scope="module")
def torch_on_two_threads() -> Iterator[BackendProcess]:
    """A process of torch that has not trained yet."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # a process of `make test` keeps to one core
    try:
        process = fresh("torch", threads=2)
    finally:
        os.sched_setaffinity(0, cores)
    with process:
        yield process


def test_torch_runs_two_threads_and_tells_of_a_late_switch(
    torch_on_two_threads: BackendProcess, backend_of: StartBackend
) -> None:
    facts = torch_on_two_threads.facts
    assert facts.threads == 2
    assert facts.os_threads > backend_of("torch", "float32").facts.os_threads
    assert torch_on_two_threads.call(child.denormals_without_the_switch) == "some flushed"


def test_torch_translates_and_trains_without_its_compiler(torch_on_two_threads: BackendProcess) -> None:
    batch, state, process = batch_of(2, "float32"), initial_state(model("float32"), 0), torch_on_two_threads
    process.call(child.load, state=state)
    process.call(greedy, encoder_ids=batch.encoder_ids, encoder_lengths=batch.encoder_lengths, max_length=3)
    process.call(child.steps, state=state, batch=batch, batch_size=2)
    assert "torch._dynamo" not in process.call(child.imported)
    process.call(child.optimizer_of_torch)
    assert "torch._dynamo" in process.call(child.imported), "the register is out of date"


# The interpreter


def test_a_backend_runs_under_another_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "bin" / "python-elsewhere"  # this one and its packages, by another path
    path.parent.mkdir()
    path.symlink_to(sys.executable)
    environment = Path(sys.prefix) / "pyvenv.cfg"
    if environment.exists():
        copy(environment, tmp_path)
        (tmp_path / "lib").symlink_to(Path(sys.prefix) / "lib")
    with Runtime(threads=1, python=str(path)).start("numpy", TINY, TrainConfig()) as process:
        assert process.facts.python == str(path)
        assert process.facts.python_version == ".".join(map(str, sys.version_info[:3]))


def refusal(python: object, name: str = "paddle") -> str:
    with pytest.raises(CannotBeginError) as caught:
        Runtime(threads=1, python=str(python)).start(name, TINY, TrainConfig())
    assert str(python) in str(caught.value)
    return str(caught.value)


def test_what_is_no_interpreter_is_one_clear_line(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "python")
    for program, mode, expected in (
        ("#!/bin/sh\n", 0o600, "Permission denied"),
        ("#!/bin/sh\n", 0o700, "does not run Python"),
        ("#!/bin/sh\necho 3.9 unknown 'Python>=3.11'\n", 0o700, "(Python 3.9) needs Python>=3.11"),
    ):
        path = tmp_path / f"python-{expected[:3]}"
        path.write_text(program)
        path.chmod(mode)
        assert expected in refusal(path)


def test_an_interpreter_without_packages_gets_the_pip_command(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = os.fspath(tmp_path / "bare" / "bin" / "python")
    message = refusal(bare)
    assert "needs msgspec, numpy, psutil, safetensors, threadpoolctl, paddle;" in message
    assert f'run: {bare} -m pip install -e ".[paddle]" in the clone' in message
    assert f'{bare} -m pip install -e "." in' in refusal(bare, "numpy")
    assert "torch; give another path" in refusal(bare, "keras:on-torch")
