"""The two lanes' settings: what makes each framework faster,
by how much, and the variables that set it.

- `installed` sets nothing: a framework runs with its own defaults.
- `tuned` sets the knobs whose measured effect lies above 1 with its whole interval. A knob is a
  group of variables. Nothing is chosen while something is measured.

`python -m benchmarks.tuning` measures the effects on the machine at hand, and writes a table that
`rosetta bench --tuned` takes in place of BUILT_IN.
"""

import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from backends import TABLE, engine_of
from common.errors import CannotBeginError, refusing
from common.files import LARGEST_JSON, read_at_most
from common.machine import cores, has_quota, is_amd
from common.text import count, listed, printable

# These settings have glibc keep the memory that a step frees, in one arena, on huge pages where the
# system has them. By default glibc returns it to the system, which maps and clears new pages for
# the next step.
TUNABLES = {"trim_threshold": 2**32, "mmap_max": 0, "arena_max": 1, "top_pad": 2**26, "hugetlb": 1}
KEEP_MEMORY = {
    "GLIBC_TUNABLES": ":".join(f"glibc.malloc.{name}={value}" for name, value in TUNABLES.items())
}

# The variables that set the number of threads, by the framework that computes.
THREADS = {engine_of(name): entry.threads for name, entry in TABLE.items() if entry.threads}


