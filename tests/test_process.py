"""The process border: what crosses it whole, and what a child's death, silence or garbage becomes."""

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from backends import TABLE, Entry
from backends.process import environment
from backends.process.parent import PROJECT, BackendProcess
from backends.process.runtime import Runtime, describe_backends
from backends.process.scratch import scratch_folder
from backends.process.starting import started_side_by_side
from common.config import ModelConfig, TrainConfig
from common.errors import CannotBeginError, RosettaError
from common.tensors import Batch
from tests import child
from tests.conftest import FRAMEWORKS, StartBackend, batch_of
from tests.program import wait_until

HOSTILE = "out of memory\x1b[2J\x1b]0;title\x07\x9b31m\r\u202e"  # clears a terminal, names its window, and so on
PAGES = 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")  # of 64 MiB
TINY = ModelConfig(num_encoder_tokens=3, num_decoder_tokens=4, start_token=0, stop_token=1, latent_dim=4)


def start(name: str = "numpy", **runtime: object) -> BackendProcess:
    return Runtime(**runtime).start(name, TINY, TrainConfig())  # type: ignore[arg-type]


def failure(function: Callable[..., object], **arguments: object) -> str:
    """The one-line error that calling this function ends in."""
    with start() as process, pytest.raises(RosettaError) as caught:
        process.call(function, **arguments)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, CannotBeginError)
    return str(caught.value)


def test_arrays_and_json_cross_the_border_unchanged_and_events_come_in_order() -> None:
    events: list[int] = []
    content = {
        "text": "Ça alors !\u202f",
        "nested": {"list": [1, 2.5, None, True]},
        "floats": np.arange(6.0).reshape(2, 3).T,  # not contiguous
        "bytes": np.array([0, 255], np.uint8),
        "empty": np.zeros((0, 4), np.int32),
    }
    nested = {"list": [{"deep": np.arange(3)}, [np.ones((2, 1), np.float32)]], "number": np.float32(1.5)}
    with start() as process:
        listening = process.listening(lambda event: events.append(event["number"]))
        returned = listening.call(child.echo, content=content)
        assert events == list(range(5))
        returned_nested = process.call(child.echo, content=nested)
    assert returned.keys() == content.keys()
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            assert returned[name].dtype == value.dtype
            np.testing.assert_array_equal(returned[name], value)
        else:
            assert returned[name] == value
    np.testing.assert_array_equal(returned_nested["list"][0]["deep"], np.arange(3))
    assert returned_nested["list"][1][0].dtype == np.float32
    assert returned_nested["number"] == 1.5


def test_a_dataclass_comes_out_as_what_it_went_in() -> None:
    batch = batch_of(5, "float64")
    with start() as process:
        got = process.call(child.taken, batch=batch, rows=np.array([3, 1]))
    assert isinstance(got, Batch)
    for name, value in vars(batch.take([3, 1])).items():
        np.testing.assert_array_equal(getattr(got, name), value, strict=True)


def test_an_argument_of_the_wrong_type_is_one_clear_error_that_names_it() -> None:
    batch = batch_of(5, "float64")
    message = failure(child.taken, batch=batch, rows=[3, 1])
    assert "argument rows of tests.child:taken: expected an array, found list" in message
    message = failure(child.taken, batch=replace(batch, num_encoder_tokens="many"), rows=np.arange(2))
    assert "argument batch of tests.child:taken: Expected `int`, got `str` - at `$.num_encoder_tokens`" in message


def test_what_a_child_prints_disturbs_nothing() -> None:
    with start() as process:
        assert process.call(child.chatter)


def test_a_killed_child_is_one_clear_error_with_its_last_words() -> None:
    message = failure(child.die, signal=int(signal.SIGKILL))
    assert "numpy" in message
    assert "signal 9" in message
    assert "out of memory, said the framework" in message


def test_a_segmentation_fault_is_named() -> None:
    assert "signal 11" in failure(child.die, signal=int(signal.SIGSEGV))


