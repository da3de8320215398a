"""From sentences to ids a model can translate, and from the ids it gives back to sentences."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from common.interface import Backend
from common.tensors import STOP
from common.vocabulary import CharVocabulary

Emit = Callable[..., None]

ROWS_AT_ONCE = 512  # decoded in one loop; bounds memory, and the wait for a sign of life


def translate(
    backend: Backend,
    emit: Emit,
    *,
    encoder_ids: NDArray[np.integer],
    encoder_lengths: NDArray[np.integer],
    max_length: int,
) -> NDArray[np.int64]:
    """Ids (N, max_length) of all rows, decoded greedily in the backend's process."""
    num_rows = len(encoder_ids)
    ids = np.full((num_rows, max_length), backend.config.stop_token, np.int64)
    for start in range(0, num_rows, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        decoded = backend.translate(encoder_ids[rows], encoder_lengths[rows], max_length)
        ids[rows, : decoded.shape[1]] = decoded
        emit(translated=min(start + ROWS_AT_ONCE, num_rows))
    return ids


def put_out(
    steps: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]], num_rows: int, stop_token: int
) -> NDArray[np.int64]:
    """Ids (num_rows, L) of L steps, each the rows that had not ended and the characters sampled for them."""
    ids = np.full((num_rows, len(steps)), stop_token, np.int64)
    for position, (rows, sampled) in enumerate(steps):
        ids[rows, position] = sampled
    return ids


def max_decoded_length(max_decoder_seq_length: int) -> int:
    """The most characters that decoding puts out: the example's rule stops when a text is *longer* than the
    longest target, "\\t" and "\\n" counted, so it lets one more out."""
    return max_decoder_seq_length + 1


def text_of(ids: NDArray[np.integer], vocabulary: CharVocabulary) -> str:
    """A row of decoded ids as text, up to its "\\n"."""
    return vocabulary.decode(ids).partition(STOP)[0]
