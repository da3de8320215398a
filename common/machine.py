"""This machine: what it is, which runs and results keep so that a number can be traced to it, and how busy it is."""

import math
import os
import platform
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TypedDict

OURS = "rosetta-s2s"  # Rosetta's own package
WITH_EVERY_INSTALLATION = ("numpy", "safetensors", "sacrebleu")  # packages that can change a result
CPUINFO = Path("/proc/cpuinfo")
OTHER_EXTRAS = {"all", "dev", "onnx"}  # Rosetta's extras that are not those of a framework
NO_INFLUENCE = ("setuptools",)  # Paddle imports it when it starts and computes nothing with it
ADVICE_SECONDS = 0.3  # how long other programs are watched before advice is given
CROWDED = 0.5  # number of cores that other programs use from which on fewer threads are advised


class Machine(TypedDict):
    """A description of a machine."""

    processor: str
    instructions: str  # the sets of vector instructions that NumPy finds
    cores: int  # the number that this process may use at a time
    memory: int  # in bytes
    system: str
    python: str
    versions: dict[str, str]  # of each package by its name


def system_text(file: Path) -> str:
    """The text of a file of the system's; empty where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def allowed_cores() -> set[int]:
    """The numbers of the cores on which this process may run."""
    return os.sched_getaffinity(0)


def cores(root: Path = Path("/")) -> int:
    """Number of cores this process may use at a time: those on which it may run, or fewer if a quota says so."""
    return math.ceil(min(len(allowed_cores()), quota(root)))


@cache
def quota(root: Path = Path("/")) -> float:
    """Number of cores whose time the control groups of this process allow it, such as 1.5; infinite without a limit.

    A container's limit on processors is such a quota, and so is CPUQuota of systemd. The groups, of version 1 or 2,
    are looked at together with those that hold them. In a container the process's group may be mounted as the topmost
    one, and its path then leads nowhere.
    """
    groups = re.findall(r"^\d+:(.*?):/(.*)$", system_text(root / "proc/self/cgroup"), re.MULTILINE)
    mounts = re.findall(r"^\S+ /(\S+) (cgroup2?) ", system_text(root / "proc/self/mounts"), re.MULTILINE)
    folders = [
        root / mount / group
        for mount, kind in mounts
        for controllers, path in groups
        if ("" if kind == "cgroup2" else "cpu") in controllers.split(",")
        for group in (Path(path), *Path(path).parents)
    ]
    return min(map(_quota_of_group, folders), default=math.inf)


def _quota_of_group(folder: Path) -> float:
    """The quota of one control group. Version 2 has its two numbers in one file, and version 1 in two."""
    version_1 = (system_text(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    text = system_text(folder / "cpu.max") or "".join(version_1)
    numbers = re.fullmatch(r"([1-9]\d{,17})\s+([1-9]\d{,17})\s*", text, re.ASCII)  # other words are no limit
    return int(numbers[1]) / int(numbers[2]) if numbers else math.inf


def is_amd() -> bool:
    """True if the processor is made by AMD."""
    return "AuthenticAMD" in system_text(CPUINFO)


def peak_memory(pid: int | str = "self") -> int:
    """The most bytes that a process has ever had in memory (resident, not swapped out); 0 of one that has ended."""
    line = re.search(r"^VmHWM:\s+(\d+) kB$", system_text(Path(f"/proc/{pid}/status")), re.MULTILINE)
    return int(line[1]) * 1024 if line else 0


def versions() -> dict[str, str]:
    """The installed version of each package whose version can change a result.

    A digest of the code is appended to Rosetta's version, since the code of a clone changes between two releases.
    """
    installed = {}
    for package in (OURS, *WITH_EVERY_INSTALLATION, *_packages_of_frameworks()):
        with suppress(PackageNotFoundError):
            installed[package] = version(package) + (f"+{_digest()}" if package == OURS else "")
    return installed


def _packages_of_frameworks() -> list[str]:
    """The packages that the frameworks' extras install, as pyproject.toml names them."""
    try:
        requirements = requires(OURS) or []
    except PackageNotFoundError:  # Rosetta runs from a folder in which nobody has installed it
        return []
    # Such a requirement reads: torch>=2.8; extra == "torch"
    parts = [re.fullmatch(r'([\w.-]+).*; extra == "(\w+)"', requirement) for requirement in requirements]
    packages = [match[1] for match in parts if match and match[2] not in OTHER_EXTRAS]
    return [package for package in packages if package not in NO_INFLUENCE]


