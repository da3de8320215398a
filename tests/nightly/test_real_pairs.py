"""The pairs of manythings.org in a file that ROSETTA_FRA names,
of the version whose figures the example has."""

import os

import pytest

from common.corpus import corpus_statistics, read_corpus
from common.settings import DataConfig


@pytest.mark.skipif(
    "ROSETTA_FRA" not in os.environ, reason="ROSETTA_FRA does not name a file of real pairs"
)
def test_figures_of_real_pairs_are_the_examples() -> None:
    figures = corpus_statistics(read_corpus(DataConfig(os.environ["ROSETTA_FRA"])))
    names = (
        "num_samples num_encoder_tokens num_decoder_tokens max_encoder_seq_length "
        "max_decoder_seq_length"
    )
    assert [figures[name] for name in names.split()] == [10_000, 71, 92, 16, 59]
    assert (figures["distinct_sources"], f"{figures['padding']:.1%}") == (5_893, "66.6%")
