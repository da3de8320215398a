"""What a corpus is like, at any size."""

import pytest

from common.corpus import Corpus
from common.statistics import corpus_statistics
from common.tensors import Batch
from common.vocabulary import CharVocabulary


def test_figures_are_those_of_the_tensors() -> None:
    pairs = [("Go.", "Va !"), ("Go.", "Bouge !"), ("Run!", "Cours !"), ("Go.", "Va !"), ("犬", "x")]
    encoder, decoder = CharVocabulary.of(s for s, _ in pairs), CharVocabulary.of(f"\t{t}\n" for _, t in pairs)
    batch = Batch.of_pairs(pairs, encoder, decoder)
    tensors = batch.encoder_input_data, batch.decoder_input_data, batch.decoder_target_data
    assert corpus_statistics(Corpus(pairs, "ab" * 32, skipped_lines=3)) == {
        "num_samples": 5,
        "num_encoder_tokens": len(encoder),
        "num_decoder_tokens": len(decoder),
        "max_encoder_seq_length": tensors[0].shape[1],
        "max_decoder_seq_length": tensors[1].shape[1],
        "distinct_sources": 3,
        "duplicates": 1,
        "padding": pytest.approx(1 - float(batch.real_positions.mean(dtype="float64"))),
        "one_hot_bytes": sum(tensor.nbytes for tensor in tensors),
        "skipped_lines": 3,
        "sha256": "ab" * 32,
        "pairs": [{"source": source, "target": target} for source, target in pairs],
    }


@pytest.mark.parametrize(
    ("count", "shown"), [(1, [0]), (2, [0, 1]), (5, [0, 1, 2, 3, 4]), (101, [0, 25, 50, 75, 100])]
)
def test_the_pairs_shown_are_spread_over_the_corpus(count: int, shown: list[int]) -> None:
    figures = corpus_statistics(Corpus([(f"source {row}", f"target {row}") for row in range(count)], ""))
    assert figures["pairs"] == [{"source": f"source {row}", "target": f"target {row}"} for row in shown]
