"""The phrasebook's table of contents, and the choice of the sentences it holds."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from hashlib import sha256

from common.phrasebook import english, french
from common.phrasebook.patterns import Pairs, describing, doing, everyday, having

SEED = "rosetta"
LONGEST_ENGLISH = 18
LONGEST_FRENCH = 26

# Each pattern with the number of English sentences it gives, or all it has if fewer.
PATTERNS: tuple[tuple[Callable[[], Pairs], int], ...] = (
    (describing.trait, 300),
    (describing.trait_not, 200),
    (describing.trait_question, 200),
    (describing.trait_very, 150),
    (describing.need, 150),
    (describing.need_not, 120),
    (describing.need_question, 100),
    (describing.nationality, 150),
    (describing.job, 200),
    (describing.job_not, 120),
    (describing.comparison, 200),
    (describing.age, 150),
    (describing.kinship, 200),
    (describing.thing, 250),
    (describing.thing_not, 200),
    (describing.thing_question, 150),
    (describing.thing_too, 120),
    (describing.this_thing, 200),
    (describing.things, 200),
    (describing.color, 150),
    (describing.a_colored_thing, 150),
    (describing.a_thing, 150),
    (describing.exclamation, 80),
    (having.have, 250),
    (having.have_not, 150),
    (having.have_question, 60),
    (having.have_number, 120),
    (having.ownership, 150),
    (having.this_is_my, 150),
    (having.mine, 120),
    (having.need_thing, 150),
    (having.lose, 120),
    (having.like, 250),
    (having.like_not, 150),
    (having.like_question, 60),
    (having.want_some, 150),
    (having.please, 60),
    (having.there_is_some, 100),
    (having.there_are, 100),
    (having.where_is, 150),
    (having.where_is_the, 60),
    (having.where_are, 80),
    (having.in_place, 150),
    (having.thing_in, 100),
    (having.thing_on, 150),
    (doing.now, 300),
    (doing.now_not, 200),
    (doing.now_question, 150),
    (doing.habit, 150),
    (doing.did, 250),
    (doing.did_when, 150),
    (doing.did_not, 150),
    (doing.did_to, 200),
    (doing.did_not_to, 100),
    (doing.can, 150),
    (doing.cannot, 150),
    (doing.can_question, 120),
    (doing.skill, 150),
    (doing.must, 150),
    (doing.going_to, 200),
    (doing.want_to, 200),
    (doing.want_to_not, 100),
    (doing.like_to, 150),
    (doing.errand, 120),
    (doing.order, 100),
    (doing.ban, 60),
    (doing.lets, 80),
    (doing.go_to, 150),
    (doing.come_from, 120),
    (doing.live_in, 150),
    (doing.language, 120),
    (doing.play, 100),
    (doing.company, 150),
    (everyday.greeting, 150),
    (everyday.name, 60),
    (everyday.thanks, 60),
    (everyday.price, 80),
    (everyday.thing_price, 80),
    (everyday.how_much, 60),
    (everyday.how_many, 40),
    (everyday.clock, 80),
    (everyday.timetable, 100),
    (everyday.day, 28),
    (everyday.date, 100),
    (everyday.free_on, 80),
    (everyday.weather, 120),
    (everyday.pain, 100),
    (everyday.room, 80),
    (everyday.phone, 40),
    (everyday.someones_home, 100),
)


def sentences() -> Iterator[tuple[str, str, str]]:
    """Every pair of the phrasebook, each as (pattern name, English, French)."""
    for pattern, limit in PATTERNS:
        for source, translations in _choose(_by_source(pattern()), limit):
            for translation in translations:
                yield pattern.__name__, source, translation


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
