"""Translation with the weights of a run, on both sides of the border.

`Opener` and `Translator` belong to the program, which calls `load_run` and `translate` in a backend's process.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from backends import of_run
from backends.process import timeout_for
from backends.process.parent import BackendProcess, OnEvent, Runtime
from common.errors import CannotBeginError
from common.run import RunDirectory
from common.tensors import STOP, Array, Batch, Ids
from common.text import quoted
from common.weights import in_dtype, initial_state

if TYPE_CHECKING:
    from backends.interface import Backend, Emit

ROWS_AT_ONCE = 512  # rows that are decoded in one loop; bounds the memory, and the time between two events


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
    milliseconds: float | None = None  # of decoding all texts of the batch; None: not timed, or a blank text
    ended: bool = True  # False: decoding stopped at its greatest length
    characters: tuple[Position, ...] = ()  # of the best candidate, with its end; only where they were asked for

    @property
    def translation(self) -> str:
        return self.candidates[0].translation


def translation_of_most(answers: Collection[Answer]) -> str:
    """The translation that most answers have; of several, the first. "" without an answer."""
    counted = Counter(answer.translation for answer in answers)
    return max(counted, key=counted.__getitem__, default="")


# In the program


@dataclass(frozen=True)
class Opener:
    """Opens a run in any backend, at once or in two steps, so that several can be started together."""

    run: RunDirectory
    weights: str  # "last" or "best"
    runtime: Runtime

    @contextmanager
    def open(self, backend: str | None) -> Iterator["Translator"]:
        """A translator in a process of the backend, by default in the run's own where it is installed, else another.

        In the end the process is ended.
        """
        with self.launch(backend) as process:
            yield self.load(process)

    def launch(self, backend: str | None) -> BackendProcess:
        """Start a backend's process without waiting for it. Raises RosettaError where it cannot be started."""
        name = backend or of_run(self.run.backend)
        return BackendProcess(name, self.run.model_config, self.run.train_config, self.runtime)

    def load(self, process: BackendProcess) -> "Translator":
        """A translator with the run's weights, in a process that was launched. Raises RosettaError.

        The weights are read and checked in that process alone.
        """
        process.call(load_run, run=self.run.path.resolve(), weights=self.weights)
        return Translator(process, self.run)


@dataclass(frozen=True)
class Translator:
    """A backend that has the weights and the characters of a run."""

    process: BackendProcess
    run: RunDirectory

    def __call__(self, texts: Sequence[str], on_event: OnEvent | None = None) -> list[str]:
        """Return the greedy translation of each text; see `decode`."""
        return [answer.translation for answer in self.decode(texts, on_event)]

    def decode(
        self,
        texts: Sequence[str],
        on_event: OnEvent | None = None,
        *,
        beam: int | None = None,
        alone: bool = False,
        characters: bool = False,
    ) -> list[Answer]:
        """Return the answer to each text; see `translate`. The timeout grows with the texts and the beam.

        Texts are in Unicode's form NFC, and their characters in the encoder's vocabulary; raises RosettaError.
        """
        timeout = timeout_for(sentences=len(texts) * (beam or 1))
        return self.process.call(
            translate, on_event, timeout, texts=list(texts), beam=beam, alone=alone, characters=characters
        )

    def answers(self, texts: Sequence[str], beam: int | None = None) -> list[dict[str, Answer]]:
        """Return each text's answer by the backend's name, as `SideBySide.answers` does, timed together."""
        return [{self.process.name: answer} for answer in self.decode(texts, beam=beam)]

    @property
    def about(self) -> dict[str, Any]:
        """The backend that answers, as machines read it."""
        return {"backend": self.process.name}


# In the backend's process


def load_run(backend: "Backend", emit: "Emit", *, run: Path, weights: str) -> None:
    """Load a run's characters and its `last` or `best` weights.

    Raises CannotBeginError for weights that training begins with.
    """
    directory = RunDirectory.open(run)
    state, progress = directory.read_state(weights, backend.config.dtype)
    if not progress.epoch:  # a run that `convert` made has no epochs either, and is trained
        untrained = in_dtype(initial_state(directory.model_config, directory.train_config.seed), backend.config.dtype)
        if all(np.array_equal(state.weights[name], weight) for name, weight in untrained.weights.items()):
            raise CannotBeginError(
                f"{run} has 0 epochs, so its weights are random; train it first: rosetta train --out {quoted(run)} "
                "--resume --epochs TOTAL"
            )
    backend.load(state)
    backend.read_characters(directory)


def translate(
    backend: "Backend",
    emit: "Emit",
    *,
    texts: Sequence[str],
    beam: int | None = None,
    alone: bool = False,
    characters: bool = False,
) -> list[Answer]:
    """Translate texts; return an answer to each, with the `beam` best candidates or, if None, the greedy one.

    A text that is longer than the width of the backend's characters is as wide as itself. `alone` decodes each text
    by itself, so that its time is its own, and the first text of each width once before, so that no time holds what a
    framework prepares. With `characters`, answers have the probability of each character.

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


def _decoded(
    backend: "Backend", encoder_ids: Ids, encoder_lengths: Ids, beam: int | None, characters: bool
) -> Iterator[Answer]:
    """Decode these rows at once; see `translate`."""
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
    all_probabilities = probabilities(backend, *sources, ids[:, 0]) if characters else None  # (N, L, V_dec)
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


def probabilities(backend: "Backend", encoder_ids: Ids, encoder_lengths: Ids, decoded_ids: Ids) -> Array:
    """The probabilities (N, L, V_dec) of all characters at each position of decoded_ids (N, L).

    One forward pass computes them. Its decoder reads the decoded characters, as the loop read them one by one.
    """
    starts = np.full((len(decoded_ids), 1), backend.config.start_token)
    batch = Batch.of_ids(backend.config, encoder_ids, encoder_lengths, np.hstack([starts, decoded_ids]))
    return backend.forward(batch).probabilities
