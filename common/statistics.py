"""What a corpus is like, before anything is trained on it."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from common.corpus import Corpus
from common.stored import Pair, in_order
from common.tensors import START, STOP
from common.vocabulary import CharVocabulary

BYTES_A_NUMBER = 4  # of a float32
PAIRS_SHOWN = 5


def corpus_statistics(corpus: Corpus) -> dict[str, Any]:
    """The five figures that the example prints, under its names, and what it does not say.

    `padding` is the share of target positions that are padding; `one_hot_bytes` is the memory that the three whole
    tensors would take; `pairs` are some pairs from the first to the last, at equal distances. No tensor is made, so
    this costs little at any size.
    """
    pairs = corpus.pairs
    num_samples = len(pairs)
    num_encoder_tokens = len(CharVocabulary.of(source for source, _ in pairs))
    num_decoder_tokens = len(CharVocabulary.of(target + START + STOP for _, target in pairs))
    max_encoder_seq_length = max(len(source) for source, _ in pairs)
    max_decoder_seq_length = max(len(target) for _, target in pairs) + len(START + STOP)
    distinct_targets = [len(set(same)) for _, same in groupby(in_order(pairs), itemgetter(0))]  # of each source
    real = sum(len(target) + len(STOP) for _, target in pairs)
    sequence_sizes = max_encoder_seq_length * num_encoder_tokens + 2 * max_decoder_seq_length * num_decoder_tokens
    return {
        "num_samples": num_samples,
        "num_encoder_tokens": num_encoder_tokens,
        "num_decoder_tokens": num_decoder_tokens,
        "max_encoder_seq_length": max_encoder_seq_length,
        "max_decoder_seq_length": max_decoder_seq_length,
        "distinct_sources": len(distinct_targets),
        "duplicates": num_samples - sum(distinct_targets),
        "padding": 1 - real / (num_samples * max_decoder_seq_length),
        "one_hot_bytes": BYTES_A_NUMBER * num_samples * sequence_sizes,
        "skipped_lines": corpus.skipped_lines,
        "sha256": corpus.sha256,
        "pairs": [{"source": source, "target": target} for source, target in _spread(pairs)],
    }


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    """At most PAIRS_SHOWN of the pairs: the first, the last, and others at equal distances between them."""
    last = len(pairs) - 1
    return [pairs[row] for row in sorted({number * last // (PAIRS_SHOWN - 1) for number in range(PAIRS_SHOWN)})]
