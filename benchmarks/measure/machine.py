"""Checks of the machine: what else runs on it, and whether timings taken on it now can be trusted.

What psutil does not tell is read from the system's own files, such as those in /sys, below a root folder, which is
"/" except in tests. A property that nobody tells is reported as "not known here", which is no objection.
"""

import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from common.errors import RosettaError
from common.machine import Watch as Watch
from common.machine import allowed_cores, busy_seconds, quota, system_text
from common.text import printable

NOT_KNOWN = "not known here"
SAMPLE_SECONDS = 1.0
WINDOW = 0.05  # seconds for which the machine must be idle before a timing begins
IDLE = 0.2  # cores that may be busy in an idle window: one clock tick, the smallest time counted, is 0.2 cores in it
MOST_WAIT = 0.6  # seconds to wait for an idle machine; then the timing begins all the same
FIT_SECONDS = 0.5  # seconds for which other programs are watched before measuring begins
LONGEST_WAIT = 20.0  # seconds to wait for other programs; then measuring ends

# The limits up to which a machine is fit. Each is about where it begins to show in a timing of 100 ms.
MOST_OTHERS = 0.1  # cores that all other processes use together
MOST_STEAL = 0.02  # share of a sample of one second, which has only 100 clock ticks a core
LEAST_MEMORY = 2 << 30  # bytes that are available
MOST_SWAP = 256 << 20  # bytes in use; idle processes always leave some there
STEADY_GOVERNORS = {"performance", "userspace"}


now = time.perf_counter  # the clock of all that is measured here; tests have one of their own


class NoRestError(RosettaError):
    """Other programs leave the machine no rest, so turns cannot be kept."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str  # what was checked
    ok: bool
    found: str  # what was found, in words
    advice: str  # one line on how to improve it; "" where there is nothing to do


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


def wait_until_fit(note: Callable[[str], None]) -> None:
    """Wait until other programs leave the machine alone for FIT_SECONDS; `note` is told where that takes a while.

    Raises NoRestError after LONGEST_WAIT seconds.
    """
    began, noted = now(), False
    while True:
        watch, before = Watch([]), _processes()
        time.sleep(FIT_SECONDS)
        used = watch.others()
        if used <= MOST_OTHERS:
            return
        name = _busiest(before, _processes())
        by = f", most by {name}" if name else ""
        if now() - began >= LONGEST_WAIT:
            raise NoRestError(
                f"other programs have been using the machine for {LONGEST_WAIT:.0f} s, now {used:.1f} cores{by}, so "
                "turns cannot be kept; end them, or measure later"
            )
        if not noted:
            note(
                f"{used:.1f} cores are in use by other programs{by}; waiting up to {LONGEST_WAIT:.0f} s for their end"
            )
            noted = True


def _busiest(before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]) -> str:
    """The process that used most between two readings of `_processes`; "" if none did anything."""
    spent = {pid: total - before.get(pid, (name, 0.0))[1] for pid, (name, total) in after.items()}
    worst = max(spent, key=lambda pid: spent[pid], default=None)
    return f"{printable(after[worst][0])} (process {worst})" if worst is not None and spent[worst] > 0 else ""


def check(root: Path = Path("/")) -> list[Finding]:
    """Run all checks. Takes one second, in which this process sleeps."""
    watch, processes, heat = Watch([], root), _processes(), throttles(root)
    time.sleep(SAMPLE_SECONDS)
    return [
        others(watch.others(), processes, _processes()),
        steal(watch.stolen()),
        governor(root),
        throttling(heat, throttles(root)),
        cores(root),
        memory(),
        swap(),
    ]


def others(used: float, before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]) -> Finding:
    """How many cores other processes `used`, and which process used most.

    `before` and `after` are two readings of `_processes`.
    """
    found, advice = f"{used:.2f} cores in use", "wait until other programs have ended"
    if name := _busiest(before, after):
        found, advice = f"{found}, most by {name}", f"end {name} or wait for its end"
    return _finding("other processes", used <= MOST_OTHERS, found, advice)


def steal(stolen: float) -> Finding:
    """The share of its cores' time that other virtual machines took from this one; `stolen` is a number of cores."""
    share = stolen / len(allowed_cores())
    advice = "other virtual machines use this processor: measure at another time, or on a machine of your own"
    return _finding("steal time", share <= MOST_STEAL, f"{100 * share:.1f} %", advice)


