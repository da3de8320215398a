"""Garbles the messages of a backend's process at random; the parent converts each, or says that it is garbage.

    python -m tests.attack.garbled_messages COUNT [SEED]

It ends at the first message that has any other outcome, which it leaves in the working folder. No process is started.
"""

import io
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from backends.process.calls import result_from_wire, to_wire
from backends.process.messages import Failure, GarbledMessageError, write_message
from backends.process.parent import BackendProcess, _event_from, _failure_from
from backends.process.pipes import LimitedPipe
from benchmarks.measure import in_child
from benchmarks.measure.plan import Row
from common.interface import BackendFacts
from tests import recordings
from tests.attack.damage_bytes import damaged, damaged_json
from tests.attack.limits import left_behind, little_memory, little_time


def of(kind: str, content: Any) -> bytes:
    write_message(buffer := io.BytesIO(), kind, content)
    return buffer.getvalue()


FACTS = recordings.facts(Row("torch"))
WARM_UP = in_child.WarmUp(0.1, [0.2, 0.3], 600_000_000, 8, 2)
PRODUCTS = to_wire(recordings.LARGE)
ARRAYS = {"nested": [{"ids": np.arange(12).reshape(3, 4)}, "text"], "empty": np.zeros((0, 4), np.float32)}
# A message, and how its result is converted.
WHOLE: dict[str, tuple[bytes, Callable[[Any], Any]]] = {
    "facts": (of("result", to_wire(FACTS)), partial(msgspec.convert, type=BackendFacts)),
    "a warm-up": (of("result", to_wire(WARM_UP)), partial(result_from_wire, in_child.warm_up)),
    "products": (of("result", PRODUCTS), partial(result_from_wire, in_child.matrix_products)),
    "arrays": (of("result", ARRAYS), lambda content: content),
    "an event": (of("event", {"step": 5, "loss": 0.5, "ids": np.arange(3)}), lambda content: content),
    "an error": (of("error", to_wire(Failure("it failed", 1))), lambda content: content),
}


def garbled(whole: bytes, rng: np.random.Generator) -> bytes:
    """A message in which bytes have changed, or a value of its JSON, or one of its header."""
    if rng.integers(3) == 0:
        return damaged(whole, rng)
    end = 16 + int.from_bytes(whole[8:16], "little")
    header = json.loads(whole[16:end])
    if rng.integers(2):
        text = damaged_json(header["__metadata__"]["json"].encode(), rng)
        header["__metadata__"]["json"] = text.decode(errors="surrogatepass")
        changed = json.dumps(header).encode()
    else:
        changed = damaged_json(whole[16:end], rng)
    changed += b" " * (-len(changed) % 8)
    block = len(changed).to_bytes(8, "little") + changed + whole[end:]
    return len(block).to_bytes(8, "little") + block


def attack(count: int, start: int = 0) -> Counter[str]:
    """Garble messages `count` times, at random from the seed `start`; returns how often they came to what."""
    outcomes: Counter[str] = Counter()
    rng, process = np.random.default_rng(start), object.__new__(BackendProcess)
    with TemporaryDirectory() as folder, little_memory():
        path = Path(folder) / "message"
        for number in range(count):
            name, (whole, result_from) = list(WHOLE.items())[number % len(WHOLE)]
            path.unlink(missing_ok=True)
            path.write_bytes(content := garbled(whole, rng))
            with left_behind(content), FileIO(path) as file:
                process._replies = LimitedPipe(file)
                try:
                    with little_time():
                        process._receive({"result": result_from, "error": _failure_from, "event": _event_from})
                    outcomes[f"message with {name}: converted"] += 1
                except GarbledMessageError:
                    outcomes[f"message with {name}: garbage"] += 1
                except EOFError:
                    outcomes[f"message with {name}: cut"] += 1
    return outcomes


if __name__ == "__main__":
    warnings.simplefilter("error")
    print(json.dumps(attack(*map(int, sys.argv[1:]))))
