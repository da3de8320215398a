"""What this machine is: for runs and results, so that a number can be traced to where it was measured."""

import os
import platform
import re
import shutil
import sys
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TypedDict

OURS = "rosetta-s2s"
ALWAYS = ("numpy", "safetensors", "sacrebleu")  # packages that every installation has and that can change a result
NO_INFLUENCE = ("setuptools",)  # Paddle imports it when it starts and computes nothing with it


class Machine(TypedDict):
    """What `describe_machine` says."""

    processor: str
    instructions: str  # the sets of vector instructions that NumPy finds
    cores: int  # that this process may use
    memory: int  # bytes
    system: str
    python: str
    versions: dict[str, str]  # of packages


def allowed_cores() -> set[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def cores() -> int:
    """How many these are."""
    return len(allowed_cores())


def is_amd() -> bool:
    """Whether the processor is AMD's, as Linux tells."""
    return "AuthenticAMD" in _cpuinfo()


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself, as Linux tells: x86 by AVX-512 or AMX, Arm by BF16."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(_cpuinfo().split())


def compiler() -> str:
    """The C++ compiler that torch.compile calls."""
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


def has_compiler() -> bool:
    """Whether that compiler is there."""
    return shutil.which(compiler()) is not None


def _cpuinfo() -> str:
    """What Linux says of the processors; nothing on another system."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def versions() -> dict[str, str]:
    """The installed version of each package whose version can change a result.

    A digest of the code is appended to Rosetta's own version, since the code of a clone changes between two releases.
    """
    found = {}
    for package in (OURS, *ALWAYS, *_packages_of_frameworks()):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {name: f"{number}+{_digest()}" if name == OURS else number for name, number in found.items()}


def _packages_of_frameworks() -> list[str]:
    """The packages that Rosetta's extras install, `dev` apart: the frameworks, as pyproject.toml names them."""
    try:
        requirements = requires(OURS) or []
    except PackageNotFoundError:  # Rosetta runs from a folder in which nobody has installed it
        return []
    # Such a requirement reads: torch>=2.8; extra == "torch"
    found = [re.match(r'([\w.-]+).*; extra == "(?!dev|all)', requirement) for requirement in requirements]
    return [match[1] for match in found if match and match[1] not in NO_INFLUENCE]


def _digest() -> str:
    """A digest of Rosetta's own code: of every module of its packages."""
    root, digest = Path(__file__).resolve().parent.parent, sha256()
    for package in ("backends", "benchmarks", "common"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _processor() -> str:
    """Its name, which takes a second to find out."""
    import cpuinfo

    return str(cpuinfo.get_cpu_info().get("brand_raw", platform.processor()))


def _instructions() -> str:
    """The sets of vector instructions that NumPy finds, the widest last. With AVX-512 (X86_V4) a core multiplies
    twice as fast as without, and a virtual machine may give both the same name."""
    import numpy as np

    found = np.show_config(mode="dicts")["SIMD Extensions"]
    return " ".join([*found.get("baseline", []), *found.get("found", [])])


def describe_machine() -> Machine:
    """Processor, its vector instructions, cores, memory in bytes, operating system, Python and package versions."""
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
