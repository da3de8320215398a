"""Works for long, and finds whether memory, descriptors, threads or processes grow.

`python -m tests.attack soak 3600` takes an hour, since a case takes a second. One program translates in a process of
each backend, which stays, and now and then begins a run in another and goes on with it in a third, while ten visitors
ask the page of `rosetta serve`. Each case looks at one of these processes. Of all looks at it, the second half must
show no more than the first.
"""

import json
import random
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event
from urllib.error import HTTPError

import psutil

from backends.commands import training
from backends.commands.translating import Opener
from backends.process.parent import Runtime
from common.config import DataConfig, TrainConfig
from common.run_directory import BUNDLED_RUN, RunDirectory
from tests.attack.visitors import serving
from tests.program import wait_until, workers

BACKENDS = ("numpy", "torch", "paddle", "keras")
VISITORS = 10
SENTENCES = 60  # that are translated together
TRAINED = 60  # each how many cases a run is trained
LEAST = 10  # looks at a process, before which nothing is concluded
# Between the medians of both halves. A library may begin a thread or two when it is first asked for something, and at
# any moment some of the visitors have a connection.
MOST_GROWTH = {"bytes": 16 << 20, "descriptors": VISITORS, "threads": 2, "processes": 0}


def look_at(process: psutil.Process) -> dict[str, int]:
    """What must not grow in a process that lives on."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    own = next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:"))
    return {
        "bytes": 1024 * int(own),  # of memory that is no file's, which other processes have in common
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "processes": len(process.children(recursive=True)),
    }


def grown(looks: Sequence[Mapping[str, int]]) -> list[str]:
    """What the second half of the looks at a process has more of than the first, but for those while it begins."""
    warm = looks[len(looks) // 10 :]
    found = []
    for kind, most in MOST_GROWTH.items():
        numbers = [look[kind] for look in warm]
        before, after = median(numbers[: len(warm) // 2]), median(numbers[len(warm) // 2 :])
        if after - before > most:
            found.append(f"{before:,.0f} {kind} in the first half, {after:,.0f} in the second")
    return found


def train(first: str, second: str) -> None:
    """Train a run in one backend and on in another."""
    with TemporaryDirectory() as folder:
        path, data = Path(folder, "run"), DataConfig(num_samples=300)
        settings = 64, "float32", "space", 12
        training.train(first, data, TrainConfig(), *settings, path, Runtime(), lambda event: None)
        training.resume(RunDirectory.open(path), second, 24, Runtime(), lambda event: None)


def visit(port: int, sentence: str, ending: Event) -> None:
    """Ask the page for a translation, again and again, until that is ended; it may be too busy."""
    content = json.dumps({"backend": "numpy", "text": sentence}).encode()
    kind = {"Content-Type": "application/json"}
    question = urllib.request.Request(f"http://127.0.0.1:{port}/translate", content, kind)
    while not ending.wait(0.2):
        try:
            with urllib.request.urlopen(question, timeout=60) as answer:
                assert json.load(answer)["translation"]
        except HTTPError as error:
            if error.code != 503:
                raise
            error.close()


def soak(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
    run, ending = RunDirectory.open(BUNDLED_RUN), Event()
    sources = [source for source, _ in run.pairs()[:SENTENCES]]
    looks: dict[str, list[dict[str, int]]] = defaultdict(list)
    with ExitStack() as stack:
        server, port = stack.enter_context(serving(folder))
        opener = Opener(run, "last", None, Runtime(threads=1))
        translators = {name: stack.enter_context(opener.open(name)) for name in names or BACKENDS}
        expected = {name: translate(sources) for name, translate in translators.items()}
        wait_until(lambda: workers(server.process), why="the server opens no backend")
        pool = stack.enter_context(ThreadPoolExecutor(VISITORS))
        stack.callback(ending.set)
        visits = [pool.submit(visit, port, sentence, ending) for sentence in sources[:VISITORS]]
        pids = {"server": server.process.pid, "its worker": workers(server.process)[0].pid}
        pids |= {name: translate.process.pid for name, translate in translators.items()}
        processes = {"rosetta": psutil.Process()} | {name: psutil.Process(pid) for name, pid in pids.items()}
        begun = time.monotonic()
        for number, name in enumerate(cycle(processes)):
            if number % TRAINED == TRAINED - 1:
                train(*rng.sample([*translators], 2))
            for backend, translate in translators.items():
                assert translate(sources) == expected[backend], f"{backend} translates otherwise than before"
            time.sleep(max(0.0, begun + number + 1 - time.monotonic()))
            for each in visits:
                assert not each.done(), each.result()
            looks[name].append(look_at(processes[name]))
            assert len(looks[name]) < LEAST or not grown(looks[name]), grown(looks[name])
            seen = looks[name][-1]
            counts = ", ".join(f"{seen[kind]} {kind}" for kind in list(MOST_GROWTH)[1:])
            yield f"{name}: {counts}, up to {(seen['bytes'] >> 24) + 1 << 4} MiB"
