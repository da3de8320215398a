"""Judge a run by sentences that it may be asked: python -m docs.phrasebook.visitors [RUN].

Each sentence of visitors.txt is translated twice, as it is and in small letters without its mark,
as `rosetta translate` would, and each sentence that the run's training held out once. A translation
is right if visitors.txt or the run has it, whatever its mark at the end is.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from common.run import BUNDLED_RUN, RunDirectory
from common.scoring import references
from common.sources import Sources
from docs.phrasebook.words import lines

MARKS = " \u202f.!?"
# Sentences, and the translations that are right, without marks at their ends.
Right = dict[str, Collection[str]]


class Judged(NamedTuple):
    """A sentence as it was typed, and its translation."""

    text: str
    translation: str
    right: bool
    doubt: str  # why it is called a guess


def visitors() -> Right:
    """The sentences of visitors.txt."""
    pairs = (line.split(" = ") for line in lines(Path(__file__).parent / "visitors.txt"))
    return {source: {text.rstrip(MARKS) for text in texts.split(" | ")} for source, texts in pairs}


def held_out(run: RunDirectory) -> Right:
    """The sentences that a run's training held out."""
    material = run.material()
    sources = dict.fromkeys(material.pairs[row][0] for row in material.validation_rows.tolist())
    known = references(material.pairs, sources)
    return {source: {text.rstrip(MARKS) for text in texts} for source, texts in known.items()}


def carelessly(sentences: Iterable[str]) -> list[str]:
    """The sentences in small letters, without their marks."""
    return [sentence.lower().rstrip(MARKS) for sentence in sentences]


def judged(
    translate: Callable[[Sequence[str]], list[str]],
    sources: Sources,
    typed: Sequence[str],
    known: Right,
) -> Iterator[Judged]:
    """Each of the sentences as they were `typed`, in the order in which they are `known`."""
    texts = list(map(sources.as_written, typed))
    for given, text, translation, right in zip(
        typed, texts, translate(texts), known.values(), strict=True
    ):
        yield Judged(
            given, translation, translation.rstrip(MARKS) in right, sources.doubt(text, translation)
        )


def main() -> None:
    """Print the visitors' sentences that are translated wrongly,
    how many are right, and how many called guesses."""
    from backends.process.parent import Runtime
    from backends.process.translating import launch, translations

    run = RunDirectory.open(sys.argv[1] if len(sys.argv) > 1 else BUNDLED_RUN)
    sources, typed, unseen = Sources.of_run(run), visitors(), held_out(run)
    with launch(run, "last", Runtime()) as process:
        translate = partial(translations, process)
        for title, sentences, known in (
            ("as they are typed", list(typed), typed),
            ("in small letters, without marks", carelessly(typed), typed),
            ("held out", list(unseen), unseen),
        ):
            judgements = list(judged(translate, sources, sentences, known))
            for judgement in judgements:
                if not judgement.right and known is typed:
                    print(f"{judgement.text:28} {judgement.translation}  ({judgement.doubt})")
            for right in (True, False):
                doubts = [
                    bool(judgement.doubt) for judgement in judgements if judgement.right == right
                ]
                print(
                    f"{title}: {len(doubts)} {'right' if right else 'wrong'}, {sum(doubts)} of "
                    "them called guesses"
                )


if __name__ == "__main__":
    main()
