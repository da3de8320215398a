"""`rosetta serve`: backends are opened one after another while the page already answers, until it is ended."""

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from time import sleep

from backends.process.parent import Runtime
from backends.serve.page import PageServer
from backends.serve.served import ServedBackend
from common.errors import CannotBeginError
from common.run_directory import BUNDLED_RUN, RunDirectory
from common.sources import Sources
from common.terminal import say, starting, warn

POLL = 0.2  # seconds between two looks at whether a backend's process died and is to be opened again


def serve(run: Path, host: str, port: int, names: Sequence[str], runtime: Runtime) -> None:
    """Serve the page of a run with these backends until KeyboardInterrupt, which ends the backends' processes.

    Port 0 stands for any that is free. Raises CannotBeginError where the address cannot be had.
    """
    directory = RunDirectory.open(run)
    directory.read_state("last")
    vocabulary, _ = directory.vocabularies()
    sources = Sources.of_run(directory)
    served = [ServedBackend(name, directory, runtime) for name in names]
    title = "the bundled run" if run == BUNDLED_RUN else str(run)
    try:
        server = PageServer(host, port, title, served, vocabulary, sources)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name with nothing between two dots, or too much
        reason = error.strerror if isinstance(error, OSError) else "this is no name of a machine"
        raise CannotBeginError(
            f"the page cannot be served at {host}, port {port}: {reason}; choose another --host or --port, "
            "such as 0 for any port that is free"
        ) from error
    address, own_port, *_ = server.socket.getsockname()
    if not ip_address(address).is_loopback:
        warn(f"whoever reaches {host} can use the page, without a password and without encryption")
    Thread(target=server.serve_forever, daemon=True).start()
    where = f"[{address}]" if ":" in address else address
    say(f"The page is at http://{where}:{own_port}/ until Ctrl-C.")
    try:
        # In this thread, since it is the one that a signal interrupts: a process half open is then ended too.
        while True:
            for one in served:
                if one.state == "opening":
                    with starting(one.name):
                        one.open()
            sleep(POLL)
    finally:
        for one in served:
            one.close()