def _digest() -> str:
    """A digest of the code of Rosetta's packages."""
    root, digest = Path(__file__).resolve().parent.parent, sha256()
    for package in ("backends", "benchmarks", "common"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _processor() -> str:
    """The name of the processor. The system's file has it on x86; elsewhere finding it out takes a second."""
    if line := re.search(r"^model name\s*: (.+)$", system_text(CPUINFO), re.MULTILINE):
        return line[1].strip()
    import cpuinfo

    return str(cpuinfo.get_cpu_info().get("brand_raw", platform.processor()))


def _instructions() -> str:
    """The sets of vector instructions that NumPy finds, the widest last.

    With AVX-512 (X86_V4) a core multiplies twice as fast as without, although on virtual machines the processors may
    have the same name.
    """
    import numpy as np

    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return " ".join([*extensions.get("baseline", []), *extensions.get("found", [])])


def describe_machine() -> Machine:
    """Describe this machine and the packages that are installed."""
    import psutil

    return {
        "processor": _processor(),
        "instructions": _instructions(),
        "cores": cores(),
        "memory": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(),
    }


class Watch:
    """Watches how many cores are used by other processes than this one and the given children, and by other machines.

    Other virtual machines may use the same physical cores, and the system then counts stolen time.
    """

    def __init__(self, children: Iterable[int]) -> None:
        import psutil  # here, since --help waits for this module

        self.watched = [psutil.Process()]
        for child in children:
            with suppress(psutil.NoSuchProcess):
                self.watched.append(psutil.Process(child))
        self.began, self.before = time.perf_counter(), self._seconds()

    def others(self) -> float:
        """The number of cores that other processes have used on average since the watch began."""
        busy, watched, _ = self._since()
        return max(0.0, busy - watched)

    def stolen(self) -> float:
        """The number of cores that other virtual machines have taken on average since the watch began."""
        return self._since()[2]

    def _since(self) -> list[float]:
        """The growth of each of `_seconds` in a second on average since the watch began."""
        passed = time.perf_counter() - self.began
        return [(now - before) / passed for now, before in zip(self._seconds(), self.before, strict=True)]

    def _seconds(self) -> tuple[float, float, float]:
        """Seconds of the cores that all programs used, of those this process and the children, and stolen ones."""
        import psutil

        watched = 0.0
        for process in self.watched:
            with suppress(psutil.NoSuchProcess):  # of one that has ended, its parent has the seconds
                watched += sum(process.cpu_times()[:4])
        return busy_seconds(), watched, _seconds_of_cores(7)  # steal, after idle, waiting and two kinds of interrupts


def busy_seconds() -> float:
    """Seconds that the cores which this process may use have worked since the machine was started.

    The sum is over these cores and over all programs; in a container also over the programs outside it.
    """
    return _seconds_of_cores(0, 1, 2)  # user, nice, system


def _seconds_of_cores(*fields: int) -> float:
    """Sum of these fields of a core's line in the system's statistics, over the allowed cores.

    psutil does not tell the numbers of the cores, of which some may be switched off.
    """
    lines = re.findall(r"^cpu(\d+)((?: \d+)+)$", system_text(Path("/proc/stat")), re.MULTILINE)
    allowed = [ticks.split() for number, ticks in lines if int(number) in allowed_cores()]
    return sum(int(ticks[field]) for ticks in allowed for field in fields) / os.sysconf("SC_CLK_TCK")


def fewer_threads(threads: int, child: int) -> str:
    """Advice for a training that is about to begin on `threads` threads in the process `child`; "" if it is fine.

    Threads of one training wait for one another at every step of a sentence. Where one of them shares its core with
    another program, all of them wait, and those that spin meanwhile take the core from the one that they wait for.
    """
    watch = Watch([child])
    time.sleep(ADVICE_SECONDS)
    busy = watch.others()
    existing = len(allowed_cores())
    better = max(1, min(cores(), existing - round(busy)))
    if busy < CROWDED or better >= threads:
        return ""
    return (
        f"other programs use {busy:.1f} of {existing} cores, and threads that share a core wait for one another; "
        f"this is likely to be faster: --threads {better}"
    )
