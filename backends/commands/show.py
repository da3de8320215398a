"""The commands `backends` and `data`, which show what is there."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from backends import TABLE, framework_of, require_known, resolved
from backends import commands as options
from common import terminal
from common.errors import RosettaError
from common.settings import DataConfig, ModelConfig, TrainConfig

Names = Annotated[
    list[str] | None,
    typer.Argument(
        help="Backends to show.", show_default="numpy and the frameworks, without their variants"
    ),
]

# A row of the table of backends.
BACKENDS_ROW = "{:19} {:21} {:6} {:>7} {:>6}"
BACKENDS_HEADER = BACKENDS_ROW.format("backend", "version", "device", "threads", "import")


def backends(
    names: Names = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Show which backends are installed, and what each reports of itself,
    each as soon as it has answered.

    They are started side by side, so importing a framework takes longer here than alone.
    """
    from backends.process.parent import BackendProcess, Runtime
    from backends.process.side_by_side import start_side_by_side

    chosen = list(dict.fromkeys(map(resolved, names or map(framework_of, TABLE))))
    for name in chosen:
        require_known(name)
    if not json:
        terminal.say(BACKENDS_HEADER)
    model = ModelConfig(2, 3, start_token=0, stop_token=1, latent_dim=4)
    runtime = Runtime(threads)
    facts_of = {}
    with start_side_by_side(
        chosen, lambda name: BackendProcess(name, model, TrainConfig(), runtime)
    ) as started:
        for name, future in started:
            try:
                with future.result() as process:
                    facts_of[name] = asdict(process.facts)
            except RosettaError as error:  # it is not there, or it is there and broken
                facts_of[name] = {"missing": str(error)}
            if not json:
                _say_backend(name, facts_of[name])
    if json:
        terminal.print_json({"backends": {name: facts_of[name] for name in chosen}})


def _say_backend(name: str, facts: Mapping[str, Any]) -> None:
    """Print the facts that a backend reported of itself, under BACKENDS_HEADER,
    or the reason why it cannot start."""
    if "missing" in facts:
        return terminal.say(f"{name:19} {facts['missing']}")
    seconds = f"{facts['import_seconds']:.1f} s"
    terminal.say(
        BACKENDS_ROW.format(name, facts["version"], facts["device"], facts["threads"], seconds)
    )


def data(
    data: options.Data = DataConfig.data,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    json: options.Json = False,
) -> None:
    """Show what a corpus is like: sizes as the example prints them,
    duplicates, padding, memory, and some pairs."""
    from common.corpus import corpus_statistics, read_corpus

    config = DataConfig(data=data, num_samples=num_samples, skip_bad_lines=skip_bad_lines)
    figures = corpus_statistics(read_corpus(config))
    if json:
        return terminal.print_json({"data": data} | figures)
    pairs = [pair.values() for pair in figures.pop("pairs")]
    tensors = {
        name: f"{tensor['shape']} {tensor['dtype']}"
        for name, tensor in figures.pop("tensors").items()
    }
    figures |= {
        "padding": f"{figures['padding']:.1%}",
        "one_hot_bytes": f"{figures['one_hot_bytes']:,}",
    }
    terminal.out.print(terminal.table(data, ["figure", "value"], figures.items()))
    terminal.out.print(
        terminal.table("Tensors of the whole corpus", ["tensor", "shape and type"], tensors.items())
    )
    terminal.out.print(terminal.table("Pairs at equal distances", ["source", "target"], pairs))
