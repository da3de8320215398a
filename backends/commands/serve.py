"""The command `serve`."""

from typing import Annotated

import typer

from backends import commands as options
from backends import installed

Port = Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes any that is free.")]
Backends = Annotated[
    str | None, options.several_backends("numpy and the installed frameworks, without their variants")
]


def serve(
    run: options.RunOrBundled = None,
    port: Port = 8000,
    backends: Backends = None,
    threads: options.Threads = None,
) -> None:
    """Serve a page to try a run: type a sentence, see each backend's translation, its time, and how sure it is."""
    from backends.process.parent import Runtime
    from backends.serve.page import serve as serve_page
    from common.run import BUNDLED_RUN

    names = installed(variants=False) if backends is None else options.installed_backends(backends)
    serve_page(run or BUNDLED_RUN, port, names, Runtime(threads=threads))
