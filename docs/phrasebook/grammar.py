"""The phrasebook's table of contents, and the choice of the sentences it holds."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256

from docs.phrasebook import english, french
from docs.phrasebook.patterns import Pairs, describing, doing, everyday, having
from docs.phrasebook.patterns.frames import FRAMES

SEED = "rosetta"
LONGEST_ENGLISH = 24
LONGEST_FRENCH = 40

# How many English sentences a rule of grammar gives at most. The frames make up most of the book:
# they open in few ways, which are soon learned; the rules give it its range.
PER_RULE = 14

RULES: tuple[Callable[[], Pairs], ...] = (
    describing.trait,
    describing.trait_not,
    describing.trait_question,
    describing.trait_very,
    describing.do_not_be,
    describing.need,
    describing.job,
    describing.comparison,
    describing.age,
    describing.kinship,
    describing.thing,
    describing.thing_too,
    describing.this_thing,
    describing.things,
    describing.color,
    describing.colored_thing,
    describing.exclamation,
    having.have,
    having.have_not,
    having.have_question,
    having.have_number,
    having.ownership,
    having.mine,
    having.like,
    having.like_question,
    having.would_like,
    having.please,
    having.there_is_no_more,
    having.there_are,
    having.where_are,
    having.in_place,
    having.thing_on,
    doing.now,
    doing.now_question,
    doing.did,
    doing.did_on,
    doing.did_not,
    doing.cannot,
    doing.can_question,
    doing.must,
    doing.going_to,
    doing.want_to,
    doing.want_to_not,
    doing.come_from,
    doing.live_in,
    doing.language,
    doing.lesson,
    doing.play,
    everyday.greeting,
    everyday.name,
    everyday.price,
    everyday.thing_price,
    everyday.how_many,
    everyday.clock,
    everyday.opening_hours,
    everyday.departure,
    everyday.day,
    everyday.date,
    everyday.free_on,
    everyday.weather,
    everyday.see_you,
    everyday.addition,
    everyday.pain,
    everyday.room,
    everyday.phone,
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
