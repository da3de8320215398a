"""The sentences that every backend of a bench decodes, and the weights for it."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.process import timeout_for
from backends.process.parent import BackendProcess
from benchmarks import measure_in_child
from benchmarks.schema import MOST_REFERENCES, Decoded, ShownSentence, Work
from common.corpus import Material
from common.errors import CannotBeginError
from common.run import BUNDLED_RUN, STATE, RunDirectory
from common.scoring import references, score
from common.settings import ModelName
from common.tensors import Batch, model_config
from common.text import count
from common.weights import initial_state

TIMED = 512  # held-out sources in the batch of a timed call
SHOWN = 5  # sentences of a report that were trained on, and as many that were held out
SHOWN_SEED = 1  # seed for drawing these sentences


def _shape(material: Material) -> tuple[Any, ...]:
    """The characters and the longest length of either side."""
    vocabularies = material.encoder_vocabulary.characters, material.decoder_vocabulary.characters
    return (*vocabularies, material.max_encoder_seq_length, material.max_decoder_seq_length)


class Sentences:
    """The sentences, as rows of the material, with their references, and the weights.

    The weights are the last ones of the folder `run`, or if that is "", of the bundled run. A run
    fits if its characters, sentence lengths, number of units and model are those of this corpus and
    model. If the bundled run does not fit, the weights are fresh, drawn from `seed`. Raises
    CannotBeginError if `run` does not fit, and if the weights were trained on every sentence that
    is held out here.
    """

    def __init__(
        self, material: Material, latent_dim: int, name: ModelName, run: str, seed: int
    ) -> None:
        self.material, folder = material, Path(run) if run else BUNDLED_RUN
        model = model_config(
            material.batch, material.decoder_vocabulary, latent_dim, "float32", name
        )
        directory = RunDirectory.open(folder)
        of_run = directory.material()
        fits = (
            directory.model_config.latent_dim == latent_dim and directory.model_config.model == name
        )
        if fits and _shape(of_run) == _shape(material):
            self.state, place = directory.read_state("last", model.dtype)
            self.digest = sha256((folder / STATE).read_bytes()).hexdigest()
            epochs = count(place.epoch, "epoch")
            self.weights = f"the weights of {run or 'the bundled run'} after {epochs}"  # in words
            trained_on = {of_run.pairs[row][0] for row in of_run.training_rows}
        elif run:
            raise CannotBeginError(
                f"{run} has other characters, sentence lengths, units or model than this "
                "benchmark; give the benchmark the run's own --data, --num-samples, --latent-dim "
                "and --model, or leave out --run"
            )
        else:
            self.state, self.digest, trained_on = initial_state(model, seed), "", set()
            self.weights = "fresh weights, which were not trained"

        def rows_of(rows: NDArray[np.int64], trained: bool) -> dict[str, int]:
            """A row of each source that the weights were trained on or,
            if not `trained`, were not trained on."""
            sources = ((material.pairs[row][0], int(row)) for row in rows)
            return {source: row for source, row in sources if (source in trained_on) == trained}

        training = rows_of(material.training_rows, True)
        held_out = rows_of(material.validation_rows, False)
        if not held_out:
            raise CannotBeginError(
                f"{self.weights} were trained on every sentence that is held out here; give "
                "another --seed, or leave out --run"
            )
        of_source = references(material.pairs, [*training, *held_out])
        # They are drawn at random, so that nobody has picked them.
        rng = np.random.default_rng(SHOWN_SEED)
        drawn = [
            (source, sources[source], sources is held_out)
            for sources in (training, held_out)
            for source in np.array([*sources], object)[rng.permutation(len(sources))[:SHOWN]]
        ]
        self.shown = [
            ShownSentence(source, of_source[source][:MOST_REFERENCES], unseen)
            for source, _, unseen in drawn
        ]
        self.shown_rows = [row for _, row, _ in drawn]
        self.held_out_rows = [*held_out.values()]
        self.references = [of_source[source] for source in held_out]  # of each held-out source
        by_length = sorted(held_out, key=lambda source: max(map(len, of_source[source])))
        # Sources of the timed calls: many at once,
        # or only one whose reference has the median length.
        alone = held_out[by_length[len(by_length) // 2]]
        rows: dict[Work, list[int]] = {"batch": self.held_out_rows[:TIMED], "alone": [alone]}
        self.timed: Mapping[Work, Batch] = {
            work: self._batch(of_work) for work, of_work in rows.items()
        }

    def decoded_by(self, process: BackendProcess, row: int, scored: bool) -> Decoded:
        """Have a row's process decode the shown sentences and, if `scored`, all held-out ones."""
        shown = self._texts(process, self.shown_rows)
        scores = (
            score(self._texts(process, self.held_out_rows), self.references) if scored else None
        )
        return Decoded(row, shown, len(self.timed["batch"]), scores)

    def _batch(self, rows: Sequence[int]) -> Batch:
        return self.material.batch.take(np.array(rows))

    def _texts(self, process: BackendProcess, rows: Sequence[int]) -> list[str]:
        """The translations of these rows' sources."""
        timeout = timeout_for(sentences=len(rows))
        translations = process.call(
            measure_in_child.decode, None, timeout, state=self.state, batch=self._batch(rows)
        )
        return [self.material.decoder_vocabulary.text_of(ids) for ids in translations]
