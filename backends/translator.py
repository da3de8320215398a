"""Translation of sentences with the weights of a run, and the scores of a run's translations."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import find, of_run
from backends.process.parent import BackendProcess, OnEvent, Runtime, timeout_for
from common import decoding, training
from common.config import ModelConfig
from common.decoding import Beams, max_decoded_length, text_of
from common.errors import UnknownCharactersError
from common.material import Material
from common.run_directory import RunDirectory
from common.scoring import references, score
from common.text import LONGEST_SENTENCE, normalize, not_utf8, with_replacements
from common.vocabulary import PAD, CharVocabulary

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Scored:
    """A translation, and the log of its probability where a beam search found it."""

    translation: str
    score: float | None = None


@dataclass(frozen=True)
class Answer:
    """What became of one line."""

    source: str
    best: Sequence[Scored] = ()  # the translations, the best first; none where the line cannot be translated
    error: str = ""  # why it cannot
    seconds: float | None = None  # that decoding this line by itself took, where it was timed


@dataclass(frozen=True)
class Choice:
    """A character that the model considers at one position of a translation; "\\n" is the translation's end."""

    character: str
    probability: float


@dataclass(frozen=True)
class Detailed:
    """A translation, and how sure the model is of each of its characters."""

    translation: str
    choices: list[list[Choice]]  # for each character, and last for the end: the most probable ones, the best first


@dataclass(frozen=True)
class Translator:
    """Translates with a backend whose weights are loaded, padding every sentence as in training."""

    process: BackendProcess
    material: Material

    def __call__(
        self,
        texts: Sequence[str],
        unknown: str = "error",
        warn: Warn | None = None,
        on_event: OnEvent | None = None,
    ) -> list[str]:
        """A translation a text, in order; an empty one for a blank one.

        Raises UnknownCharactersError unless `unknown` is "drop".
        """
        translations = ["" for _ in texts]
        for rows, ids, lengths in self._encoded(texts, unknown, warn):
            for row, decoded_ids in zip(rows, self._decode(ids, lengths, on_event), strict=True):
                translations[row] = text_of(decoded_ids, self.material.decoder_vocabulary)
        return translations

    def answers(
        self,
        lines: Sequence[str],
        unknown: str = "error",
        warn: Warn | None = None,
        *,
        beam: int | None = None,
        timed: bool = False,
    ) -> list[Answer]:
        """An answer a line, in order; a line that cannot be translated gets an error, and the others translations.

        Of a beam search the `beam` best ones, with their scores; without `beam` the greedy one. `timed` decodes each
        line by itself and measures how long that takes, in the backend's process, after one that warms it up.
        """
        errors = [self._fault(line, unknown) for line in lines]
        blank = [Scored("", None if beam is None else 0.0)]  # surely nothing, unless more is found below
        answers = [Answer(line, [] if error else blank, error) for line, error in zip(lines, errors, strict=True)]
        good = [row for row, error in enumerate(errors) if not error]
        for rows, ids, lengths in self._encoded([lines[row] for row in good], unknown, warn):
            beams, seconds = self._search(ids, lengths, beam, timed)
            for i, row in enumerate(rows):
                best = self._scored(beams.ids[i], beams.scores[i])
                answers[good[row]] = replace(answers[good[row]], best=best, seconds=seconds[i])
        return answers

    def _fault(self, line: str, unknown: str) -> str:
        """Why the line cannot be translated; "" where it can."""
        if len(line) > LONGEST_SENTENCE:
            return f"the line has more than {LONGEST_SENTENCE:,} characters, the most that are translated; divide it"
        if place := not_utf8(line):
            return f"byte {place} is not UTF-8; convert the input to UTF-8"
        missing = self.material.encoder_vocabulary.lacks(normalize(line))
        return str(UnknownCharactersError(missing)) if missing and unknown == "error" else ""

    def _search(
        self, ids: NDArray[np.integer], lengths: NDArray[np.integer], beam: int | None, timed: bool
    ) -> tuple[Beams, Sequence[float | None]]:
        """The translations of encoded texts, and the seconds that each took if they are timed."""
        calling = self.process.listening(timeout=timeout_for(sentences=len(ids) * (beam or 1)))
        if timed:
            found = calling.call(
                decoding.timed, encoder_ids=ids, encoder_lengths=lengths, max_length=self._max_length, beam=beam
            )
            return found.beams, found.seconds.tolist()
        untimed = [None] * len(ids)
        if beam is None:
            decoded = self._decode(ids, lengths, None)[:, None]
            return Beams(decoded, np.full(decoded.shape[:2], np.nan)), untimed
        beams = calling.call(
            decoding.beam_search, encoder_ids=ids, encoder_lengths=lengths, max_length=self._max_length, beam=beam
        )
        return beams, untimed

    def _scored(self, ids: NDArray[np.integer], scores: NDArray[np.floating]) -> list[Scored]:
        """Of one text's ids (beam, L) and scores (beam,) those that are translations."""
        vocabulary = self.material.decoder_vocabulary
        return [
            Scored(text_of(row, vocabulary), None if np.isnan(score) else float(score))
            for row, score in zip(ids, scores, strict=True)
            if score != -np.inf
        ]

    @property
    def _max_length(self) -> int:
        return max_decoded_length(self.material.max_decoder_seq_length)

    def with_choices(
        self, texts: Sequence[str], unknown: str = "error", best: int = 3, on_event: OnEvent | None = None
    ) -> list[Detailed]:
        """A translation a text, with the `best` most probable characters at each of its positions.

        The positions are those of the translation's characters and of its end, which a translation that was cut at
        the greatest length lacks. Of a blank text the translation is empty, without positions. Raises what __call__
        raises.
        """
        detailed = [Detailed("", []) for _ in texts]
        vocabulary = self.material.decoder_vocabulary
        for rows, ids, lengths in self._encoded(texts, unknown, None):
            decoded = self._decode(ids, lengths, on_event)
            found = self.process.listening(timeout=timeout_for(sentences=len(rows))).call(
                decoding.choices, encoder_ids=ids, encoder_lengths=lengths, decoded_ids=decoded, best=best
            )
            for i, row in enumerate(rows):
                text = text_of(decoded[i], vocabulary)
                positions = zip(found.ids[i, : len(text) + 1], found.probabilities[i], strict=False)
                detailed[row] = Detailed(text, [_choices(vocabulary, *position) for position in positions])
        return detailed

    def _encoded(
        self, texts: Sequence[str], unknown: str, warn: Warn | None
    ) -> Iterator[tuple[list[int], NDArray[np.integer], NDArray[np.integer]]]:
        """The texts that are not blank, those of one width together: their indices, ids (N, width) and lengths (N,).

        Padded further than in training, a sentence translates differently: each longer one is as wide as itself.
        """
        vocabulary, longest = self.material.encoder_vocabulary, self.material.max_encoder_seq_length
        texts = [normalize(text) for text in texts]
        if unknown == "drop":
            texts = [vocabulary.without_unknown(text) for text in texts]
        ids, lengths = vocabulary.encode(texts, longest)
        rows_of_width: dict[int, list[int]] = {}
        for row, text in enumerate(texts):
            if not text.strip():
                continue
            if len(text) > longest and warn:
                warn(f"{text!r} has {len(text)} characters, training none of more than {longest}: expect little")
            rows_of_width.setdefault(max(len(text), longest), []).append(row)
        for width, rows in rows_of_width.items():
            yield rows, ids[rows, :width], lengths[rows]

    def _decode(
        self, ids: NDArray[np.integer], lengths: NDArray[np.integer], on_event: OnEvent | None
    ) -> NDArray[np.integer]:
        return self.process.listening(on_event, timeout_for(sentences=len(ids))).call(
            decoding.translate,
            encoder_ids=ids,
            encoder_lengths=lengths,
            max_length=self._max_length,
        )


