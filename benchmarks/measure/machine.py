"""What the machine does beside the measurement, and whether it is fit to be measured on.

Read from the system's own files below a root, "/" unless a test plants others. What they do not tell is "not known
here" and no objection.
"""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from common.load import Watch, busy_seconds
from common.machine import allowed_cores
from common.terminal import printable

NOT_KNOWN = "not known here"
SAMPLE_SECONDS = 1.0
WINDOW = 0.05  # seconds over which a machine must be idle before a visit
IDLE = 0.2  # cores at work in such a window, at most: a tick of the system's clock is a fifth of a core in it
MOST_WAIT = 0.6  # seconds that a visit waits for an idle machine, then it begins all the same

# What is still fit. Each is about where a timing of 100 ms begins to show it.
MOST_OTHERS = 0.1  # cores that all other processes use together
MOST_STEAL = 0.02  # share of the sample; a second holds only 100 ticks a core
LEAST_MEMORY = 2 << 30  # bytes that are available
MOST_SWAP = 256 << 20  # bytes in use; idle processes leave some there
STEADY_GOVERNORS = {"performance", "userspace"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    advice: str  # one line; "" where there is nothing to do


def wait_until_idle() -> float:
    """Wait until nothing works on this machine, our own processes' spinning threads included; seconds waited."""
    began = time.perf_counter()
    while (start := time.perf_counter()) - began < MOST_WAIT:
        before = busy_seconds()
        time.sleep(WINDOW)
        if busy_seconds() - before <= IDLE * (time.perf_counter() - start):
            break
    return time.perf_counter() - began


def check(root: Path = Path("/")) -> list[Finding]:
    """Everything that can be told of the machine now; takes a second, in which nothing of ours runs."""
    before = Watch([], root), _processes(), ticks(root), throttles(root)
    time.sleep(SAMPLE_SECONDS)
    return [
        others(before[0].others(), before[1], _processes()),
        steal(before[2], ticks(root)),
        governor(root),
        boost(root),
        throttling(before[3], throttles(root)),
        cores(root),
        memory(root),
        swap(root),
    ]


def others(used: float, before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]) -> Finding:
    """Cores that other processes used, and which of them used most, by two readings of their processor times."""
    spent = {pid: total - before.get(pid, (name, 0.0))[1] for pid, (name, total) in after.items()}
    worst = max(spent, key=lambda pid: spent[pid], default=None)
    found, advice = f"{used:.2f} cores in use", "wait until other programs have come to their end"
    if worst is not None and spent[worst] > 0:
        name = f"{printable(after[worst][0])} (process {worst})"
        found, advice = f"{found}, most by {name}", f"end {name} or wait for its end"
    return _finding("other processes", used <= MOST_OTHERS, found, advice)


