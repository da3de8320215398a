"""Marks how a translation differs from its reference."""

import re
from collections.abc import Iterator, Sequence

# With more edits per character of the reference, a translation is shown without marks, which would only hide it.
FAR = 0.55
ALIKE = 0.5  # two words are compared character by character if they are at least this similar, from 0 to 1

Parts = Sequence[tuple[str, str]]  # ("same" | "added" | "missing", characters), in reading order


def difference(translation: str, references: Sequence[str]) -> tuple[Parts, str]:
    """What a translation adds to the nearest reference and leaves out, and a note on how many edits that is."""
    from rapidfuzz.distance import Levenshtein

    if not translation:
        return [], "nothing"
    if not references:
        return [("same", translation)], "no reference"
    nearest = min(references, key=lambda reference: Levenshtein.distance(translation, reference))
    edits = Levenshtein.distance(translation, nearest)
    note = "exact" if edits == 0 else f"{edits} edit{'s' * (edits > 1)}"
    spaces = len(translation) - len(translation.rstrip(" "))
    note += f", {spaces} spaces at its end" if edits and spaces > 1 else ""
    if edits > FAR * len(nearest):
        return [("same", translation)], f"{note}, far from every reference"
    return [part for part in _marked(nearest, translation) if part[1]], note


def _marked(before: str, after: str) -> Iterator[tuple[str, str]]:
    """The parts of a comparison word by word. Similar words are compared by characters, others are replaced whole."""
    from rapidfuzz.distance import Levenshtein

    words, others = (re.findall(r"\w+|\s|[^\w\s]", text) for text in (before, after))
    for step in Levenshtein.opcodes(words, others):
        old, new = words[step.src_start : step.src_end], others[step.dest_start : step.dest_end]
        if step.tag == "equal":
            yield "same", "".join(new)
        elif step.tag == "replace":  # as many words on either side
            for word, other in zip(old, new, strict=True):
                yield from _by_characters(word, other)
        else:
            yield "missing", "".join(old)
            yield "added", "".join(new)


def _by_characters(word: str, other: str) -> Iterator[tuple[str, str]]:
    """The parts of a comparison of two words."""
    from rapidfuzz.distance import Levenshtein

    if Levenshtein.normalized_similarity(word, other) < ALIKE:
        yield "missing", word
        yield "added", other
        return
    for step in Levenshtein.opcodes(word, other):
        if step.tag == "equal":
            yield "same", other[step.dest_start : step.dest_end]
        else:
            yield "missing", word[step.src_start : step.src_end]
            yield "added", other[step.dest_start : step.dest_end]
