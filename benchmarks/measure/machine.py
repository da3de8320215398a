"""The machine: its lock, what else runs on it, and whether timings taken on it now can be trusted.

- The lock is there since two benchmarks at once would slow each other down. It is an `flock` on the root folder,
  which the operating system frees when the process that holds it ends, even when it is killed. Every user may open
  that folder and nobody but the administrator may replace it, so no other user can free the lock or plant something
  in its place.
- What psutil does not tell is read from the system's own files, such as those in /sys, below a root folder, which is
  "/" except in tests. A property that nobody tells is reported as "not known here", which is no objection.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from common.files import locked
from common.machine import Watch as Watch
from common.machine import allowed_cores, busy_seconds, system_text
from common.text import printable

PLACE = "ROSETTA_BENCHMARK_LOCK"  # environment variable with a file to lock in place of the root folder
NOT_KNOWN = "not known here"
SAMPLE_SECONDS = 1.0
WINDOW = 0.05  # seconds for which the machine must be idle before a timing begins
IDLE = 0.2  # cores that may be busy in an idle window: one clock tick, the smallest time counted, is 0.2 cores in it
MOST_WAIT = 0.6  # seconds to wait for an idle machine; then the timing begins all the same
FIT_SECONDS = 0.5  # seconds for which other programs are watched before measuring begins
LONGEST_WAIT = 20.0  # seconds to wait for other programs; then measuring begins beside them

# The limits up to which a machine is fit. Each is about where it begins to show in a timing of 100 ms.
MOST_OTHERS = 0.1  # cores that all other processes use together
MOST_STEAL = 0.02  # share of a sample of one second, which has only 100 clock ticks a core
LEAST_MEMORY = 2 << 30  # bytes that are available
STEADY_GOVERNORS = {"performance", "userspace"}


now = time.perf_counter  # the clock of all that is measured here; tests have one of their own


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str  # what was checked
    ok: bool
    found: str  # what was found, in words
    advice: str  # one line on how to improve it; "" where there is nothing to do


@contextmanager
def only_benchmark(on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the machine's benchmark lock while the block runs.

    If another benchmark holds the lock, `on_wait` is called with a message that names that benchmark's process, and
    this waits until it ends.
    """
    place = Path(os.environ.get(PLACE) or "/")  # the same for all users of the machine, whatever their TMPDIR is

    def held(holder: str) -> None:
        on_wait(f"another benchmark runs ({holder}); waiting for its end")

    with locked(place, held, advice=f"let {PLACE} name another file"):
        yield


def wait_until_idle() -> None:
    """Wait until the machine is idle, or for MOST_WAIT.

    Threads of our own processes count too: after their work is done, some spin for a while before they sleep.
    """
    began = now()
    while (start := now()) - began < MOST_WAIT:
        before = busy_seconds()
        time.sleep(WINDOW)
        if busy_seconds() - before <= IDLE * (now() - start):
            return


def wait_until_fit(note: Callable[[str], None], longest: float = LONGEST_WAIT) -> bool:
    """Wait until other programs leave the machine alone for FIT_SECONDS, for `longest` seconds; returns whether they
    did. `note` is told where that takes a while."""
    began, noted = now(), False
    while True:
        watch, before = Watch([]), _processes()
        time.sleep(FIT_SECONDS)
        used = watch.others()
        if used <= MOST_OTHERS:
            return True
        if now() - began >= longest:
            return False
        if not noted:
            busy = f"now {used:.1f} cores{_most_by(before)}"
            note(f"other programs use the machine, {busy}; waiting up to {longest:.0f} s for their end")
            noted = True


def _most_by(before: dict[int, tuple[str, float]]) -> str:
    """The words that name the process that used most since this reading of `_processes`; "" if none did anything."""
    after = _processes()
    spent = {pid: total - before.get(pid, (name, 0.0))[1] for pid, (name, total) in after.items()}
    worst = max(spent, key=lambda pid: spent[pid], default=0)
    return f", most by {printable(after[worst][0])} (process {worst})" if spent.get(worst, 0.0) > 0 else ""


def check(root: Path = Path("/")) -> list[Finding]:
    """Run all checks. Takes one second, in which this process sleeps."""
    watch, processes = Watch([]), _processes()
    time.sleep(SAMPLE_SECONDS)
    used, stolen = watch.others(), watch.stolen() / len(allowed_cores())
    available = psutil.virtual_memory().available
    # The part of the system that sets the clock of a core, of each core in use.
    files = [root / f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor" for n in allowed_cores()]
    governors = sorted({governor for file in files if (governor := printable(system_text(file).strip()))})
    checks = [
        (
            "other processes",
            used <= MOST_OTHERS,
            f"{used:.2f} cores in use{_most_by(processes)}",
            "end them, or wait until they have ended",
        ),
        (
            "steal time",
            stolen <= MOST_STEAL,
            f"{100 * stolen:.1f} %",
            "other virtual machines use this processor: measure at another time, or on a machine of your own",
        ),
        (
            "frequency governor",
            STEADY_GOVERNORS.issuperset(governors),
            ", ".join(governors) or NOT_KNOWN,
            "sudo cpupower frequency-set -g performance",
        ),
        (
            "memory",
            available >= LEAST_MEMORY,
            f"{available / (1 << 30):.1f} GiB available",
            f"close programs until {LEAST_MEMORY >> 30} GiB are available",
        ),
    ]
    return [Finding(name, bool(ok), found, "" if ok else advice) for name, ok, found, advice in checks]


def _processes() -> dict[int, tuple[str, float]]:
    """The name and the processor seconds so far of every process except this one, by process id."""
    processes = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            processes[process.pid] = process.info["name"] or "?", times.user + times.system
    return processes
