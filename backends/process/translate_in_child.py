"""Translation with the weights of a run, in a backend's process; and its answers."""

from collections.abc import Iterator, Sequence
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from common.errors import CannotBeginError
from common.run import RunDirectory
from common.tensors import STOP, Array, Batch, Ids
from common.text import quoted
from common.weights import in_dtype, initial_state

if TYPE_CHECKING:
    from backends.interface import Backend, Emit

# Rows that are decoded in one loop; bounds the memory, and the time between two events.
ROWS_AT_ONCE = 512


class Candidate(msgspec.Struct, frozen=True):
    """A translation that decoding found."""

    translation: str
    score: float | None = None  # natural logarithm of its probability; None after greedy decoding


class Position(msgspec.Struct, frozen=True):
    """A character of a translation."""

    character: str
    probability: float  # given all characters before it


class Answer(msgspec.Struct, frozen=True):
    """A backend's answer to one text."""

    candidates: tuple[Candidate, ...]  # at least one, the best first
    # Of decoding all texts of the batch; None: not timed, or a blank text.
    milliseconds: float | None = None
    ended: bool = True  # False: decoding stopped at its greatest length
    # Of the best candidate, with its end; only where they were asked for.
    characters: tuple[Position, ...] = ()

    @property
    def translation(self) -> str:
        return self.candidates[0].translation


def load_run(backend: "Backend", run: RunDirectory, weights: str) -> None:
    """Load a run's characters and its `last` or `best` weights.

    Raises CannotBeginError for weights that training begins with.
    """
    state, progress = run.read_state(weights, backend.config.dtype)
    if not progress.epoch:  # a run that `convert` made has no epochs either, and is trained
        untrained = in_dtype(
            initial_state(run.model_config, run.train_config.seed), backend.config.dtype
        )
        if all(
            np.array_equal(state.weights[name], weight)
            for name, weight in untrained.weights.items()
        ):
            raise CannotBeginError(
                f"{run.path} has 0 epochs, so its weights are random; train it first: "
                f"rosetta train --out {quoted(run.path)} --resume --epochs TOTAL"
            )
    backend.load_weights(state)
    backend.read_characters(run)


def translate_texts(
    backend: "Backend",
    emit: "Emit",
    *,
    texts: Sequence[str],
    beam: int | None = None,
    alone: bool = False,
    characters: bool = False,
) -> list[Answer]:
    """Translate texts; return an answer to each, with the `beam` best candidates or,
    if None, the greedy one.

    A text that is longer than the width of the backend's characters is as wide as itself. `alone`
    decodes each text by itself, so that its time is its own. It decodes the first text of each
    width once before, so that no time includes what a framework compiles. With `characters`,
    answers have the probability of each character.

    Emits `translated`, the number of texts that are done, of all `sentences`.
    """
    encoder, width = backend.characters.encoder, backend.characters.width
    answers: dict[int, Answer] = {}
    rows_of_width: dict[int, list[int]] = {}
    for row, text in enumerate(texts):
        if text.strip():
            rows_of_width.setdefault(max(len(text), width), []).append(row)
    at_once = 1 if alone else max(1, ROWS_AT_ONCE // (beam or 1))
    for rows in rows_of_width.values():
        pieces = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        warmup = pieces[:1] if alone else []
        for piece in [*warmup, *pieces]:
            ids, lengths = encoder.encode([texts[row] for row in piece], width)
            answers |= zip(piece, _decoded(backend, ids, lengths, beam, characters), strict=True)
            emit(translated=len(answers), sentences=len(texts))
    of_blank = Answer((Candidate("", 0.0),))
    return [answers.get(row, of_blank) for row in range(len(texts))]


def decode_greedily(
    backend: "Backend", emit: "Emit", *, encoder_ids: Ids, encoder_lengths: Ids, max_length: int
) -> NDArray[np.int64]:
    """Return the greedy translations (N, max_length) of sources, padded with the stop token.

    Emits `translated`, the number of rows that are done, of all `sentences`.
    """
    ids = np.full((len(encoder_ids), max_length), backend.config.stop_token)
    for start in range(0, len(ids), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        translated = backend.translate(encoder_ids[rows], encoder_lengths[rows], max_length)
        ids[rows, : translated.shape[1]] = translated
        emit(translated=min(start + ROWS_AT_ONCE, len(ids)), sentences=len(ids))
    return ids


def _decoded(
    backend: "Backend", encoder_ids: Ids, encoder_lengths: Ids, beam: int | None, characters: bool
) -> Iterator[Answer]:
    """Decode these rows at once; see `translate_texts`."""
    vocabulary, max_length = backend.characters.decoder, backend.characters.max_length
    begun, sources = perf_counter(), (encoder_ids, encoder_lengths)
    if beam is None:
        ids = backend.translate(*sources, max_length)[:, None]  # (N, 1, L)
        scores: Sequence[Sequence[float | None]] = [[None]] * len(ids)
    else:
        from backends.decoding import BeamSearch  # here, since the program imports this module, too

        search = BeamSearch(len(encoder_ids), backend.config, max_length, beam)
        backend.decode(*sources, search)
        ids, scores = search.ids, search.scores.tolist()  # (N, beam, L), (N, beam)
    milliseconds = 1000 * (perf_counter() - begun)
    # (N, L, V_dec)
    all_probabilities = probabilities(backend, *sources, ids[:, 0]) if characters else None
    for row, (of_row, scores_of_row) in enumerate(zip(ids, scores, strict=True)):
        scored = zip(map(vocabulary.text_of, of_row), scores_of_row, strict=True)
        candidates = tuple(Candidate(text, score) for text, score in scored if score != -inf)
        best = candidates[0].translation
        ended = len(best) < max_length
        positions: list[Position] = []
        if all_probabilities is not None:
            for character, of_all in zip(best + STOP * ended, all_probabilities[row], strict=False):
                positions.append(Position(character, float(of_all[vocabulary.id_of[character]])))
        yield Answer(candidates, milliseconds, ended, tuple(positions))


def probabilities(
    backend: "Backend", encoder_ids: Ids, encoder_lengths: Ids, decoded_ids: Ids
) -> Array:
    """The probabilities (N, L, V_dec) of all characters at each position of decoded_ids (N, L).

    One forward pass computes them. Its decoder reads the decoded characters,
    as the loop read them one by one.
    """
    starts = np.full((len(decoded_ids), 1), backend.config.start_token)
    batch = Batch.of_ids(
        backend.config, encoder_ids, encoder_lengths, np.hstack([starts, decoded_ids])
    )
    return backend.forward(batch)["probabilities"]
