"""Scores of translations: chrF, exact match and character error rate,
against all references of a source."""

from collections.abc import Iterable, Sequence
from typing import Annotated, TypedDict

import msgspec


class Scores(TypedDict):
    """The scores of all translations of a corpus together."""

    chrf: float  # 0 to 100
    chrf_signature: str
    exact_match: float  # 0 to 1
    # Edits divided by characters of the nearest reference, each summed over the corpus.
    character_error_rate: float
    sentences: Annotated[int, msgspec.Meta(ge=0, le=10**15)]


def score(translations: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Score the translations of a corpus, one for each source,
    against one or more references for each source."""
    from sacrebleu.metrics.chrf import CHRF

    exact = sum(t in refs for t, refs in zip(translations, references, strict=True))
    nearest = [
        min(((distance(t, ref), len(ref)) for ref in refs), key=lambda edits: edits[0] / edits[1])
        for t, refs in zip(translations, references, strict=True)
    ]
    # sacrebleu takes a list of all first references, one of all second ones,
    # and so on; None where there is none.
    most = max(map(len, references))
    streams = [[refs[k] if k < len(refs) else None for refs in references] for k in range(most)]
    chrf = CHRF()
    return {
        "chrf": chrf.corpus_score(translations, streams).score,  # type: ignore[arg-type]
        "chrf_signature": str(chrf.get_signature()),
        "exact_match": exact / len(translations),
        "character_error_rate": sum(edits for edits, _ in nearest)
        / sum(length for _, length in nearest),
        "sentences": len(translations),
    }


def distance(left: str, right: str) -> int:
    """The Levenshtein distance: the fewest insertions,
    deletions and substitutions of a character between both."""
    # The distances of the left text so far from each beginning of the right one.
    row: list[int] = [*range(len(right) + 1)]
    for number, character in enumerate(left, 1):
        above, row = row, [number]
        for place, candidate in enumerate(right):
            row.append(
                min(row[-1] + 1, above[place + 1] + 1, above[place] + (character != candidate))
            )
    return row[-1]


def references(pairs: Iterable[tuple[str, str]], sources: Iterable[str]) -> dict[str, list[str]]:
    """For each of these sources its distinct targets, in the order of the corpus."""
    targets: dict[str, list[str]] = {source: [] for source in sources}
    for source, target in pairs:
        if source in targets and target not in targets[source]:
            targets[source].append(target)
    return targets
