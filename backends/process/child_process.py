"""A program in a process of its own, with one end of a socket pair:
backends and raced scripts are of this kind.

The caller defines the messages on the socket. The class starts the program, limits the wait for
each message, quotes the program's last output in errors, and ends it.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import Lock, Thread, Timer
from typing import IO, TYPE_CHECKING, Self, TypeVar

from backends.process import ENDING_SECONDS
from common.errors import RosettaError
from common.text import printable

if TYPE_CHECKING:
    import psutil

# Bytes at the end of the output, from which an error message quotes the last line.
LAST_WORDS = 2000
# What an error says of the signals by which other programs end a process;
# before another one it has its last words.
FROM_OUTSIDE = {
    **dict.fromkeys([1, 2, 15], ", which another program sent"),  # SIGHUP, SIGINT and SIGTERM
    9: ", which the system sends where memory runs out, and `kill -9`; free some memory, if it was "
    "short",
}
# Has Linux keep what a process starts among its descendants, also without a parent, and runs the
# program that the arguments are in its place. Only the process itself can ask for that, and between
# fork and exec no Python may run where there are other threads. 36 is PR_SET_CHILD_SUBREAPER of
# linux/prctl.h.
ADOPTING = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execvp(sys.argv[1], "
    "sys.argv[1:])"
)

Message = TypeVar("Message")


class ChildProcess:
    """A program in its process; a context manager that ends the process.

    Several threads may use it, and one may end it while others wait. Whatever becomes of the
    process, they get a RosettaError of one line.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        wire: str,
        when_silent: str,
        opened: ExitStack,
        stdin: int = subprocess.DEVNULL,
        adopts: bool = False,
    ) -> None:
        """Start the program. Raises OSError where the system cannot.

        `name` begins each error; `when_silent` is the advice of an error after a timeout. The
        variable `wire` of the environment gets the number of the program's end of the socket pair.
        `opened` is closed after the process. If it `adopts`, processes that the program starts stay
        among its descendants, also without a parent.
        """
        self.doing = ""  # what the program is to do now, for errors
        self._name, self._when_silent, self._adopts = name, when_silent, adopts
        self._late = False  # True once a watchdog has killed the process
        self._ending = Lock()
        starter = [sys.executable, "-ISc", ADOPTING] if adopts else []
        with opened:
            # The stack closes it.
            self._output = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            self._socket, end_of_child = socket.socketpair()
            opened.enter_context(self._socket)
            self._stream = opened.enter_context(self._socket.makefile("rb"))
            with end_of_child:
                self._process = subprocess.Popen(
                    [*starter, *command],
                    stdin=stdin,
                    stdout=self._output,
                    stderr=self._output,
                    env={**environment, wire: str(end_of_child.fileno())},
                    pass_fds=[end_of_child.fileno()],
                    # Ctrl-C reaches the parent alone, which then ends the process
                    start_new_session=True,
                )
            opened.callback(self._end)
            self._opened = opened.pop_all()
        Thread(target=self._hear_end, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative after a signal; None while the process runs."""
        return self._process.poll()

    def send(self, message: bytes, timeout: float) -> None:
        """Send a message; the process is ended where it does not read
        the message within so many seconds."""
        with self._watched(timeout):
            self._socket.sendall(message)

    def receive(self, read: Callable[[IO[bytes]], Message], timeout: float) -> Message:
        """Return what `read` makes of the stream;
        the process is ended where that takes longer than so many seconds.

        `read` raises EOFError at the stream's end, and ValueError for what is no message.
        """
        with self._watched(timeout):
            return read(self._stream)

    def family(self) -> "list[psutil.Process]":
        """The process and its descendants; none once it has ended."""
        import psutil  # which translating does without

        with suppress(psutil.NoSuchProcess):
            if self.status is None:  # else its number may be that of another process
                process = psutil.Process(self.pid)
                return [process, *process.children(recursive=True)]
        return []

    def close(self) -> None:
        """End the process, whatever it is doing."""
        with self._ending:
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _hear_end(self) -> None:
        """Close the socket at the process's end,
        though a process that it forked may hold it open."""
        with suppress(ChildProcessError):  # its end was seen before
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(OSError):  # the socket is closed
            self._socket.shutdown(socket.SHUT_RDWR)  # what has arrived can still be read

    def _end(self) -> None:
        self._kill()
        with suppress(subprocess.TimeoutExpired):  # the system is too busy
            # Which closes its standard input, too.
            self._process.communicate(timeout=ENDING_SECONDS)

    def _kill(self) -> None:
        """Kill the process and what it has started, such as a compiler, which would outlive it."""
        for pid in [process.pid for process in self.family()] if self._adopts else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(self.pid, signal.SIGKILL)

    def _end_late(self) -> None:
        self._late = True
        self._kill()

    @contextmanager
    def _watched(self, timeout: float) -> Iterator[None]:
        """Kill the process if the block, which waits for it, takes longer.
        Raises RosettaError with how it ended."""
        watchdog = Timer(timeout, self._end_late)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        # Also where another thread has closed what the block uses.
        except (EOFError, OSError, ValueError) as error:
            with self._ending:
                how = self._how_it_ended(error, timeout)
                self._opened.close()
            raise RosettaError(f"{self._name} {how}") from error
        finally:
            watchdog.cancel()

    def _how_it_ended(self, error: Exception, timeout: float) -> str:
        """Describe the end of a process whose messages stopped."""
        if self._output.closed:
            return "was ended before"
        if self._late:
            late = (
                f"did not answer for {timeout:.0f} s{self.doing} and was ended; {self._when_silent}"
            )
            return late + self._last_words()
        try:
            status = self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            what = (
                "sent what is no message"
                if isinstance(error, ValueError)
                else "stopped its messages without ending"
            )
            return f"{what}{self.doing}, and was ended{self._last_words()}"
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{how}{self.doing}" + (
            FROM_OUTSIDE.get(-status) or self._last_words() or ", without a word"
        )

    def _last_words(self) -> str:
        """Quote the last line with words of what the process has written;
        "" if it has written none."""
        size = os.fstat(self._output.fileno()).st_size
        written = os.pread(self._output.fileno(), LAST_WORDS, max(0, size - LAST_WORDS))
        lines = [printable(line).strip() for line in written.decode(errors="replace").split("\n")]
        words = next(filter(None, reversed(lines)), "")
        return words and f"; its last words: {words}"
