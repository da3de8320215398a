"""What is decoded, and with which weights: the same for every backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.process import SILENCE, BackendProcess
from backends.session import SECONDS_A_SENTENCE, Material
from benchmarks.measure.recording import Shown
from common import decoding
from common.config import ModelConfig
from common.corpus import references
from common.decoding import max_decoded_length, text_of
from common.errors import CannotBeginError
from common.run_directory import BUNDLED_RUN, STATE_FILES, RunDirectory
from common.weights import ModelState, initial_state

TIMED = 512  # held-out sources that are decoded in one call when decoding is timed
SHOWN = 5  # sentences of training that a report shows, and as many held-out ones
SHOWN_SEED = 1  # by which they are drawn


@dataclass(frozen=True)
class Weights:
    """What all backends decode with."""

    words: str  # where they are from
    sha256: str  # of the file that holds them; "" of fresh ones
    state: ModelState
    trained: frozenset[str]  # the sources that they were trained on


def weights_for(material: Material, model: ModelConfig, run: str, seed: int) -> Weights:
    """Those of a run; of the bundled one where none is named and the bundled one fits; else fresh ones.

    Raises CannotBeginError for a run that is named and does not fit the corpus.
    """
    folder = Path(run) if run else BUNDLED_RUN
    directory = RunDirectory.open(folder)
    source, target = directory.vocabularies()
    own = Material.of_run(directory)
    found = (source.characters, target.characters, own.max_encoder_seq_length, own.max_decoder_seq_length)
    expected = (
        material.encoder_vocabulary.characters,
        material.decoder_vocabulary.characters,
        material.max_encoder_seq_length,
        material.max_decoder_seq_length,
    )
    if found != expected or directory.model_config.latent_dim != model.latent_dim:
        if run:
            raise CannotBeginError(
                f"{run} was trained on other characters, lengths or units than this benchmark has; give the "
                "benchmark the run's own --data, --num-samples and --latent-dim, or leave out --run"
            )
        return Weights("fresh weights, which were not trained", "", initial_state(model, seed), frozenset())
    state, place = directory.read_state("last", model.dtype)
    digest = sha256((folder / STATE_FILES["last"]).read_bytes()).hexdigest()
    words = f"the weights of {run or 'the bundled run'} after {place.epoch} epochs"
    return Weights(words, digest, state, frozenset(own.pairs[row][0] for row in own.training_rows))


class Sentences:
    """The sources that are decoded, and what is needed to decode them."""

    def __init__(self, material: Material, weights: Weights) -> None:
        self.material, self.weights = material, weights
        self.references = references(material.pairs)
        held_out = dict.fromkeys(material.pairs[row][0] for row in material.validation_rows)
        self.held_out = [source for source in held_out if source not in weights.trained]
        training = dict.fromkeys(material.pairs[row][0] for row in material.training_rows)
        trained = [source for source in training if source in weights.trained]  # none, where the weights are fresh
        rng = np.random.default_rng(SHOWN_SEED)
        self.shown = [
            Shown(source, self.references[source], is_held_out)
            for sources, is_held_out in ((trained, False), (self.held_out, True))
            for source in _some(sources, rng)
        ]
        self.max_length = max_decoded_length(material.max_decoder_seq_length)

    @cached_property
    def against(self) -> list[Sequence[str]]:
        """The references of each held-out source."""
        return [self.references[source] for source in self.held_out]

    @cached_property
    def longest(self) -> int:
        """The place among the held-out sources of the one with the longest translation in the corpus."""
        return max(range(len(self.held_out)), key=lambda n: max(map(len, self.references[self.held_out[n]])))

    @cached_property
    def timed_together(self) -> dict[str, Any]:
        """Arguments of `scenarios.decoding` for many sources in one call."""
        return self._arguments(self.held_out[:TIMED]) | {"state": self.weights.state}

    @cached_property
    def timed_alone(self) -> dict[str, Any]:
        """The same for the longest one by itself."""
        return self._arguments([self.held_out[self.longest]]) | {"state": self.weights.state}

    def decoded(self, process: BackendProcess, sources: Sequence[str]) -> NDArray[np.int64]:
        """Ids (N, max_length) of what a backend makes of the sources, with the weights that it has."""
        listening = process.listening(silence=SILENCE + SECONDS_A_SENTENCE * len(sources))
        return listening.call(decoding.translate, **self._arguments(sources))

    def text(self, ids: NDArray[np.integer]) -> str:
        return text_of(ids, self.material.decoder_vocabulary)

    def characters(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """(N,) characters that rows of ids (N, L) put out, up to and with the "\\n"."""
        stopped = ids == self.material.decoder_vocabulary.id_of["\n"]
        counts: NDArray[np.int64] = np.where(stopped.any(1), stopped.argmax(1) + 1, ids.shape[1])
        return counts

    def _arguments(self, sources: Sequence[str]) -> dict[str, Any]:
        ids, lengths = self.material.encoder_vocabulary.encode(sources, self.material.max_encoder_seq_length)
        return {"encoder_ids": ids, "encoder_lengths": lengths, "max_length": self.max_length}


def _some(sources: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Some of them by chance, none by hand."""
    return [sources[place] for place in rng.permutation(len(sources))[:SHOWN]]
