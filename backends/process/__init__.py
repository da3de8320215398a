"""The timeouts and the environment of a backend's process.

Its environment variables must be set before its framework is imported.

A process inherits the variables of the caller's shell, but for two kinds. Variables that steer
arithmetic or threads come from the settings that the process is started with. A launcher's
variables for another process are left out.
"""

import os
import re
from collections.abc import Mapping

# The timeouts, in seconds.
START_SECONDS = 300.0  # of importing a framework and building a model, on a slow disk
TIMEOUT = 600.0  # of each message of a call; one step, with its compilation, takes far less
# More for each row that a call goes through; several times what 1,024 units need.
SECONDS_A_ROW = 0.2
# More for each sentence that a call decodes; far more than the slowest way needs.
SECONDS_A_SENTENCE = 60.0
# Of reading the files of a model; HDF5's library reads some damaged ones without end.
READ_SECONDS = 120.0
ENDING_SECONDS = 10.0  # of the end of a process that was killed or has closed its socket
PATIENCE = 300  # of a worker of a group that waits for another one, when they meet and in each step
NOTICE_SECONDS = 10.0  # after which a worker that waits for others elsewhere says so
GRACE = 10.0  # for the news of how a worker ended, after other workers have lost it
# After which a program that waits for its workers looks whether Ctrl-C was pressed.
SIGNAL_SECONDS = 0.5

SOCKET = "ROSETTA_SOCKET"  # the variable that has the number of the process's end of the socket

# Matches the beginning of a variable that steers a framework
# or a library that a framework computes with.
STEERING = re.compile(
    "(ATEN|DNNL|FLAGS|GOMP|JAX|KMP|MKL|OMP|ONEDNN|OPENBLAS|TF|XLA)_|GLIBC_TUNABLES|KERAS_BACKEND$"
    "|NPROC$|NVIDIA_TF32|TORCH_ALLOW_TF32"
)

# Matches the variables by which launchers tell a process its place. A worker gets them from whoever
# started its group, and from nobody else: a stray MASTER_ADDR, say, has Paddle wait for a partner
# that never comes.
LAUNCHERS = re.compile(
    "(PET|PADDLE|TORCHELASTIC)_|((GROUP|LOCAL|ROLE)_)?(RANK|WORLD_SIZE)$|ROLE_NAME$|"
    "MASTER_(ADDR|PORT)$|TF_CONFIG$|TRAINING_ROLE$|POD_IP$|DISTRIBUTED_TRAINER_ENDPOINTS$"
)


def timeout_for(rows: int = 0, sentences: int = 0) -> float:
    """Timeout of each message of a call over so many rows
    that decodes so many sentences, in seconds."""
    return TIMEOUT + SECONDS_A_ROW * rows + SECONDS_A_SENTENCE * sentences


def child_environment(
    settings: Mapping[str, str],
    device: str = "cpu",
    engine: str = "",
    group: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment of a backend's process: this process's own,
    with these settings in place of the shell's.

    `engine` is the framework under which Keras runs. `group` holds the variables by which the
    process joins a group; without them it is alone.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not (STEERING.match(name) or LAUNCHERS.match(name))
    }
    environment["TF_CPP_MIN_LOG_LEVEL"] = "2"  # more messages would only fill the captured output
    environment |= {"KERAS_BACKEND": engine} if engine else {}
    environment |= settings
    # On a GPU TensorFlow rounds float32 in products, and torch in LSTMs.
    environment |= (
        {"CUDA_VISIBLE_DEVICES": "-1"} if device == "cpu" else {"NVIDIA_TF32_OVERRIDE": "0"}
    )
    return environment | dict(group or {})


def shell_settings() -> dict[str, str]:
    """The variables of the caller's shell that steer arithmetic or threads,
    but for the choice of Keras's engine."""
    return {
        name: value
        for name, value in os.environ.items()
        if STEERING.match(name) and name != "KERAS_BACKEND"
    }
