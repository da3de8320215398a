"""What backends tell beside their results: times of steps, kernels, speed of a product, settings, interpreter."""

import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest

from backends.process.environment import child_environment
from backends.process.parent import BackendProcess, Runtime
from common.config import ModelConfig, TrainConfig
from common.errors import CannotBeginError
from common.evidence import (
    ENOUGH,
    Kernel,
    Part,
    Profiled,
    covered,
    kept_or_flushed,
    median_seconds,
    part_of,
    smallest_normals,
)
from common.interface import Metrics
from common.tensors import Batches
from tests import evidence_child
from tests.conftest import FRAMEWORKS, SETTINGS, batch_of, model
from tests.evidence_child import Traced

BACKENDS = ["numpy", *FRAMEWORKS, "keras:example"]
LATENT_DIM = 128
STEPS, BATCH_SIZE = 20, 32
TINY = ModelConfig(num_encoder_tokens=3, num_decoder_tokens=4, start_token=0, stop_token=1, latent_dim=4)

# Settings whose number of threads is not the number asked for: torch runs independent operators on threads of their
# own, and no environment variable sets the number of these. The model has no such operators.
NOT_SET = {"torch": {"inter_op_threads"}}
# The name that a framework's profiler gives to a product of matrices, or to an LSTM made of them.
PRODUCTS = {
    "numpy": r"numpy_backend\.py:Lstm|tensordot",
    "keras": r"while/(_Mkl)?MatMul",
    "keras:example": r"while/(_Mkl)?MatMul",
    "torch": r"aten::mkldnn_rnn_layer|aten::(add)?mm",
    "paddle": r"rnn kernel launch|matmul kernel launch",
}

Start = Callable[..., BackendProcess]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """The process of a backend with a model for the material of conftest; one for each name and number of threads."""
    with ExitStack() as stack:

        @cache
        def started(name: str, threads: int = 1) -> BackendProcess:
            return stack.enter_context(fresh(name, threads=threads))

        yield started


def fresh(name: str, **runtime: Any) -> BackendProcess:
    return Runtime(**runtime).start(name, replace(model("float32"), latent_dim=LATENT_DIM), SETTINGS)


def traced(process: BackendProcess, folder: Path, profile: Callable[..., Traced] = evidence_child.profile) -> Traced:
    folder.mkdir(exist_ok=True)
    batch = batch_of(3 * BATCH_SIZE, "float32")
    found = process.call(profile, folder=str(folder), batch=batch, batch_size=BATCH_SIZE)
    assert found.files == []
    return found


def names(found: Traced) -> set[str]:
    return {kernel.name for kernel in found.profiled.kernels}


def test_stamps_become_the_times_of_steps() -> None:
    batch = batch_of(5, "float64")
    stamps = [10.0, 11.0, 13.0, 13.5]  # start, two steps, read back
    metrics = Metrics.of(np.ones((2, 3)), Batches(batch, np.arange(5), 3), stamps)
    np.testing.assert_array_equal(metrics.step_seconds, [1.0, 2.0])
    assert metrics.seconds == 3.5


@pytest.mark.parametrize("name", BACKENDS)
def test_the_times_of_steps_add_up(start: Start, name: str) -> None:
    batch = batch_of(STEPS * BATCH_SIZE, "float32")
    both = start(name).call(evidence_child.trained_and_evaluated, batch=batch, batch_size=BATCH_SIZE)
    for metrics in both:
        assert len(metrics.step_seconds) == STEPS
        assert min(metrics.step_seconds) > 0
        assert sum(metrics.step_seconds) == pytest.approx(metrics.seconds, rel=0.01)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_profiler_names_products_of_matrices_and_tells_kernels_apart(
    start: Start, name: str, tmp_path: Path
) -> None:
    profiled = traced(start(name), tmp_path).profiled
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
    assert spent["optimizer"] > 0
    assert spent["LSTM"] + spent["products"] > 0.2 * spent.total()
    assert 0 < profiled.busy_seconds <= spent.total() * (1 + 1e-6)
    assert profiled.busy_seconds < 1.5 * profiled.seconds  # two clocks, which start and stop apart


def test_a_kernel_that_no_pattern_knows_is_other() -> None:
    parts: dict[Part, str] = {"products": r"mm$", "gates": r"^aten::"}
    assert [part_of(name, parts) for name in ("aten::mm", "aten::tanh", "new_mm_kernel")] == [
        *("products", "gates", "other")
    ]


