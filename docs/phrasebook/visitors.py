"""Judge a run by the sentences that visitors type: python -m docs.phrasebook.visitors [RUN].

Each sentence of visitors.txt is translated twice, as it is and in small letters without its mark, as `rosetta
translate` would. A translation is right if visitors.txt has it, whatever its mark at the end is.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from common.run_directory import BUNDLED_RUN, RunDirectory
from common.sources import Sources
from docs.phrasebook.words import lines

MARKS = " \u202f.!?"


def visitors() -> dict[str, set[str]]:
    """The sentences, and the translations that are right, without marks at their ends."""
    pairs = (line.split(" = ") for line in lines(Path(__file__).parent / "visitors.txt"))
    return {source: {text.rstrip(MARKS) for text in texts.split(" | ")} for source, texts in pairs}


def carelessly(sentences: Iterable[str]) -> list[str]:
    """The sentences in small letters, without their marks."""
    return [sentence.lower().rstrip(MARKS) for sentence in sentences]


def wrong(translate: Callable[[Sequence[str]], list[str]], sources: Sources, typed: list[str]) -> dict[str, str]:
    """Of the sentences as they were `typed`, in the order of the file, those translated wrongly, and how."""
    found = zip(typed, visitors().values(), translate(list(map(sources.as_written, typed))), strict=True)
    return {text: translation for text, right, translation in found if translation.rstrip(MARKS) not in right}


def main() -> None:
    """Print the wrong translations and how many are right."""
    from backends.commands.translating import Opener
    from backends.process.parent import Runtime

    run = RunDirectory.open(sys.argv[1] if len(sys.argv) > 1 else BUNDLED_RUN)
    sources, sentences = Sources.of_run(run), list(visitors())
    with Opener(run, "last", None, Runtime()).open(None) as translate:
        for typed in (sentences, carelessly(sentences)):
            mistakes = wrong(translate, sources, typed)
            for text, translation in mistakes.items():
                print(f"{text:28} {translation}  {'(a guess)' if sources.doubt(sources.as_written(text)) else ''}")
            print(f"{len(typed) - len(mistakes)} of {len(typed)} are right")


if __name__ == "__main__":
    main()
