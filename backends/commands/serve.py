"""The command `serve`."""

from contextlib import ExitStack
from typing import Annotated

import typer

from backends import commands as options
from backends import installed
from common import terminal

Port = Annotated[
    int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes any that is free.")
]
ServedBackends = Annotated[
    str | None,
    options.several_backends("numpy and the installed frameworks, without their variants"),
]


def serve(
    run: options.RunOrBundled = None,
    port: Port = 8000,
    backends: ServedBackends = None,
    threads: options.Threads = None,
) -> None:
    """Serve a page to try a run: type a sentence, see each backend's translation,
    its time, and how sure it is."""
    from backends.process.parent import Runtime
    from backends.process.side_by_side import open_side_by_side
    from backends.serve.server import PageServer
    from common.run import BUNDLED_RUN, RunDirectory
    from common.sources import Sources

    names = installed(variants=False) if backends is None else options.installed_backends(backends)
    opened, runtime = RunDirectory.open(run or BUNDLED_RUN), Runtime(threads=threads)
    vocabulary, _ = opened.vocabularies
    title = str(run or "the bundled run")
    with (
        PageServer(port, title, vocabulary, Sources.of_run(opened)) as server,
        ExitStack() as stack,
    ):
        with terminal.starting(", ".join(names)):
            server.backends = stack.enter_context(
                open_side_by_side(opened, "last", runtime, names, terminal.warn)
            )
        terminal.say(f"The page is at http://127.0.0.1:{server.server_port}/ until Ctrl-C.")
        server.serve_forever()
