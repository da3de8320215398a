"""The phrasebook's table of contents, and the choice of the sentences it holds."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from inspect import isfunction

from docs.phrasebook import english, french
from docs.phrasebook.patterns import Pairs, describing, doing, everyday, having
from docs.phrasebook.patterns.frames import FRAMES

SEED = "rosetta"
LONGEST_ENGLISH = 24
LONGEST_FRENCH = 40

# How many English sentences a rule of grammar gives at most. The frames make up most of the book:
# they open in few ways, which are soon learned; the rules give it its range.
PER_RULE = 14

# Every function of these modules is a rule, but for those whose names begin with an underscore.
RULES: tuple[Callable[[], Pairs], ...] = tuple(
    rule
    for module in (describing, having, doing, everyday)
    for name, rule in vars(module).items()
    if isfunction(rule) and rule.__module__ == module.__name__ and not name.startswith("_")
)
# Each pattern: its name, its sentences, and how many of them to take.
PATTERNS: tuple[tuple[str, Callable[[], Pairs], int], ...] = (
    *(
        (f"{frame.name}_{filler.kind}", partial(frame.pairs, filler), filler.limit)
        for frame in FRAMES
        for filler in frame.fillers
    ),
    *((rule.__name__, rule, PER_RULE) for rule in RULES),
)


def sentences() -> Iterator[tuple[str, str, str]]:
    """Every pair of the phrasebook, each as (pattern name, English, French)."""
    for name, pairs, limit in PATTERNS:
        for source, translations in _choose(_by_source(pairs()), limit):
            for translation in translations:
                yield name, source, translation


def _by_source(pairs: Pairs) -> dict[str, list[str]]:
    """Polish the pairs, drop the long ones, and bring the versions of a sentence together."""
    versions: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for raw_source, raw_translation in pairs:
        source, translation = english.polish(raw_source), french.polish(raw_translation)
        if len(source) <= LONGEST_ENGLISH and len(translation) <= LONGEST_FRENCH:
            versions[source][translation] = None
    return {source: list(translations) for source, translations in versions.items()}


def _choose(versions: dict[str, list[str]], limit: int) -> list[tuple[str, list[str]]]:
    """A sample of the sentences: a hash, unlike a random generator, never changes its mind."""
    return sorted(versions.items(), key=lambda item: sha256(f"{SEED} {item[0]}".encode()).digest())[:limit]
