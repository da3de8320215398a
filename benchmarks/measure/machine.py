"""The machine: its lock, what else runs on it, and whether timings taken on it now can be trusted.

- The lock is there since two benchmarks at once would slow each other down. It is an `flock` on the root folder,
  which the operating system frees when the process that holds it ends, even when it is killed. Every user may open
  that folder and nobody but the administrator may replace it, so no other user can free the lock, plant something in
  its place, or write what is told of its holder.
- What psutil does not tell is read from the system's own files, such as those in /sys, below a root folder, which is
  "/" except in tests. A property that nobody tells is reported as "not known here", which is no objection.
"""

import fcntl
import math
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from common.errors import CannotBeginError
from common.machine import Watch as Watch
from common.machine import allowed_cores, busy_seconds, quota, system_text
from common.text import printable

PLACE = "ROSETTA_BENCHMARK_LOCK"  # environment variable with a file to lock in place of the root folder
LONGEST = 400  # characters that are shown of a lock's holder
NOT_KNOWN = "not known here"
CPU = "sys/devices/system/cpu"
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
MOST_SWAP = 256 << 20  # bytes in use; idle processes always leave some there
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
def only_benchmark(on_wait: Callable[[str], None], wait: bool = True) -> Iterator[None]:
    """Hold the machine's benchmark lock while the block runs.

    If another benchmark holds the lock, `on_wait` is called with a message that names that benchmark's process, and
    this waits until it ends; with `wait` False it raises CannotBeginError instead.
    """

    def held(holder: str) -> None:
        if not wait:
            raise CannotBeginError(
                f"another benchmark runs ({holder}); wait for its end, or let this one wait: --wait"
            )
        on_wait(f"another benchmark runs ({holder}); waiting for its end")

    place = Path(os.environ.get(PLACE) or "/")  # the same for all users of the machine, whatever their TMPDIR is
    with locked(place, os.O_RDONLY, f"let {PLACE} name another file", held):
        yield


@contextmanager
def locked(path: Path, flags: int, advice: str, held: Callable[[str], None]) -> Iterator[int]:
    """The descriptor of a file that is locked, and made where the flags say so. Raises CannotBeginError.

    If another process holds the lock, `held` is called with who it is; where it returns, this waits for the lock.
    """
    try:
        if flags & os.O_CREAT:
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be opened: {error.strerror}; {advice}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held(holder_of(descriptor))
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits without using the processor; Ctrl-C ends the wait
        except OSError as error:  # its disk gives no locks
            raise CannotBeginError(f"{path} cannot be locked: {error.strerror}; {advice}") from error
        yield descriptor
    finally:
        os.close(descriptor)


def holder_of(descriptor: int) -> str:
    """Id, user, start and command of the process that holds the lock of an open file, or what of this is known.

    Linux lists all locks in /proc/locks: "1: FLOCK  ADVISORY  WRITE 4711 08:01:2 0 EOF", where 4711 is the process
    and 2 the inode. The device before the inode is not compared, since some file systems name another one there.
    """
    entry = rf"^\d+: FLOCK +ADVISORY +WRITE (\d+) \S+:{os.fstat(descriptor).st_ino} "
    found = re.search(entry, system_text(Path("/proc/locks")), re.MULTILINE)
    if found is None:
        return "not known"
    try:
        process = psutil.Process(int(found[1]))
        since = f"{datetime.fromtimestamp(process.create_time()):%Y-%m-%d %H:%M:%S}"
        command = shlex.join(process.cmdline())
        return printable(f"process {process.pid} of {process.username()}, since {since}: {command}")[:LONGEST]
    except psutil.Error:  # another user's, of which the system tells nothing, or one that has just ended
        return f"process {found[1]}"


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


def peak_memory(pid: int) -> int:
    """The most bytes that a process has ever had in memory (resident, not swapped out), as Linux tells it; 0 of one
    that has ended."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", system_text(Path(f"/proc/{pid}/status")), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def energy(root: Path = Path("/")) -> dict[Path, int]:
    """Each processor's counter of energy (RAPL), in microjoules; none where the system does not let one read it."""
    counters = (root / "sys/class/powercap").glob("intel-rapl:[0-9]*/energy_uj")
    texts = {counter: system_text(counter).strip() for counter in counters if counter.parent.name.count(":") == 1}
    return {counter: int(text) for counter, text in texts.items() if text.isdecimal()}