def test_a_child_that_exits_is_named_with_its_status() -> None:
    message = failure(child.leave, status=3, words="the framework called exit\n")
    assert "status 3" in message
    assert "the framework called exit" in message


def test_an_exception_in_the_child_is_one_line_that_says_where() -> None:
    message = failure(child.fail, message="a wrong shape\nand a long story")
    assert "ValueError: a wrong shape" in message
    assert "child.py, line" in message


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(child.leave, {"status": 3, "words": HOSTILE}), (child.fail, {"message": HOSTILE})],
    ids=["last words", "exception"],
)
def test_what_a_child_says_cannot_write_over_the_terminal(
    function: Callable[..., object], arguments: dict[str, object]
) -> None:
    message = failure(function, **arguments)
    assert "out of memory" in message
    assert message.isprintable()


def raw(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)


def message_of(content: str) -> NDArray[np.uint8]:
    """A message with this JSON and no arrays, as it crosses."""
    block = save({}, {"json": content})
    return raw(len(block).to_bytes(8, "little") + block)


GARBAGE = {
    "no message": raw(b"\xff" * 64),
    "too deep": message_of("[" * 100_000 + "]" * 100_000),
    "unknown kind": message_of(json.dumps([HOSTILE, {}])),
    "result of another type": message_of('["result", 5]'),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_in_the_pipe_is_one_clear_error(name: str) -> None:
    message = failure(child.send, raw=GARBAGE[name])
    assert "the numpy backend's process sent garbage: " in message
    assert message.isprintable()


LENGTH = (1000).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("sent", "pause"),
    [(b"", 0), (LENGTH[:3], 0), (LENGTH + bytes(999), 0.05)],
    ids=["nothing", "half a length", "a byte at a time"],
)
def test_a_child_that_sends_no_whole_message_in_time_is_ended(sent: bytes, pause: float) -> None:
    with start() as process:
        with pytest.raises(RosettaError, match="sent no whole message for 1 s and was ended"):
            process.listening(silence=0.6).call(child.send, raw=raw(sent), pause=pause)
        assert not psutil.pid_exists(process.pid)


def test_a_child_that_reads_no_request_is_ended() -> None:
    more_than_a_pipe_holds = {"array": np.zeros(2**20)}
    with start() as process:
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(RosettaError, match="took no request for 1 s and was ended"):
            process.listening(silence=0.6).call(child.echo, content=more_than_a_pipe_holds)
        assert not psutil.pid_exists(process.pid)


def test_what_a_child_started_does_not_outlive_it() -> None:
    with start() as process:
        with pytest.raises(RosettaError, match="ended with status 3"):
            process.call(child.leave_another, status=3)
        wait_until(lambda: not any(living_in(process.pid, one) for one in psutil.process_iter()))


