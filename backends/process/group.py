"""Groups of workers: processes that train one backend together.

A worker reads its rank, the group's size and the address of the first worker from its environment,
by the names that torchrun gives them, and Keras's worker the addresses of all from TF_CONFIG.
`rosetta train --workers` sets them; those of other launchers are translated. See docs/parallel.md.
"""

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from math import inf
from threading import Timer
from time import monotonic
from typing import Any, TypeVar

import psutil

from backends import TABLE, framework_of, lookup
from backends.process import GRACE, LAUNCHERS, NOTICE_SECONDS, PATIENCE, SIGNAL_SECONDS
from backends.process.parent import BackendProcess, Worker
from common.errors import CannotBeginError, RosettaError, refusing

# In the error of a worker that lost another.
LOST = re.compile("gloo|Connection|Collective|Unavailable|signal 6")
# Has torch's and Paddle's workers listen to this machine alone.
ONLY_HERE = {"GLOO_SOCKET_IFNAME": "lo"}
# Memory that a worker's process takes: 150 to 290 MiB were seen, beside what processes share.
WORKER_BYTES = 1 << 28

# Rank, size, workers on this machine, "host:port" of the first worker.
Membership = tuple[int, int, int, str]
Result = TypeVar("Result")


def _by_torchrun(environment: Mapping[str, str]) -> Membership:
    here = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    address = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
    return int(environment["RANK"]), int(environment["WORLD_SIZE"]), here, address


def _by_tf_config(environment: Mapping[str, str]) -> Membership:
    config: Any = json.loads(environment["TF_CONFIG"])
    if list(config["cluster"]) != ["worker"]:
        raise ValueError("a cluster of workers alone is needed")
    rank, addresses = int(config["task"]["index"]), config["cluster"]["worker"]
    hosts = [address.rpartition(":")[0] for address in addresses]
    return rank, len(addresses), hosts.count(hosts[rank]), addresses[0]


def _by_paddle(environment: Mapping[str, str]) -> Membership:
    first = (
        environment.get("PADDLE_MASTER")
        or environment["PADDLE_TRAINER_ENDPOINTS"].partition(",")[0]
    )
    here = int(environment.get("PADDLE_LOCAL_SIZE", "1"))
    return (
        int(environment["PADDLE_TRAINER_ID"]),
        int(environment["PADDLE_TRAINERS_NUM"]),
        here,
        first,
    )


# By the variable that shows which launcher started a worker:
# whose workers it starts ("": any), and what reads it.
READERS: dict[str, tuple[str, Callable[[Mapping[str, str]], Membership]]] = {
    "TF_CONFIG": ("keras", _by_tf_config),
    "PADDLE_TRAINERS_NUM": ("paddle", _by_paddle),
    "WORLD_SIZE": ("", _by_torchrun),
}


def group_of(backend: str) -> str:
    """ "module:Class" of the group that a backend joins. Raises CannotBeginError where it
    cannot."""
    if not (group := lookup(backend).group):
        able = ", ".join(name for name, entry in TABLE.items() if entry.group)
        raise CannotBeginError(
            f"backend {backend} cannot train in a group of workers; choose one of {able}"
        )
    return group


def place_in_group(backend: str, environment: Mapping[str, str]) -> Worker:
    """The worker that a launcher's variables describe; without them, one that trains alone.

    Raises CannotBeginError for variables that describe no worker, or a host that is not known.
    """
    framework = framework_of(backend)
    shown = [
        name for name, (of, _) in READERS.items() if name in environment and of in ("", framework)
    ]
    if not shown:
        return Worker()
    try:
        rank, size, here, address = READERS[shown[0]][1](environment)
        if not 0 <= rank < size:
            raise ValueError(f"worker {rank} of {size}")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CannotBeginError(
            f"{shown[0]} is set, and no place in a group can be read from the environment: {what}; "
            "start the workers as docs/parallel.md shows, or unset the variable"
        ) from error
    if size == 1:
        return Worker()
    host = address.rpartition(":")[0].strip("[]")  # an address of version 6 stands in brackets
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise CannotBeginError(
            f"the first worker is at {address}, and no address of the host {host!r} is found: "
            f"{error}; give an address such as 10.0.0.1, or a name that every machine of the group "
            "knows"
        ) from error
    launched = {name: value for name, value in environment.items() if LAUNCHERS.match(name)}
    return _worker(backend, rank, size, here, address, launched, meets_at=address)


