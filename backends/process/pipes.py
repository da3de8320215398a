"""The parent's ends of the pipes to a backend's process: no wait for the process is longer than allowed."""

import os
import select
from contextlib import ExitStack
from io import FileIO
from time import monotonic


def opened_pipe(reader: ExitStack, writer: ExitStack) -> tuple[FileIO, FileIO]:
    """A new pipe's end that is read and its end that is written; each is closed with its owner's stack."""
    read, written = os.pipe()
    return reader.enter_context(FileIO(read, "r")), writer.enter_context(FileIO(written, "w"))


class LimitedPipe:
    """One end of a pipe. Reading and writing wait for the other end until `deadline` at the latest.

    Then they raise TimeoutError, however much of a message has been read or written.
    """

    deadline = 0.0  # in seconds of `time.monotonic`; set before each message

    def __init__(self, file: FileIO) -> None:
        os.set_blocking(file.fileno(), False)  # else one write would wait until all of it has been read
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN if file.readable() else select.POLLOUT)

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int) -> bytes:
        """What has arrived, at most `size` bytes; nothing when the other end is closed."""
        while (piece := self._file.read(size)) is None:
            self._wait()
        return piece

    def write(self, block: bytes) -> None:
        """Write all of the block. Raises BrokenPipeError when the other end is closed."""
        rest = memoryview(block)
        while rest:
            if (written := self._file.write(rest)) is None:
                self._wait()
            else:
                rest = rest[written:]

    def flush(self) -> None:
        """Nothing is kept back."""

    def _wait(self) -> None:
        if not self._poll.poll(1000 * max(0.0, self.deadline - monotonic())):
            raise TimeoutError
