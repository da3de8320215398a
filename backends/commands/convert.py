"""The command `convert`."""

from pathlib import Path
from typing import Annotated

import typer

from backends import NATIVE, framework_of
from backends import commands as options
from common import terminal
from common.errors import CannotBeginError
from common.settings import DataConfig, ModelConfig
from common.text import listed, quoted

TARGETS = *NATIVE, "onnx", "weights"
Target = Annotated[
    str | None,
    typer.Option(
        help="Format to write, a framework's own, ONNX graphs or a run of weights alone: "
        f"{', '.join(TARGETS)}.",
        callback=options.resolved_or_none,
    ),
]
RunToConvert = Annotated[
    Path,
    typer.Argument(help="The run to convert, or with --from the run to make.", show_default=False),
]
SecondFile = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]", help="A second file of --from.")
]
FilesOfModel = Annotated[
    list[Path] | None,
    typer.Option(
        "--from",
        metavar="FILE [FILE]",
        help="A model's file and, where it has one, its optimizer's.",
    ),
]
BackendOfFiles = Annotated[
    str | None, options.one_backend(f"Backend that reads the files of --from: {options.BACKENDS}.")
]
RunOfVocabulary = Annotated[
    Path | None,
    typer.Option(
        "--vocabulary", help="A run whose vocabulary, pairs and settings the new one has."
    ),
]
CorpusOfModel = Annotated[str | None, options.data_option]
LatentDimOfFile = Annotated[
    int | None, options.option_of(ModelConfig, "latent_dim", show_default="that of the file")
]


def convert(
    context: typer.Context,
    run: RunToConvert,
    more: SecondFile = None,
    to: Target = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write.", show_default="RUN-NAME")
    ] = None,
    weights: options.Weights = "last",
    from_: FilesOfModel = None,
    backend: BackendOfFiles = None,
    vocabulary: RunOfVocabulary = None,
    data: CorpusOfModel = None,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    latent_dim: LatentDimOfFile = None,
    model: options.ModelOption = ModelConfig.model,
    dtype: options.DtypeOfModel = ModelConfig.dtype,
    json: options.Json = False,
) -> None:
    """Write a run as a framework's own files, or make a run of such files.

    `convert RUN --to torch` writes RUN-torch. `convert RUN --to onnx` writes RUN-onnx, the encoder
    and one step of the decoder, if ONNX Runtime computes with them what PyTorch computes. `convert
    RUN --to weights` writes RUN-weights, a run of the weights alone, much smaller and enough to
    translate with. `convert RUN --from model.pt optimizer.pt --backend torch` makes RUN; such files
    hold no vocabulary, so it needs --data, the corpus that the model was trained on, or
    --vocabulary.
    """
    from backends.native.converting import export_native, export_onnx, import_native
    from common.run import RunDirectory

    settings = ["data", "num_samples", "skip_bad_lines", "model", "dtype"]
    if to is not None:
        options.refuse(
            context,
            ["from_", "backend", "vocabulary", *settings, "latent_dim"],
            "--to writes a run as it is",
        )
        if framework_of(to) not in TARGETS:
            raise CannotBeginError(f"--to is {to!r}; choose one of {', '.join(TARGETS)}")
        if more:
            raise CannotBeginError(f"--to writes one run; leave out {more[0]}")
        named = run if run.name.strip(".") else run.resolve()  # beside it, not within
        out = out or Path(f"{named}-{to.replace(':', '-')}")
        if to == "weights":
            RunDirectory.open(run).write_weights(weights, out)
            return (
                terminal.print_json({"run": str(run), "folder": str(out)})
                if json
                else terminal.say(f"The run is in {quoted(out)}")
            )
        opened = RunDirectory.open(run)
        if to == "onnx":
            files = export_onnx(opened, weights, out)
            next_step = f'Translate with: python docs/decode_onnx.py {quoted(out)} "I love you!"'
        else:
            files, program = export_native(opened, weights, to, out)
            next_step = f"These lines load it:\n{program}"
        if json:
            return terminal.print_json(
                {"backend": to, "run": str(run), "folder": str(out), "files": files}
            )
        for line in [f"{quoted(out)} holds {listed(files)}.", *next_step.split("\n")]:
            terminal.say(line)
        return None
    if not from_ or backend is None:
        raise CannotBeginError(
            "convert needs --to NAME, or --from FILE and --backend NAME; see --help"
        )
    options.refuse(context, ["out", "weights"], "--from makes the run RUN")
    if vocabulary is not None:
        options.refuse(context, settings, "--vocabulary takes that run's settings")
    elif data is None:
        raise CannotBeginError(
            "files of frameworks hold no vocabulary: give --data, the corpus that the model was "
            "trained on, or --vocabulary, a run that has the same"
        )
    like = vocabulary or DataConfig(str(data), num_samples, skip_bad_lines=skip_bad_lines)
    import_native([*from_, *(more or [])], backend, run, like, model, dtype, latent_dim)
    if json:
        return terminal.print_json({"backend": backend, "run": str(run), "epochs": 0})
    command = f"rosetta train --out {quoted(run)} --resume --epochs 1"
    terminal.say(f"The run is in {quoted(run)}. Train it on with: {command}")
