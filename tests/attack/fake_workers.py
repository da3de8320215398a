"""Puts processes that misbehave at random in a backend's place; each is ended within the limits, with one clear line.

A process that leaves a process, a folder or an open file is another outcome. The limits of time are shortened.
"""

import os
import signal
import tempfile
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import psutil

from backends.process import parent
from backends.process.parent import BackendProcess, Runtime
from backends.process.wire import Failure
from common.config import ModelConfig, TrainConfig
from common.errors import RosettaError
from tests import child
from tests.attack.damage_bytes import damaged
from tests.attack.garbled_messages import garbled, of
from tests.attack.limits import Target, attacked, one_line
from tests.program import wait_until

# What each process begins with. Only the standard library is imported, so that it starts in no time.
BEGINNING = '''
import os, select, signal, sys, time

SOCKET = int(sys.argv[3])

def read():
    """Read until nothing more comes."""
    select.select([SOCKET], [], [])
    while select.select([SOCKET], [], [], 0.05)[0] and os.read(SOCKET, 1 << 16):
        pass

def send(content, pieces=1):
    size = max(1, len(content) // pieces)
    for start in range(0, len(content), size):
        piece = memoryview(content)[start : start + size]
        while piece:
            piece = piece[os.write(SOCKET, piece) :]
        time.sleep(0.002 if pieces > 1 else 0)
'''
TINY = ModelConfig(num_encoder_tokens=3, num_decoder_tokens=4, start_token=0, stop_token=1, latent_dim=4)
STARTING, TIMEOUT, ENDING = 1.0, 0.3, 0.3  # seconds that are allowed
HOSTILE = b"an error of its own\x1b[2J\x1b]0;title\x07\x9b31m\r\xe2\x80\xae\xff\n"
OPENED = of("result", None)
ANSWER, EVENT = of("result", {"a": 1}), of("event", {"number": 1})
ERROR = of("error", Failure(HOSTILE.decode(errors="replace") * 100, 1))
LONG = 30.0  # seconds; nobody waits for their end


def misbehaviour(rng: np.random.Generator) -> str:
    """Something that a process does, after which it may do something else."""
    message = [OPENED, ANSWER, EVENT, ERROR][rng.integers(4)]
    sent = [
        message[: rng.integers(len(message))],  # a partial header, or half a message
        message if rng.integers(2) else damaged(message, rng),
        garbled(message, rng),
        int(rng.integers(1, 1 << 40)).to_bytes(8, "little"),  # and no body
        (1 << int(rng.integers(20, 64))).to_bytes(8, "little") + bytes(1 << 16),
        of("resul", {}) * 3 + of("event", 5),
        EVENT * int(rng.integers(1, 2000)),
        OPENED * 2 + ANSWER * 2,
    ]
    signals = [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, signal.SIGTERM, signal.SIGABRT]
    done = [
        *(f"send({content!r})" for content in sent),
        f"send({message!r}, {rng.integers(2, 100)})",
        "os.close(SOCKET)",
        f"os.write(2, {HOSTILE!r} * {rng.integers(1, 100_000)})",
        f"os.fork() or (time.sleep({LONG}), os._exit(0))",  # a child, which keeps the socket open
        "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]",
        f"os.kill(os.getpid(), {int(rng.choice(signals))})",
        f"os._exit({rng.integers(0, 256)})",
        f"time.sleep({rng.uniform(0, 0.5)})",
        "read()",
    ]
    return done[rng.integers(len(done))]


def script_of(rng: np.random.Generator) -> bytes:
    """What one process does; half of them are opened as they should before they begin."""
    lines = [BEGINNING]
    if rng.integers(2):
        lines += ["read()", f"send({OPENED!r})", *["read()"][: rng.integers(2)]]
    lines += [misbehaviour(rng) for _ in range(rng.integers(0, 5))]
    return "\n".join([*lines, f"time.sleep({LONG})" if rng.integers(3) else ""]).encode()


def attack(count: int, start: int = 0) -> Counter[str]:
    """Start `count` such processes, at random from the seed `start`; returns how often they came to what."""
    with TemporaryDirectory() as temporary:
        read = partial(_outcome, temporary=Path(temporary))
        return attacked({"fake worker": Target(script_of, read)}, count, start)


def _outcome(script: Path, temporary: Path) -> str:
    """What comes of a process that runs this script, and is called with an array."""
    files = psutil.Process().num_fds()
    with (
        patch.object(parent, "WORKER", f"exec(open({str(script)!r}).read())"),
        patch.object(parent, "START_SECONDS", STARTING),
        patch.object(parent, "ENDING_SECONDS", ENDING),
        patch.object(tempfile, "tempdir", str(temporary)),
    ):
        try:
            with BackendProcess("numpy", TINY, TrainConfig(), Runtime()) as process:
                size = 1 if script.stat().st_size % 4 else 1 << 20  # an array that a socket holds, or does not
                process.listening(lambda event: None, TIMEOUT).call(child.echo, content={"array": np.zeros(size)})
            outcome = "answered"
        except RosettaError as error:
            outcome = _kind_of(one_line(error))
    assert os.listdir(temporary) == []
    assert psutil.Process().num_fds() == files, "files are left open"
    wait_until(lambda: not any(_runs(one, script) for one in psutil.process_iter()), why="processes are left")
    return outcome


def _kind_of(line: str) -> str:
    """The words that all messages of a kind share."""
    kinds = ["sent no whole message", "took no request", "sent garbage", "closed its socket", "was ended by signal"]
    kinds += ["ended with status", "an error of its own"]
    return next(kind for kind in kinds if kind in line)


def _runs(process: psutil.Process, script: Path) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return any(str(script) in word for word in process.cmdline())  # which a dead one has not
    return False
