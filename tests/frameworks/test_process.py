"""A backend's process: what crosses, and what becomes of a child's death, silence or garbage."""

import os
import pickle
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Barrier
from typing import Any

import numpy as np
import psutil
import pytest

import backends
from backends import TABLE
from backends.process import child_environment, child_process, shell_settings, tuned
from backends.process.child_process import ChildProcess
from backends.process.parent import PROJECT, BackendProcess, Runtime
from backends.process.tuned import KEEP_MEMORY, thread_variables
from benchmarks.measure.scripts import next_line
from common.errors import CannotBeginError, RosettaError
from common.machine import cores
from common.settings import ModelConfig, TrainConfig
from common.tensors import Batch
from tests.conftest import FRAMEWORKS, StartBackend, batch_of
from tests.support import child
from tests.support.program import alive, one_line, wait_until

PAGES = 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")  # of 64 MiB
TINY = ModelConfig(
    num_encoder_tokens=3, num_decoder_tokens=4, start_token=0, stop_token=1, latent_dim=4
)


def start(name: str = "numpy", **runtime: Any) -> BackendProcess:
    process = BackendProcess(name, TINY, TrainConfig(), Runtime(**runtime))
    process.wait_until_open()
    return process


def test_values_cross_unchanged_and_events_come_in_order() -> None:
    events: list[int] = []
    content = {
        "text": "Ça alors !\u202f",
        "nested": {"list": [1, 2.5, None, True, [np.ones((2, 1), np.float32)]]},
        "floats": np.arange(6.0).reshape(2, 3).T,  # not contiguous
        "empty": np.zeros((0, 4), np.int32),
        "large": np.arange(1 << 20),
    }
    batch = batch_of(5, "float64")
    with start() as process:
        process.call(child.chatter)
        assert process.call(child.inheritable) == [], (
            "no program that a framework starts has the socket"
        )
        returned = process.call(
            child.echo, lambda event: events.append(event["number"]), content=content
        )
        taken = process.call(child.taken, batch=batch, rows=np.array([3, 1]))
        asked = psutil.Process(process.pid)
        before = asked.num_fds(), asked.num_threads()
        for _ in range(200):
            process.call(child.echo, content={})
        assert (asked.num_fds(), asked.num_threads()) == before, "calls leave nothing open"
    assert events == list(range(5))
    np.testing.assert_equal(returned, content, strict=True)
    assert returned["floats"].flags.writeable
    assert isinstance(taken, Batch)
    np.testing.assert_equal(vars(taken), vars(batch.take([3, 1])))