def governor(root: Path) -> Finding:
    """The frequency governor, the part of the system that sets the clock of a core, of each core in use."""
    files = [root / f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor" for n in sorted(allowed_cores())]
    governors = sorted({governor for file in files if (governor := printable(system_text(file).strip()))})
    if not governors:
        return _not_known("frequency governor")
    steady = set(governors) <= STEADY_GOVERNORS
    advice = "sudo cpupower frequency-set -g performance"
    return _finding("frequency governor", steady, ", ".join(governors), advice)


def throttles(root: Path) -> int | None:
    """How often heat has slowed a core or a whole processor since the machine started; None if not known."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [int(text) for file in files if (text := system_text(file).strip()).isdecimal()]
    return sum(counts) if counts else None


def throttling(before: int | None, after: int | None) -> Finding:
    """Whether heat slows the processor now, that is, whether `throttles` grew between two readings."""
    if before is None or after is None:
        return _not_known("thermal throttling")
    found = f"{after - before} times within a second" if after > before else "not now"
    advice = "let the machine cool down, free its vents, plug it in"
    return _finding("thermal throttling", after <= before, f"{found}, {after} times since the start", advice)


def cores(root: Path) -> Finding:
    """The logical processors that this process may use, and whether others use the same physical cores."""
    allowed, limit = allowed_cores(), quota(root)
    limited = f"; the control group allows {limit:g} core{'s' * (limit != 1)}" if math.isfinite(limit) else ""
    physical, shared = set(), []
    for number in sorted(allowed):
        text = system_text(root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").strip()
        siblings = _number_list(text)
        if not siblings:
            return Finding(
                "cores", True, f"{len(allowed)} logical; their physical cores are {NOT_KNOWN}{limited}", ""
            )
        physical.add(frozenset(siblings))
        if siblings - allowed:
            shared.append(f"{number} with {', '.join(map(str, sorted(siblings - allowed)))}")
    found = f"{len(allowed)} logical on {len(physical)} physical{limited}"
    found += f"; shared with others: {'; '.join(shared)}" if shared else ""
    every = ",".join(map(str, sorted(set().union(*physical))))
    return _finding("cores", not shared, found, f"use whole physical cores: taskset --cpu-list {every}")


def memory() -> Finding:
    """How much memory is available without swapping."""
    available = psutil.virtual_memory().available
    advice = f"close programs until {LEAST_MEMORY >> 30} GiB are available"
    return _finding("memory", available >= LEAST_MEMORY, f"{available / (1 << 30):.1f} GiB available", advice)


def swap() -> Finding:
    """How much memory the system has moved to disk: a timing that needs it again waits for the disk."""
    used = psutil.swap_memory().used
    found = f"{used / (1 << 30):.1f} GiB in use" if used else "not in use"
    advice = "close programs, then move the swapped memory back: sudo swapoff -a && sudo swapon -a"
    return _finding("swap", used <= MOST_SWAP, found, advice)


def _processes() -> dict[int, tuple[str, float]]:
    """The name and the processor seconds so far of every process except this one, by process id."""
    processes = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            processes[process.pid] = process.info["name"] or "?", times.user + times.system
    return processes


def _finding(name: str, ok: bool, found: str, advice: str) -> Finding:
    return Finding(name, bool(ok), found, "" if ok else advice)


def _not_known(name: str) -> Finding:
    return Finding(name, True, NOT_KNOWN, "")


def _number_list(text: str) -> set[int]:
    """The numbers of a list such as "0-3,8"; empty if the text is no such list."""
    numbers: set[int] = set()
    for piece in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece)
        if not match:
            return set()
        numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers
