"""The frameworks' own engines for training in a group: the environment variables by which the workers meet.

Whoever launches a group, such as torchrun, paddle.distributed.launch or the scheduler of a cluster, sets these
variables for each worker, and a worker that finds them joins the group. docs/parallel.md says more.
"""

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backends import TABLE
from common.errors import CannotBeginError, RosettaError

PATIENCE = 300  # seconds that a worker waits for another one, when they meet and in each step
ENDING_SECONDS = 20  # allowed to a launcher for ending its workers
LOST = "another worker has ended or is out of reach"


@dataclass(frozen=True)
class Place:
    """A worker's place in its group."""

    rank: int = 0  # counted from 0
    size: int = 1
    variables: Mapping[str, str] = field(default_factory=dict)  # that its backend's process needs, to join the group


@dataclass(frozen=True)
class Engine:
    """What one framework's workers find in their environment."""

    joining: str  # the variable without which a worker is alone
    place: Callable[[Mapping[str, str]], Place]
    variables: Callable[[int, Sequence[str]], dict[str, str]]  # of the worker of this rank, if all are at "host:port"
    lost: str  # matches how a worker's process fails when another worker is gone
    # Python's arguments for the engine's launcher, which starts so many workers and writes logs into the folder.
    launcher: Callable[[int, Path], list[str]] | None = None


def _place_of_torch(environment: Mapping[str, str]) -> Place:
    return Place(int(environment["RANK"]), int(environment["WORLD_SIZE"]))


def _variables_of_torch(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    host, _, port = addresses[0].rpartition(":")
    return {"RANK": str(rank), "WORLD_SIZE": str(len(addresses)), "MASTER_ADDR": host, "MASTER_PORT": port}


def _launcher_of_torch(workers: int, folder: Path) -> list[str]:
    # Not --standalone, whose rendezvous unpickles what anybody who reaches its port has written there.
    host, _, port = free_addresses(1)[0].rpartition(":")
    options = [f"--master-addr={host}", f"--master-port={port}", f"--nproc-per-node={workers}"]
    options += ["--redirects=3", f"--log-dir={folder}", f"--shutdown-timeout={ENDING_SECONDS // 2}"]
    return ["-m", "torch.distributed.run", *options]


def _place_of_paddle(environment: Mapping[str, str]) -> Place:
    return Place(int(environment["PADDLE_TRAINER_ID"]), int(environment["PADDLE_TRAINERS_NUM"]))


def _variables_of_paddle(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    return {
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(addresses)),
        "PADDLE_CURRENT_ENDPOINT": addresses[rank],
        "PADDLE_TRAINER_ENDPOINTS": ",".join(addresses),
        "PADDLE_MASTER": addresses[0],
    }


def _launcher_of_paddle(workers: int, folder: Path) -> list[str]:
    options = [f"--nproc_per_node={workers}", f"--log_dir={folder}", "--enable_gpu_log=False"]
    return ["-m", "paddle.distributed.launch", *options]


def _place_of_keras(environment: Mapping[str, str]) -> Place:
    config: Any = json.loads(environment["TF_CONFIG"])
    if list(config["cluster"]) != ["worker"]:
        raise ValueError("a cluster of workers alone is needed")
    return Place(int(config["task"]["index"]), len(config["cluster"]["worker"]))


def _variables_of_keras(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    task = {"type": "worker", "index": rank}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": list(addresses)}, "task": task})}


ENGINES = {
    "torch": Engine("WORLD_SIZE", _place_of_torch, _variables_of_torch, "gloo|Connection", _launcher_of_torch),
    "paddle": Engine(
        "PADDLE_TRAINERS_NUM", _place_of_paddle, _variables_of_paddle, "gloo|signal 6", _launcher_of_paddle
    ),
    "keras": Engine("TF_CONFIG", _place_of_keras, _variables_of_keras, "Collective|Unavailable"),
}


def engine_of(backend: str) -> Engine:
    """The engine that trains a backend in a group. Raises CannotBeginError where it has none."""
    if not TABLE[backend].grouped:
        able = ", ".join(name for name, entry in TABLE.items() if entry.grouped)
        raise CannotBeginError(f"backend {backend} cannot train in a group of workers; choose one of {able}")
    return ENGINES[backend.partition(":")[0]]


def place_in_group(backend: str, environment: Mapping[str, str]) -> Place:
    """The place that the variables of this backend's engine name. Raises CannotBeginError for what is no place."""
    engine = ENGINES.get(backend.partition(":")[0])
    if engine is None or engine.joining not in environment:
        return Place()
    try:
        place = engine.place(environment)
        if not 0 <= place.rank < place.size:
            raise ValueError(f"worker {place.rank} of {place.size}")
    except (ValueError, KeyError, TypeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CannotBeginError(
            f"{engine.joining} is set, and no place in a group can be read from the environment: {what}; start the "
            "workers with the framework's own launcher, or unset the variable"
        ) from error
    if place.size == 1:
        return Place()
    engine_of(backend)
    return replace(place, variables={engine.joining: environment[engine.joining]})


@contextmanager
def telling_who_is_lost(backend: str, place: Place) -> Iterator[None]:
    """Put LOST before the error of a worker's backend that comes of another worker's end, not of its own."""
    try:
        yield
    except RosettaError as error:
        if place.size > 1 and re.search(engine_of(backend).lost, str(error)):
            raise RosettaError(f"{LOST}: {error}") from error
        raise


def free_addresses(number: int) -> list[str]:
    """So many "host:port" on this machine's loopback that nobody listens at now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