def ticks(root: Path) -> tuple[int, int] | None:
    """Clock ticks of all cores since the start, and those of them that the hypervisor gave to others."""
    fields = _read(root / "proc/stat").partition("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":
        return None
    numbers = [int(field) for field in fields[1:9]]  # guests' time, which follows, is part of the user's
    return sum(numbers), numbers[7]


def steal(before: tuple[int, int] | None, after: tuple[int, int] | None) -> Finding:
    """The share of time between two readings of `ticks` that a virtual machine wanted and did not get."""
    if before is None or after is None or after[0] <= before[0]:
        return _not_known("steal time")
    share = (after[1] - before[1]) / (after[0] - before[0])
    advice = "other virtual machines use this processor: measure at another time, or on a machine of one's own"
    return _finding("steal time", share <= MOST_STEAL, f"{100 * share:.1f} %", advice)


def governor(root: Path) -> Finding:
    """What decides on the clock of the cores in use."""
    files = [root / f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor" for n in sorted(allowed_cores())]
    governors = sorted({governor for file in files if (governor := printable(_read(file).strip()))})
    if not governors:
        return _not_known("frequency governor")
    steady = set(governors) <= STEADY_GOVERNORS
    advice = "sudo cpupower frequency-set -g performance"
    return _finding("frequency governor", steady, ", ".join(governors), advice)


def boost(root: Path) -> Finding:
    """Whether the clock may rise above the nominal one: what users get, so no objection, but less steady."""
    for path, on, switch in (("cpufreq/boost", "1", "0"), ("intel_pstate/no_turbo", "0", "1")):
        text = _read(root / "sys/devices/system/cpu" / path).strip()
        if text == on:
            steadier = f"for steadier figures, though not those that users get: echo {switch} | sudo tee "
            advice = f"{steadier}/sys/devices/system/cpu/{path}"
            return Finding("boost", True, "on: the clock depends on heat and on how many cores are busy", advice)
        if text in ("0", "1"):
            return Finding("boost", True, "off", "")
    return _not_known("boost")


def throttles(root: Path) -> int | None:
    """How often any core or package was slowed by heat since the start."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [int(text) for file in files if (text := _read(file).strip()).isdecimal()]
    return sum(counts) if counts else None


def throttling(before: int | None, after: int | None) -> Finding:
    """Whether heat slows the processor now: whether `throttles` grew between two readings."""
    if before is None or after is None:
        return _not_known("thermal throttling")
    found = f"{after - before} times within a second" if after > before else "not now"
    advice = "let the machine cool down, free its vents, plug it in"
    return _finding("thermal throttling", after <= before, f"{found}, {after} times since the start", advice)


def cores(root: Path) -> Finding:
    """Logical processors that this process may use, the physical cores they are, and whether others share those."""
    allowed = allowed_cores()
    physical, shared = set(), []
    for number in sorted(allowed):
        text = _read(root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").strip()
        siblings = _number_list(text)
        if not siblings:
            return Finding("cores", True, f"{len(allowed)} logical; which are physical is {NOT_KNOWN}", "")
        physical.add(frozenset(siblings))
        if siblings - allowed:
            shared.append(f"{number} with {', '.join(map(str, sorted(siblings - allowed)))}")
    found = f"{len(allowed)} logical on {len(physical)} physical"
    found += f"; shared with others: {'; '.join(shared)}" if shared else ""
    every = ",".join(map(str, sorted(set().union(*physical))))
    return _finding("cores", not shared, found, f"give whole cores: taskset --cpu-list {every}")


def memory(root: Path) -> Finding:
    """Memory that is available without swapping."""
    available = _memory_lines(root).get("MemAvailable")
    if available is None:
        return _not_known("memory")
    advice = f"close programs until {LEAST_MEMORY >> 30} GiB are available"
    return _finding("memory", available >= LEAST_MEMORY, f"{available / (1 << 30):.1f} GiB available", advice)


def swap(root: Path) -> Finding:
    """Memory that has been moved to a disk, from where it comes back in the midst of a step."""
    lines = _memory_lines(root)
    if "SwapTotal" not in lines or "SwapFree" not in lines:
        return _not_known("swap")
    used = lines["SwapTotal"] - lines["SwapFree"]
    found = f"{used / (1 << 30):.1f} GiB in use" if used else "not in use"
    advice = "close programs, then bring back what was moved out: sudo swapoff -a && sudo swapon -a"
    return _finding("swap", used <= MOST_SWAP, found, advice)


def _processes() -> dict[int, tuple[str, float]]:
    """Name and processor seconds so far of every process but this one, by process id."""
    found = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            found[process.pid] = process.info["name"] or "?", times.user + times.system
    return found


def _finding(name: str, ok: bool, found: str, advice: str) -> Finding:
    return Finding(name, bool(ok), found, "" if ok else advice)


def _not_known(name: str) -> Finding:
    return Finding(name, True, NOT_KNOWN, "")


def _read(path: Path) -> str:
    """A system's file, or "" where there is none that one may read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number_list(text: str) -> set[int]:
    """The numbers of a list such as "0-3,8"; empty where it is none."""
    numbers: set[int] = set()
    for piece in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece)
        if not match:
            return set()
        numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers


def _memory_lines(root: Path) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kibibytes) << 10 for name, kibibytes in lines}
