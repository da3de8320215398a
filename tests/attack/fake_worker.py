"""What a fake process does in a backend's place: the ACTIONS that stand before this text, one after another.

Only the standard library is imported, so that it starts in no time.
"""

import base64
import os
import signal
import sys
import time

ACTIONS: list[list] = globals().get("ACTIONS", [])


def read_request(requests: int) -> None:
    length = int.from_bytes(os.read(requests, 8), "little")
    while length > 0 and (piece := os.read(requests, min(length, 1 << 16))):
        length -= len(piece)


def send(replies: int, content: bytes, pieces: int = 1) -> None:
    size = max(1, len(content) // pieces)
    for start in range(0, len(content), size):
        piece = memoryview(content)[start : start + size]
        while piece:
            piece = piece[os.write(replies, piece) :]
        time.sleep(0.002 if pieces > 1 else 0)


def forked(seconds: float) -> None:
    """Leave a child that keeps all pipes open."""
    if os.fork() == 0:
        time.sleep(seconds)
        os._exit(0)


def main() -> None:
    requests, replies = map(int, sys.argv[3:5])
    for action, *values in ACTIONS:
        match action:
            case "read":
                read_request(requests)
            case "send":
                send(replies, base64.b64decode(values[0]), *values[1:])
            case "close":
                os.close({"requests": requests, "replies": replies}[values[0]])
            case "print":
                os.write(2, base64.b64decode(values[0]) * values[1])
            case "fork":
                forked(*values)
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
