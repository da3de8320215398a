"""Translation with the weights of a run, by the process of a backend that has loaded them."""

from collections import Counter
from collections.abc import Collection, Sequence

from backends import of_run
from backends.process import timeout_for, translate_in_child
from backends.process.parent import BackendProcess, OnEvent, Runtime
from backends.process.translate_in_child import Answer
from common.run import RunDirectory


def launch(
    run: RunDirectory, weights: str, runtime: Runtime, backend: str | None = None
) -> BackendProcess:
    """Start a backend's process that loads the `last` or `best` weights of a run,
    without waiting for it.

    The backend is by default the run's own where it is installed, else another. Raises RosettaError
    where the process cannot be started. Only that process reads the weights.
    """
    name = backend or of_run(run.backend)
    return BackendProcess(name, run.model_config, run.train_config, runtime, load=(run, weights))


def request_answers(
    process: BackendProcess,
    texts: Sequence[str],
    on_event: OnEvent | None = None,
    *,
    beam: int | None = None,
    alone: bool = False,
    characters: bool = False,
) -> list[Answer]:
    """Return the answer to each text; see `translate_in_child.translate_texts`.

    Texts are in Unicode's form NFC, and their characters in the encoder's vocabulary. The timeout
    grows with the texts and the beam. Raises RosettaError.
    """
    timeout = timeout_for(sentences=len(texts) * (beam or 1))
    ask = translate_in_child.translate_texts
    return process.call(
        ask, on_event, timeout, texts=list(texts), beam=beam, alone=alone, characters=characters
    )


def translations(
    process: BackendProcess, texts: Sequence[str], on_event: OnEvent | None = None
) -> list[str]:
    """Return the greedy translation of each text; see `request_answers`."""
    return [answer.translation for answer in request_answers(process, texts, on_event)]


def translation_of_most(answers: Collection[Answer]) -> str:
    """The translation that most answers have; of several, the first. "" without an answer."""
    counted = Counter(answer.translation for answer in answers)
    return max(counted, key=counted.__getitem__, default="")
