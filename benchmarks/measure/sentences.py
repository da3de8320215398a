"""The sentences that every backend decodes, and the weights that all of them decode with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.process import in_child
from backends.process.parent import BackendProcess, timeout_for
from benchmarks.measure.recording import MOST_REFERENCES, ShownSentence, Work
from common.config import ModelConfig
from common.errors import CannotBeginError
from common.material import Material
from common.run_directory import BUNDLED_RUN, STATE_FILES, RunDirectory
from common.scoring import references
from common.tensors import max_decoded_length
from common.weights import ModelState, initial_state

TIMED = 512  # the number of held-out sources that a timed call decodes in one batch
SHOWN = 5  # a report shows this many sentences that were trained on and as many that were held out
SHOWN_SEED = 1  # seed with which these sentences are drawn


@dataclass(frozen=True)
class Weights:
    """The weights that all backends decode with."""

    words: str  # a description of where the weights are from
    sha256: str  # of the file with the weights; "" for fresh weights
    state: ModelState
    trained: frozenset[str]  # the sources that the weights were trained on


def weights_for(material: Material, model: ModelConfig, run: str, seed: int) -> Weights:
    """The last weights of the folder `run`, or if that is "", of the bundled run.

    A run fits if its characters, sentence lengths and number of units are those of this corpus and model. If the
    bundled run does not fit, the weights are fresh, drawn from `seed`. Raises CannotBeginError if `run` does not fit.
    """
    folder = Path(run) if run else BUNDLED_RUN
    directory = RunDirectory.open(folder)
    own = Material.of_run(directory)
    if _shape(own) != _shape(material) or directory.model_config.latent_dim != model.latent_dim:
        if run:
            raise CannotBeginError(
                f"{run} has other characters, sentence lengths or units than this benchmark; give the benchmark the "
                "run's own --data, --num-samples and --latent-dim, or leave out --run"
            )
        return Weights("fresh weights, which were not trained", "", initial_state(model, seed), frozenset())
    state, place = directory.read_state("last", model.dtype)
    digest = sha256((folder / STATE_FILES["last"]).read_bytes()).hexdigest()
    words = f"the weights of {run or 'the bundled run'} after {place.epoch} epochs"
    return Weights(words, digest, state, frozenset(own.pairs[row][0] for row in own.training_rows))


def _shape(material: Material) -> tuple[Any, ...]:
    """The characters of either side, and the longest lengths."""
    vocabularies = material.encoder_vocabulary.characters, material.decoder_vocabulary.characters
    return (*vocabularies, material.max_encoder_seq_length, material.max_decoder_seq_length)


class Sentences:
    """The sources that are decoded, with their references and the arguments of the calls that decode them."""

    def __init__(self, material: Material, weights: Weights) -> None:
        self.material, self.weights = material, weights
        held_out = dict.fromkeys(material.pairs[row][0] for row in material.validation_rows)
        self.held_out = [source for source in held_out if source not in weights.trained]
        training = (material.pairs[row][0] for row in material.training_rows)
        # None if the weights are fresh.
        trained = list(dict.fromkeys(source for source in training if source in weights.trained))
        self.references = references(material.pairs, [*trained, *self.held_out])
        rng = np.random.default_rng(SHOWN_SEED)  # they are drawn at random, so that nobody has picked them
        self.shown = [
            ShownSentence(sources[place], self.references[sources[place]][:MOST_REFERENCES], is_held_out)
            for sources, is_held_out in ((trained, False), (self.held_out, True))
            for place in rng.permutation(len(sources))[:SHOWN]
        ]

    @cached_property
    def held_out_references(self) -> list[Sequence[str]]:
        """The references of each held-out source."""
        return [self.references[source] for source in self.held_out]

    @cached_property
    def longest(self) -> int:
        """The index in `held_out` of the source that has the longest reference."""
        return max(range(len(self.held_out)), key=lambda n: max(map(len, self.held_out_references[n])))

    def timed(self, work: Work) -> dict[str, Any]:
        """The arguments of `in_child.decoding` for a batch of many sources, or for only the `longest` one."""
        sources = self.held_out[:TIMED] if work == "batch" else [self.held_out[self.longest]]
        return self._arguments(sources) | {"state": self.weights.state}

    def decoded(self, process: BackendProcess, sources: Sequence[str]) -> NDArray[np.int64]:
        """Ids (N, max_length) of the translations of `sources` by a backend, with the weights that it has loaded."""
        timeout = timeout_for(sentences=len(sources))
        return process.call(in_child.search, None, timeout, **self._arguments(sources)).ids[:, 0]

    def text(self, ids: NDArray[np.integer]) -> str:
        return self.material.decoder_vocabulary.text_of(ids)

    def characters(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """The number of characters (N,) in each row of ids (N, L), up to and including the "\\n"."""
        stopped = ids == self.material.decoder_vocabulary.id_of["\n"]
        counts: NDArray[np.int64] = np.where(stopped.any(1), stopped.argmax(1) + 1, ids.shape[1])
        return counts

    def _arguments(self, sources: Sequence[str]) -> dict[str, Any]:
        """The arguments of `in_child.search` for these sources."""
        ids, lengths = self.material.encoder_vocabulary.encode(sources, self.material.max_encoder_seq_length)
        longest = max_decoded_length(self.material.max_decoder_seq_length)
        return {"encoder_ids": ids, "encoder_lengths": lengths, "max_length": longest}
