"""Processes of one backend on this machine, which train as a group and are asked the same at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from threading import Timer
from typing import Any, TypeVar

from backends.groups.engines import Worker, lost_another
from backends.process.parent import BackendProcess, Variables
from common.errors import CannotBeginError, RosettaError
from common.interface import PATIENCE

NOTICE_SECONDS = 10.0  # after which a worker that waits for others elsewhere says so
GRACE = 10.0  # seconds allowed, after workers have lost another one, for the news of how that one ended

Result = TypeVar("Result")


@contextmanager
def started_group(
    workers: Sequence[Worker],
    launch: Callable[[Variables], BackendProcess],
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[list[BackendProcess]]:
    """The processes of these workers, in their order, once all are open. In the end they are ended.

    `launch` starts a worker's process, given the variables by which it joins the group. `warn` is told whom a worker
    waits for that a program elsewhere should have started; such a worker is the only one here.
    """

    with ExitStack() as stack:
        # All are started before any is waited for, since they wait for each other.
        processes = [stack.enter_context(launch(worker.variables)) for worker in workers]
        if workers[0].meeting:
            _meet_partners(workers[0], processes[0], warn)
        else:
            ask_each(processes, BackendProcess.wait_until_open)
        yield processes


def _meet_partners(worker: Worker, process: BackendProcess, warn: Callable[[str], None]) -> None:
    """Wait until a worker has met the others of its group, which programs elsewhere start."""
    waited = f"worker {worker.rank} of {worker.size} is not in its group after {NOTICE_SECONDS:.0f} s"
    notice = Timer(NOTICE_SECONDS, warn, [f"{waited}; it waits for {worker.partners}"])
    notice.start()
    try:
        process.wait_until_open()
    except CannotBeginError:
        raise
    except RosettaError as error:
        gave_no_reason = isinstance(error.__cause__, TimeoutError)
        reason = f"not all came; start them within {PATIENCE} s of one another" if gave_no_reason else error
        message = f"{reason}; worker {worker.rank} of {worker.size} was to meet {worker.partners}"
        raise RosettaError(message) from error
    finally:
        notice.cancel()


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
                    return _naming(number, len(futures), error)
    return _naming(min(errors), len(futures), errors[min(errors)]) if errors else None


def _naming(number: int, size: int, error: BaseException) -> BaseException:
    """The error, which in a group names the worker; it stays one of those that a user may see."""
    if size == 1 or not isinstance(error, RosettaError):
        return error
    kind = CannotBeginError if isinstance(error, CannotBeginError) else RosettaError
    named = kind(f"worker {number} of {size} failed: {error}")
    named.__cause__ = error
    return named
