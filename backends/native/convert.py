"""Writes a run as a framework's own files, and makes a run of such files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backends import find
from backends.process import in_child
from backends.process.parent import Runtime
from common.config import DataConfig, ModelConfig, TrainConfig
from common.files import new_folder
from common.material import prepare
from common.run_directory import RunDirectory, refuse_existing
from common.stored import Pair
from common.tensors import CharVocabulary, model_config

CONVERTING = Runtime(threads=1)  # one is enough, since nothing is computed

# What a run needs beside weights and slots, as RunDirectory.create takes it: settings, the SHA-256 of the corpus's
# text, pairs and vocabularies. The files of frameworks hold none of these.
Contents = tuple[
    tuple[ModelConfig, TrainConfig, DataConfig], str, Sequence[Pair], tuple[CharVocabulary, CharVocabulary]
]


def export_native(run: RunDirectory, weights: str, backend: str, out: Path) -> list[str]:
    """Write the `last` or `best` weights of a run into the folder `out` as a backend's framework keeps them.

    Returns the names of the files.
    """
    find(backend)
    refuse_existing(out, "choose another --out")
    run.read_state(weights)
    with (
        new_folder(out) as folder,
        CONVERTING.start(backend, run.model_config, run.train_config) as process,
    ):
        return process.call(in_child.save_native, run=run.path, weights=weights, folder=folder)


def of_corpus(data: DataConfig, settings: TrainConfig, dtype: str) -> Contents:
    """The contents of a run that `train` would begin on this corpus."""
    material, sha256 = prepare(data, settings.seed, dtype)
    model = model_config(material.batch, material.decoder_vocabulary, ModelConfig.latent_dim, dtype)
    vocabularies = material.encoder_vocabulary, material.decoder_vocabulary
    return (model, settings, data), sha256, material.pairs, vocabularies


def of_run(path: Path) -> Contents:
    """The contents of an existing run, which is named by its folder or its vocabulary.json."""
    run = RunDirectory.open(path.parent if path.name == "vocabulary.json" else path)
    return (run.model_config, run.train_config, run.data_config), run.sha256, run.pairs(), run.vocabularies()


def import_native(
    paths: Sequence[Path], backend: str, contents: Contents, out: Path, latent_dim: int | None = None
) -> RunDirectory:
    """Make a run of the weights and slots that files of a backend's framework hold. The run has no epoch yet.

    The `latent_dim` of the contents is not looked at: the files say how many units the model has. Raises RosettaError
    where it has another number of units than the argument `latent_dim`.
    """
    find(backend)
    refuse_existing(out, "choose another name for the run")
    (model, train, data), sha256, pairs, vocabularies = contents
    with CONVERTING.start(backend, model, train) as process:
        state = process.call(in_child.read_native, paths=paths, latent_dim=latent_dim)
    found = len(state.weights["encoder/recurrent_kernel"])
    configs = replace(model, latent_dim=found), train, data
    return RunDirectory.create(out, backend, configs, sha256, pairs, vocabularies, state)
