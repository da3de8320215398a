"""The connections of visitors to the page: how many there may be, how long each keeps a place, what a bad one gets.

Waitress closes a connection when nothing has come for a while, so whoever sends a byte now and then keeps it, and 100
of them keep everybody else out. Here a connection has to bring a whole request in time, and no newcomer waits.
"""

import logging
import socket
from collections import Counter
from time import monotonic
from typing import Any

import waitress
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error
from waitress.wasyncore import loop

REQUEST_SECONDS = 30.0  # from a connection's beginning, or its last answer, until it has brought a whole request
MOST_CONNECTIONS = 100
MOST_OF_AN_ADDRESS = 30  # connections of one visitor; a browser has six at most
LIMITS = {
    "connection_limit": 2 * MOST_CONNECTIONS,  # those above MOST_CONNECTIONS are closed here, when they are there
    "max_request_header_size": 65536,  # bytes that are read before the connection is refused
    "max_request_body_size": 65536,
    "log_socket_errors": False,  # a visitor who leaves is nothing to report
    "ident": None,  # the server's name and version are nobody's business
}


class _TooSlowError(Error):  # type: ignore[misc] # waitress has no types
    code, reason = 408, "Request Timeout"


class _TooManyConnectionsError(Error):  # type: ignore[misc]
    code, reason = 429, "Too Many Requests"


class _Request(HTTPRequestParser):  # type: ignore[misc]
    """A request while it arrives."""

    path = ""  # waitress asks for it even where the first line could not be read

    def parse_header(self, header_plus: bytes) -> None:
        """Read the head. A number or an address that Python cannot read makes it a bad request, too."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("A number or an address in the head cannot be read") from error


class _Connection(HTTPChannel):  # type: ignore[misc]
    """A visitor's connection, which is to bring one whole request after another."""

    parser_class = _Request
    request: _Request | None  # while it arrives

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.since = monotonic()  # when it began or last got something of an answer
        super().__init__(*arguments, **options)

    def write_soon(self, data: Any) -> int:
        """Send something of an answer."""
        self.since = monotonic()
        return int(super().write_soon(data))

    def service(self) -> None:
        """Answer a request. If the next ones were sent before the answer, it is the last one on this connection:
        answers to somebody who reads none would fill the memory."""
        with self.requests_lock:
            if len(self.requests) > 1:
                self.requests[0].headers["CONNECTION"] = "close"
        super().service()

    def refuse(self, error: Error) -> None:
        """Close the connection. If something of a request has arrived, it is answered with the error before."""
        with self.requests_lock:
            request, self.request = self.request, None
            if request is not None:
                request.error = error
                self.requests.append(request)
        if request is not None:
            self.service()
        self.handle_close()

    def handle_expt(self) -> None:
        """Close a connection that sends urgent data, which HTTP has none of, and which nobody would ever read."""
        self.handle_close()


class _OncePerPlace(logging.Filter):
    """Lets each line of waitress's source report once, since visitors could repeat without end what it reports."""

    def __init__(self) -> None:
        super().__init__()
        self._reported: set[tuple[str, int]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        place = record.pathname, record.lineno
        new = place not in self._reported
        self._reported.add(place)
        return new


def page_server(page: Flask, listener: socket.socket, threads: int) -> Any:
    """A server of waitress that answers those who reach `listener`; see `run_server`."""
    logging.getLogger("waitress").addFilter(_OncePerPlace())
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a request that waits is nothing to report
    server = waitress.create_server(page, sockets=[listener], threads=threads, **LIMITS)
    server.channel_class = _Connection
    return server


def run_server(server: Any) -> None:
    """Wait for visitors and answer them, until the server's sockets are closed."""
    while server._map:
        loop(timeout=1, map=server._map, count=1)
        _make_room(server.active_channels.values())


def _make_room(connections: Any) -> None:
    """Close the connections that are late, and where there are too many, those that are nearest to it.

    One whose request is being answered, or waits for a backend, keeps its place.
    """
    number, of_address = len(connections), Counter(one.addr[0] for one in connections)
    late = monotonic() - REQUEST_SECONDS
    for one in sorted((one for one in connections if not one.requests), key=lambda one: one.since):
        address = one.addr[0]
        if one.since < late:
            one.refuse(_TooSlowError(f"A whole request has to arrive within {REQUEST_SECONDS:.0f} s."))
        elif number > MOST_CONNECTIONS or of_address[address] > MOST_OF_AN_ADDRESS:
            one.refuse(_TooManyConnectionsError("There were too many connections, and this one waited longest."))
        else:
            continue
        number -= 1
        of_address[address] -= 1
