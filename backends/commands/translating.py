"""Translation of sentences with the weights of a run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from backends import find, of_run
from backends.process import in_child
from backends.process.parent import BackendProcess, OnEvent, Runtime, timeout_for
from common.config import ModelConfig
from common.errors import UnknownCharactersError
from common.run_directory import RunDirectory
from common.tensors import CharVocabulary, Ids, max_decoded_length
from common.text import LONGEST_SENTENCE, normalize, not_utf8, with_replacements

Warn = Callable[[str], None]
Result = TypeVar("Result")


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
    encoder_vocabulary: CharVocabulary
    decoder_vocabulary: CharVocabulary
    max_encoder_seq_length: int  # T_enc, to which sources are padded
    max_decoder_seq_length: int  # T_dec, after which decoding stops

    def __call__(self, texts: Sequence[str], on_event: OnEvent | None = None) -> list[str]:
        """A translation a text, in order; an empty one for a blank one. Raises UnknownCharactersError."""
        translations = ["" for _ in texts]
        for rows, ids, lengths in self._encoded(texts):
            for row, decoded_ids in zip(rows, self._decode(ids, lengths, on_event), strict=True):
                translations[row] = self.decoder_vocabulary.text_of(decoded_ids)
        return translations

    def answers(
        self,
        lines: Sequence[str],
        unknown: str = "error",
        warn: Warn | None = None,
        *,
        beam: int | None = None,
        n_best: int | None = None,
        timed: bool = False,
    ) -> list[dict[str, Any]]:
        """For each line, in order, its `source` and `translation`, as machines read them.

        A line that cannot be translated has the translation None and an `error`, which says why. The translation is
        the best one of a beam search, or without `beam` the greedy one. With `n_best`, a list of this name holds so
        many of the best ones and their scores, the logs of their probabilities. `timed` decodes each line by itself
        and adds the `milliseconds` that this takes in the backend's process, after a line that warms it up.
        """
        errors = [self._fault(line, unknown) for line in lines]
        good = [row for row, error in enumerate(errors) if not error]
        best = [[("", 0.0)] for _ in lines]  # of a blank line surely nothing, unless more is found now
        milliseconds: list[float | None] = [None] * len(lines)
        longest = max_decoded_length(self.max_decoder_seq_length)
        for rows, ids, lengths in self._encoded([lines[row] for row in good], unknown, warn):
            beams = self._call(in_child.search, ids, lengths, max_length=longest, beam=beam, alone=timed)
            for i, row in enumerate(rows):
                scored = zip(beams.ids[i], map(float, beams.scores[i]), strict=True)
                found = [(self.decoder_vocabulary.text_of(row_ids), score) for row_ids, score in scored]
                best[good[row]] = [each for each in found if each[1] != -np.inf]  # fewer than the beam holds
                milliseconds[good[row]] = 1000 * float(beams.seconds[i])
        answers: list[dict[str, Any]] = []
        for row, (line, error) in enumerate(zip(lines, errors, strict=True)):
            answer: dict[str, Any] = {"source": with_replacements(line), "translation": None}
            if error:
                answer["error"] = error
            else:
                answer["translation"] = best[row][0][0]
                if n_best is not None:
                    answer["n_best"] = [{"translation": text, "score": score} for text, score in best[row][:n_best]]
                if timed:
                    answer["milliseconds"] = milliseconds[row]
            answers.append(answer)
        return answers

    def with_choices(self, texts: Sequence[str], best: int = 3, on_event: OnEvent | None = None) -> list[Detailed]:
        """A translation a text, with the `best` most probable characters at each of its positions.

        The positions are those of the translation's characters and of its end, which a translation that was cut at
        the greatest length lacks. Of a blank text the translation is empty, without positions. Raises what __call__
        raises.
        """
        detailed = [Detailed("", []) for _ in texts]
        characters = self.decoder_vocabulary.characters
        for rows, ids, lengths in self._encoded(texts):
            decoded = self._decode(ids, lengths, on_event)
            found = self._call(in_child.choices, ids, lengths, decoded_ids=decoded, best=best)
            for i, row in enumerate(rows):
                text = self.decoder_vocabulary.text_of(decoded[i])
                positions = zip(found.ids[i, : len(text) + 1], found.probabilities[i], strict=False)
                choices = [
                    [Choice(characters[n], float(p)) for n, p in zip(*position, strict=True)]
                    for position in positions
                ]
                detailed[row] = Detailed(text, choices)
        return detailed

    @property
    def any_text(self) -> str:
        """A text to translate before any is timed, so that what a framework compiles is compiled by then."""
        return next((c for c in self.encoder_vocabulary.characters if c.strip() and normalize(c) == c), "")

    def _fault(self, line: str, unknown: str) -> str:
        """Why the line cannot be translated; "" where it can."""
        if len(line) > LONGEST_SENTENCE:
            return f"the line has more than {LONGEST_SENTENCE:,} characters, the most that are translated; divide it"
        if place := not_utf8(line):
            return f"byte {place} is not UTF-8; convert the input to UTF-8"
        missing = self.encoder_vocabulary.lacks(normalize(line))
        return str(UnknownCharactersError(missing)) if missing and unknown == "error" else ""

    def _encoded(
        self, texts: Sequence[str], unknown: str = "error", warn: Warn | None = None
    ) -> Iterator[tuple[list[int], Ids, Ids]]:
        """The texts that are not blank, those of one width together: their indices, ids (N, width) and lengths (N,).

        Padded further than in training, a sentence translates differently: each longer one is as wide as itself.
        """
        vocabulary, longest = self.encoder_vocabulary, self.max_encoder_seq_length
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

    def _decode(self, ids: Ids, lengths: Ids, on_event: OnEvent | None) -> Ids:
        max_length = max_decoded_length(self.max_decoder_seq_length)
        return self._call(in_child.translate, ids, lengths, on_event, max_length=max_length)

    def _call(
        self,
        function: Callable[..., Result],
        ids: Ids,
        lengths: Ids,
        on_event: OnEvent | None = None,
        **arguments: Any,
    ) -> Result:
        """Call a function of `in_child` in the backend's process; it has time for each sentence and beam."""
        timeout = timeout_for(sentences=len(ids) * (arguments.get("beam") or 1))
        calling = self.process.listening(on_event, timeout)
        return calling.call(function, encoder_ids=ids, encoder_lengths=lengths, **arguments)


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
        """Start the backend's process without waiting for it. Raises RosettaError where it cannot be started."""
        find(backend)
        return BackendProcess(backend, self._model, self.run.train_config, self.runtime)

    def load(self, process: BackendProcess) -> Translator:
        """A translator with the run's weights, in a process that was launched. Raises RosettaError.

        The weights are read and checked in that process alone.
        """
        vocabularies = self.run.vocabularies()  # while the process is being started
        process.call(in_child.load_run, run=self.run.path.resolve(), weights=self.weights)
        return Translator(process, *vocabularies, self.run.max_encoder_seq_length, self.run.max_decoder_seq_length)

    @property
    def _model(self) -> ModelConfig:
        own = self.run.model_config
        return replace(own, dtype=self.dtype or own.dtype)
