"""Several processes at once: groups of workers, which train one backend together, and backends side by side.

Workers meet by environment variables, which each framework's own engine reads. Whoever starts a group, such as
`rosetta train --workers`, torchrun, paddle.distributed.launch or the scheduler of a cluster, sets these variables for
each worker, and a worker that finds them joins the group. See docs/parallel.md.
"""

import json
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from threading import Timer
from time import sleep
from typing import Any, TypeVar

import psutil

from backends.process.environment import LAUNCHERS
from backends.process.parent import BackendProcess, Runtime, Worker
from common.config import ModelConfig, TrainConfig
from common.errors import CannotBeginError, RosettaError, refusing
from common.interface import PATIENCE
from common.machine import cores

ONLY_HERE = {"GLOO_SOCKET_IFNAME": "lo"}  # has torch's and Paddle's workers listen to this machine alone
WORKER_BYTES = 1 << 28  # memory that a worker's process takes: 150 to 290 MiB were seen, beside what processes share
NOTICE_SECONDS = 10.0  # after which a worker that waits for others elsewhere says so
PROCESS_BYTES = 1 << 30  # memory that is to be free before one more process is started; none was seen to take more
GRACE = 10.0  # seconds allowed, after workers have lost another one, for the news of how that one ended

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Engine:
    """One framework's own, by which its workers train together."""

    target: str  # "module:Class" of the backend that joins a group
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
    return Worker(int(environment["RANK"]), int(environment["WORLD_SIZE"]), {}, here, [meeting])


def _variables_of_torch(rank: int, addresses: Sequence[str]) -> dict[str, str]:
    host, _, port = addresses[0].rpartition(":")
    return {"RANK": str(rank), "WORLD_SIZE": str(len(addresses)), "MASTER_ADDR": host, "MASTER_PORT": port}


def _place_of_paddle(environment: Mapping[str, str]) -> Worker:
    rank, size = int(environment["PADDLE_TRAINER_ID"]), int(environment["PADDLE_TRAINERS_NUM"])
    addresses = environment["PADDLE_TRAINER_ENDPOINTS"].split(",")
    if len(addresses) != size:
        raise ValueError(f"PADDLE_TRAINER_ENDPOINTS has {len(addresses)} addresses of {size} workers")
    meeting = environment.get("PADDLE_MASTER", addresses[0])
    return Worker(rank, size, {}, _at_the_same_host(addresses, rank), [meeting, *addresses])


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
    return Worker(rank, len(addresses), {}, _at_the_same_host(addresses, rank), addresses)


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
    target = engine_of(backend).target
    for host in dict.fromkeys(map(_host, worker.addresses)):
        try:
            socket.getaddrinfo(host, None)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise CannotBeginError(
                f"{engine.addresses} has the host {host!r}, and no address of it is found: {why}; give an address "
                "such as 10.0.0.1, or a name that every machine of the group knows"
            ) from error
    variables = {name: value for name, value in environment.items() if LAUNCHERS.match(name)}
    return replace(worker, variables=variables, target=target)


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
    with refusing(f"{size} workers cannot be started", "; give fewer --workers"):  # each takes an open file
        addresses = free_addresses(size)
    variables = [engine.variables(rank, addresses) | ONLY_HERE for rank in range(size)]
    return [Worker(rank, size, own, size, target=engine.target) for rank, own in enumerate(variables)]


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


