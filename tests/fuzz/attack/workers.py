"""Puts scripts that misbehave in the place of a backend's process: hung, killed, half answering, loud.

Each is ended within its timeout, which is shortened, with one line that names what it did, and leaves no process,
folder or open file.
"""

import os
import pickle
import random
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil

from backends.process import SOCKET, child_process, parent
from backends.process.parent import BackendProcess, Runtime
from common.errors import RosettaError
from common.settings import ModelConfig, TrainConfig
from tests.fuzz.attack.limits import one_line
from tests.fuzz.attack.programs import alive
from tests.support import child
from tests.support.program import wait_until

SIGNALS = [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, signal.SIGTERM, signal.SIGABRT, signal.SIGINT]
LONG = 30.0  # seconds; nobody waits for their end
HOSTILE_WORDS = "an error of its own\x1b[2J\x1b]0;title\x07\x9b31m\r\u202e\n"
READ = "SOCKET.recv(1 << 16)"
# Words by which an error names what the process did.
BLAMED = "did not answer;sent what is no message;stopped its messages;was ended by signal;ended with status".split(
    ";"
)
BLAMED += ["an error of its own"]
OPENED = pickle.dumps(("result", None))


def script(rng: random.Random) -> str:
    """Write a script of some steps at random; half of the scripts open as a backend should before them.

    Only the standard library is imported, so that the script starts in no time. The end of its socket is SOCKET.
    """
    contents: list[tuple[str, Any]] = [("result", {"a": 1}), ("event", {"number": 1})]
    contents += [("error", (RosettaError, HOSTILE_WORDS * 100))]
    message = pickle.dumps(rng.choice(contents)) if rng.random() < 0.8 else OPENED
    half = message[: rng.randrange(len(message))]
    steps = [
        f"SOCKET.sendall({half!r}); time.sleep({LONG})",
        f"SOCKET.sendall({message * rng.randrange(1, 2000)!r})",
        f"SOCKET.sendall(bytes([255]) * {rng.randrange(1, 100)})",
        f"[SOCKET.send(bytes([byte])) and time.sleep(0.01) for byte in {message!r}]",
        "SOCKET.close()",
        f"os.write(2, {HOSTILE_WORDS.encode()!r} * {rng.randrange(1, 100_000)})",
        f"os.fork() or (time.sleep({LONG}), os._exit(0))",  # a child, which keeps the socket open
        "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]",
        f"os.kill(os.getpid(), {rng.choice(SIGNALS):d})",
        f"os._exit({rng.randrange(256)})",
        f"time.sleep({rng.uniform(0, 0.5)})",
        READ,
    ]
    begun = [
        "import os, signal, socket, sys, time",
        f"SOCKET = socket.socket(fileno=int(os.environ[{SOCKET!r}]))",
    ]
    begun += [READ, f"SOCKET.sendall({OPENED!r})"] if rng.random() < 0.5 else []
    return "\n".join([*begun, *rng.choices(steps, k=rng.randrange(6)), f"time.sleep({LONG})" * rng.randrange(2)])


def workers(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
    """Start a process that runs a script, and call it with an array."""
    here, tiny = psutil.Process(), ModelConfig(3, 4, 0, 1, latent_dim=4)
    path, temporary, files = folder / "script", folder / "temporary", here.num_fds()
    temporary.mkdir()
    program = f"exec(open({str(path)!r}).read())"  # since a script may be longer than a word of a command
    with (
        patch.multiple(parent, PROGRAM=program, START_SECONDS=1.0),
        patch.object(child_process, "ENDING_SECONDS", 0.3),
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
