"""Garbles the messages of a backend's process at random; the parent converts each, or says that it is garbage.

No process is started.
"""

import socket
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.msgpack import Ext, encode

from backends.process.wire import ARRAY, PATH, STORED, Failure, GarbledMessageError, Wire, converted
from benchmarks.measure import in_child
from benchmarks.measure.plan import Row
from common.interface import BackendFacts
from common.profiling import Kernel
from tests import recordings
from tests.attack.damage_bytes import MARK, _changed, damaged
from tests.attack.limits import Target, attacked


def of(kind: str, content: Any) -> bytes:
    """A message as it crosses, which is small enough for a socket to hold."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Wire(ours).send(kind, content)
        return theirs.recv(1 << 20)


ARRAYS = {"nested": [{"ids": np.arange(12).reshape(3, 4)}, "text"], "empty": np.zeros((0, 4), np.float32)}
# A message, and the type of its result.
WHOLE: dict[str, tuple[bytes, Any]] = {
    "facts": (of("result", recordings.facts(Row("torch"))), BackendFacts),
    "a warm-up": (of("result", in_child.WarmUp(0.1, [0.2, 0.3], 600_000_000)), in_child.WarmUp),
    "kernels": (of("result", recordings.KERNELS), list[Kernel]),
    "arrays": (of("result", ARRAYS), Any),
    "an event": (of("event", {"step": 5, "loss": 0.5, "ids": np.arange(3)}), Any),
    "an error": (of("error", Failure("it failed", 1)), Any),
}
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


def garbled(whole: bytes, rng: np.random.Generator) -> bytes:
    """A message in which bytes have changed, or values of its block."""
    if rng.integers(3) == 0:
        return damaged(whole, rng)
    end = 8 + int.from_bytes(whole[:8], "little")
    content = msgspec.msgpack.decode(whole[8:end])
    for _ in range(rng.integers(1, 3)):
        content = _changed(content, rng)
    block = encode(content)
    while (mark := encode(MARK)) in block:
        block = block.replace(mark, HOSTILE[rng.integers(len(HOSTILE))], 1)
    return len(block).to_bytes(8, "little") + block + whole[end:]


def outcome(path: Path, expected: Any) -> str:
    """What the parent makes of a message, which is in a file, where a result of this type is expected."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        ours.sendall(path.read_bytes())
        ours.close()
        try:
            types = {"result": expected, "error": Failure, "event": dict[str, Any]}
            converted(*Wire(theirs).receive(timeout=60), types)
        except GarbledMessageError:
            return "garbage"
        except EOFError:
            return "cut"
        return "converted"


def attack(count: int, start: int = 0) -> Counter[str]:
    """Garble messages `count` times, at random from the seed `start`; returns how often they came to what."""
    targets = {
        f"message with {name}": Target(partial(garbled, whole), partial(outcome, expected=expected))
        for name, (whole, expected) in WHOLE.items()
    }
    return attacked(targets, count, start)
