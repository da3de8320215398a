"""What a corpus is like, before anything is trained on it."""

from typing import Any

from common.corpus import Corpus
from common.tensors import START, STOP
from common.vocabulary import CharVocabulary

BYTES_A_NUMBER = 4  # of a float32


def corpus_statistics(corpus: Corpus) -> dict[str, Any]:
    """The five figures that the example prints, under its names, and what it does not say.

    `padding` is the share of target positions that are padding; `one_hot_bytes` is what the three whole tensors
    would take. No tensor is made, so this costs little at any size.
    """
    pairs = corpus.pairs
    num_samples = len(pairs)
    num_encoder_tokens = len(CharVocabulary.of(source for source, _ in pairs))
    num_decoder_tokens = len(CharVocabulary.of(target + START + STOP for _, target in pairs))
    max_encoder_seq_length = max(len(source) for source, _ in pairs)
    max_decoder_seq_length = max(len(target) for _, target in pairs) + len(START + STOP)
    real = sum(len(target) + len(STOP) for _, target in pairs)
    sequence_sizes = max_encoder_seq_length * num_encoder_tokens + 2 * max_decoder_seq_length * num_decoder_tokens
    return {
        "num_samples": num_samples,
        "num_encoder_tokens": num_encoder_tokens,
        "num_decoder_tokens": num_decoder_tokens,
        "max_encoder_seq_length": max_encoder_seq_length,
        "max_decoder_seq_length": max_decoder_seq_length,
        "distinct_sources": len({source for source, _ in pairs}),
        "duplicates": num_samples - len(set(pairs)),
        "padding": 1 - real / (num_samples * max_decoder_seq_length),
        "one_hot_bytes": BYTES_A_NUMBER * num_samples * sequence_sizes,
        "skipped_lines": corpus.skipped_lines,
        "sha256": corpus.sha256,
    }
