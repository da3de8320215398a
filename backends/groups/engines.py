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

import psutil

from backends import TABLE
from backends.process.environment import LAUNCHERS
from common.errors import CannotBeginError

ONLY_HERE = {"GLOO_SOCKET_IFNAME": "lo"}  # has torch's and Paddle's workers listen to this machine alone
WORKER_BYTES = 1 << 28  # memory that a worker's process takes: 150 to 290 MiB were seen, beside what processes share
NAMED = 3  # the other workers that a message names; of a large group it counts the rest


@dataclass(frozen=True)
class Worker:
    """A worker of a group, or one that trains alone."""

    rank: int = 0  # counted from 0
    size: int = 1  # number of workers in the group
    variables: Mapping[str, str] = field(default_factory=dict)  # that its backend's process needs, to join the group
    on_this_machine: int = 1  # number of the group's workers that share this machine's cores
    partners: str = ""  # the other workers and their addresses, in words, where another program started the group


@dataclass(frozen=True)
class Place:
    """What a worker reads from the variables of its engine."""

    rank: int
    size: int
    meeting: str  # "host:port" at which all workers meet
    addresses: Sequence[str]  # "host:port" of each worker; empty where the engine's variables do not have them
    on_this_machine: int  # number of workers on this one's machine


@dataclass(frozen=True)
class Engine:
    """What one framework's workers find in their environment."""

    joining: str  # the variable without which a worker is alone
    addresses: str  # the variables that have addresses, in words
    place: Callable[[Mapping[str, str]], Place]  # as the variables name it
    variables: Callable[[int, Sequence[str]], dict[str, str]]  # of the worker of this rank, if all are at "host:port"
    lost: str  # matches how a worker's process fails when another worker is gone


def _place_of_torch(environment: Mapping[str, str]) -> Place:
    meeting = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
    here = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    return Place(int(environment["RANK"]), int(environment["WORLD_SIZE"]), meeting, [], here)


