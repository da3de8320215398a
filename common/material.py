"""A corpus made ready for a model: its pairs, vocabularies, ids, and the split into training and validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.config import DataConfig
from common.corpus import read_corpus, split
from common.run_directory import RunDirectory
from common.stored import Pair
from common.tensors import START, STOP, Batch, CharVocabulary


@dataclass(frozen=True)
class Material:
    """Sentence pairs made ready for a model."""

    pairs: Sequence[Pair]
    encoder_vocabulary: CharVocabulary
    decoder_vocabulary: CharVocabulary
    batch: Batch  # all of the pairs
    training_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]

    @classmethod
    def of_pairs(
        cls, pairs: Sequence[Pair], config: DataConfig, seed: int, dtype: str, padding: str = "space"
    ) -> "Material":
        """Build the vocabularies of the pairs, encode the pairs, and split them as `config` says."""
        encoder_vocabulary = CharVocabulary(source for source, _ in pairs)
        decoder_vocabulary = CharVocabulary(START + target + STOP for _, target in pairs)
        batch = Batch.of_pairs(pairs, encoder_vocabulary, decoder_vocabulary, dtype, padding)
        return cls(pairs, encoder_vocabulary, decoder_vocabulary, batch, *split(pairs, config, seed))

    @classmethod
    def of_run(cls, run: RunDirectory, dtype: str | None = None) -> "Material":
        """The material of a run, in the run's precision or in `dtype`.

        Its pairs give the same vocabularies and the same split as when it was begun.
        """
        pairs = run.pairs()
        encoder_vocabulary, decoder_vocabulary = run.vocabularies()
        model = run.model_config
        batch = Batch.of_pairs(pairs, encoder_vocabulary, decoder_vocabulary, dtype or model.dtype, model.padding)
        rows = split(pairs, run.data_config, run.train_config.seed)
        return cls(pairs, encoder_vocabulary, decoder_vocabulary, batch, *rows)

    @property
    def max_encoder_seq_length(self) -> int:
        """T_enc, the length of the longest source"""
        return int(self.batch.encoder_ids.shape[1])

    @property
    def max_decoder_seq_length(self) -> int:
        """T_dec, the length of the longest target, "\\t" and "\\n" counted"""
        return int(self.batch.decoder_input_ids.shape[1])


def prepare(config: DataConfig, seed: int, dtype: str, padding: str = "space") -> tuple[Material, str]:
    """Read a corpus and make it ready. Returns the material and the SHA-256 of the corpus's text."""
    corpus = read_corpus(config)
    return Material.of_pairs(corpus.pairs, config, seed, dtype, padding), corpus.sha256
