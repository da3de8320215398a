"""Is this machine fit to measure on?

Each finding is read from the system's own files below a root, "/" unless a test plants others. What they do not tell
is "not known here" and no objection.
"""

import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.machine import allowed_cores
from common.terminal import printable

NOT_KNOWN = "not known here"
SAMPLE_SECONDS = 1.0

# What is still fit. Each is about where a timing of 100 ms begins to show it.
MOST_LOAD = 0.25  # of the last minute, a core
MOST_OTHER_CORES = 0.2  # that all other processes use together
MOST_STEAL = 0.02  # share of the sample; a second holds only 100 ticks a core
LEAST_MEMORY = 2 << 30  # bytes that are available
MOST_SWAP = 256 << 20  # bytes in use; idle processes leave some there
# The self-test's 90th percentile over its 10th. Not over its median: what shares a core with another process is slow
# most of the time, and steadily so.
MOST_SPREAD = 1.2
STEADY_GOVERNORS = {"performance", "userspace"}

SELF_TEST_REPEATS = 200
WARM_UP = 10  # products until threads have started and the clock has risen
SELF_TEST_SIZE = 512  # of a square float32 product, 268 MFLOP: one to five milliseconds


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    advice: str  # one line; "" where there is nothing to do


def check(root: Path = Path("/")) -> list[Finding]:
    """Everything that can be told of the machine now; takes somewhat over a second, in which one product runs."""
    allowed = allowed_cores()
    start = time.perf_counter()
    before = cpu_seconds(), ticks(root), throttles(root)
    times = self_test()
    time.sleep(max(0.0, SAMPLE_SECONDS - (time.perf_counter() - start)))
    after = cpu_seconds(), ticks(root), throttles(root)
    return [
        load(root, len(allowed)),
        other_processes(before[0], after[0], time.perf_counter() - start),
        noise(times),
        steal(before[1], after[1]),
        governor(root, allowed),
        boost(root),
        throttling(before[2], after[2]),
        cores(root, allowed),
        quota(root, len(allowed)),
        memory(root),
        swap(root),
    ]


def fit(findings: Iterable[Finding]) -> bool:
    """Whether nothing speaks against measuring."""
    return all(finding.ok for finding in findings)


def load(root: Path, num_cores: int) -> Finding:
    """The load average of the last minute."""
    text = _read(root / "proc/loadavg")
    try:
        average = float(text.split()[0])
    except (ValueError, IndexError):
        return _not_known("load")
    return _finding(
        "load",
        average <= MOST_LOAD * num_cores,
        f"{average:.2f} on {_cores(num_cores)}",
        "let what runs come to its end; the load average takes a minute or two to fall",
    )


def cpu_seconds() -> dict[int, tuple[str, float]]:
    """Name and CPU seconds so far of every process but this one, by process id."""
    import psutil

    found = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            found[process.pid] = process.info["name"] or "?", times.user + times.system
    return found


def other_processes(
    before: Mapping[int, tuple[str, float]], after: Mapping[int, tuple[str, float]], seconds: float
) -> Finding:
    """How many cores all other processes used between two readings that lie `seconds` apart, and which used most."""
    used = {}
    for pid, (name, total) in after.items():
        earlier = before.get(pid, (name, 0.0))[1]
        used[pid] = (total - earlier if total >= earlier else total) / seconds  # less: the id was given out again
    together = sum(used.values())
    worst = max(used, key=lambda pid: used[pid], default=None)
    found = f"{together:.2f} cores in use"
    advice = ""
    if worst is not None and used[worst] > 0:
        worst_is = f"{printable(after[worst][0])} (process {worst})"
        found += f", most by {worst_is}: {used[worst]:.2f}"
        advice = f"end {worst_is} or wait for its end"
    return _finding("other processes", together <= MOST_OTHER_CORES, found, advice)


def self_test() -> list[float]:
    """Seconds of one matrix product, 200 times over or as often as a second allows."""
    factor = np.random.default_rng(0).standard_normal((SELF_TEST_SIZE, SELF_TEST_SIZE), dtype=np.float32)
    product = np.empty_like(factor)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < WARM_UP + SELF_TEST_REPEATS:
        start = time.perf_counter()
        if start - begun > SAMPLE_SECONDS and len(times) >= 2 * WARM_UP:
            break
        np.matmul(factor, factor, out=product)
        times.append(time.perf_counter() - start)
    return times[WARM_UP:]


def noise(times: Iterable[float]) -> Finding:
    """How much equal work differs in time, the fastest and the slowest tenth left out."""
    low, median, high = np.percentile(list(times), [10, 50, 90]) * 1e3
    return _finding(
        "noise",
        high <= MOST_SPREAD * low,
        f"equal work takes {low:.1f} to {high:.1f} ms, {median:.1f} typically: {high / low:.2f} times as long",
        "something else uses this processor, or its clock varies: see the other lines, and try again",
    )


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
    return _finding(
        "steal time",
        share <= MOST_STEAL,
        f"{100 * share:.1f} %",
        "other virtual machines use this processor: measure at another time, or on a machine of one's own",
    )


