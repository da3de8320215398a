"""Puts processes that misbehave at random in a backend's place; each is ended within the limits, with one clear line.

    python -m tests.attack.fake_workers COUNT [SEED]

It ends at the first process that has any other outcome, or that leaves a process, a folder or an open file, and
leaves what that process did in the working folder. The limits of time are shortened.
"""

import base64
import json
import os
import signal
import sys
import tempfile
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil

from backends.process import parent
from backends.process.parent import BackendProcess, Runtime
from backends.process.wire import Failure
from benchmarks.measure.plan import Row
from common.config import ModelConfig, TrainConfig
from common.errors import RosettaError
from tests import child, recordings
from tests.attack.damage_bytes import damaged
from tests.attack.garbled_messages import garbled, of
from tests.attack.limits import left_behind, little_memory, one_line

SCRIPT = Path(__file__).with_name("fake_worker.py").read_text(encoding="utf-8")
TINY = ModelConfig(num_encoder_tokens=3, num_decoder_tokens=4, start_token=0, stop_token=1, latent_dim=4)
STARTING, TIMEOUT, ENDING = 1.0, 0.3, 0.3  # seconds that are allowed
MOST_SECONDS = 20.0  # that all may take, on a machine that has other things to do
HOSTILE = b"an error of its own\x1b[2J\x1b]0;title\x07\x9b31m\r\xe2\x80\xae\xff\n"
OPENED = of("result", recordings.facts(Row("numpy")))
ANSWER, EVENT = of("result", {"a": 1}), of("event", {"number": 1})
ERROR = of("error", Failure(HOSTILE.decode(errors="replace") * 100, 1))
LONG = 30.0  # seconds; nobody waits for their end


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def misbehaviour(rng: np.random.Generator) -> list[Any]:
    """Something that a process does, after which it may do something else."""
    message = [OPENED, ANSWER, EVENT, ERROR][rng.integers(4)]
    long = int(rng.integers(1, 1 << 40))
    actions: list[list[Any]] = [
        ["send", encoded(message[: rng.integers(len(message))])],  # a partial header, or half a message
        ["send", encoded(message), int(rng.integers(2, 100))],  # in pieces
        ["send", encoded(message) if rng.integers(2) else encoded(damaged(message, rng))],
        ["send", encoded(garbled(message, rng))],
        ["send", encoded(long.to_bytes(8, "little"))],  # and no body
        ["send", encoded((1 << int(rng.integers(20, 64))).to_bytes(8, "little") + bytes(1 << 16))],
        ["send", encoded(of("resul", {}) * 3 + of("event", 5))],
        ["send", encoded(EVENT * int(rng.integers(1, 2000)))],
        ["send", encoded(OPENED * 2 + ANSWER * 2)],
        ["close"],
        ["print", encoded(HOSTILE), int(rng.integers(1, 100_000))],
        ["fork", LONG],
        ["ignore"],
        ["signal", int(rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, signal.SIGTERM, signal.SIGABRT]))],
        ["exit", int(rng.integers(0, 256))],
        ["sleep", float(rng.uniform(0, 0.5))],
        ["read"],
    ]
    return actions[rng.integers(len(actions))]


def actions_of(rng: np.random.Generator) -> list[Any]:
    """What one process does; half of them are opened as they should before they begin."""
    begun: list[Any] = [["read"], ["send", encoded(OPENED)]] if rng.integers(2) else []
    if begun and rng.integers(2):
        begun.append(["read"])
    done = [misbehaviour(rng) for _ in range(rng.integers(0, 5))]
    return begun + done + ([["sleep", LONG]] if rng.integers(3) else [])


def attack(count: int, start: int = 0) -> Counter[str]:
    """Start `count` such processes, at random from the seed `start`; returns how often they came to what."""
    outcomes: Counter[str] = Counter()
    rng = np.random.default_rng(start)
    with TemporaryDirectory() as folder, little_memory():
        script, temporary = Path(folder) / "script.py", Path(folder) / "temporary"
        temporary.mkdir()
        for _ in range(count):
            actions = actions_of(rng)
            script.write_text(f"ACTIONS = {actions!r}\n{SCRIPT}", encoding="utf-8")
            with left_behind(script.read_bytes()), patch.object(tempfile, "tempdir", str(temporary)):
                outcomes[f"fake worker: {_outcome(script, bool(rng.integers(4)))}"] += 1
                assert os.listdir(temporary) == []
    return outcomes


def _outcome(script: Path, small: bool) -> str:
    """What comes of a process that runs this script, and is called with an array that a pipe holds or, unless
    `small`, does not hold."""
    begun, files = monotonic(), psutil.Process().num_fds()
    with (
        patch.object(parent, "WORKER", f"exec(open({str(script)!r}).read())"),
        patch.object(parent, "START_SECONDS", STARTING),
        patch.object(parent, "ENDING_SECONDS", ENDING),
    ):
        try:
            with BackendProcess("numpy", TINY, TrainConfig(), Runtime()) as process:
                content = {"array": np.zeros(1 if small else 1 << 20)}
                process.listening(lambda event: None, TIMEOUT).call(child.echo, content=content)
            outcome = "answered"
        except RosettaError as error:
            outcome = _kind_of(one_line(error))
    taken = monotonic() - begun
    assert taken < MOST_SECONDS, f"it took {taken:.1f} s"
    assert psutil.Process().num_fds() == files, "files are left open"
    _require_ended(script)
    return outcome


def _kind_of(line: str) -> str:
    """The words that all messages of a kind share."""
    kinds = ["sent no whole message", "took no request", "sent garbage", "closed its pipes", "was ended by signal"]
    kinds += ["ended with status", "an error of its own"]
    return next(kind for kind in kinds if kind in line)


def _require_ended(script: Path) -> None:
    """Raise AssertionError unless all processes that run the script, and their children, end in a moment."""
    until = monotonic() + MOST_SECONDS
    while left := [one for one in psutil.process_iter() if _runs(one, script)]:
        assert monotonic() < until, f"processes are left: {left}"
        sleep(0.01)


def _runs(process: psutil.Process, script: Path) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return any(str(script) in word for word in process.cmdline())  # which a dead one has not
    return False


if __name__ == "__main__":
    warnings.simplefilter("error")
    print(json.dumps(attack(*map(int, sys.argv[1:]))))
