"""Two hosts on this machine: network namespaces joined by a cable (iproute2,
veth), where the system allows them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Host:
    address: str
    interface: str
    prefix: tuple[str, ...]  # put before a command, has it run there

    def start(self, *command: object, cwd: Path, **variables: str) -> "subprocess.Popen[str]":
        """Run a command there, with these variables besides those of this program."""
        pipe, environment = subprocess.PIPE, os.environ | variables
        given = [*self.prefix, *map(str, command)]
        return subprocess.Popen(
            given, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True
        )


def _ip(arguments: str) -> bool:
    return (
        subprocess.run(["ip", *arguments.split()], capture_output=True, check=False).returncode == 0
    )


@contextmanager
def two_hosts() -> Iterator[list[Host]]:
    """Yield hosts that reach each other and nothing else.
    Skips the test where the system allows none."""
    left, right = (f"rosetta-{os.getpid()}-{number}" for number in (1, 2))
    steps = [
        f"netns add {left}",
        f"netns add {right}",
        f"-n {left} link add eth0 type veth peer eth0 netns {right}",
    ]
    hosts = []
    for name, address in ((left, "10.0.0.1"), (right, "10.0.0.2")):
        steps += [f"-n {name} address add {address}/24 dev eth0"]
        steps += [f"-n {name} link set {interface} up" for interface in ("lo", "eth0")]
        hosts.append(Host(address, "eth0", ("ip", "netns", "exec", name)))
    try:
        if not (shutil.which("ip") and all(map(_ip, steps))):
            pytest.skip("needs network namespaces: the command ip, and root")
        yield hosts
    finally:
        if shutil.which("ip"):
            _ip(f"netns delete {left}")
            _ip(f"netns delete {right}")
