"""What other programs do on this machine meanwhile."""

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from common.machine import allowed_cores, cores

SAMPLE_SECONDS = 0.3
CROWDED = 0.5  # cores in use by other programs from which on threads had better be fewer


class Watch:
    """What other processes use beside this one and the given children."""

    def __init__(self, children: Iterable[int], root: Path = Path("/")) -> None:
        self.processes = [psutil.Process(), *map(psutil.Process, children)]
        self.root = root
        self.began, self.busy, self.own = time.perf_counter(), busy_seconds(root), self._own()

    def others(self) -> float:
        """Cores that other processes used since the watch began, on average."""
        passed = time.perf_counter() - self.began
        return max(0.0, (busy_seconds(self.root) - self.busy) - (self._own() - self.own)) / passed

    def _own(self) -> float:
        """Processor time of these processes, in seconds."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


def busy_seconds(root: Path = Path("/")) -> float:
    """Processor time that the cores which this process may use have worked since the machine was started.

    In a container these are the host's cores.
    """
    tick = 1 / os.sysconf("SC_CLK_TCK")
    try:
        text = (root / "proc/stat").read_text(encoding="utf-8")
    except OSError:  # on another system
        return 0.0
    found = 0.0
    for number, *ticks in re.findall(r"^cpu(\d+) (\d+) (\d+) (\d+) ", text, re.MULTILINE):
        if int(number) in allowed_cores():  # user, nice, system
            found += sum(map(int, ticks)) * tick
    return found


def fewer_threads(threads: int, child: int) -> str:
    """One line that says what slows a training that is about to begin on `threads` threads in the process `child`,
    and what to type; "" where nothing does.

    Threads of one training wait for one another at every step of a sentence. Where one of them shares its core with
    another program, all of them wait, and those that spin meanwhile take the core from the one that they wait for.
    """
    watch = Watch([child])
    time.sleep(SAMPLE_SECONDS)
    others = watch.others()
    better = max(1, cores() - round(others))
    if others < CROWDED or better >= threads:
        return ""
    return (
        f"other programs use {others:.1f} of {cores()} cores, and threads that share a core wait for one another; "
        f"this is likely to be faster: --threads {better}"
    )
