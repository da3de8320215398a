"""This machine: what it is, which runs and results keep so that a number can be traced to it."""

import math
import os
import platform
import re
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, TypedDict

import msgspec

OURS = "rosetta-s2s"  # Rosetta's own package
WITH_EVERY_INSTALLATION = ("numpy", "safetensors", "sacrebleu")  # packages that can change a result
CPUINFO = Path("/proc/cpuinfo")
OTHER_EXTRAS = {"all", "dev", "onnx"}  # Rosetta's extras that are not those of a framework
NO_INFLUENCE = ("setuptools",)  # Paddle imports it when it starts and computes nothing with it


class Machine(TypedDict):
    """A description of a machine."""

    processor: str
    instructions: str  # the sets of vector instructions that NumPy finds
    # The number that this process may use at a time.
    cores: Annotated[int, msgspec.Meta(ge=1, le=10**6)]
    memory: Annotated[int, msgspec.Meta(ge=0, le=10**18)]  # in bytes
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
    """Number of cores this process may use at a time: those on which it may run,
    or fewer if a quota says so."""
    return math.ceil(min(len(allowed_cores()), quota(root)))


def has_quota() -> bool:
    """True if control groups allow this process fewer cores than it sees."""
    return quota() < len(allowed_cores())


@cache
def quota(root: Path = Path("/")) -> float:
    """Number of cores whose time the control groups of this process allow it,
    such as 1.5; infinite without a limit.

    A container's limit on processors is such a quota, and so is CPUQuota of systemd. The group is
    looked at together with those that hold it. In a container the group may be mounted as the
    topmost one, and its path leads nowhere.
    """
    path = re.search(r"^0::/(.*)$", system_text(root / "proc/self/cgroup"), re.MULTILINE)
    group = Path(path[1] if path else "")
    limits = (
        system_text(root / "sys/fs/cgroup" / folder / "cpu.max")
        for folder in (group, *group.parents)
    )
    # "max" is no limit
    numbers = [re.fullmatch(r"([1-9][0-9]*) ([1-9][0-9]*)\n", limit) for limit in limits]
    return min((int(pair[1]) / int(pair[2]) for pair in numbers if pair), default=math.inf)


def is_amd() -> bool:
    """True if the processor is made by AMD."""
    return "AuthenticAMD" in system_text(CPUINFO)


def peak_memory(pid: int | str = "self") -> int:
    """The most bytes that a process has ever had in memory (resident,
    not swapped out); 0 of one that has ended."""
    line = re.search(r"^VmHWM:\s+(\d+) kB$", system_text(Path(f"/proc/{pid}/status")), re.MULTILINE)
    return int(line[1]) * 1024 if line else 0


def versions() -> dict[str, str]:
    """The installed version of each package whose version can change a result.

    A digest of the code is appended to Rosetta's version,
    since the code of a clone changes between two releases.
    """
    installed = {}
    for package in (OURS, *WITH_EVERY_INSTALLATION, *_packages_of_frameworks()):
        with suppress(PackageNotFoundError):
            installed[package] = version(package) + (
                f"+{_digest_of_code()}" if package == OURS else ""
            )
    return installed


def _packages_of_frameworks() -> list[str]:
    """The packages that the frameworks' extras install, as pyproject.toml names them."""
    try:
        requirements = requires(OURS) or []
    except PackageNotFoundError:  # Rosetta runs from a folder in which nobody has installed it
        return []
    # Such a requirement reads: torch>=2.8; extra == "torch"
    parts = [
        re.fullmatch(r'([\w.-]+).*; extra == "(\w+)"', requirement) for requirement in requirements
    ]
    packages = [match[1] for match in parts if match and match[2] not in OTHER_EXTRAS]
    return [package for package in packages if package not in NO_INFLUENCE]


def _digest_of_code() -> str:
    """A digest of the code of Rosetta's packages."""
    root, digest = Path(__file__).resolve().parent.parent, sha256()
    for package in ("backends", "benchmarks", "common"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _processor() -> str:
    """The name of the processor, which the system's file has on x86; elsewhere the architecture."""
    line = re.search(r"^model name\s*: (.+)$", system_text(CPUINFO), re.MULTILINE)
    return line[1].strip() if line else platform.machine()


def _instructions() -> str:
    """The sets of vector instructions that NumPy finds, the widest last.

    With AVX-512 (X86_V4) a core multiplies twice as fast as without, although on virtual machines
    the processors may have the same name.
    """
    import numpy as np

    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return " ".join([*extensions.get("baseline", []), *extensions.get("found", [])])


def processor_of(machine: Machine) -> str:
    """The name of a machine's processor in words,
    with its widest instructions: AMD EPYC with AVX-512."""
    name = machine["processor"] or "an unknown processor"
    return f"{name}{' with AVX-512' if 'X86_V4' in machine['instructions'] else ''}"


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