# A call, and what its error tells.
FAILURES: dict[str, tuple[Callable[..., object], dict[str, Any], str]] = {
    "killed": (child.end, {"signal": 9}, "was ended by signal 9, which the system sends wh"),
    "interrupted": (child.end, {"signal": 2}, "was ended by signal 2, which another program sent"),
    "crashes": (child.end, {"signal": 6}, "was ended by signal 6; its last words: out of memory"),
    "exits": (child.end, {"status": 3}, "ended with status 3; its last words: out of memory"),
    "exits without a word": (
        child.end,
        {"status": 3, "words": ""},
        "ended with status 3, without a word",
    ),
    "closes": (
        child.close_socket,
        {},
        "stopped its messages without ending, .* its last words: out of me",
    ),
    "garbage": (child.send, {"raw": b"\xff" * 64}, "sent what is no message, and was ended"),
    "raises": (child.fail, {}, r"the numpy backend failed: ValueError: out of .*\(child.py, line"),
    "raises in a library": (child.fail_in_numpy, {}, r"zero-size array .*\(numpy_model.py, line"),
    "returns what cannot cross": (child.unpicklable, {}, "the numpy backend failed: .*[Pp]ickle"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_in_the_child_is_one_line(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    function, arguments, expected = FAILURES[name]
    monkeypatch.setattr(
        child_process, "ENDING_SECONDS", 0.2 if re.match("stopped|sent", expected) else 10.0
    )
    with start() as process:
        with pytest.raises(RosettaError, match=expected) as caught:
            process.call(function, **arguments)
        assert one_line(caught.value)
        assert caught.value.exit_code == RosettaError.exit_code
        wait_until(lambda: not alive(tmp_path), why="what the child started outlives it")
        with pytest.raises(RosettaError, match=r"was ended before|ended with status 1"):
            process.call(child.imported)


@pytest.mark.parametrize(
    ("function", "content", "stopped"),
    [(child.send, None, False), (child.echo, np.zeros(1 << 20), True), (child.hold, None, False)],
    ids=["half a message", "reads nothing", "holds the interpreter"],
)
def test_the_watchdog_ends_a_silent_child_without_spinning(function, content, stopped) -> None:
    arguments = {
        child.send: {"raw": pickle.dumps(("result", bytes(999)))[:500]},
        child.echo: {"content": content},
    }
    with start() as process:
        before = time.process_time()
        if stopped:
            os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(RosettaError, match="did not answer for 1 s and was ended"):
            process.call(function, None, 0.6, **arguments.get(function, {}))
        assert not psutil.pid_exists(process.pid)
        assert time.process_time() - before < 0.5


def test_a_process_that_is_killed_asked_and_closed_at_once_ends_in_one_line() -> None:
    """In whatever order, the system's errors of a process and files
    that are gone come through to nobody."""
    for _ in range(40):
        command, begin = [sys.executable, "-S", "-c", "import time; time.sleep(60)"], Barrier(4)
        process = ChildProcess("it", command, os.environ, "WIRE", "", ExitStack())

        def told(act: Callable[[], object], begin: Barrier = begin) -> str:
            begin.wait()
            try:
                act()
            except RosettaError as error:
                return one_line(error)
            return ""

        acts = [
            partial(process.receive, next_line, 9.0),
            partial(process.send, bytes(1 << 20), 9.0),
            partial(
                subprocess.run,
                ["kill", "-9", str(process.pid)],
                stderr=subprocess.DEVNULL,
                check=False,
            ),
            process.close,
        ]
        with ThreadPoolExecutor(4) as threads:
            received, sent, *_ = threads.map(told, acts)
        assert "it was ended" in received
        assert "it was ended" in sent


# The parent's end


def test_a_child_ends_with_its_parent() -> None:
    program = (
        "from tests.support import child; from tests.frameworks.test_process import start\n"
        "start().call(child.hold, lambda event: print(event['pid'], flush=True))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    with parent.stdout as output:
        orphan = psutil.Process(int(output.readline()))
        parent.kill()
        parent.wait()
    gone, _ = psutil.wait_procs([orphan], timeout=10)
    assert gone or orphan.status() == psutil.STATUS_ZOMBIE


def test_temporary_files_are_in_a_folder_of_its_own_that_goes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with start():
        (held,) = tmp_path.iterdir()
        assert held.stat().st_mode & 0o777 == 0o700, "nobody else may enter it"
    assert list(tmp_path.iterdir()) == []


# What the child finds


@pytest.mark.parametrize("name", ["numpy", *FRAMEWORKS])
def test_threads_are_as_asked_and_no_two_frameworks_meet(
    backend_of: StartBackend, name: str
) -> None:
    process = backend_of(name, "float32")
    assert process.facts.threads == 1
    assert process.facts.device.lower().startswith("cpu")
    assert process.facts.import_seconds >= 0
    names = ["OMP_NUM_THREADS", "FLAGS_paddle_num_threads", "TF_NUM_INTRAOP_THREADS"]
    assert [process.call(child.variable, name=name) for name in names] == ["1"] * 3
    frameworks = {TABLE[name].package for name in FRAMEWORKS}
    assert set(process.call(child.imported)) & frameworks == (
        {TABLE[name].package} if name in FRAMEWORKS else set()
    )
    assert re.search(r"no GPU.*; use --device cpu", process.call(child.refusal_of_gpu))


def test_a_missing_engine_of_keras_is_named_with_its_extras(monkeypatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda package: package != "jax")
    with pytest.raises(CannotBeginError, match=r"keras:on-jax needs jax, .*\[keras,jax\]"):
        backends.find("keras:on-jax")
    backends.find("keras:on-torch")


def test_the_row_names_keras_s_engine_and_the_shell_does_not(monkeypatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "shell")
    assert (
        child_environment(Runtime().variables_of("keras:on-jax", "lstm"), engine="jax")[
            "KERAS_BACKEND"
        ]
        == "jax"
    )
    assert "KERAS_BACKEND" not in child_environment({})
    assert all(
        entry.engine == "tensorflow" for entry in TABLE.values() if entry.package == "tensorflow"
    )


@pytest.mark.parametrize("is_amd", [True, False])
def test_settings_that_help_are_set_and_a_shell_s_and_options_win(
    monkeypatch, is_amd: bool
) -> None:
    """A benchmark's rows have what the rows say alone."""
    for name in shell_settings():
        monkeypatch.delenv(name)
    monkeypatch.setattr(tuned, "is_amd", lambda: is_amd)
    monkeypatch.setattr(tuned, "has_quota", lambda: False)
    assert (
        Runtime(variables={}).variables_of("paddle", "lstm")
        == Runtime().variables_of("numpy", "lstm")
        == {}
    )
    of_paddle = Runtime().variables_of("paddle", "lstm")
    assert of_paddle["FLAGS_paddle_num_threads"] == str(cores())
    assert of_paddle.get("MKL_DEBUG_CPU_TYPE") == ("5" if is_amd else None)
    shell = {
        "OMP_NUM_THREADS": "7",
        "FLAGS_paddle_num_threads": "8",
        "TF_XLA_FLAGS": "--x",
        "MKL_DYNAMIC": "0",
    }
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    assert Runtime().variables_of("paddle", "lstm") == of_paddle | shell
    assert Runtime(shell=False).variables_of("paddle", "lstm") == of_paddle
    assert Runtime(threads=1).variables_of(
        "paddle", "lstm"
    ) == of_paddle | shell | thread_variables(1)
    assert Runtime(threads=1, variables={}).variables_of("paddle", "lstm") == thread_variables(1)
    assert not child_environment({}).keys() & shell.keys()


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way"
)
@pytest.mark.parametrize(
    ("settings", "faults"),
    [(KEEP_MEMORY, range(100)), ({}, range(PAGES * 98 // 100, PAGES * 6 // 5))],
)
def test_memory_that_was_given_back_is_kept(settings: dict[str, str], faults: range) -> None:
    with start(variables=settings) as process:
        assert process.call(child.page_faults, megabytes=64) in faults
