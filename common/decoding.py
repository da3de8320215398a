"""Functions that decode in a backend's process, and others that turn decoded ids into text."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from common.beam import BeamSearch
from common.config import ModelConfig
from common.interface import Backend
from common.run_directory import RunDirectory
from common.tensors import STOP, Array, Batch, Ids
from common.vocabulary import CharVocabulary

Emit = Callable[..., None]  # sends an event, given as keyword arguments, to the process that called

ROWS_AT_ONCE = 512  # rows that are decoded in one loop; bounds the memory, and the time between two events


def load_run(backend: Backend, emit: Emit, *, run: Path, weights: str) -> None:
    """Load the `last` or `best` weights of a run."""
    state, _ = RunDirectory.open(run).read_state(weights, backend.config.dtype)
    backend.load(state)


def translate(
    backend: Backend,
    emit: Emit,
    *,
    encoder_ids: Ids,
    encoder_lengths: Ids,
    max_length: int,
) -> NDArray[np.int64]:
    """Decode all rows greedily, in the backend's process: ids (N, max_length), filled up with the stop token.

    Emits `translated`, the number of rows that are done, and `seconds` since the beginning.
    """
    begun = perf_counter()
    num_rows = len(encoder_ids)
    ids = np.full((num_rows, max_length), backend.config.stop_token, np.int64)
    for start in range(0, num_rows, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        decoded = backend.translate(encoder_ids[rows], encoder_lengths[rows], max_length)
        ids[rows, : decoded.shape[1]] = decoded
        emit(translated=min(start + ROWS_AT_ONCE, num_rows), sentences=num_rows, seconds=perf_counter() - begun)
    return ids


@dataclass(frozen=True, eq=False)
class Beams:
    """For each row the most probable translations that a beam search finds, the best first."""

    ids: Ids  # (N, beam, max_length), filled up with the stop token
    scores: Array  # (N, beam), the log of a translation's probability; -inf where there is none


def beam_search(
    backend: Backend,
    emit: Emit,
    *,
    encoder_ids: Ids,
    encoder_lengths: Ids,
    max_length: int,
    beam: int,
) -> Beams:
    """Find the `beam` best translations of each row, in the backend's process. Emits `translated` as above."""
    num_rows, at_once = len(encoder_ids), max(1, ROWS_AT_ONCE // beam)
    ids = np.full((num_rows, beam, max_length), backend.config.stop_token, np.int64)
    scores = np.empty((num_rows, beam))
    for start in range(0, num_rows, at_once):
        rows = slice(start, start + at_once)
        decoded, scores[rows] = _searched(backend, encoder_ids[rows], encoder_lengths[rows], max_length, beam)
        ids[rows, :, : decoded.shape[2]] = decoded
        emit(translated=min(start + at_once, num_rows), sentences=num_rows)
    return Beams(ids, scores)


def _searched(
    backend: Backend, encoder_ids: Ids, encoder_lengths: Ids, max_length: int, beam: int
) -> tuple[Ids, Array]:
    """Ids (N, beam, L) and scores (N, beam) of a beam search."""
    search = BeamSearch(len(encoder_ids), backend.config, max_length, beam)
    backend.beam_search(encoder_ids, encoder_lengths, search)
    return search.ids, search.scores


@dataclass(frozen=True, eq=False)
class Timed:
    """Translations that were decoded one after another, and how long each of them took."""

    beams: Beams
    seconds: Array  # (N,)


def timed(
    backend: Backend,
    emit: Emit,
    *,
    encoder_ids: Ids,
    encoder_lengths: Ids,
    max_length: int,
    beam: int | None,
) -> Timed:
    """Each row decoded by itself and timed, with a beam search or, where `beam` is None, greedily, without scores.

    The first row is decoded once before, so that no time holds what a framework prepares for its first sentence.
    """
    num_rows, width = len(encoder_ids), beam or 1
    ids = np.full((num_rows, width, max_length), backend.config.stop_token, np.int64)
    scores, seconds = np.full((num_rows, width), np.nan), np.empty(num_rows)

    def decode(row: int) -> None:
        one = slice(row, row + 1)
        if beam is None:
            decoded = backend.translate(encoder_ids[one], encoder_lengths[one], max_length)[:, None]
        else:
            decoded, scores[one] = _searched(backend, encoder_ids[one], encoder_lengths[one], max_length, beam)
        ids[one, :, : decoded.shape[2]] = decoded

    decode(0)
    for row in range(num_rows):
        start = perf_counter()
        decode(row)
        seconds[row] = perf_counter() - start
        emit(translated=row + 1)
    return Timed(Beams(ids, scores), seconds)


@dataclass(frozen=True, eq=False)
class Choices:
    """The most probable characters at each position of decoded sentences, the best first."""

    ids: Ids  # (N, L, best)
    probabilities: Array  # (N, L, best)


def choices(
    backend: Backend,
    emit: Emit,
    *,
    encoder_ids: Ids,
    encoder_lengths: Ids,
    decoded_ids: Ids,
    best: int,
) -> Choices:
    """The `best` most probable characters at each position of decoded_ids (N, L), which `translate` returned.

    One forward pass computes them. Its decoder reads the decoded characters, as the loop read them one by one.
    """
    starts = np.full((len(decoded_ids), 1), backend.config.start_token)
    batch = batch_of(backend.config, encoder_ids, encoder_lengths, np.hstack([starts, decoded_ids]))
    probabilities = backend.forward(batch).probabilities  # (N, L, V_dec)
    ids = np.argsort(-probabilities, axis=-1, kind="stable")[..., :best]
    return Choices(ids, np.take_along_axis(probabilities, ids, axis=-1))


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