def _variables_of_torch(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    host, _, port = addresses[0].rpartition(":")
    return {"RANK": str(rank), "WORLD_SIZE": str(len(addresses)), "MASTER_ADDR": host, "MASTER_PORT": port}


def _place_of_paddle(environment: Mapping[str, str]) -> Place:
    rank, size = int(environment["PADDLE_TRAINER_ID"]), int(environment["PADDLE_TRAINERS_NUM"])
    addresses = environment["PADDLE_TRAINER_ENDPOINTS"].split(",")
    if len(addresses) != size:
        raise ValueError(f"PADDLE_TRAINER_ENDPOINTS has {len(addresses)} addresses of {size} workers")
    meeting = environment.get("PADDLE_MASTER", addresses[0])
    return Place(rank, size, meeting, addresses, _at_the_same_host(addresses, rank))


def _variables_of_paddle(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    return {
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(addresses)),
        "PADDLE_CURRENT_ENDPOINT": addresses[rank],
        "PADDLE_TRAINER_ENDPOINTS": ",".join(addresses),
        "PADDLE_MASTER": addresses[0],
    }


def _place_of_keras(environment: Mapping[str, str]) -> Place:
    config: Any = json.loads(environment["TF_CONFIG"])
    if list(config["cluster"]) != ["worker"]:
        raise ValueError("a cluster of workers alone is needed")
    rank, addresses = int(config["task"]["index"]), [str(address) for address in config["cluster"]["worker"]]
    return Place(rank, len(addresses), addresses[0], addresses, _at_the_same_host(addresses, rank))


def _variables_of_keras(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    task = {"type": "worker", "index": rank}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": list(addresses)}, "task": task})}


ENGINES = {
    "torch": Engine("WORLD_SIZE", "MASTER_ADDR", _place_of_torch, _variables_of_torch, "gloo|Connection"),
    "paddle": Engine(
        "PADDLE_TRAINERS_NUM",
        "PADDLE_MASTER and PADDLE_TRAINER_ENDPOINTS",
        _place_of_paddle,
        _variables_of_paddle,
        "gloo|signal 6",
    ),
    "keras": Engine("TF_CONFIG", "TF_CONFIG", _place_of_keras, _variables_of_keras, "Collective|Unavailable"),
}


def _host(address: str) -> str:
    """The host of "host:port"; of an address of version 6 without its brackets."""
    return address.rpartition(":")[0].strip("[]")


def _at_the_same_host(addresses: Sequence[str], rank: int) -> int:
    """The number of workers whose address has the host of this one's."""
    hosts = [_host(address) for address in addresses]
    return hosts.count(hosts[rank])


def _partners(place: Place) -> str:
    """The other workers and the address at which all meet, in words."""
    numbers = [number for number in range(min(place.size, NAMED + 1)) if number != place.rank][:NAMED]
    named = [f"worker {number} at {place.addresses[number]}" for number in numbers if place.addresses]
    named = named or [f"worker {number}" for number in numbers]
    if more := place.size - 1 - len(named):
        named.append(f"{more} more")
    return f"{', '.join(named)}; all meet at {place.meeting}"


def _require_known(host: str, variables: str) -> None:
    """Raise CannotBeginError for a host, which these variables name, whose name leads to no address."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CannotBeginError(
            f"{variables} has the host {host!r}, and no address of it is found: {why}; give an address such as "
            "10.0.0.1, or a name that every machine of the group knows"
        ) from error


def engine_of(backend: str) -> Engine:
    """The engine that trains a backend in a group. Raises CannotBeginError where it has none."""
    if not TABLE[backend].grouped:
        able = ", ".join(name for name, entry in TABLE.items() if entry.grouped)
        raise CannotBeginError(f"backend {backend} cannot train in a group of workers; choose one of {able}")
    return ENGINES[backend.partition(":")[0]]


def place_in_group(backend: str, environment: Mapping[str, str]) -> Worker:
    """The worker that the variables of this backend's engine describe; without them, one that trains alone.

    Raises CannotBeginError for variables that describe no worker or a host that is not known, and where Slurm started
    several tasks without these variables.
    """
    engine = ENGINES.get(backend.partition(":")[0])
    if engine is None or engine.joining not in environment:
        refuse_tasks_of_slurm(environment)
        return Worker()
    try:
        place = engine.place(environment)
        if not 0 <= place.rank < place.size:
            raise ValueError(f"worker {place.rank} of {place.size}")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CannotBeginError(
            f"{engine.joining} is set, and no place in a group can be read from the environment: {what}; start the "
            "workers with the framework's own launcher, or unset the variable"
        ) from error
    if place.size == 1:
        return Worker()
    engine_of(backend)
    for host in dict.fromkeys(map(_host, (place.meeting, *place.addresses))):
        _require_known(host, engine.addresses)
    variables = {name: value for name, value in environment.items() if LAUNCHERS.match(name)}
    return Worker(place.rank, place.size, variables, place.on_this_machine, _partners(place))


def refuse_tasks_of_slurm(environment: Mapping[str, str]) -> None:
    """Raise CannotBeginError where Slurm started this command several times, each of which would train by itself."""
    tasks, number = environment.get("SLURM_NTASKS", ""), environment.get("SLURM_PROCID", "")
    if tasks.isdecimal() and int(tasks) > 1 and number:
        raise CannotBeginError(
            f"this is task {number} of {tasks} that Slurm started, and without the variables of a framework's engine "
            "each task would train the whole run; start one task (srun --ntasks 1), or the engine's launcher in each "
            "task, as docs/parallel.md shows"
        )


def require_memory(workers: int) -> None:
    """Raise CannotBeginError for more workers than there is free memory for on this machine."""
    free = psutil.virtual_memory().available
    if (needed := workers * WORKER_BYTES) > free:
        raise CannotBeginError(
            f"{workers:,} workers take {needed >> 20:,} MiB of memory, and {free >> 20:,} MiB are free: "
            f"give --workers {max(1, free // WORKER_BYTES)} or fewer"
        )


def new_group(backend: str, size: int) -> list[Worker]:
    """The workers of a group that meets on this machine's loopback.

    Raises CannotBeginError; see `engine_of` and `require_memory`.
    """
    engine = engine_of(backend)
    require_memory(size)
    try:
        addresses = free_addresses(size)
    except OSError as error:  # each takes an open file
        raise CannotBeginError(f"{size} workers cannot be started: {error.strerror}; give fewer --workers") from error
    return [Worker(rank, size, engine.variables(rank, addresses) | ONLY_HERE, size) for rank in range(size)]


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
