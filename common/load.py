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
    """Watches how many cores are used by other processes than this one and the given children, and by other machines.

    Other virtual machines may use the same physical cores, of which the system is then told as stolen time.
    """

    def __init__(self, children: Iterable[int], root: Path = Path("/")) -> None:
        self.processes = [psutil.Process(), *map(psutil.Process, children)]
        self.root = root
        self.began, self.busy, self.own = time.perf_counter(), busy_seconds(root), self._own()
        self.stolen_before = stolen_seconds(root)

    def others(self) -> float:
        """The number of cores that other processes have used on average since the watch began."""
        passed = time.perf_counter() - self.began
        return max(0.0, (busy_seconds(self.root) - self.busy) - (self._own() - self.own)) / passed

    def stolen(self) -> float:
        """The number of cores that other virtual machines have taken on average since the watch began."""
        return (stolen_seconds(self.root) - self.stolen_before) / (time.perf_counter() - self.began)

    def _own(self) -> float:
        """Processor time of this process and the children, in seconds."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


def busy_seconds(root: Path = Path("/")) -> float:
    """Seconds that the cores which this process may use have worked since the machine was started.

    The sum is over these cores and over all programs; in a container also over the programs outside it.
    """
    return _seconds(root, slice(0, 3))  # user, nice, system


def stolen_seconds(root: Path = Path("/")) -> float:
    """Seconds that these cores would have worked, had other virtual machines not used them."""
    return _seconds(root, slice(7, 8))  # steal, after idle, waiting and two kinds of interrupts


def _seconds(root: Path, fields: slice) -> float:
    """The sum of these fields of a core's line in the system's statistics, over the allowed cores; 0 if not told."""
    tick = 1 / os.sysconf("SC_CLK_TCK")
    try:
        text = (root / "proc/stat").read_text(encoding="utf-8")
    except OSError:  # a system that is not Linux
        return 0.0
    lines = re.findall(r"^cpu(\d+)((?: \d+)+)$", text, re.MULTILINE)
    allowed = [ticks.split()[fields] for number, ticks in lines if int(number) in allowed_cores()]
    return sum(int(ticks) for line in allowed for ticks in line) * tick


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