def _worker(
    backend: str,
    rank: int,
    size: int,
    here: int,
    address: str,
    more: Mapping[str, str],
    meets_at: str = "",
) -> Worker:
    """A worker of a group whose first one is at `address`, with `more` variables."""
    host, _, port = address.rpartition(":")
    variables = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
    }
    return Worker(rank, size, here, group_of(backend), {**more, **variables}, meets_at)


def new_group(backend: str, size: int) -> list[Worker]:
    """The workers of a group that meets on this machine's loopback.

    Raises CannotBeginError; see `group_of` and `require_memory`.
    """
    group_of(backend)
    require_memory(size)
    addresses, workers = [f"127.0.0.1:{port}" for port in free_ports(size)], []
    for rank in range(size):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        variables = ONLY_HERE | {"TF_CONFIG": json.dumps(config)}
        workers.append(_worker(backend, rank, size, size, addresses[0], variables))
    return workers


def require_memory(workers: int) -> None:
    """Raise CannotBeginError for more workers than there is free memory for on this machine."""
    free = psutil.virtual_memory().available
    if (needed := workers * WORKER_BYTES) > free:
        raise CannotBeginError(
            f"{workers:,} workers take {needed >> 20:,} MiB of memory, and {free >> 20:,} MiB are "
            f"free: give --workers {max(1, free // WORKER_BYTES)} or fewer"
        )


def free_ports(number: int) -> list[int]:
    """Ports of this machine's loopback at which nobody listens now."""
    with refusing("no worker can be started"), ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [server.getsockname()[1] for server in servers]


def lost_another(error: BaseException) -> bool:
    """True if a worker's error came of another worker's end."""
    return LOST.search(str(error)) is not None


@contextmanager
def start_group(
    workers: Sequence[Worker],
    launch: Callable[[Worker], BackendProcess],
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[list[BackendProcess]]:
    """Start the processes of these workers; yield them in order once all are open.
    In the end they are ended.

    `launch` starts a worker's process. `warn` is told where a worker waits for those that programs
    elsewhere should have started; such a worker is the only one here.
    """
    with ExitStack() as stack:
        # All are started before any is waited for, since they wait for each other.
        processes = [stack.enter_context(launch(worker)) for worker in workers]
        with ExitStack() as waiting:
            if (worker := workers[0]).meets_at:
                waits = (
                    f"worker {worker.rank} of {worker.size} waits at {worker.meets_at} for the "
                    "others"
                )
                notice = Timer(
                    NOTICE_SECONDS,
                    warn,
                    [f"{waits}; start them within {PATIENCE} s of one another"],
                )
                notice.start()
                waiting.callback(notice.cancel)
            ask_each(processes, BackendProcess.wait_until_open)
        yield processes


def ask_each(
    processes: Sequence[BackendProcess], ask: Callable[[BackendProcess], Result]
) -> list[Result]:
    """Call `ask` with each process at once, each in a thread, and return the results in order.

    If a call fails, all processes are ended, since they wait for one another. The error that is
    raised then names the worker that failed by itself.
    """
    if len(processes) == 1:
        return [ask(processes[0])]
    with ThreadPoolExecutor(len(processes)) as threads:
        try:
            futures = [threads.submit(ask, process) for process in processes]
            if error := _error_of(futures):
                raise error
        except BaseException:
            for process in processes:
                process.close()
            raise
    return [future.result() for future in futures]


def _error_of(futures: Sequence["Future[Any]"]) -> BaseException | None:
    """Wait until the work is done, or until it is known which worker failed by itself;
    returns that one's error.

    A worker that ends takes the others with it, and their errors may come before its own.
    """
    pending, lost, end = set(futures), None, inf
    while pending:
        # The system may give Ctrl-C to another thread,
        # and Python acts on it only when this thread goes on.
        done, pending = wait(pending, SIGNAL_SECONDS, FIRST_EXCEPTION)
        # A worker hangs, and the others have given it up.
        if monotonic() > end and pending and not done:
            return RosettaError(
                f"worker {futures.index(pending.pop())} of {len(futures)} does not answer: {lost}"
            )
        for future in filter(done.__contains__, futures):
            if error := future.exception():
                if isinstance(error, RosettaError):
                    kind = CannotBeginError if isinstance(error, CannotBeginError) else RosettaError
                    error = kind(
                        f"worker {futures.index(future)} of {len(futures)} failed: {error}"
                    )
                if not lost_another(error):
                    return error
                lost, end = lost or error, monotonic() + GRACE
    return lost
