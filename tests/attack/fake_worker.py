"""What a fake process does in a backend's place: the ACTIONS that stand before this text, one after another.

Only the standard library is imported, so that it starts in no time.
"""

import base64
import os
import select
import signal
import sys
import time

ACTIONS: list[list] = globals().get("ACTIONS", [])
SOCKET = int(sys.argv[3])


def read_request() -> None:
    """Read until nothing more comes."""
    select.select([SOCKET], [], [])
    while select.select([SOCKET], [], [], 0.05)[0] and os.read(SOCKET, 1 << 16):
        pass


def send(content: bytes, pieces: int = 1) -> None:
    size = max(1, len(content) // pieces)
    for start in range(0, len(content), size):
        piece = memoryview(content)[start : start + size]
        while piece:
            piece = piece[os.write(SOCKET, piece) :]
        time.sleep(0.002 if pieces > 1 else 0)


def main() -> None:
    for action, *values in ACTIONS:
        match action:
            case "read":
                read_request()
            case "send":
                send(base64.b64decode(values[0]), *values[1:])
            case "close":
                os.close(SOCKET)
            case "print":
                os.write(2, base64.b64decode(values[0]) * values[1])
            case "fork":
                if os.fork() == 0:  # a child, which keeps the socket open
                    time.sleep(values[0])
                    os._exit(0)
            case "ignore":
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
            case "signal":
                os.kill(os.getpid(), values[0])
            case "exit":
                os._exit(values[0])
            case "sleep":
                time.sleep(values[0])


if __name__ == "__main__":
    main()
