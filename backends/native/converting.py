"""Writes a run as a framework's own files, and makes a run of such files."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from backends import TABLE, find, framework_of
from backends.native import convert_in_child
from backends.process import READ_SECONDS
from backends.process.parent import BackendProcess, Runtime
from common.corpus import prepare
from common.errors import CannotBeginError, RosettaError
from common.files import new_folder, scratch_folder, write_json
from common.models import axis_of_units, model_of
from common.run import RunDirectory, refuse_existing
from common.settings import DataConfig, ModelConfig, ModelName, Precision, TrainConfig
from common.tensors import model_config

ONNX = ("onnx", "onnxruntime", "onnxscript", "rosetta_diff")  # the last compares what both compute
VOCABULARY = "vocabulary.json"
CONVERTING = Runtime(threads=1)  # one is enough, since nothing is computed


def export_native(
    run: RunDirectory, weights: str, backend: str, out: Path
) -> tuple[list[str], str]:
    """Write the `last` or `best` weights of a run into the folder `out`
    as a backend's framework keeps them.

    Returns the names of the files, and a program that loads the weights
    into the backend's model file.
    """
    find(backend)
    refuse_existing(out, "choose another --out")
    with (
        new_folder(out) as folder,
        BackendProcess(backend, run.model_config, run.train_config, CONVERTING) as process,
    ):
        files, loads = process.call(
            convert_in_child.save_native, run=run.path, weights=weights, folder=folder
        )
        _write_vocabulary(run, folder)
    model = run.model_config
    name = TABLE[framework_of(backend)].file_of(model.model).rpartition(".")[2]
    sizes = ", ".join(map(str, model_of(model).sizes(model)))
    imports, loads = loads.format(model=str(out / files[0])).split("\n\n")
    program = f"""\
{imports}
from backends import {name} as api  # or `import {name} as api`, of a copy

api.prepare("{model.dtype}")
model = api.Seq2Seq({sizes})
{loads}"""
    return [*files, VOCABULARY], program


def _write_vocabulary(run: RunDirectory, folder: Path) -> None:
    """Write the characters of both sides, by their ids, and the length to which spaces pad what the
    encoder reads, null where padding is masked."""
    encoder, decoder = (list(vocabulary.characters) for vocabulary in run.vocabularies)
    padded_to = None if run.model_config.padding == "mask" else run.max_encoder_seq_length
    write_json(
        folder / VOCABULARY, {"encoder": encoder, "decoder": decoder, "padded_to": padded_to}
    )


def export_onnx(run: RunDirectory, weights: str, out: Path) -> list[str]:
    """Write the `last` or `best` weights of a run as graphs of ONNX into the folder `out`.

    Returns the names of the files. Raises RosettaError
    where ONNX Runtime does not compute what PyTorch computes.
    """
    find("torch")
    model = run.model_config
    if model.model != "lstm":
        raise CannotBeginError(f"the model is {model.model}, and graphs of ONNX hold lstm alone")
    for package in ONNX:
        if not find_spec(package):
            raise CannotBeginError(
                f"--to onnx needs {package}; run in the clone: pip install -e '.[torch,onnx]' -e "
                "./porting"
            )
    if model.dtype != "float32":
        raise CannotBeginError(
            f"{run.path} is of {model.dtype}; ONNX Runtime has LSTMs of float32 alone"
        )
    refuse_existing(out, "choose another --out")
    with new_folder(out) as folder, scratch_folder() as records:
        with BackendProcess("torch", model, run.train_config, CONVERTING) as process:
            files = process.call(
                convert_in_child.save_onnx,
                run=run.path,
                weights=weights,
                folder=folder,
                records=records,
            )
        _write_vocabulary(run, folder)
    return [*files, VOCABULARY]


def import_native(
    paths: Sequence[Path],
    backend: str,
    out: Path,
    like: Path | DataConfig,
    name: ModelName,
    dtype: Precision,
    latent_dim: int | None,
) -> None:
    """Make a run of the weights and slots that files of a backend's framework hold.
    The run has no epoch yet.

    Such files hold no vocabulary and no pairs. These, and the settings, are those of the run
    `like`, or those that `train` would begin with on this corpus, of the model `name` in the
    precision `dtype`. The files say how many units the model has. Raises RosettaError where that is
    not `latent_dim`, and for files that are not read within READ_SECONDS.
    """
    find(backend)
    refuse_existing(out, "choose another name for the run")
    if isinstance(like, Path):
        run = RunDirectory.open(like)
        model = run.model_config
        train = run.train_config
        data = run.data_config
        material = run.material()
    else:
        train, data = TrainConfig(), like
        material = prepare(data, train.seed, dtype)
        model = model_config(
            material.batch, material.decoder_vocabulary, ModelConfig.latent_dim, dtype, name
        )
    with BackendProcess(backend, model, train, CONVERTING) as process:
        state = process.call(convert_in_child.read_native, None, READ_SECONDS, paths=paths)
    weight, axis = axis_of_units(model)
    units = state.weights[weight].shape[axis]
    if latent_dim not in (None, units):
        raise RosettaError(
            f"the model in {paths[0]} has {units} units, and --latent-dim is {latent_dim}; leave "
            "it out"
        )
    RunDirectory.create(
        out, backend, (replace(model, latent_dim=units), train, data), material, state
    )
