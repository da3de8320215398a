"""How busy other programs keep the processor."""

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from common.machine import allowed_cores, cores

SAMPLE_SECONDS = 0.3  # how long other programs are watched before advice is given
CROWDED = 0.5  # number of cores that other programs use from which on fewer threads are advised


class Watch:
    """Watches how many cores are used by other processes than this one and the given children."""

    def __init__(self, children: Iterable[int], root: Path = Path("/")) -> None:
        self.processes = [psutil.Process(), *map(psutil.Process, children)]
        self.root = root
        self.began, self.busy, self.own = time.perf_counter(), busy_seconds(root), self._own()

    def others(self) -> float:
        """The number of cores that other processes have used on average since the watch began."""
        passed = time.perf_counter() - self.began
        return max(0.0, (busy_seconds(self.root) - self.busy) - (self._own() - self.own)) / passed

    def _own(self) -> float:
        """Processor time of this process and the children, in seconds."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


def busy_seconds(root: Path = Path("/")) -> float:
    """Seconds that the cores which this process may use have worked since the machine was started.

    The sum is over these cores and over all programs; in a container also over the programs outside it.
    """
    tick = 1 / os.sysconf("SC_CLK_TCK")
    try:
        text = (root / "proc/stat").read_text(encoding="utf-8")
    except OSError:  # a system that is not Linux
        return 0.0
    found = 0.0
    for number, *ticks in re.findall(r"^cpu(\d+) (\d+) (\d+) (\d+) ", text, re.MULTILINE):
        if int(number) in allowed_cores():  # user, nice, system
            found += sum(map(int, ticks)) * tick
    return found


def fewer_threads(threads: int, child: int) -> str:
    """Advice for a training that is about to begin on `threads` threads in the process `child`.

    It is one line that says what slows the training and what to type, or "" where nothing slows it.

    Threads of one training wait for one another at every step of a sentence. Where one of them shares its core with
    another program, all of them wait, and those that spin meanwhile take the core from the one that they wait for.
    """
    watch = Watch([child])
    time.sleep(SAMPLE_SECONDS)
    others = watch.others()
    existing = len(allowed_cores())
    better = max(1, min(cores(), existing - round(others)))
    if others < CROWDED or better >= threads:
        return ""
    return (
        f"other programs use {others:.1f} of {existing} cores, and threads that share a core wait for one another; "
        f"this is likely to be faster: --threads {better}"
    )
