"""Garbles the messages of a backend's process, and puts processes that misbehave in its place.

Each message is converted, or called garbage; each process is ended within the limits of time, which are shortened,
with one line that names what it did, and leaves no process, folder or open file.
"""

import os
import random
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from msgspec.msgpack import Ext, decode, encode

from backends.process import parent
from backends.process.parent import BackendProcess, Runtime
from backends.process.wire import ARRAY, ERRORS, PATH, STORED, GarbledMessageError, Wire, converted
from benchmarks.measure.plan import Row
from common.config import ModelConfig, TrainConfig
from common.errors import RosettaError
from common.interface import BackendFacts
from common.profiling import Kernel
from tests import child, recordings
from tests.attack.damage_bytes import damaged, with_changes
from tests.attack.limits import Target, inputs, one_line
from tests.attack.programs import alive
from tests.program import wait_until

DEPTH = 20_000  # so that a socket holds the whole message
SHAPES = [[-1], [0, 1 << 63], [1 << 62] * 2, [1 << 33], [1] * 100, [1.5], "3", [3]]
# Values in MessagePack that take a value's place.
HOSTILE = [
    *map(encode, (0, -1, 1.5, 1e308, float("nan"), 1 << 63, None, True, [], {}, [[]], {"a": None}, "", b"bytes")),
    *map(encode, ("\x1b[2J", "\u202e\x9b2J\n\r", "\x00", "é" * 5000, [1] * 20_000, "../../etc/passwd", "float64")),
    *(encode(Ext(ARRAY, encode((dtype, shape)))) for shape in SHAPES for dtype in ("<f8", "|O", "|V9", "", 5)),
    *(encode(Ext(code, b"/dev/zero")) for code in (ARRAY, STORED, PATH, 99, -1)),
    *(b"\x91" * DEPTH + b"\x90", b"\x81\xa1a" * DEPTH + b"\x80"),  # lists and maps within one another
    *(start + b"\xff" * 4 for start in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")),  # of four thousand million
    *(b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xc1", b"\x82\xa1a\x01\xa1a\x02", b"\x81\x90\x01", b"\x81\x80\x01"),
]


def of(kind: str, content: Any) -> bytes:
    """A message as it crosses, which is small enough for a socket to hold."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Wire(ours).send(kind, content)
        return theirs.recv(1 << 20)


def garbled(whole: bytes, rng: random.Random) -> bytes:
    """A message in which bytes have changed, or values of its block."""
    if rng.randrange(3) == 0:
        return damaged(whole, rng)
    end = 8 + int.from_bytes(whole[:8], "little")
    block = with_changes(decode(whole[8:end]), rng, encode, HOSTILE)
    return len(block).to_bytes(8, "little") + block + whole[end:]


def received(whole: bytes, expected: Any) -> str:
    """What the parent makes of a message where a result of this type is expected."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        ours.sendall(whole)
        ours.close()
        try:
            types = {"result": expected, "event": dict[str, Any]} | dict.fromkeys(ERRORS, str)
            converted(*Wire(theirs).receive(timeout=60), types)
        except GarbledMessageError:
            return "garbage"
        except EOFError:
            return "cut"
        return "converted"


def messages(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
    arrays = {"nested": [{"ids": np.arange(12).reshape(3, 4)}, "text"], "empty": np.zeros((0, 4), np.float32)}
    whole: dict[str, tuple[str, Any, Any]] = {  # a kind, a content, and the type of a result
        "facts": ("result", recordings.facts(Row("torch")), BackendFacts),
        "kernels": ("result", recordings.KERNELS, list[Kernel]),
        "arrays": ("result", arrays, Any),
        "an event": ("event", {"step": 5, "loss": 0.5, "ids": np.arange(3)}, Any),
        "an error": ("failed", "it failed", Any),
    }
    targets = {
        name: Target(partial(garbled, of(kind, content)), partial(received, expected=expected))
        for name, (kind, content, expected) in whole.items()
    }
    yield from inputs(targets, names, rng)


SIGNALS = [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, signal.SIGTERM, signal.SIGABRT, signal.SIGINT]
LONG = 30.0  # seconds; nobody waits for their end
HOSTILE_WORDS = b"an error of its own\x1b[2J\x1b]0;title\x07\x9b31m\r\xe2\x80\xae\xff\n"
READ = "SOCKET.recv(1 << 16)"
# What the errors of a process say of what it did.
BLAMED = ["sent no whole message", "took no request", "sent garbage", "closed its socket", "was ended by signal"]
BLAMED += ["ended with status", "an error of its own"]


def script(rng: random.Random) -> str:
    """What one process does; half of them are opened as they should before they begin.

    Only the standard library is imported, so that it starts in no time. The end of its socket is SOCKET.
    """
    opened = of("result", {"import_seconds": 0.5, "build_seconds": 0.5})
    error = of("failed", HOSTILE_WORDS.decode(errors="replace") * 100)
    message = rng.choice([opened, error, of("result", {"a": 1}), of("event", {"number": 1})])
    sent = [
        message[: rng.randrange(len(message))],  # a partial header, or half a message
        garbled(message, rng),
        (1 << rng.randrange(64)).to_bytes(8, "little") + bytes(rng.choice([0, 1 << 16])),
        message * rng.randrange(1, 2000),
    ]
    done = [
        *(f"SOCKET.sendall({content!r})" for content in sent),
        f"[SOCKET.send(bytes([byte])) and time.sleep(0.01) for byte in {message!r}]",
        "SOCKET.close()",
        f"os.write(2, {HOSTILE_WORDS!r} * {rng.randrange(1, 100_000)})",
        f"os.fork() or (time.sleep({LONG}), os._exit(0))",  # a child, which keeps the socket open
        "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]",
        f"os.kill(os.getpid(), {rng.choice(SIGNALS):d})",
        f"os._exit({rng.randrange(256)})",
        f"time.sleep({rng.uniform(0, 0.5)})",
        READ,
    ]
    begun = ["import os, signal, socket, sys, time", "SOCKET = socket.socket(fileno=int(sys.argv[3]))"]
    begun += [READ, f"SOCKET.sendall({opened!r})"] if rng.random() < 0.5 else []
    return "\n".join([*begun, *rng.choices(done, k=rng.randrange(6)), f"time.sleep({LONG})" * rng.randrange(2)])


def workers(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
    """What comes of a process that runs a script, and is called with an array."""
    here, tiny = psutil.Process(), ModelConfig(3, 4, 0, 1, latent_dim=4)
    path, temporary, files = folder / "script", folder / "temporary", here.num_fds()
    temporary.mkdir()
    runs = f"exec(open({str(path)!r}).read())"  # since a script may be longer than a word of a command
    with (
        patch.multiple(parent, WORKER=runs, START_SECONDS=1.0, ENDING_SECONDS=0.3),
        patch.object(tempfile, "tempdir", str(temporary)),
    ):
        while True:
            path.write_text(script(rng))
            size = rng.choice([1, 1 << 20])  # of an array that a socket holds, or does not
            try:
                with BackendProcess("numpy", tiny, TrainConfig(), Runtime()) as process:
                    process.call(child.echo, None, 0.3, content={"array": np.zeros(size)})
                outcome = "answered"
            except RosettaError as error:
                outcome = next(words for words in BLAMED if words in one_line(error))
            assert os.listdir(temporary) == []
            assert here.num_fds() == files, "files are left open"
            wait_until(lambda: not alive(temporary), why="processes are left")
            yield f"process: {outcome}"