def energy_since(before: dict[Path, int], root: Path = Path("/")) -> float | None:
    """Joules that all processors have used since `before` was read; None where it is not known."""
    after, used = energy(root), 0
    for counter, microjoules in before.items():
        largest = system_text(counter.with_name("max_energy_range_uj")).strip()
        grown = after.get(counter, microjoules) - microjoules
        used += grown if grown >= 0 else grown + (int(largest) if largest.isdecimal() else -grown)
    return used / 1e6 if before else None


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
    watch, processes, heat = Watch([]), _processes(), throttles(root)
    time.sleep(SAMPLE_SECONDS)
    used, share = watch.others(), watch.stolen() / len(allowed_cores())
    available, swapped = psutil.virtual_memory().available, psutil.swap_memory().used
    in_swap = f"{swapped / (1 << 30):.1f} GiB in use" if swapped else "not in use"
    return [
        _finding(
            "other processes",
            used <= MOST_OTHERS,
            f"{used:.2f} cores in use{_most_by(processes)}",
            "end them, or wait until they have ended",
        ),
        _finding(
            "steal time",
            share <= MOST_STEAL,
            f"{100 * share:.1f} %",
            "other virtual machines use this processor: measure at another time, or on a machine of your own",
        ),
        governor(root),
        throttling(heat, throttles(root)),
        cores(root),
        _finding(
            "memory",
            available >= LEAST_MEMORY,
            f"{available / (1 << 30):.1f} GiB available",
            f"close programs until {LEAST_MEMORY >> 30} GiB are available",
        ),
        _finding(  # a timing that needs swapped memory again waits for the disk
            "swap",
            swapped <= MOST_SWAP,
            in_swap,
            "close programs, then move the swapped memory back: sudo swapoff -a && sudo swapon -a",
        ),
    ]


def governor(root: Path) -> Finding:
    """The frequency governor, the part of the system that sets the clock of a core, of each core in use."""
    files = [root / f"{CPU}/cpu{n}/cpufreq/scaling_governor" for n in allowed_cores()]
    governors = sorted({governor for file in files if (governor := printable(system_text(file).strip()))})
    advice = "sudo cpupower frequency-set -g performance"
    found = ", ".join(governors) or NOT_KNOWN
    return _finding("frequency governor", STEADY_GOVERNORS.issuperset(governors), found, advice)


def throttles(root: Path) -> int | None:
    """How often heat has slowed a core or a whole processor since the machine started; None if not known."""
    files = (root / CPU).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [int(text) for file in files if (text := system_text(file).strip()).isdecimal()]
    return sum(counts) if counts else None


def throttling(before: int | None, after: int | None) -> Finding:
    """Whether heat slows the processor now, that is, whether `throttles` grew between two readings."""
    if before is None or after is None:
        return _finding("thermal throttling", True, NOT_KNOWN, "")
    found = f"{after - before} times within a second" if after > before else "not now"
    advice = "let the machine cool down, free its vents, plug it in"
    return _finding("thermal throttling", after <= before, f"{found}, {after} times since the start", advice)


def cores(root: Path) -> Finding:
    """The logical processors that this process may use, and whether others use the same physical cores."""
    allowed, limit = allowed_cores(), quota(root)
    limited = f"; the control group allows {limit:g} core{'s' * (limit != 1)}" if math.isfinite(limit) else ""
    siblings = {number: _siblings(root, number) for number in sorted(allowed)}
    if not all(siblings.values()):
        found = f"{len(allowed)} logical; their physical cores are {NOT_KNOWN}{limited}"
        return _finding("cores", True, found, "")
    found = f"{len(allowed)} logical on {len({*siblings.values()})} physical{limited}"
    shared = [
        f"{number} with {', '.join(map(str, sorted(others)))}"
        for number, together in siblings.items()
        if (others := together - allowed)
    ]
    found += f"; shared with others: {'; '.join(shared)}" if shared else ""
    every = ",".join(map(str, sorted(frozenset().union(*siblings.values()))))
    return _finding("cores", not shared, found, f"use whole physical cores: taskset --cpu-list {every}")


def _siblings(root: Path, number: int) -> frozenset[int]:
    """The logical processors of a core, which the system lists such as "0-1,8"; none if they are not known."""
    text = system_text(root / f"{CPU}/cpu{number}/topology/thread_siblings_list")
    ranges = re.findall(r"(\d+)(?:-(\d+))?", text)
    return frozenset(n for first, last in ranges for n in range(int(first), int(last or first) + 1))


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
