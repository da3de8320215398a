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


@dataclass(frozen=True, eq=False)
class Beams:
    """For each row the most probable translations that were found, the best first."""

    ids: Ids  # (N, beam, max_length), filled up with the stop token
    scores: Array  # (N, beam), the log of a translation's probability; -inf where there is none, NaN if not computed


def translate(
    backend: Backend, emit: Emit, *, encoder_ids: Ids, encoder_lengths: Ids, max_length: int
) -> NDArray[np.int64]:
    """Decode all rows greedily, in the backend's process: ids (N, max_length), filled up with the stop token.

    Emits `translated`, the number of rows that are done, and `seconds` since the beginning.
    """
    beams = _in_pieces(backend, emit, encoder_ids, encoder_lengths, max_length, None)
    return beams.ids[:, 0].astype(np.int64, copy=False)


def beam_search(
    backend: Backend, emit: Emit, *, encoder_ids: Ids, encoder_lengths: Ids, max_length: int, beam: int
) -> Beams:
    """Find the `beam` best translations of each row, in the backend's process. Emits what `translate` emits."""
    return _in_pieces(backend, emit, encoder_ids, encoder_lengths, max_length, beam)


def _in_pieces(
    backend: Backend, emit: Emit, encoder_ids: Ids, encoder_lengths: Ids, max_length: int, beam: int | None
) -> Beams:
    begun, num_rows, at_once = perf_counter(), len(encoder_ids), max(1, ROWS_AT_ONCE // (beam or 1))
    beams = _undecoded(backend, num_rows, max_length, beam)
    for start in range(0, num_rows, at_once):
        _decode(backend, encoder_ids, encoder_lengths, beam, slice(start, start + at_once), beams)
        emit(translated=min(start + at_once, num_rows), sentences=num_rows, seconds=perf_counter() - begun)
    return beams


def _undecoded(backend: Backend, num_rows: int, max_length: int, beam: int | None) -> Beams:
    shape = num_rows, beam or 1
    return Beams(np.full((*shape, max_length), backend.config.stop_token, np.int64), np.full(shape, np.nan))


def _decode(
    backend: Backend, encoder_ids: Ids, encoder_lengths: Ids, beam: int | None, rows: slice, beams: Beams
) -> None:
    """Decode these rows at once into `beams`, with a beam search or, where `beam` is None, greedily."""
    sources, max_length = (encoder_ids[rows], encoder_lengths[rows]), beams.ids.shape[2]
    if beam is None:
        decoded = backend.translate(*sources, max_length)[:, None]
    else:
        search = BeamSearch(len(sources[0]), backend.config, max_length, beam)
        backend.beam_search(*sources, search)
        decoded, beams.scores[rows] = search.ids, search.scores
    beams.ids[rows, :, : decoded.shape[2]] = decoded


@dataclass(frozen=True, eq=False)
class Timed:
    """Translations that were decoded one after another, and how long each of them took."""

    beams: Beams
    seconds: Array  # (N,)


def timed(
    backend: Backend, emit: Emit, *, encoder_ids: Ids, encoder_lengths: Ids, max_length: int, beam: int | None
) -> Timed:
    """Each row decoded by itself and timed, with a beam search or, where `beam` is None, greedily, without scores.

    The first row is decoded once before, so that no time holds what a framework prepares for its first sentence.
    """
    num_rows = len(encoder_ids)
    beams, seconds = _undecoded(backend, num_rows, max_length, beam), np.empty(num_rows)
    _decode(backend, encoder_ids, encoder_lengths, beam, slice(1), beams)
    for row in range(num_rows):
        start = perf_counter()
        _decode(backend, encoder_ids, encoder_lengths, beam, slice(row, row + 1), beams)
        seconds[row] = perf_counter() - start
        emit(translated=row + 1)
    return Timed(beams, seconds)


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
