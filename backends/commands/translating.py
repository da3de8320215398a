"""Translation of sentences with the weights of a run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from msgspec import to_builtins

from backends import of_run
from backends.process import in_child
from backends.process.parent import BackendProcess, OnEvent, Runtime, timeout_for
from common.answers import Answer, Line, translation_of_most
from common.errors import UnknownCharactersError
from common.run import RunDirectory
from common.settings import Precision
from common.sources import Sources
from common.tensors import CharVocabulary, max_decoded_length
from common.text import LONGEST_SENTENCE, normalize, not_utf8, with_replacements


def read(line: str, sources: Sources, vocabulary: CharVocabulary, drop_unknown: bool = False) -> Line:
    """Read a line that somebody typed, as the run's training wrote its own.

    A line at fault has an `error`. If `drop_unknown`, characters that the encoder's vocabulary lacks are left out of
    the text, and no fault.
    """
    normal, error = normalize(line), ""
    written = sources.as_written(normal)
    text = vocabulary.without_unknown(written) if drop_unknown else written
    if len(normal) > LONGEST_SENTENCE:
        error = f"the line has more than {LONGEST_SENTENCE:,} characters, the most that are translated; divide it"
    elif place := not_utf8(line):
        error = f"byte {place} is not UTF-8; convert the input to UTF-8"
    elif missing := vocabulary.lacks(text):
        error = str(UnknownCharactersError(missing))
    read_as = with_replacements(text) if text != normal else None
    return Line(with_replacements(line), written, text, read_as, error)


class Translator:
    """A backend that has the weights of a run."""

    def __init__(self, process: BackendProcess, run: RunDirectory) -> None:
        self.process, self.run = process, run
        self.encoder_vocabulary, self.decoder_vocabulary = run.vocabularies()

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
        choices: int = 0,
    ) -> list[Answer]:
        """Return the answer to each text; see `in_child.translate`. The process has time for each text and beam.

        Texts are in Unicode's form NFC, and their characters in the encoder's vocabulary; raises RosettaError.
        """
        vocabularies = self.encoder_vocabulary, self.decoder_vocabulary
        encoder_characters, decoder_characters = ("".join(known.characters) for known in vocabularies)
        return self.process.call(
            in_child.translate,
            on_event,
            timeout_for(sentences=len(texts) * (beam or 1)),
            texts=list(texts),
            encoder_characters=encoder_characters,
            decoder_characters=decoder_characters,
            width=self.run.max_encoder_seq_length,
            max_length=max_decoded_length(self.run.max_decoder_seq_length),
            beam=beam,
            alone=alone,
            choices=choices,
        )

    def answers(
        self, texts: Sequence[str], show: Callable[..., None], beam: int | None = None
    ) -> list[dict[str, Answer]]:
        """Return each text's answer by the backend's name, as `SideBySide.answers` does; `show` is not called."""
        return [{self.process.name: answer} for answer in self.decode(texts, beam=beam)]

    @property
    def about(self) -> dict[str, Any]:
        """The backend that answers, as machines read it."""
        return {"backend": self.process.name}


def as_record(
    line: Line, answers: Mapping[str, Answer], doubt: str, n_best: int | None, side_by_side: bool
) -> dict[str, Any]:
    """Return a line and its answers by backend, none where it is at fault, as machines read them."""
    told = {"read_as": line.read_as, "error": line.error or None, "doubt": doubt or None}
    rows = []
    for name, answer in answers.items():
        row: dict[str, Any] = {"backend": name} if side_by_side else {}
        row |= {"translation": answer.translation}
        row |= {"n_best": to_builtins(answer.candidates[:n_best])} if n_best else {}
        if side_by_side:
            same = answer.translation == translation_of_most(answers.values())
            row |= {"milliseconds": answer.milliseconds, "same": same}
        rows.append(row)
    found = {"backends": rows} if side_by_side else rows[0] if rows else {"translation": None}
    return {"source": line.source} | found | {name: note for name, note in told.items() if note is not None}


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
