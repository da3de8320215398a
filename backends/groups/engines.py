"""The frameworks' own engines for training in a group: the environment variables by which the workers meet.

Whoever starts a group, such as `rosetta train --workers`, torchrun, paddle.distributed.launch or the scheduler of a
cluster, sets these variables for each worker, and a worker that finds them joins the group. See docs/parallel.md.
"""

import json
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from backends import TABLE
from common.errors import CannotBeginError

PATIENCE = 300  # seconds that a worker waits for another one, when they meet and in each step
ONLY_HERE = {"GLOO_SOCKET_IFNAME": "lo"}  # has torch's and Paddle's workers listen to this machine alone


@dataclass(frozen=True)
class Worker:
    """A worker of a group, or one that trains alone."""

    rank: int = 0  # counted from 0
    size: int = 1  # number of workers in the group
    variables: Mapping[str, str] = field(default_factory=dict)  # that its backend's process needs, to join the group


@dataclass(frozen=True)
class Engine:
    """What one framework's workers find in their environment."""

    joining: str  # the variable without which a worker is alone
    rank_and_size: Callable[[Mapping[str, str]], tuple[int, int]]  # as the variables name them
    variables: Callable[[int, Sequence[str]], dict[str, str]]  # of the worker of this rank, if all are at "host:port"
    lost: str  # matches how a worker's process fails when another worker is gone


def _numbers(rank: str, size: str) -> Callable[[Mapping[str, str]], tuple[int, int]]:
    """What reads rank and size from the variables of these names."""
    return lambda environment: (int(environment[rank]), int(environment[size]))


def _variables_of_torch(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    host, _, port = addresses[0].rpartition(":")
    return {"RANK": str(rank), "WORLD_SIZE": str(len(addresses)), "MASTER_ADDR": host, "MASTER_PORT": port}


def _variables_of_paddle(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    return {
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(addresses)),
        "PADDLE_CURRENT_ENDPOINT": addresses[rank],
        "PADDLE_TRAINER_ENDPOINTS": ",".join(addresses),
        "PADDLE_MASTER": addresses[0],
    }


def _numbers_of_keras(environment: Mapping[str, str]) -> tuple[int, int]:
    config: Any = json.loads(environment["TF_CONFIG"])
    if list(config["cluster"]) != ["worker"]:
        raise ValueError("a cluster of workers alone is needed")
    return int(config["task"]["index"]), len(config["cluster"]["worker"])


def _variables_of_keras(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    task = {"type": "worker", "index": rank}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": list(addresses)}, "task": task})}


ENGINES = {
    "torch": Engine("WORLD_SIZE", _numbers("RANK", "WORLD_SIZE"), _variables_of_torch, "gloo|Connection"),
    "paddle": Engine(
        "PADDLE_TRAINERS_NUM",
        _numbers("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"),
        _variables_of_paddle,
        "gloo|signal 6",
    ),
    "keras": Engine("TF_CONFIG", _numbers_of_keras, _variables_of_keras, "Collective|Unavailable"),
}


def engine_of(backend: str) -> Engine:
    """The engine that trains a backend in a group. Raises CannotBeginError where it has none."""
    if not TABLE[backend].grouped:
        able = ", ".join(name for name, entry in TABLE.items() if entry.grouped)
        raise CannotBeginError(f"backend {backend} cannot train in a group of workers; choose one of {able}")
    return ENGINES[backend.partition(":")[0]]


def place_in_group(backend: str, environment: Mapping[str, str]) -> Worker:
    """The worker that the variables of this backend's engine describe; without them, one that trains alone.

    Raises CannotBeginError for variables that describe no worker.
    """
    engine = ENGINES.get(backend.partition(":")[0])
    if engine is None or engine.joining not in environment:
        return Worker()
    try:
        rank, size = engine.rank_and_size(environment)
        if not 0 <= rank < size:
            raise ValueError(f"worker {rank} of {size}")
    except (ValueError, KeyError, TypeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CannotBeginError(
            f"{engine.joining} is set, and no place in a group can be read from the environment: {what}; start the "
            "workers with the framework's own launcher, or unset the variable"
        ) from error
    if size == 1:
        return Worker()
    engine_of(backend)
    return Worker(rank, size, {engine.joining: environment[engine.joining]})


def new_group(backend: str, size: int) -> list[Worker]:
    """The workers of a group that meets on this machine's loopback. Raises CannotBeginError; see `engine_of`."""
    engine, addresses = engine_of(backend), free_addresses(size)
    return [Worker(rank, size, engine.variables(rank, addresses) | ONLY_HERE) for rank in range(size)]


def lost_another(backend: str, error: BaseException) -> bool:
    """Whether a worker's error came of another worker's end, and not of its own."""
    engine = ENGINES.get(backend.partition(":")[0])
    return engine is not None and re.search(engine.lost, str(error)) is not None


def free_addresses(number: int) -> list[str]:
    """So many "host:port" on this machine's loopback that nobody listens at now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
