"""Threads and flags that a framework needs in its environment before it is imported.

Two lanes: `matched`, the default of every command, gives all the same threads and the same way of keeping memory,
Paddle's matrix library its fast path, TensorFlow oneDNN, and torch TensorFlow's treatment of denormals and threads
that soon stop spinning; `default` sets nothing of that, which is what somebody gets who installs a framework and
starts. Neither passes on what the caller's shell sets for arithmetic or threads, but for TensorFlow's switch of
oneDNN the first.
"""

import os
import re

from common.machine import cores, is_amd

# In both lanes: chatter would only fill the captured output, and Keras is to run on TensorFlow.
ALWAYS = {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}

# Memory that a step gives back stays with the process, in one arena, on huge pages where the system has them. Left to
# itself glibc returns it, and the next step has its tensors mapped and cleared anew: 13,000 page faults and up to a
# fifth of torch's step and of TensorFlow's; Paddle keeps it by itself.
KEEP_MEMORY = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {
        "trim_threshold": 2**32,
        "mmap_max": 0,
        "arena_max": 1,
        "top_pad": 2**26,
        "hugetlb": 1,
    }.items()
)

# How often an idle thread of GNU's OpenMP, which torch computes with, looks for work before it sleeps. By default it
# looks 300,000 times; where another program wants the core meanwhile, a step of torch takes 9 to 17 times as long.
# With so many it takes 2.7 times as long, and alone 2 % longer. Paddle's OpenMP is Intel's and has no such setting.
SPINS = "3000"

FLUSH_DENORMALS = "ROSETTA_FLUSH_DENORMALS"  # our own, for a framework that has a switch and no variable for it

# The groups of the matched lane's settings, the one that usually matters most first.
GROUPS = {
    "threads": "the number of threads",
    "library": "the path that its matrix library takes",
    "memory": "memory that is given back after each step",
    "spinning": "how long idle threads spin",
    "denormals": "denormal numbers",
}

# So begins what steers a framework, or a library that it computes with.
STEERING = re.compile(
    "(ATEN|DNNL|FLAGS|GOMP|KMP|MKL|OMP|ONEDNN|OPENBLAS|TF|XLA)_|GLIBC_TUNABLES|NVIDIA_TF32|TORCH_ALLOW_TF32|"
    + FLUSH_DENORMALS
)


def child_environment(lane: str, threads: int | None, device: str) -> dict[str, str]:
    """The environment of a backend's process: this one's, with the lane's settings over it.

    A lane between the two is written as the groups of settings that it takes of the matched one: "threads+memory".
    """
    environment = {name: value for name, value in os.environ.items() if not STEERING.match(name)} | ALWAYS
    for group, settings in matched_settings(threads or cores()).items():
        if lane == "matched" or group in lane.split("+"):
            environment |= settings
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    return environment


def flush_denormals() -> bool:
    """Whether this process, a backend's, is to take denormals for zero where its framework offers that."""
    return os.environ.get(FLUSH_DENORMALS) == "1"


def matched_settings(threads: int) -> dict[str, dict[str, str]]:
    """The variables of the matched lane and their values, by the names in GROUPS."""
    count = str(threads)
    settings = {
        "threads": {
            "OMP_NUM_THREADS": count,  # torch, Paddle's Eigen loops, oneDNN
            "MKL_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,  # NumPy
            "TF_NUM_INTRAOP_THREADS": count,
            "TF_NUM_INTEROP_THREADS": count,
            "FLAGS_paddle_num_threads": count,  # Paddle's matrix products; 1 when nothing is set
        },
        "library": {
            # Off by default where a processor has no AVX-512 for neural networks; who sets it is heard.
            "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
            "NVIDIA_TF32_OVERRIDE": "0",  # on a GPU TensorFlow rounds float32 for its products, torch for its LSTMs
        },
        "memory": {"GLIBC_TUNABLES": KEEP_MEMORY},
        "spinning": {"GOMP_SPINCOUNT": SPINS},
        "denormals": {FLUSH_DENORMALS: "1"},  # as TensorFlow always does, Paddle and NumPy never
    }
    if is_amd():
        # Paddle bundles a version of MKL that takes a slow path on AMD processors unless it is told their type.
        settings["library"]["MKL_DEBUG_CPU_TYPE"] = "5"
    return settings


def groups_of(backend: str) -> list[str]:
    """The groups of settings that hold a variable of the backend's framework, in the order of GROUPS."""
    return [group for group, settings in matched_settings(cores()).items() if settings.keys() & variables_of(backend)]


def variables_of(backend: str) -> set[str]:
    """The variables of the matched lane that a user of this framework would set by hand."""
    framework = backend.partition(":")[0]
    own = {
        "torch": {"OMP_NUM_THREADS"},
        "paddle": {"OMP_NUM_THREADS", "FLAGS_paddle_num_threads", "MKL_DEBUG_CPU_TYPE"},
        "keras": {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_ENABLE_ONEDNN_OPTS"},
    }
    return own.get(framework, set()) | {"GLIBC_TUNABLES"}