def _choices(
    vocabulary: CharVocabulary, ids: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> list[Choice]:
    return [Choice(vocabulary.characters[i], float(p)) for i, p in zip(ids, probabilities, strict=True)]


@dataclass(frozen=True)
class Opener:
    """Opens a run in any backend and precision, at once or in two steps, so that several can be started together."""

    run: RunDirectory
    weights: str  # "last" or "best"
    dtype: str | None  # None: the run's own
    runtime: Runtime

    @contextmanager
    def open(self, backend: str | None) -> Iterator[Translator]:
        """A translator in a process of the backend, by default in the run's own where it is installed, else another.

        In the end the process is ended.
        """
        with self.launch(backend or of_run(self.run.backend)) as process:
            yield self.load(process)

    def launch(self, backend: str) -> BackendProcess:
        """Start the backend's process without waiting for it. Raises RosettaError where it or the run is at fault."""
        find(backend)
        self.run.read_state(self.weights)
        return BackendProcess(backend, self._model, self.run.train_config, self.runtime)

    def load(self, process: BackendProcess) -> Translator:
        """A translator with the run's weights, in a process that was launched. Raises RosettaError."""
        material = Material.of_run(self.run)  # while the process is being started
        process.call(training.load_run, run=self.run.path.resolve(), weights=self.weights)
        return Translator(process, replace(material, batch=replace(material.batch, dtype=self._model.dtype)))

    @property
    def _model(self) -> ModelConfig:
        own = self.run.model_config
        return replace(own, dtype=self.dtype or own.dtype)


def as_json(answer: Answer, n_best: int | None = None) -> dict[str, Any]:
    """An answer as machines read it; with `n_best`, so many translations and their scores too."""
    found: dict[str, Any] = {"source": with_replacements(answer.source)}
    if answer.error:
        return found | {"translation": None, "error": answer.error}
    found["translation"] = answer.best[0].translation
    if n_best is not None:
        found["n_best"] = [asdict(scored) for scored in answer.best[:n_best]]
    return found


def evaluate(translator: Translator, batch_size: int, limit: int | None, on_event: OnEvent) -> dict[str, Any]:
    """Scores over the validation rows, or the first `limit` of them.

    One translation a distinct source, against all of its references in the corpus.
    """
    material = translator.material
    rows = material.validation_rows[:limit]
    batch = material.batch.take(rows)
    evaluating = translator.process.listening(timeout=timeout_for(len(batch)))
    figures = evaluating.call(training.evaluate, batch_size=batch_size, corpus=batch)
    is_space = batch.decoder_target_ids == material.decoder_vocabulary.id_of[PAD]
    always_space = (is_space * batch.target_weights).sum() / batch.target_weights.sum()
    sources = list(dict.fromkeys(material.pairs[row][0] for row in rows))
    found = references(material.pairs, sources)
    translations = translator(sources, on_event=on_event)
    scores = score(translations, list(found.values()))
    return {**figures, "accuracy_always_space": float(always_space), "rows": len(rows)} | scores
