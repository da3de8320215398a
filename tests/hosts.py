"""Two hosts on this machine: network namespaces joined by a cable (iproute2, veth), where the system allows them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Host:
    address: str
    interface: str
    prefix: list[str]  # put before a command, has it run there


def _ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


@cache
def kind_of_hosts() -> str:
    """ "network namespaces", or "loopback" where there are none: then both hosts are this one."""
    name = f"rosetta-{os.getpid()}"
    possible = bool(shutil.which("ip")) and _ip("netns", "add", name)
    if possible:
        possible = _ip("-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other")
        _ip("netns", "delete", name)
    return "network namespaces" if possible else "loopback"


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Hosts that reach each other and nothing else; or this host, twice, where `kind_of_hosts` is "loopback"."""
    if kind_of_hosts() == "loopback":
        here = Host("127.0.0.1", "lo", [])
        yield here, here
        return
    one, other = (f"rosetta-{os.getpid()}-{number}" for number in (1, 2))
    try:
        assert _ip("netns", "add", one)
        assert _ip("netns", "add", other)
        assert _ip("-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", other)
        hosts = []
        for name, address in ((one, "10.0.0.1"), (other, "10.0.0.2")):
            assert _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for interface in ("lo", "eth0"):
                assert _ip("-n", name, "link", "set", interface, "up")
            hosts.append(Host(address, "eth0", ["ip", "netns", "exec", name]))
        yield hosts[0], hosts[1]
    finally:
        _ip("netns", "delete", one)
        _ip("netns", "delete", other)
