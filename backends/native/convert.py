"""Writes a run as a framework's own files, and makes a run of such files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backends import find
from backends.process import in_child
from backends.process.parent import Runtime
from common.corpus import Pair, prepare
from common.errors import RosettaError
from common.files import new_folder
from common.run import RunDirectory, refuse_existing
from common.settings import DataConfig, ModelConfig, Precision, TrainConfig
from common.tensors import model_config

CONVERTING = Runtime(threads=1)  # one is enough, since nothing is computed


def export_native(run: RunDirectory, weights: str, backend: str, out: Path) -> list[str]:
    """Write the `last` or `best` weights of a run into the folder `out` as a backend's framework keeps them.

    Returns the names of the files.
    """
    find(backend)
    refuse_existing(out, "choose another --out")
    with (
        new_folder(out) as folder,
        CONVERTING.start(backend, run.model_config, run.train_config) as process,
    ):
        return process.call(in_child.save_native, run=run.path, weights=weights, folder=folder)


def import_native(
    paths: Sequence[Path], backend: str, out: Path, like: Path | DataConfig, dtype: Precision, latent_dim: int | None
) -> None:
    """Make a run of the weights and slots that files of a backend's framework hold. The run has no epoch yet.

    Such files hold no vocabulary and no pairs. These, and the settings, are those of the run `like`, or those that
    `train` would begin with on this corpus, in the precision `dtype`. The files say how many units the model has.
    Raises RosettaError where that is not `latent_dim`.
    """
    find(backend)
    refuse_existing(out, "choose another name for the run")
    pairs: Sequence[Pair]
    if isinstance(like, Path):
        run = RunDirectory.open(like)
        model, train, data, sha256 = run.model_config, run.train_config, run.data_config, run.sha256
        pairs, vocabularies = run.pairs(), run.vocabularies()
    else:
        train, data = TrainConfig(), like
        material, sha256 = prepare(data, train.seed, dtype)
        pairs, vocabularies = material.pairs, (material.encoder_vocabulary, material.decoder_vocabulary)
        model = model_config(material.batch, material.decoder_vocabulary, ModelConfig.latent_dim, dtype)
    with CONVERTING.start(backend, model, train) as process:
        state = process.call(in_child.read_native, paths=paths)
    units = len(state.weights["encoder/recurrent_kernel"])
    if latent_dim not in (None, units):
        raise RosettaError(
            f"the model in {paths[0]} has {units} units, and --latent-dim is {latent_dim}; leave it out"
        )
    RunDirectory.create(
        out, backend, (replace(model, latent_dim=units), train, data), sha256, pairs, vocabularies, state
    )
