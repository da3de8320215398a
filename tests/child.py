"""What tests ask of a backend, called in its process by name: `process.call("tests.child:steps", ...)`."""

import os
import resource
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.ladder import Block, packed, unpacked
from common.decoding import Emit
from common.interface import Backend
from common.tensors import Batch, Batches


def steps(backend: Backend, emit: Emit, *, state: Block, batch_size: int, **batch: Any) -> Mapping[str, Any]:
    """Train on all rows in order, then evaluate them."""
    rows = Batch(**batch)
    batches = Batches(rows, np.arange(len(rows)), batch_size)
    backend.load(unpacked(state))
    reported: list[list[float]] = []
    trained = backend.train(batches, lambda step, loss: reported.append([step, loss]))
    evaluated = backend.evaluate(batches)
    return {
        "state": packed(backend.dump()),
        "losses": trained.step_losses,
        "correct": trained.correct,
        "correct_real": trained.correct_real,
        "reported": reported,
        "evaluated": evaluated.step_losses,
        "evaluated_correct_real": evaluated.correct_real,
    }


def second_biases(backend: Backend, emit: Emit) -> Mapping[str, Any]:
    """The biases that torch and Paddle have and Keras lacks."""
    lstms = backend.model.encoder, backend.model.decoder  # type: ignore[attr-defined]
    return {"largest": max(float(abs(lstm.bias_hh_l0).max()) for lstm in lstms)}


def imported(backend: Backend, emit: Emit) -> Mapping[str, Any]:
    import sys

    return {"modules": sorted(sys.modules)}


def environment(backend: Backend, emit: Emit, *, names: list[str]) -> Mapping[str, Any]:
    return {name: os.environ.get(name) for name in names}


def page_faults(backend: Backend, emit: Emit, *, megabytes: int) -> Mapping[str, Any]:
    """Of writing so much memory, when as much was just given back."""
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        b"x" * (megabytes << 20)  # NumPy asks for huge pages by itself
    return {"faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before}


def chatter(backend: Backend, emit: Emit) -> Mapping[str, Any]:
    """Print what would break a protocol spoken over standard output."""
    os.write(1, b"\x00\xff garbage on standard output\n" * 100_000)
    return {"heard": True}


def die(backend: Backend, emit: Emit, *, signal: int) -> Mapping[str, Any]:
    os.write(2, b"out of memory, said the framework\n")
    os.kill(os.getpid(), signal)
    time.sleep(60)
    return {}


def leave(backend: Backend, emit: Emit, *, status: int) -> Mapping[str, Any]:
    os.write(2, b"the framework called exit\n")
    os._exit(status)


def garble(backend: Backend, emit: Emit) -> Mapping[str, Any]:
    """Write into the pipe of replies, as a library gone wild might."""
    os.write(int(os.sys.argv[2]), b"\xff" * 64)  # type: ignore[attr-defined]
    time.sleep(60)
    return {}


def hang(backend: Backend, emit: Emit) -> Mapping[str, Any]:
    emit(hanging=True, pid=os.getpid())
    time.sleep(600)
    return {}


def fail(backend: Backend, emit: Emit) -> Mapping[str, Any]:
    raise ValueError("a wrong shape\nand a long story")


def echo(backend: Backend, emit: Emit, **content: Any) -> Mapping[str, Any]:
    for number in range(5):
        emit(number=number)
    return content
