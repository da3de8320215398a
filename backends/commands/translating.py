"""Translation of sentences with the weights of a run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backends import of_run
from backends.process import in_child
from backends.process.parent import BackendProcess, OnEvent, Runtime, timeout_for
from common.config import Precision
from common.errors import UnknownCharactersError
from common.run_directory import RunDirectory
from common.sources import Sources
from common.tensors import STOP, Ids, max_decoded_length
from common.text import LONGEST_SENTENCE, normalize, not_utf8, with_replacements

Warn = Callable[[str], None]


class Translator:
    """Translates with a backend that has the weights of a run, padding every sentence as in training."""

    def __init__(self, process: BackendProcess, run: RunDirectory) -> None:
        self.process, self.run = process, run
        self.encoder_vocabulary, self.decoder_vocabulary = run.vocabularies()

    def __call__(self, texts: Sequence[str], on_event: OnEvent | None = None) -> list[str]:
        """A translation a text, in order; an empty one for a blank one. Raises UnknownCharactersError."""
        translations = ["" for _ in texts]
        for rows, ids, lengths in self._encoded(texts):
            for row, beam in zip(rows, self._search(ids, lengths, on_event=on_event).ids, strict=True):
                translations[row] = self.decoder_vocabulary.text_of(beam[0])
        return translations

    def answers(
        self,
        lines: Sequence[str],
        unknown: str = "error",
        *,
        beam: int | None = None,
        n_best: int | None = None,
        timed: bool = False,
    ) -> list[dict[str, Any]]:
        """For each line, in order, its `source` and `translation`, as machines read them.

        A line that cannot be translated has the translation None and an `error`, which says why. The translation is
        the best one of a beam search, or without `beam` the greedy one. With `n_best`, a list of this name holds so
        many of the best ones and their scores, the logs of their probabilities. `timed` decodes each line by itself
        and adds the `milliseconds` that this takes in the backend's process, after a line that warms it up. If
        `unknown` is "drop", an answer has what is left of its line as `read_as`, where that is less.
        """
        errors = [self._fault(line, unknown) for line in lines]
        texts = list(
            map(self.encoder_vocabulary.without_unknown if unknown == "drop" else str, map(normalize, lines))
        )
        good = [row for row, error in enumerate(errors) if not error]
        results: dict[int, tuple[list[dict[str, Any]], float | None]]
        results = {row: ([{"translation": "", "score": 0.0}], None) for row in good}  # of a blank line surely nothing
        for rows, ids, lengths in self._encoded([texts[row] for row in good]):
            beams = self._search(ids, lengths, beam=beam, alone=timed)
            for row, of_row, scores, seconds in zip(rows, beams.ids, beams.scores, beams.seconds, strict=True):
                scored = zip(map(self.decoder_vocabulary.text_of, of_row), map(float, scores), strict=True)
                best = [{"translation": text, "score": score} for text, score in scored if score != -np.inf]
                results[good[row]] = best, 1000 * float(seconds)
        answers: list[dict[str, Any]] = []
        for row, line in enumerate(lines):
            answers.append({"source": with_replacements(line), "translation": None})
            if unknown == "drop" and texts[row] != normalize(line):
                answers[row]["read_as"] = with_replacements(texts[row])
            if errors[row]:
                answers[row]["error"] = errors[row]
                continue
            best, milliseconds = results[row]
            answers[row]["translation"] = best[0]["translation"]
            if n_best is not None:
                answers[row]["n_best"] = best[:n_best]
            if timed:
                answers[row]["milliseconds"] = milliseconds
        return answers

    def with_choices(self, text: str, most: int) -> dict[str, Any]:
        """A text's `translation` and how sure the model is of it, as the page of `rosetta serve` has them.

        `milliseconds` tells how long decoding took the backend; `ended` whether the model ended the sentence, else
        decoding stopped at its greatest length. Each of the `characters`, the end of the sentence included, has its
        `probability`, and as `choices` at `most` so many of the most probable ones at its position. Raises
        UnknownCharactersError.
        """
        ((_, ids, lengths),) = self._encoded([text])
        decoded = self._search(ids, lengths)
        vocabulary = self.decoder_vocabulary
        sources = {"encoder_ids": ids, "encoder_lengths": lengths}
        timeout = timeout_for(sentences=1)
        (found,) = self.process.call(
            in_child.probabilities, None, timeout, decoded_ids=decoded.ids[:, 0], **sources
        )  # (L, V_dec)
        translation = vocabulary.text_of(decoded.ids[0, 0])
        ended = len(translation) < decoded.ids.shape[2]
        characters = []
        for character, of_each in zip(translation + STOP * ended, found, strict=False):
            best = np.argsort(-of_each, kind="stable")[:most]
            choices = [{"character": vocabulary.characters[n], "probability": float(of_each[n])} for n in best]
            probability = float(of_each[vocabulary.id_of[character]])
            characters.append({"character": character, "probability": probability, "choices": choices})
        return {
            "translation": translation,
            "milliseconds": 1000 * float(decoded.seconds[0]),
            "ended": ended,
            "characters": characters,
        }

    @property
    def about(self) -> dict[str, Any]:
        """Which backend answers, as machines read it."""
        return {"backend": self.process.name}

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

    def _encoded(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Ids, Ids]]:
        """The texts that are not blank, those of one width together: their indices, ids (N, width) and lengths (N,).

        Padded further than in training, a sentence translates differently: each longer one is as wide as itself.
        """
        vocabulary, longest = self.encoder_vocabulary, self.run.max_encoder_seq_length
        texts = [normalize(text) for text in texts]
        ids, lengths = vocabulary.encode(texts, longest)
        rows_of_width: dict[int, list[int]] = {}
        for row, text in enumerate(texts):
            if text.strip():
                rows_of_width.setdefault(max(len(text), longest), []).append(row)
        for width, rows in rows_of_width.items():
            yield rows, ids[rows, :width], lengths[rows]

    def _search(
        self, ids: Ids, lengths: Ids, beam: int | None = None, alone: bool = False, on_event: OnEvent | None = None
    ) -> in_child.Beams:
        """See `in_child.search`. The process has time for each sentence and beam."""
        return self.process.call(
            in_child.search,
            on_event,
            timeout_for(sentences=len(ids) * (beam or 1)),
            encoder_ids=ids,
            encoder_lengths=lengths,
            max_length=max_decoded_length(self.run.max_decoder_seq_length),
            beam=beam,
            alone=alone,
        )


@dataclass(frozen=True)
class Opener:
    """Opens a run in any backend and precision, at once or in two steps, so that several can be started together."""

    run: RunDirectory
    weights: str  # "last" or "best"
    dtype: Precision | None  # None: the run's own
    runtime: Runtime

    @contextmanager
    def open(self, backend: str | None) -> Iterator[Translator]:
        """A translator in a process of the backend, by default in the run's own where it is installed, else another.

        In the end the process is ended.
        """
        with self.launch(backend) as process:
            yield self.load(process)

    def launch(self, backend: str | None) -> BackendProcess:
        """Start a backend's process without waiting for it. Raises RosettaError where it cannot be started."""
        model = self.run.model_config
        model = replace(model, dtype=self.dtype or model.dtype)
        return BackendProcess(backend or of_run(self.run.backend), model, self.run.train_config, self.runtime)

    def load(self, process: BackendProcess) -> Translator:
        """A translator with the run's weights, in a process that was launched. Raises RosettaError.

        The weights are read and checked in that process alone.
        """
        translator = Translator(process, self.run)  # while the process is being started
        process.call(in_child.load_run, run=self.run.path.resolve(), weights=self.weights)
        return translator


def answers_as_typed(
    answers: Callable[[Sequence[str]], list[dict[str, Any]]], sources: Sources, lines: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The `answers` to lines that somebody typed, which are read as the run's training wrote its own.

    An answer has the line as its `source`, and `read_as` where the line was read otherwise, and a `doubt` where the
    translation is a guess.
    """
    texts = list(map(sources.as_written, lines))
    for line, text, answer in zip(lines, texts, answers(texts), strict=True):
        answer["source"] = with_replacements(line)
        if text != normalize(line):
            answer.setdefault("read_as", with_replacements(text))
        of_most = next((row["translation"] for row in answer.get("backends", ()) if row["same"]), "")
        if "error" not in answer and (doubt := sources.doubt(text, answer.get("translation", of_most))):
            answer["doubt"] = doubt
        yield answer