@contextmanager
def started_group(
    workers: Sequence[Worker],
    launch: Callable[[Worker], BackendProcess],
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[list[BackendProcess]]:
    """The processes of these workers, in their order, once all are open. In the end they are ended.

    `launch` starts a worker's process. `warn` is told where a worker waits for those that programs elsewhere should
    have started; such a worker is the only one here.
    """
    with ExitStack() as stack:
        # All are started before any is waited for, since they wait for each other.
        processes = [stack.enter_context(launch(worker)) for worker in workers]
        with ExitStack() as waiting:
            if (worker := workers[0]).addresses:
                waits = f"worker {worker.rank} of {worker.size} waits at {worker.addresses[0]} for the others"
                notice = Timer(NOTICE_SECONDS, warn, [f"{waits}; start them within {PATIENCE} s of one another"])
                notice.start()
                waiting.callback(notice.cancel)
            ask_each(processes, BackendProcess.wait_until_open)
        yield processes


def ask_each(processes: Sequence[BackendProcess], ask: Callable[[BackendProcess], Result]) -> list[Result]:
    """What `ask` returns for each process, all at once, each in a thread.

    If any fails, all are ended, since the others wait for the one that failed. The error that is raised then is that
    of the first which failed by itself, and has its number.
    """
    if len(processes) == 1:
        return [ask(processes[0])]
    with ThreadPoolExecutor(len(processes)) as threads:
        futures = [threads.submit(ask, process) for process in processes]
        try:
            if error := _error_of(futures, processes[0].name):
                raise error
        except BaseException:
            for process in processes:
                process.close()
            raise
    return [future.result() for future in futures]


def _error_of(futures: Sequence["Future[Any]"], backend: str) -> BaseException | None:
    """Wait until the work is done, or until it is known which worker failed by itself; returns that one's error.

    A worker that ends takes the others with it, and their errors may come before its own.
    """
    pending, errors = set(futures), dict[int, BaseException]()
    while pending:
        done, pending = wait(pending, GRACE if errors else None, FIRST_EXCEPTION)
        if not done:  # a worker hangs, and the others have given it up
            hanging, first = futures.index(pending.pop()), min(errors)
            return RosettaError(f"worker {hanging} of {len(futures)} does not answer: {errors[first]}")
        for number, future in enumerate(futures):
            if future in done and (error := future.exception()):
                errors[number] = error
                if not lost_another(backend, error):
                    return _naming(f"worker {number} of {len(futures)}", error)
    return _naming(f"worker {min(errors)} of {len(futures)}", errors[min(errors)]) if errors else None


def _naming(worker: str, error: BaseException) -> BaseException:
    """The error with the name of its worker, where it is one of those that a user may see."""
    kind = CannotBeginError if isinstance(error, CannotBeginError) else RosettaError
    return kind(f"{worker} failed: {error}") if isinstance(error, RosettaError) else error


@contextmanager
def started_side_by_side(
    items: Iterable[Item], launch: Callable[[Item], BackendProcess], at_once: int | None = None
) -> Iterator[Iterator[tuple[Item, "Future[BackendProcess]"]]]:
    """Each item with its process, which `launch` starts, as soon as the backend is open. In the end all are ended.

    The `result()` of an item is its process, or raises the reason why it could not be started. `launch` is called in
    other threads. At most `at_once` processes are being started at any time; by default as many as there are cores
    and memory for.
    """
    at_once = at_once or max(1, min(cores(), psutil.virtual_memory().available // PROCESS_BYTES))
    processes: list[BackendProcess] = []

    def opened(item: Item) -> BackendProcess:
        processes.append(process := launch(item))
        process.wait_until_open()
        return process

    with ThreadPoolExecutor(at_once) as threads:
        items_of = {threads.submit(opened, item): item for item in items}
        try:
            yield ((items_of[future], future) for future in as_completed(items_of))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            all_done = False
            while not all_done:  # a thread may be about to start a process
                all_done = all(future.done() for future in items_of)
                for process in processes:
                    process.close()
                sleep(0 if all_done else 0.02)


def describe_backends(names: Sequence[str], runtime: Runtime) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each backend, as soon as it has answered, with the facts that it reports of itself (those of BackendFacts), or
    with the reason why it cannot start as `missing`. The processes are started side by side."""
    model = ModelConfig(num_encoder_tokens=2, num_decoder_tokens=3, start_token=0, stop_token=1, latent_dim=4)
    with started_side_by_side(names, lambda name: BackendProcess(name, model, TrainConfig(), runtime)) as started:
        for name, future in started:
            try:
                with future.result() as process:
                    facts = asdict(process.facts)
            except RosettaError as error:  # it is not there, or it is there and broken
                facts = {"missing": str(error)}
            yield name, facts