def living_in(group: int, process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_child_that_closes_its_pipe_and_lives_is_ended(monkeypatch) -> None:
    monkeypatch.setattr("backends.process.parent.ENDING_SECONDS", 0.2)
    message = failure(child.close_replies)
    assert "closed its pipes without ending, and was ended" in message
    assert "the framework closed what was not its own" in message


def test_what_a_listener_raises_is_not_taken_for_the_childs_death() -> None:
    def listener(event: object) -> None:
        raise BrokenPipeError("nobody reads the progress bar")

    with start() as process, pytest.raises(BrokenPipeError, match="progress bar"):
        process.listening(listener).call(child.hang)


def test_only_our_own_functions_can_be_called() -> None:
    with start() as process, pytest.raises(RosettaError, match="not a function that a request may name"):
        process.call(os.getcwd)


def kill_a_parent() -> psutil.Process:
    """A child whose parent, a process of its own, was just killed."""
    program = (
        "from tests import child; from tests.test_process import start\n"
        "start().listening(lambda event: print(event['pid'], flush=True)).call(child.hang)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    with parent.stdout as output:
        child = psutil.Process(int(output.readline()))
        parent.kill()
        parent.wait()
    return child


def test_a_child_ends_when_its_parent_dies() -> None:
    child = kill_a_parent()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone or child.status() == psutil.STATUS_ZOMBIE


def test_a_signal_while_the_scratch_folder_is_made_leaves_none(tmp_path, monkeypatch) -> None:
    def ended(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", ended)
    with pytest.raises(KeyboardInterrupt), scratch_folder():
        pass
    assert list(tmp_path.iterdir()) == []


def test_scratch_folders_of_killed_parents_are_removed_at_the_next_start(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # where the answer is kept
    kill_a_parent()
    (abandoned,) = tmp_path.iterdir()
    with start():
        (held,) = tmp_path.iterdir()
        assert held != abandoned
        with start():
            assert held.exists(), "the folder of a process that lives was removed"
            assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_parent_blocks_while_it_waits() -> None:
    with start() as process:
        before = time.process_time()
        with pytest.raises(RosettaError):
            process.listening(silence=2).call(child.hang)
        assert time.process_time() - before < 0.5


def test_a_folder_where_the_user_stands_cannot_shadow_ours(tmp_path, monkeypatch) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "backends.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    with start() as process:
        assert process.facts.version == np.__version__


def test_what_is_installed_beside_ours_is_not_taken_for_the_interpreters_own(tmp_path, monkeypatch) -> None:
    for package in ("backends", "benchmarks", "common", "tests"):
        (tmp_path / package).symlink_to(PROJECT / package)
    (tmp_path / "numpy.py").write_text("raise RuntimeError('of another interpreter')")
    monkeypatch.setattr("backends.process.parent.PROJECT", tmp_path)
    with start() as process:
        assert process.facts.version == np.__version__


@pytest.mark.parametrize("name", ["numpy", *FRAMEWORKS])
def test_threads_are_as_asked_and_read_back(backend_of: StartBackend, name: str) -> None:
    process = backend_of(name, "float32")
    assert process.facts.threads == 1
    assert process.facts.device.lower().startswith("cpu")
    assert process.facts.import_seconds >= 0
    names = ["OMP_NUM_THREADS", "FLAGS_paddle_num_threads", "TF_NUM_INTRAOP_THREADS"]
    assert set(process.call(child.environment, names=names).values()) == {"1"}


def test_the_default_lane_sets_no_threads() -> None:
    with start(lane="default") as process:
        names = ["OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE"]
        assert dict(process.call(child.environment, names=names)) == dict.fromkeys(names)


def test_idle_threads_soon_stop_spinning_in_the_matched_lane() -> None:
    spins = {}
    for lane in ("matched", "default"):
        with start(lane=lane) as process:
            spins |= {lane: process.call(child.environment, names=["GOMP_SPINCOUNT"])["GOMP_SPINCOUNT"]}
    assert spins == {"matched": environment.SPINS, "default": None}


@pytest.mark.parametrize("lane", ["matched", "default"])
def test_what_a_shell_sets_for_one_framework_reaches_none(lane: str, monkeypatch) -> None:
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "TF_XLA_FLAGS", "OPENBLAS_CORETYPE", "MKL_DYNAMIC"):
        monkeypatch.setenv(name, "shell")
    with start(lane=lane) as process:
        reached = process.call(child.environment, names=sorted(os.environ))
    assert [name for name, value in reached.items() if value == "shell"] == []


@pytest.mark.parametrize(("is_amd", "expected"), [(True, "5"), (False, None)])
def test_paddles_mkl_is_told_the_type_of_an_amd_processor(monkeypatch, is_amd: bool, expected: str | None) -> None:
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE", raising=False)
    monkeypatch.setattr("backends.process.environment.is_amd", lambda: is_amd)
    assert environment.child_environment("matched", 1, "cpu").get("MKL_DEBUG_CPU_TYPE") == expected
    assert "MKL_DEBUG_CPU_TYPE" not in environment.child_environment("default", 1, "cpu")


def test_a_backend_that_is_there_and_broken_is_told_beside_the_others(monkeypatch) -> None:
    broken = Entry("tests.no_such_module:Backend", "numpy", "")
    monkeypatch.setitem(TABLE, "broken", broken)
    told: list[str] = []
    found = describe_backends(["broken", "numpy"], Runtime(threads=1), lambda name, facts: told.append(name))
    assert "No module named" in found["broken"]["missing"]
    assert found["numpy"]["version"] == np.__version__
    assert (list(found), sorted(told)) == (["broken", "numpy"], ["broken", "numpy"])


# Processes that are started side by side


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def test_no_more_processes_than_asked_for_are_started_at_once_and_each_is_given_once() -> None:
    pids: list[int] = []
    opened: list[int] = []

    def launch(number: int) -> BackendProcess:
        assert len(pids) - len(opened) <= 2, "one of these was opened and is about to be given"
        process = Runtime(threads=1).launch("numpy", TINY, TrainConfig())
        pids.append(process.pid)
        return process

    with started_side_by_side(range(5), launch, lambda *failed: pytest.fail(str(failed)), at_once=2) as started:
        for number, process in started:
            opened.append(number)
            assert process.pid == pids[number]
    assert sorted(opened) == list(range(5))
    assert all(map(ended, pids))


@pytest.mark.parametrize("failing", ["launch", "open"])
def test_a_process_that_cannot_be_started_is_told_and_the_others_are_given(failing: str, monkeypatch) -> None:
    monkeypatch.setitem(TABLE, "broken", Entry("tests.no_such_module:Backend", "numpy", ""))
    name = {"launch": "unknown", "open": "broken"}[failing]
    failed: dict[str, RosettaError] = {}

    def launch(name: str) -> BackendProcess:
        return Runtime(threads=1).launch(name, TINY, TrainConfig())

    with started_side_by_side([name, "numpy"], launch, failed.__setitem__) as started:
        assert [item for item, _ in started] == ["numpy"]
    assert list(failed) == [name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RosettaError])
def test_an_error_ends_the_processes_that_are_being_started_too(error: type[BaseException], monkeypatch) -> None:
    monkeypatch.setitem(TABLE, "slow", Entry("tests.never_imported:Backend", "numpy", ""))
    pids: list[int] = []

    def launch(name: str) -> BackendProcess:
        process = Runtime(threads=1).launch(name, TINY, TrainConfig())
        pids.append(process.pid)
        return process

    def begin(names: list[str]) -> None:
        with started_side_by_side(names, launch, lambda *failed: None, at_once=3) as started:
            next(started)
            assert len(pids) == 3
            raise error

    with pytest.raises(error):
        begin(["numpy", "slow", "slow"])
    assert all(map(ended, pids))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
@pytest.mark.parametrize(
    ("lane", "faults"), [("matched", range(100)), ("default", range(PAGES * 98 // 100, PAGES * 6 // 5))]
)
def test_the_matched_lane_keeps_memory_that_was_given_back(lane: str, faults: range) -> None:
    with start(lane=lane) as process:
        assert process.call(child.page_faults, megabytes=64) in faults


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_framework_is_alone_in_its_process(backend_of: StartBackend, name: str) -> None:
    packages = {name: TABLE[name].package for name in FRAMEWORKS}
    modules = set(backend_of(name, "float32").call(child.imported))
    assert modules & set(packages.values()) == {packages[name]}


@pytest.mark.parametrize("name", ["numpy", *FRAMEWORKS, "keras:example"])
def test_a_gpu_that_is_not_there_is_one_clear_line(name: str) -> None:
    if os.path.exists("/dev/nvidia0") and name != "numpy":
        pytest.skip("this machine has a GPU")
    with pytest.raises(CannotBeginError, match=r"no GPU.*; use --device cpu"):
        start(name, device="gpu")