def test_time_is_covered_once_however_many_spans_lie_in_it() -> None:
    assert covered([(20, 30), (0, 10), (5, 12), (6, 8), (30, 31)]) == 12 + 11
    assert covered([]) == 0


def test_kernels_come_by_time() -> None:
    kernels = [Kernel(name, 1, seconds, "other") for name, seconds in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    found = Profiled.of(kernels, 7.0)
    assert [kernel.name for kernel in found.kernels] == ["b", "c", "a"]
    assert found.busy_seconds == 6.0
    assert Profiled.of(kernels, 7.0, 4.0).busy_seconds == 4.0


def test_tensorflow_without_onednn_runs_another_kernel(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_it = names(traced(start("keras"), tmp_path / "with"))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with fresh("keras", threads=1) as process:
        assert process.facts.settings["onednn"] is False
        without = names(traced(process, tmp_path / "without"))
    kernels = {"while/_MklMatMul", "while/MatMul"}
    assert (with_it & kernels, without & kernels) == ({"while/_MklMatMul"}, {"while/MatMul"})


def test_tensorflow_has_onednn_on_any_processor(start: Start) -> None:
    assert "TF_ENABLE_ONEDNN_OPTS" not in child_environment("default", 1, "cpu")
    assert child_environment("matched", 1, "cpu")["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert start("keras").facts.settings["onednn"] is True


def test_torch_without_onednn_runs_another_kernel(start: Start, tmp_path: Path) -> None:
    with_it = names(traced(start("torch"), tmp_path / "with"))
    without = traced(start("torch"), tmp_path / "without", evidence_child.profile_without_onednn)
    assert start("torch").facts.settings["onednn"] is True
    assert without.settings["onednn"] is False
    assert "aten::mkldnn_rnn_layer" in with_it
    assert not any("mkldnn" in name for name in names(without))
    assert "aten::lstm" in names(without)
    assert {"aten::addmm", "aten::mm"} & names(without)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_product_of_matrices_has_a_plausible_rate(start: Start, name: str) -> None:
    def seconds(m: int, k: int, n: int) -> float:
        shape = m, k, n
        rate = start(name).call(evidence_child.matrix_product, shape=shape)
        assert 1e8 < rate < 1e14
        return float(2 * m * k * n / rate)

    assert seconds(768, 512, 640) > 3 * seconds(96, 128, 80)  # 256 times the work


def test_a_product_is_timed_after_two_warm_ups_and_three_times_at_least() -> None:
    calls: list[int] = []
    assert median_seconds(lambda: calls.append(1), 0.0) > 0
    assert len(calls) == 2 + 3


@pytest.fixture
def all_cores() -> Iterator[None]:
    """For processes that are started meanwhile; a process of `make test` keeps to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize("name", ["numpy", *FRAMEWORKS])
def test_settings_and_the_system_tell_the_threads_that_were_asked_for(
    all_cores: None, start: Start, name: str
) -> None:
    one, two = start(name, 1).facts, start(name, 2).facts
    assert (one.threads, two.threads) == (1, 2)
    told = {setting for setting in two.settings if "threads" in setting} - NOT_SET.get(name, set())
    assert told
    assert {setting: one.settings[setting] for setting in told} == dict.fromkeys(told, 1)
    assert {setting: two.settings[setting] for setting in told} == dict.fromkeys(told, 2)
    assert two.os_threads > one.os_threads


# A program that multiplies in float32, the variable by which its matrix library tells of each product, what it then
# prints, and what follows from that for the library's name.
TOLD_BY_THE_LIBRARY = {
    "torch": ("import torch; torch.ones(9, 9) @ torch.ones(9, 9)", "MKL_VERBOSE", "SGEMM", "MKL .* elsewhere"),
    "paddle": ("import paddle; paddle.ones((9, 9)) @ paddle.ones((9, 9))", "MKL_VERBOSE", "SGEMM", "MKL "),
    "keras": ("import tensorflow as tf; tf.ones((9, 9)) @ tf.ones((9, 9))", "ONEDNN_VERBOSE", "gemm", "oneDNN$"),
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="there is no MKL elsewhere")
@pytest.mark.parametrize("name", TOLD_BY_THE_LIBRARY)
def test_the_matrix_library_is_the_one_that_itself_tells_of_the_products(start: Start, name: str) -> None:
    program, variable, told, expected = TOLD_BY_THE_LIBRARY[name]
    environment = child_environment("matched", 1, "cpu") | {variable: "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert re.search(f"(?m)^{variable}.*{told}", done.stdout, re.IGNORECASE), done.stdout
    found = str(start(name).facts.settings["matrix_library"])
    assert re.search(expected, found), found
    if version := re.search(r"Intel\(R\) MKL (.+?) Product", done.stdout):  # as Paddle's prints it
        assert found == f"MKL {version[1].replace(' Update ', '.')}"


def test_numpys_matrix_library_is_the_one_it_was_built_with(start: Start) -> None:
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["version"]  # type: ignore[call-overload,index]
    assert built in str(start("numpy").facts.settings["matrix_library"])


@pytest.mark.parametrize(("name", "found"), [("numpy", "kept"), ("keras", "flushed"), ("paddle", "kept")])
def test_denormals_where_a_framework_has_no_switch(start: Start, name: str, found: str) -> None:
    assert start(name).facts.settings["denormals"] == found
    assert start(name, 2).facts.settings["denormals"] == found


def test_torch_flushes_denormals_in_the_matched_lane_alone(start: Start) -> None:
    assert "ROSETTA_FLUSH_DENORMALS" not in child_environment("default", None, "cpu")
    assert start("torch", 1).facts.settings["denormals"] == "flushed"
    with fresh("torch", lane="default") as process:
        assert process.facts.settings["denormals"] == "kept"


def test_a_switch_thrown_too_late_for_torchs_threads_is_told(start: Start) -> None:
    process = start("torch", 2)
    assert process.facts.settings["denormals"] == "flushed"
    late = process.call(evidence_child.one_thread_keeps_denormals)
    assert late["denormals"] == "some flushed"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormals_are_told_by_their_bits(dtype: str) -> None:
    halves = smallest_normals(dtype) * 0.5
    assert halves.dtype == dtype
    assert kept_or_flushed(halves) == "kept"
    halves[: ENOUGH // 2] = 0
    assert kept_or_flushed(halves) == "some flushed"
    assert kept_or_flushed(np.zeros_like(halves)) == "flushed"


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_memory_is_told_before_and_after_import_and_build(start: Start, name: str) -> None:
    facts = start(name).facts
    assert 1e7 < facts.resident_before_import <= facts.resident_after_import <= facts.resident_after_build
    if name != "numpy":  # which is there from the beginning
        assert facts.resident_after_import - facts.resident_before_import > 2e7


def interpreter(folder: Path) -> Path:
    """This interpreter and its packages by another path."""
    path = folder / "bin" / "python-elsewhere"
    path.parent.mkdir()
    path.symlink_to(sys.executable)
    environment = Path(sys.prefix) / "pyvenv.cfg"
    if environment.exists():
        copy(environment, folder)
        (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    return path


def test_a_backend_runs_under_another_interpreter(tmp_path: Path) -> None:
    path = str(interpreter(tmp_path))
    with Runtime(threads=1, python=path).start("numpy", TINY, TrainConfig()) as process:
        assert process.facts.python == path
        assert process.facts.python_version == ".".join(map(str, sys.version_info[:3]))
    with Runtime(threads=1).start("numpy", TINY, TrainConfig()) as process:
        assert process.facts.python == sys.executable


def refusal(python: str, name: str = "paddle") -> str:
    with pytest.raises(CannotBeginError) as caught:
        Runtime(threads=1, python=python).start(name, TINY, TrainConfig())
    assert "\n" not in str(caught.value)
    assert python in str(caught.value) or name == "jax"
    return str(caught.value)


def test_an_interpreter_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    assert "No such file" in refusal(str(tmp_path / "python"))
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\n")
    assert "Permission denied" in refusal(str(silent))
    silent.chmod(0o755)
    assert "does not run Python" in refusal(str(silent))
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 3 9 unknown\n")
    old.chmod(0o755)
    assert "is Python 3.9, and 3.11 is the oldest" in refusal(str(old))
    assert "there is no backend 'jax'" in refusal(sys.executable, "jax")


def test_an_interpreter_without_the_packages_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = os.fspath(tmp_path / "bare" / "bin" / "python")
    message = refusal(bare)
    assert "needs msgspec, numpy, psutil, safetensors, threadpoolctl, paddle," in message
    assert f'run: {bare} -m pip install -e ".[paddle]" in the clone' in message
    assert f'{bare} -m pip install -e "." in' in refusal(bare, "numpy")
    assert "torch, pooch, which" in refusal(bare, "torch:compile")
