"""Works for long, and finds whether memory, descriptors, threads or processes grow.

`python -m tests.fuzz.attack soak 3600` takes an hour, since a case takes a second. One program translates in a
process of each backend, which stays. Now and then it begins a run in one backend and goes on with it in another.
Meanwhile ten
visitors ask the page of `rosetta serve`. Each case looks at all these processes. Of all looks at one process, the
second half must show no more than the first.
"""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from statistics import median
from threading import Event
from urllib.parse import quote

import psutil

from backends.commands import training
from backends.process.parent import Runtime
from backends.process.translating import Opener
from common.run import BUNDLED_RUN, RunDirectory
from common.settings import DataConfig, TrainConfig
from tests.fuzz.attack.visitors import WHOLE, serving, visited
from tests.support.program import wait_until, workers

BACKENDS = ("numpy", "torch", "paddle", "keras")
VISITORS = 10
SENTENCES = 60  # translated together
TRAINED = 60  # cases between two trainings
LEAST = 60  # looks at a process, before which nothing is concluded
ANSWER_SECONDS = 60.0  # timeout of a visitor while all else is at work
# Between the medians of both halves. A library may begin a thread or two when it is first asked for something, and at
# any moment some of the visitors have a connection.
MOST_GROWTH = {"bytes": 16 << 20, "descriptors": VISITORS, "threads": 2, "processes": 0}


def look_at(process: psutil.Process) -> dict[str, int]:
    """Measure a process. Its memory is that which is no file's, since others share files."""
    memory, children = process.memory_info(), process.children(recursive=True)
    counted = memory.rss - memory.shared, process.num_fds(), process.num_threads(), len(children)
    return dict(zip(MOST_GROWTH, counted, strict=True))


def assert_not_grown(name: str, looks: Sequence[dict[str, int]]) -> None:
    """Fail where the second half of the looks shows more than the first; the looks while it begins do not count."""
    warm = looks[len(looks) // 10 :]
    for kind, most in MOST_GROWTH.items():
        numbers = [look[kind] for look in warm]
        before, after = median(numbers[: len(warm) // 2]), median(numbers[len(warm) // 2 :])
        assert after - before <= most, f"{name}: {before:,.0f} {kind} in the first half, {after:,.0f} in the second"


def train(run: Path, first: str, second: str) -> None:
    """Train a run in one backend, and go on in another."""
    fixed = DataConfig(num_samples=300), TrainConfig(), Runtime(), 64
    training.train(training.Settings(run, first, 12, *fixed), lambda event: None)
    training.train(training.Settings(run, second, 24, *fixed), lambda event: None, RunDirectory.open(run))


def visit(port: int, sentence: str, ending: Event) -> None:
    """Ask the page for a translation, again and again, until `ending`."""
    asked = WHOLE.replace(b"/", f"/?text={quote(sentence)}".encode(), 1) + b"\r\n"
    while not ending.wait(0.2):
        assert visited(asked, port, ANSWER_SECONDS) == "200"


def soak(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
    run, ending, looks = RunDirectory.open(BUNDLED_RUN), Event(), defaultdict[str, list[dict[str, int]]](list)
    sources = [source for source, _ in islice(run.pairs(), SENTENCES)]
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
        for number in count(1):
            if number % TRAINED == 0:
                train(folder / f"run-{number}", *rng.sample([*translators], 2))
            for backend, translate in translators.items():
                assert translate(sources) == expected[backend], f"{backend} translates otherwise than before"
            time.sleep(max(0.0, begun + number - time.monotonic()))
            for each in visits:
                assert not each.done(), each.result()
            for name, process in processes.items():
                looks[name].append(look_at(process))
                if number >= LEAST:
                    assert_not_grown(name, looks[name])
            largest = max(look["bytes"] for of_process in looks.values() for look in of_process)
            yield f"soak: nothing grows, up to {(largest >> 24) + 1 << 4} MiB"
