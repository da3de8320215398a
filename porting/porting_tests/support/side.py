"""One framework's side of the tests of recording and porting: a process that answers one request
after another, since starting a framework takes longer than what most tests ask of it.

A request is a function of this module,
with its arguments beside the framework's module, in_FRAMEWORK."""

import importlib
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial, partialmethod
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from safetensors.numpy import load_file, save_file

from porting_tests.support import working_in, zoo
from porting_tests.support.zoo import KEPT, Array, array_of
from rosetta_record import Record, RecordError

THREADS = """
OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS TF_NUM_INTRAOP_THREADS TF_NUM_INTEROP_THREADS
FLAGS_paddle_num_threads NPROC
""".split()
ONE_THREAD = dict.fromkeys(THREADS, "1") | {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
FRAMEWORKS = ("torch", "paddle", "keras")
TRAINING = Record.training
# All are kept to the end, since one that is dropped as Python ends may fail.
STARTED: list[ProcessPoolExecutor] = []


class Side:
    """The process of a framework, such as "torch" or "keras:jax", as the tests' process sees it."""

    def __init__(self, name: str) -> None:
        self._framework, _, backend = name.partition(":")
        variables = ONE_THREAD | ({"KERAS_BACKEND": backend} if backend else {})
        if name == "flax":  # which compiles each operator
            variables |= {"XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_ENABLE_X64": "1"}
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _silence)
        with patch.dict(os.environ, variables):
            self._pool.submit(int)  # the first request starts the process
        STARTED.append(self._pool)

    def start(self, function: Callable[..., Any], **arguments: Any) -> Future[Any]:
        """Ask for a function of this module; several requests may wait."""
        return self._pool.submit(_answer, self._framework, function, arguments)

    def do(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a function of this module in the process; an error there is a RuntimeError here."""
        return self.start(function, **arguments).result()

    def end(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _silence() -> None:
    for stream in (1, 2):  # nobody reads what frameworks print
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _answer(framework: str, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        program = importlib.import_module(f"porting_tests.support.in_{framework}")
        program.reset("float64")
        return function(program, **arguments)
    # Whatever a script raises is the tests' to tell, and may be of a class that they lack.
    except Exception:
        raise RuntimeError(traceback.format_exc()) from None


# What may be asked for


def script(
    program: Any, folder: Path, arguments: list[str], steps: int, compat: bool = False
) -> None:
    """Run a script of a folder as if it were the whole program, but for at most so many steps;
    perhaps one of torch in Paddle, as under `paddle.enable_compat()`."""
    with (
        working_in(folder),
        patch.object(sys, "argv", arguments),
        patch.object(sys, "path", [str(folder), *sys.path]),
        patch.object(Record, "training", partialmethod(_shortened, steps)),
        sys.modules["paddle"].use_compat_guard(silent=True) if compat else nullcontext(),
    ):
        runpy.run_path(arguments[0], run_name="__main__")


def _shortened(
    record: Record,
    most: int,
    model: Any,
    batches: Any,
    loss_of: Any,
    optimizer: Any,
    steps: int = 10,
) -> None:
    """Record.training of at most so many steps."""
    TRAINING(record, model, batches, loss_of, optimizer, min(steps, most))


def record(
    program: Any,
    folder: Path,
    config: dict[str, Any],
    batches: Path,
    steps: int,
    control: bool = False,
    feed: Path | None = None,
) -> bool:
    """Record a training of a model that `config` describes, perhaps with its control or a replay;
    returns whether all is as it was: weights, states of random numbers, gradients, what watches
    layers."""
    model, fed = _begun(program, config, batches)
    before, optimizer = program.everything(model), partial(program.optimizer, **config["optimizer"])

    def loss_of(model: Any, batch: dict[str, Array]) -> tuple[Any, dict[str, Any]]:
        loss, logits = zoo.loss_of(program, model, batch, config)
        return loss, {"logits": logits}

    # Of the weights that are trained, which in Paddle are not all that have gradients.
    anew = (
        (lambda _: optimizer(program.trained(model)))
        if control or feed
        else optimizer(program.trained(model))
    )
    Record(folder, feed).training(model, fed, loss_of, anew, steps)
    return all(map(np.array_equal, program.everything(model), before))


def train(
    program: Any, folder: Path, config: dict[str, Any], batches: Path, steps: int
) -> list[float]:
    """Train as a person does who writes the loop, and record it call by call, in `calls`; returns
    the losses. Leaves in `expected` what the framework itself had on each stage, in files and by
    names as a record has them."""
    model, fed = _begun(program, config, batches)
    optimizer = program.optimizer(program.trained(model), **config["optimizer"])
    expected, losses = {"weights": _copied(program.weights(model))}, []
    record = Record(folder / "calls")
    record.inputs(**fed[0])
    record.model(model)
    KEPT.clear()
    for step in range(1, steps + 1):
        loss, logits, gradients = program.backward(model, fed[(step - 1) % len(fed)], config)
        if step == 1:
            expected["layers"] = {
                str(number): array for number, array in enumerate([*KEPT, array_of(logits)])
            }
            expected["outputs"] = {"logits": array_of(logits)}
            expected["gradients"] = _copied(program.named_gradients(model, gradients))
            record.forward(logits=logits)
            record.loss(loss)
            record.gradients(model, gradients)
        program.update(model, optimizer, gradients)
        losses.append(float(array_of(loss)))
        if step == 1:
            expected["step-1"] = _copied(program.weights(model))
            record.optimizer(optimizer)
        record.step(step, loss)
    (folder / "expected").mkdir()
    for file, arrays in expected.items():
        save_file(arrays, folder / "expected" / f"{file}.safetensors")
    return losses


def run_program(program: Any, text: str, arguments: list[str]) -> None:
    """Run a program as `python -c TEXT ARGUMENTS` would in a process of its own."""
    with patch.object(sys, "argv", ["-c", *arguments]):
        exec(text, {})


def record_small(program: Any, folder: Path) -> dict[str, str]:
    """Record small models of all kinds that a framework's module names;
    returns the lines of what is refused."""
    for name, (model, batch, loss_of, optimizer) in program.small_trainings().items():
        Record(folder / name).training(model, [batch], loss_of, optimizer, 1)
    with suppress(ZeroDivisionError):  # in the middle of the last one of them
        losses = iter([loss_of])
        moody = lambda *given: next(losses, lambda *_: 1 / 0)(*given)  # noqa: E731
        Record(folder / "midway").training(model, [batch], moody, optimizer, 2)
    small, record = program.small(), Record(folder / "refused")
    lines = {"step": _refused(lambda: record.step(1, 0.5))}
    record.model(small)
    lines["gradients"] = _refused(lambda: record.gradients(small))
    lines["other model"] = _refused(lambda: record.gradients(program.small()))
    lines["optimizer"] = _refused(lambda: record.optimizer(object()))
    trained = Record(folder / "trained")
    lines["optimizer of a training"] = _refused(
        lambda: trained.training(
            program.small(), [0], lambda model, batch: None, lambda weights: object()
        )
    )
    if hasattr(program, "lazy"):
        lines["lazy"] = _refused(lambda: Record(folder / "lazy").model(program.lazy()))
        made: list[Any] = []
        same = lambda weights: made.append(optimizer(weights)) or made[0]  # noqa: E731
        lines["used"] = _refused(
            lambda: Record(folder / "used").training(model, [batch], loss_of, same, 1)
        )
    return lines


def lstm_returns(program: Any, inputs: Path, path: Path) -> None:
    """Write the arrays of each row of the table of lstm_returns.md as ROW.NUMBER."""
    program.reset("float32")
    rows = program.lstm_returns(load_file(inputs))
    save_file(
        _copied({f"{row}.{k}": array for row, of in rows.items() for k, array in enumerate(of)}),
        path,
    )


def _refused(action: Callable[[], Any]) -> str:
    """The line with which a call is refused."""
    try:
        action()
    except RecordError as error:
        return str(error)
    raise AssertionError("it was not refused")


def _begun(
    program: Any, config: dict[str, Any], batches: Path
) -> tuple[Any, list[dict[str, Array]]]:
    """The model, and what it is fed, in the order that the configuration says."""
    arrays = load_file(batches)
    fed = [
        {name: arrays[f"{name}{n}"] for name in ("ids", "targets")}
        for n in config.get("order", [0, 1])
    ]
    return zoo.model_of(program, config, fed[0]["ids"]), fed


def _copied(tensors: dict[str, Any]) -> dict[str, Array]:
    return {name: array_of(tensor) for name, tensor in tensors.items()}
