"""The border between the program and a backend's process: how it is started, called, heard and ended.

Here are the timeouts, and the environment variables that such a process gets, which must be set before its framework
is imported.

There are two lanes:
- `tuned`, the default of every command, treats all frameworks alike: the same number of threads and the same way
  of keeping memory for all, the fast path of its matrix library for Paddle, oneDNN for TensorFlow, and for torch
  TensorFlow's treatment of denormals and idle threads that soon stop spinning.
- `installed` sets none of this. So a framework runs as it does for somebody who has installed it and changes nothing.

Neither lane passes on what the caller's shell sets for arithmetic or threads, with one exception: `tuned` respects
the caller's TF_ENABLE_ONEDNN_OPTS. Nor does a process get what a launcher has set for another one.
"""

import os
import re
from collections.abc import Mapping

from backends import framework_of
from common.machine import cores, is_amd
from common.settings import FLUSH_DENORMALS

# The timeouts, in seconds.
START_SECONDS = 300.0  # of importing a framework and building a model, on a slow disk
TIMEOUT = 600.0  # of each message of a call; one step, with its compilation, takes far less
SECONDS_A_ROW = 0.2  # more for each row that a call goes through; several times what 1,024 units need
SECONDS_A_SENTENCE = 60.0  # more for each sentence that a call decodes; far more than the slowest way needs
READ_SECONDS = 120.0  # of reading the files of a model; HDF5's library reads some damaged ones without end
ENDING_SECONDS = 10.0  # of the end of a process that was killed or has closed its socket
PATIENCE = 300  # of a worker of a group that waits for another one, when they meet and in each step
NOTICE_SECONDS = 10.0  # after which a worker that waits for others elsewhere says so
GRACE = 10.0  # for the news of how a worker ended, after other workers have lost it
SIGNAL_SECONDS = 0.5  # after which a program that waits for its workers looks whether Ctrl-C was pressed

SOCKET = "ROSETTA_SOCKET"  # the variable that has the number of the process's end of the socket

# These settings have glibc keep the memory that a step frees, in one arena, on huge pages where the system has them.
# By default glibc returns it to the system, which maps and clears new pages for the next step: 13,000 page faults and
# up to a fifth of the step in torch and in TensorFlow. Paddle keeps its memory by itself.
TUNABLES = {"trim_threshold": 2**32, "mmap_max": 0, "arena_max": 1, "top_pad": 2**26, "hugetlb": 1}
KEEP_MEMORY = ":".join(f"glibc.malloc.{name}={value}" for name, value in TUNABLES.items())

# Number of times that an idle thread of GNU's OpenMP, which torch uses, looks for work before it sleeps. With the
# default of 300,000 a step of torch takes 9 to 17 times as long where another program wants the core. With this
# number it takes 2.7 times as long, and 2 % longer where no other program runs. Paddle uses Intel's OpenMP, which has
# no such setting.
SPINS = "3000"

# The groups of the tuned lane's settings, and what each group decides, the most important group first.
GROUPS = {
    "threads": "the number of threads",
    "library": "the path that its matrix library takes",
    "memory": "memory that is given back after each step",
    "spinning": "how long idle threads spin",
    "denormals": "denormal numbers",
}

# Matches the beginning of a variable that steers a framework or a library that a framework computes with.
STEERING = re.compile(
    "(ATEN|DNNL|FLAGS|GOMP|JAX|KMP|MKL|OMP|ONEDNN|OPENBLAS|TF|XLA)_|GLIBC_TUNABLES|KERAS_BACKEND$|NPROC$|"
    "NVIDIA_TF32|TORCH_ALLOW_TF32|" + FLUSH_DENORMALS
)

# Matches the variables by which launchers tell a process its place. A worker gets them from whoever started its
# group, and from nobody else: a stray MASTER_ADDR, say, has Paddle wait for a partner that never comes.
LAUNCHERS = re.compile(
    "(PET|PADDLE|TORCHELASTIC)_|((GROUP|LOCAL|ROLE)_)?(RANK|WORLD_SIZE)$|ROLE_NAME$|"
    "MASTER_(ADDR|PORT)$|TF_CONFIG$|TRAINING_ROLE$|POD_IP$|DISTRIBUTED_TRAINER_ENDPOINTS$"
)


def timeout_for(rows: int = 0, sentences: int = 0) -> float:
    """Timeout of each message of a call over so many rows that decodes so many sentences, in seconds."""
    return TIMEOUT + SECONDS_A_ROW * rows + SECONDS_A_SENTENCE * sentences


def child_environment(
    lane: str, threads: int | None, device: str, engine: str = "", group: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a backend's process: this process's own, with the lane's settings on top.

    `engine` is the framework under which Keras runs. `group` holds the variables by which the process joins a group;
    without them it is alone.
    """
    environment = {
        name: value for name, value in os.environ.items() if not (STEERING.match(name) or LAUNCHERS.match(name))
    }
    environment["TF_CPP_MIN_LOG_LEVEL"] = "2"  # more messages would only fill the captured output
    environment |= {"KERAS_BACKEND": engine} if engine else {}
    if lane == "tuned":
        for settings in tuned_settings(threads or cores()).values():
            environment |= settings
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    return environment | dict(group or {})


def tuned_settings(threads: int, amd: bool | None = None, onednn: str | None = None) -> dict[str, dict[str, str]]:
    """The tuned lane's variables and their values, for each group of GROUPS.

    `amd` is whether the processor is one of AMD's, and `onednn` the value of TF_ENABLE_ONEDNN_OPTS; None stands for
    this machine's processor and the caller's environment.
    """
    count = str(threads)
    settings = {
        "threads": {
            "OMP_NUM_THREADS": count,  # torch, Paddle's Eigen loops, oneDNN
            "MKL_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,  # NumPy
            "TF_NUM_INTRAOP_THREADS": count,
            "TF_NUM_INTEROP_THREADS": count,
            "FLAGS_paddle_num_threads": count,  # Paddle's matrix products; 1 when nothing is set
            "NPROC": count,  # XLA on a CPU, so JAX
        },
        "library": {
            # TensorFlow turns oneDNN off by default where a processor lacks AVX-512 VNNI; the caller may set it.
            "TF_ENABLE_ONEDNN_OPTS": onednn or os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
            # On a GPU TensorFlow rounds float32 in products, and torch in LSTMs.
            "NVIDIA_TF32_OVERRIDE": "0",
        },
        "memory": {"GLIBC_TUNABLES": KEEP_MEMORY},
        "spinning": {"GOMP_SPINCOUNT": SPINS},
        "denormals": {FLUSH_DENORMALS: "1"},  # TensorFlow always flushes them to zero; Paddle and NumPy never do
    }
    if is_amd() if amd is None else amd:
        # Paddle bundles a version of MKL that takes a slow path on AMD processors unless this variable is set.
        settings["library"]["MKL_DEBUG_CPU_TYPE"] = "5"
    return settings


def variables_of(backend: str) -> set[str]:
    """The tuned lane's variables that a user of this backend's framework would set by hand."""
    framework = framework_of(backend)
    variables = {
        "numpy": {"OPENBLAS_NUM_THREADS"},
        "torch": {"OMP_NUM_THREADS"},
        "paddle": {"OMP_NUM_THREADS", "FLAGS_paddle_num_threads", "MKL_DEBUG_CPU_TYPE"},
        "jax": {"NPROC"},
        "keras": {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_ENABLE_ONEDNN_OPTS"},
    }
    return variables.get(framework, set()) | {"GLIBC_TUNABLES"}
