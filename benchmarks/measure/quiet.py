"""A quiet machine: the lock of benchmarks, and the wait for other programs and for idle threads.

The lock keeps two benchmarks of a user from slowing each other down. The operating system frees it
when its process ends, even by a kill.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from benchmarks.schema import MOST_OTHERS
from common.errors import refusing
from common.files import cache_folder
from common.machine import allowed_cores
from common.text import printable

# Environment variable: a file to lock in place of that in the cache.
LOCK_VARIABLE = "ROSETTA_BENCHMARK_LOCK"
WINDOW = 0.05  # seconds of an idle machine before a timing begins
# Cores that may be busy in this window, in which one clock tick,
# the smallest time counted, is 0.2 cores.
IDLE = 0.2
MOST_WAIT = 0.6  # seconds to wait for an idle machine; then the timing begins all the same
FIT_SECONDS = 0.5  # seconds of watching other programs before measuring begins
LONGEST_WAIT = 20.0  # seconds to wait for other programs; then measuring begins beside them

now = time.perf_counter  # the clock of all measuring; tests replace it


@contextmanager
def only_benchmark(on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of this user's benchmarks while the block runs.

    If another benchmark holds the lock, `on_wait` gets a message, and this waits for its end.
    """
    place = Path(os.environ.get(LOCK_VARIABLE) or cache_folder() / "benchmark.lock")
    lock = FileLock(place)
    with refusing(f"{place} cannot be locked", f"; let {LOCK_VARIABLE} name another file"):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait("another benchmark runs; waiting for its end")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Watch:
    """Watches how many cores are used by other processes than this one and the given children,
    and by other machines.

    Other virtual machines may use the same physical cores, and the system then counts stolen time.
    """

    def __init__(self, children: Iterable[int]) -> None:
        self.watched = [psutil.Process()]
        for child in children:
            with suppress(psutil.NoSuchProcess):
                self.watched.append(psutil.Process(child))
        self.began, self.before = time.perf_counter(), self._seconds()

    def others_and_stolen(self) -> tuple[float, float]:
        """The cores that other processes and other virtual machines
        have used on average since the watch began."""
        passed = time.perf_counter() - self.began
        grown = (
            (now - before) / passed
            for now, before in zip(self._seconds(), self.before, strict=True)
        )
        busy, watched, stolen = grown
        return max(0.0, busy - watched), stolen

    def _seconds(self) -> tuple[float, float, float]:
        """Seconds of the cores that all programs used,
        of those this process and the children, and stolen ones."""
        watched = 0.0
        for process in self.watched:
            # Of one that has ended, its parent has the seconds.
            with suppress(psutil.NoSuchProcess):
                watched += sum(process.cpu_times()[:4])
        return busy_seconds(), watched, sum(times.steal for times in _times_of_cores())


def busy_seconds() -> float:
    """Seconds that the cores which this process may use have worked since the machine was started.

    The sum is over these cores and over all programs;
    in a container also over the programs outside it.
    """
    return float(sum(times.user + times.nice + times.system for times in _times_of_cores()))


def _times_of_cores() -> list[Any]:
    """The times of each core that this process may use."""
    allowed = allowed_cores()
    return [
        times for number, times in enumerate(psutil.cpu_times(percpu=True)) if number in allowed
    ]


def wait_until_idle() -> None:
    """Wait until the machine is idle, or for MOST_WAIT.

    Threads of our processes count too: after their work, some spin for a while before they sleep.
    """
    began = now()
    while (start := now()) - began < MOST_WAIT:
        before = busy_seconds()
        time.sleep(WINDOW)
        if busy_seconds() - before <= IDLE * (now() - start):
            return


def wait_until_fit(note: Callable[[str], None], longest: float = LONGEST_WAIT) -> bool:
    """Wait until other programs leave the machine alone for FIT_SECONDS;
    False after `longest` seconds.

    `note` gets a message if that takes a while.
    """
    began, noted = now(), False
    while True:
        watch, before = Watch([]), _processes()
        time.sleep(FIT_SECONDS)
        used, _ = watch.others_and_stolen()
        if used <= MOST_OTHERS:
            return True
        if now() - began >= longest:
            return False
        if not noted:
            busy = f"now {used:.1f} cores{_most_by(before)}"
            note(
                f"other programs use the machine, {busy}; waiting up to {longest:.0f} s for their "
                "end"
            )
            noted = True


def _most_by(before: dict[int, tuple[str, float]]) -> str:
    """Name the process that used most time since this reading of `_processes`;
    "" if none used any."""
    after = _processes()
    spent = {pid: total - before.get(pid, (name, 0.0))[1] for pid, (name, total) in after.items()}
    worst = max(spent, key=lambda pid: spent[pid], default=0)
    return (
        f", most by {printable(after[worst][0])} (process {worst})"
        if spent.get(worst, 0.0) > 0
        else ""
    )


def _processes() -> dict[int, tuple[str, float]]:
    """Name and processor seconds so far of every process except this one, by process id."""
    processes = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            processes[process.pid] = process.info["name"] or "?", times.user + times.system
    return processes