Short = Annotated[str, msgspec.Meta(max_length=100)]
# Variables set together; library: of matrices.
Knob = Literal["threads", "library", "memory", "views", "xla"]
Ratio = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class Effect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step's speed with one knob set as a multiple of its speed with nothing set."""

    framework: Short
    knob: Knob = msgspec.field(name="group")  # as tables call it
    ratio: Ratio
    low: Ratio  # the ends of its 95 % interval
    high: Ratio
    date: datetime.date

    def __post_init__(self) -> None:
        if not self.low <= self.ratio <= self.high:
            raise ValueError(
                f"the ratio {self.ratio} is outside its interval, {self.low} to {self.high}"
            )

    @property
    def helps(self) -> bool:
        return self.low > 1


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of effects that were measured on one machine, with one model."""

    # By its name, with its widest instructions.
    processor: Annotated[str, msgspec.Meta(max_length=200)]
    cores: Annotated[int, msgspec.Meta(ge=1, le=10**6)]
    effects: Annotated[tuple[Effect, ...], msgspec.Meta(min_length=1, max_length=100)]
    # The version of each package; empty where these were not kept.
    versions: Annotated[dict[Short, Short], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=dict
    )
    model: Short = "lstm"

    @property
    def origin(self) -> str:
        """The machine, the model and the days of measuring, in words."""
        days = sorted({str(effect.date) for effect in self.effects})
        return (
            f"{self.processor}, {count(self.cores, 'core')}, with {self.model}, on {listed(days)}"
        )


FIRST = datetime.date(2026, 12, 1)
SECOND = datetime.date(2026, 12, 2)
THIRD = datetime.date(2026, 12, 6)
# Holds for a table of a processor that has no such knob, too.
MKL_ON_AMD = Effect("paddle", "library", 2.297, 2.209, 2.388, FIRST)
# The tables that a bench uses where it is given none, by model.
BUILT_IN = {
    table.model: table
    for table in (
        Tuning(
            "AMD EPYC with AVX-512",
            2,
            (
                Effect("torch", "threads", 1.023, 0.975, 1.074, FIRST),
                Effect("torch", "memory", 1.374, 1.309, 1.442, FIRST),
                Effect("paddle", "threads", 1.676, 1.612, 1.743, FIRST),
                MKL_ON_AMD,
                Effect("paddle", "memory", 1.024, 0.985, 1.065, FIRST),
                Effect("jax", "threads", 0.982, 0.922, 1.046, FIRST),
                Effect("jax", "memory", 1.145, 1.075, 1.220, FIRST),
                Effect("tensorflow", "threads", 0.957, 0.894, 1.025, SECOND),
                Effect("tensorflow", "library", 1.007, 0.949, 1.069, SECOND),
                Effect("tensorflow", "memory", 0.994, 0.937, 1.056, SECOND),
                # Of an epoch with the compilations of its two shapes of batches. A step alone is
                # 1.051 times (1.003 to 1.101) as fast, a compilation takes 2.2 s in place of 0.9,
                # and an epoch 14 s.
                Effect("tensorflow", "xla", 0.888, 0.857, 0.919, SECOND),
            ),
        ),
        Tuning(
            "Intel(R) Xeon(R) Processor with AVX-512",
            2,
            (
                Effect("torch", "threads", 1.000, 0.980, 1.019, THIRD),
                Effect("torch", "memory", 1.207, 1.189, 1.226, THIRD),
                Effect("paddle", "threads", 1.396, 1.372, 1.421, THIRD),
                Effect("paddle", "memory", 1.057, 1.044, 1.071, THIRD),
                Effect("paddle", "views", 1.184, 1.162, 1.206, THIRD),
                Effect("jax", "threads", 1.014, 0.995, 1.034, THIRD),
                Effect("jax", "memory", 0.996, 0.982, 1.010, THIRD),
                Effect("tensorflow", "threads", 1.001, 0.973, 1.030, THIRD),
                Effect("tensorflow", "memory", 0.992, 0.976, 1.008, THIRD),
                Effect("tensorflow", "library", 0.997, 0.979, 1.015, THIRD),
                Effect("tensorflow", "xla", 0.636, 0.622, 0.650, THIRD),
            ),
            model="attention",
        ),
        Tuning(
            "Intel(R) Xeon(R) Processor with AVX-512",
            2,
            (
                Effect("torch", "threads", 0.983, 0.958, 1.009, THIRD),
                Effect("torch", "memory", 1.142, 1.132, 1.153, THIRD),
                Effect("paddle", "threads", 1.235, 1.211, 1.259, THIRD),
                Effect("paddle", "memory", 1.058, 1.042, 1.073, THIRD),
                Effect("paddle", "views", 1.371, 1.348, 1.394, THIRD),
                Effect("jax", "threads", 0.984, 0.965, 1.003, THIRD),
                Effect("jax", "memory", 1.093, 1.084, 1.103, THIRD),
                Effect("tensorflow", "threads", 1.015, 0.995, 1.037, THIRD),
                Effect("tensorflow", "memory", 0.983, 0.964, 1.001, THIRD),
                Effect("tensorflow", "library", 0.998, 0.985, 1.012, THIRD),
                Effect("tensorflow", "xla", 0.832, 0.824, 0.839, THIRD),
            ),
            model="transformer",
        ),
    )
}


def read_tuning(path: Path) -> Tuning:
    """Read a table that `python -m benchmarks.tuning` wrote.
    Raises CannotBeginError if the file is none."""
    remedy = "; `python -m benchmarks.tuning` writes one"
    with refusing(f"{path} cannot be read", remedy):
        content = read_at_most(LARGEST_JSON, path)
    try:
        return msgspec.json.decode(content, type=Tuning)
    except (ValueError, RecursionError) as error:
        reason = printable(str(error))[:300]
        raise CannotBeginError(f"{path} is no table of settings: {reason}{remedy}") from error


def thread_variables(threads: int) -> dict[str, str]:
    """Variables that set the number of threads of every framework."""
    return {name: str(threads) for names in THREADS.values() for name in names}


def settings_by_knob(framework: str, threads: int) -> dict[Knob, dict[str, str]]:
    """Variables of each knob that a framework has, helpful or not."""
    settings: dict[Knob, dict[str, str]] = {
        "threads": {name: str(threads) for name in THREADS.get(framework, ())},
        "memory": KEEP_MEMORY,
    }
    if framework == "tensorflow":
        # TensorFlow turns oneDNN off by default where a processor lacks AVX-512 VNNI.
        settings["library"] = {"TF_ENABLE_ONEDNN_OPTS": "1"}
        # XLA compiles clusters of a step's operators, anew for each shape of a batch.
        settings["xla"] = {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"}
    if framework == "paddle":
        # On a CPU the copy of a transposed view takes many times as long
        # as a transposition (upstream 76533).
        settings["views"] = {"FLAGS_use_stride_kernel": "0"}
    if framework == "paddle" and is_amd():
        # Paddle bundles a version of MKL that takes a slow path
        # on AMD processors unless this variable is set.
        settings["library"] = {"MKL_DEBUG_CPU_TYPE": "5"}
    return settings


def tuned_variables(
    framework: str, threads: int | None = None, tuning: Tuning = BUILT_IN["lstm"]
) -> dict[str, str]:
    """Variables of the knobs that help a framework by a table; empty where none does.

    Numbers of threads are also set where `threads` is given, and where a control group has a quota,
    which frameworks do not see.
    """
    knobs = settings_by_knob(framework, threads or cores())
    effects = {
        effect.knob: effect
        for effect in (MKL_ON_AMD, *tuning.effects)
        if effect.framework == framework
    }
    helpful = {knob for knob, effect in effects.items() if effect.helps}
    if threads or has_quota():
        helpful.add("threads")
    return {name: value for knob in knobs if knob in helpful for name, value in knobs[knob].items()}


def tuned_for_any(threads: int) -> dict[str, str]:
    """Variables of the knobs that help any framework, for a script whose framework is not known."""
    return {
        name: value
        for framework in THREADS
        for name, value in tuned_variables(framework, threads).items()
    }
