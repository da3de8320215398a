"""The frameworks' own engines for training in a group: the environment variables by which the workers meet.

Whoever starts a group, such as `rosetta train --workers`, torchrun, paddle.distributed.launch or the scheduler of a
cluster, sets these variables for each worker, and a worker that finds them joins the group. See docs/parallel.md.
"""

import json
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

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
    # Where another program started the group:
    meeting: str = ""  # "host:port" at which all workers meet
    addresses: Sequence[str] = ()  # "host:port" of each worker; none where the engine's variables do not have them

    @property
    def partners(self) -> str:
        """The other workers and the address at which all meet, in words."""
        numbers = [number for number in range(min(self.size, NAMED + 1)) if number != self.rank][:NAMED]
        at = [f" at {address}" for address in self.addresses] or [""] * self.size
        named = [f"worker {number}{at[number]}" for number in numbers]
        if more := self.size - 1 - len(named):
            named.append(f"{more} more")
        return f"{', '.join(named)}; all meet at {self.meeting}"


@dataclass(frozen=True)
class Engine:
    """One framework's own, by which its workers train together."""

    worker: str  # "module:Class" of the backend that joins a group
    joining: str  # the variable without which a worker is alone
    addresses: str  # the variables that have addresses, in words
    # The worker that the variables of a process describe; and the variables of the worker of a rank, where all are at
    # these "host:port".
    place: Callable[[Mapping[str, str]], Worker]
    variables: Callable[[int, Sequence[str]], dict[str, str]]
    lost: str  # matches how a worker's process fails when another worker is gone


def _place_of_torch(environment: Mapping[str, str]) -> Worker:
    meeting = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
    here = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    return Worker(int(environment["RANK"]), int(environment["WORLD_SIZE"]), {}, here, meeting)


def _variables_of_torch(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    host, _, port = addresses[0].rpartition(":")
    return {"RANK": str(rank), "WORLD_SIZE": str(len(addresses)), "MASTER_ADDR": host, "MASTER_PORT": port}


def _place_of_paddle(environment: Mapping[str, str]) -> Worker:
    rank, size = int(environment["PADDLE_TRAINER_ID"]), int(environment["PADDLE_TRAINERS_NUM"])
    addresses = environment["PADDLE_TRAINER_ENDPOINTS"].split(",")
    if len(addresses) != size:
        raise ValueError(f"PADDLE_TRAINER_ENDPOINTS has {len(addresses)} addresses of {size} workers")
    meeting = environment.get("PADDLE_MASTER", addresses[0])
    return Worker(rank, size, {}, _at_the_same_host(addresses, rank), meeting, addresses)


def _variables_of_paddle(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    return {
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(addresses)),
        "PADDLE_CURRENT_ENDPOINT": addresses[rank],
        "PADDLE_TRAINER_ENDPOINTS": ",".join(addresses),
        "PADDLE_MASTER": addresses[0],
    }


def _place_of_keras(environment: Mapping[str, str]) -> Worker:
    config: Any = json.loads(environment["TF_CONFIG"])
    if list(config["cluster"]) != ["worker"]:
        raise ValueError("a cluster of workers alone is needed")
    rank, addresses = int(config["task"]["index"]), [str(address) for address in config["cluster"]["worker"]]
    return Worker(rank, len(addresses), {}, _at_the_same_host(addresses, rank), addresses[0], addresses)


def _variables_of_keras(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    task = {"type": "worker", "index": rank}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": list(addresses)}, "task": task})}


ENGINES = {
    "keras": Engine(
        "backends.groups.keras:KerasWorker",
        joining="TF_CONFIG",
        addresses="TF_CONFIG",
        place=_place_of_keras,
        variables=_variables_of_keras,
        lost="Collective|Unavailable",
    ),
    "torch": Engine(
        "backends.groups.torch:TorchWorker",
        joining="WORLD_SIZE",
        addresses="MASTER_ADDR",
        place=_place_of_torch,
        variables=_variables_of_torch,
        lost="gloo|Connection",
    ),
    "paddle": Engine(
        "backends.groups.paddle:PaddleWorker",
        joining="PADDLE_TRAINERS_NUM",
        addresses="PADDLE_MASTER and PADDLE_TRAINER_ENDPOINTS",
        place=_place_of_paddle,
        variables=_variables_of_paddle,
        lost="gloo|signal 6",
    ),
}


def _host(address: str) -> str:
    """The host of "host:port"; of an address of version 6 without its brackets."""
    return address.rpartition(":")[0].strip("[]")


def _at_the_same_host(addresses: Sequence[str], rank: int) -> int:
    """The number of workers whose address has the host of this one's."""
    hosts = [_host(address) for address in addresses]
    return hosts.count(hosts[rank])


def engine_of(backend: str) -> Engine:
    """The engine that trains a backend in a group. Raises CannotBeginError where it has none."""
    if backend not in ENGINES:
        able = ", ".join(ENGINES)
        raise CannotBeginError(f"backend {backend} cannot train in a group of workers; choose one of {able}")
    return ENGINES[backend]


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
        worker = engine.place(environment)
        if not 0 <= worker.rank < worker.size:
            raise ValueError(f"worker {worker.rank} of {worker.size}")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CannotBeginError(
            f"{engine.joining} is set, and no place in a group can be read from the environment: {what}; start the "
            "workers with the framework's own launcher, or unset the variable"
        ) from error
    if worker.size == 1:
        return Worker()
    engine_of(backend)
    for host in dict.fromkeys(map(_host, (worker.meeting, *worker.addresses))):
        try:
            socket.getaddrinfo(host, None)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise CannotBeginError(
                f"{engine.addresses} has the host {host!r}, and no address of it is found: {why}; give an address "
                "such as 10.0.0.1, or a name that every machine of the group knows"
            ) from error
    return replace(worker, variables={name: value for name, value in environment.items() if LAUNCHERS.match(name)})


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
    import psutil  # which translating need not import

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
    return backend in ENGINES and re.search(ENGINES[backend].lost, str(error)) is not None


def free_addresses(number: int) -> list[str]:
    """So many "host:port" on this machine's loopback that nobody listens at now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
