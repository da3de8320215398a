"""The benchmark script: `python -m benchmarks` is `rosetta bench`."""

from functools import partial

import typer

from benchmarks.commands import bench
from common.terminal import run_to_the_end

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
app.command()(bench)

if __name__ == "__main__":
    run_to_the_end(partial(app, prog_name="python -m benchmarks"))
