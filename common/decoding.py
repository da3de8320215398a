"""Decoded ids: how many there may be, the text that they are, and the batch in which they are read again."""

import numpy as np

from common.config import ModelConfig
from common.tensors import STOP, Batch, Ids
from common.vocabulary import CharVocabulary


def batch_of(config: ModelConfig, encoder_ids: Ids, encoder_lengths: Ids, decoder_ids: Ids) -> Batch:
    """A batch of source ids (N, T_enc) and target ids (N, T_dec + 1), in which all target positions count."""
    lengths = np.full(len(decoder_ids), decoder_ids.shape[1], np.int32)
    sizes = config.num_encoder_tokens, config.num_decoder_tokens
    decoder = decoder_ids, lengths, float(decoder_ids.shape[1])
    return Batch(encoder_ids, encoder_lengths, *decoder, *sizes, config.dtype, config.padding)


def max_decoded_length(max_decoder_seq_length: int) -> int:
    """The largest number of characters that decoding returns for a sentence.

    The example stops once a text is *longer* than the longest target, "\\t" and "\\n" counted, so one more comes out.
    """
    return max_decoder_seq_length + 1


def text_of(ids: Ids, vocabulary: CharVocabulary) -> str:
    """A row of decoded ids as text, up to its "\\n"."""
    return vocabulary.decode(ids).partition(STOP)[0]