def governor(root: Path, allowed: Iterable[int]) -> Finding:
    """What decides on the clock of the cores in use."""
    files = [root / f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor" for number in sorted(allowed)]
    governors = sorted({governor for file in files if (governor := printable(_read(file).strip()))})
    if not governors:
        return _not_known("frequency governor")
    return _finding(
        "frequency governor",
        set(governors) <= STEADY_GOVERNORS,
        ", ".join(governors),
        "sudo cpupower frequency-set -g performance",
    )


def boost(root: Path) -> Finding:
    """Whether the clock may rise above the nominal one: what users get, so no objection, but less steady."""
    on = None
    for path, value in (("cpufreq/boost", "1"), ("intel_pstate/no_turbo", "0")):
        text = _read(root / "sys/devices/system/cpu" / path).strip()
        if text in ("0", "1"):
            on = text == value
            break
    if on is None:
        return _not_known("boost")
    if not on:
        return Finding("boost", True, "off", "")
    switch = "echo 0 | sudo tee" if value == "1" else "echo 1 | sudo tee"
    advice = f"for steadier figures, though not those that users get: {switch} /sys/devices/system/cpu/{path}"
    return Finding("boost", True, "on: the clock depends on heat and on how many cores are busy", advice)


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
    return _finding(
        "thermal throttling",
        after <= before,
        f"{found}, {after} times since the start",
        "let the machine cool down, free its vents, plug it in",
    )


def cores(root: Path, allowed: Iterable[int]) -> Finding:
    """Logical processors that this process may use, the physical cores they are, and whether others share those."""
    allowed = set(allowed)
    physical, shared = set(), []
    for number in sorted(allowed):
        text = _read(root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").strip()
        siblings = _number_list(text)
        if not siblings:
            return Finding("cores", True, f"{_cores(len(allowed))}; which are physical is {NOT_KNOWN}", "")
        physical.add(frozenset(siblings))
        if siblings - allowed:
            shared.append(f"{number} with {', '.join(map(str, sorted(siblings - allowed)))}")
    found = f"{len(allowed)} logical on {len(physical)} physical"
    if shared:
        found += f"; shared with others: {'; '.join(shared)}"
    every = ",".join(map(str, sorted(set().union(*physical))))
    return _finding("cores", not shared, found, f"give whole cores: taskset --cpu-list {every}")


def quota(root: Path, num_cores: int) -> Finding:
    """The CPU time that a container or a service may use, in cores, against those that it sees."""
    limits = [limit for limit in _quotas(root) if limit is not None]
    if not limits:
        return _not_known("CPU quota")
    least = min(limits)
    if math.isinf(least):
        return Finding("CPU quota", True, "none", "")
    return _finding(
        "CPU quota",
        least >= num_cores,
        f"{least:g} of {_cores(num_cores)}",
        f"threads stop when it is used up: raise it to {num_cores} (docker run --cpus), or allow fewer cores",
    )


def memory(root: Path) -> Finding:
    """Memory that is available without swapping."""
    available = _memory_lines(root).get("MemAvailable")
    if available is None:
        return _not_known("memory")
    return _finding(
        "memory",
        available >= LEAST_MEMORY,
        f"{available / (1 << 30):.1f} GiB available",
        f"close programs until {LEAST_MEMORY >> 30} GiB are available",
    )


def swap(root: Path) -> Finding:
    """Memory that has been moved to a disk, from where it comes back in the midst of a step."""
    lines = _memory_lines(root)
    if "SwapTotal" not in lines or "SwapFree" not in lines:
        return _not_known("swap")
    used = lines["SwapTotal"] - lines["SwapFree"]
    return _finding(
        "swap",
        used <= MOST_SWAP,
        f"{used / (1 << 30):.1f} GiB in use" if used else "not in use",
        "close programs, then bring back what was moved out: sudo swapoff -a && sudo swapon -a",
    )


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


def _cores(number: int) -> str:
    return f"{number} core{'s' * (number != 1)}"


def _number_list(text: str) -> set[int]:
    """The numbers of a list such as "0-3,8"; empty where it is none."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not match:
            return set()
        numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers


def _memory_lines(root: Path) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kibibytes) << 10 for name, kibibytes in lines}


def _quotas(root: Path) -> Iterator[float | None]:
    """The quota of this process's control group and of each above it, in cores; None where one does not say.

    Within a container, the path of /proc/self/cgroup may be the host's and lead nowhere: the mount's own top is then
    the container's.
    """
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, controllers, inner = [*line.split(":", 2), "", ""][:3]
        if hierarchy == "0":  # version 2, alone or beside version 1
            for group in (*_groups(mount, inner), *_groups(mount / "unified", inner)):
                yield _ratio(_read(group / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for name in dict.fromkeys(("cpu", controllers)):
                for group in _groups(mount / name, inner):
                    yield _ratio([_read(group / f"cpu.cfs_{part}_us").strip() for part in ("quota", "period")])


def _groups(mount: Path, inner: str) -> list[Path]:
    group = mount / inner.strip("/")
    if ".." in group.parts:
        group = mount
    return [group, *(parent for parent in group.parents if parent.is_relative_to(mount))]


def _ratio(parts: list[str]) -> float | None:
    """Cores from quota and period in microseconds; infinity for "max" and -1."""
    if len(parts) != 2 or not parts[1].isdecimal() or int(parts[1]) == 0:
        return None
    if parts[0] in ("max", "-1"):
        return math.inf
    return int(parts[0]) / int(parts[1]) if parts[0].isdecimal() else None
