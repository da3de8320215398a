"""The phrasebook's table of contents, and the choice of the sentences it holds."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from hashlib import sha256

from common.phrasebook import english, french
from common.phrasebook.patterns import Pairs, describing, doing, everyday, having

SEED = "rosetta"
LONGEST_ENGLISH = 24
LONGEST_FRENCH = 32

# Each pattern with the number of English sentences it gives, or all it has if fewer.
PATTERNS: tuple[tuple[Callable[[], Pairs], int], ...] = (
    (describing.trait, 200),
    (describing.trait_not, 200),
    (describing.trait_question, 200),
    (describing.trait_very, 200),
    (describing.do_not_be, 200),
    (describing.need, 200),
    (describing.need_question, 200),
    (describing.nationality, 200),
    (describing.job, 200),
    (describing.job_wanted, 200),
    (describing.comparison, 200),
    (describing.age, 200),
    (describing.kinship, 200),
    (describing.thing, 200),
    (describing.thing_not, 200),
    (describing.thing_too, 200),
    (describing.this_thing, 200),
    (describing.things, 200),
    (describing.color, 200),
    (describing.colored_thing, 200),
    (describing.exclamation, 200),
    (having.have, 200),
    (having.have_not, 200),
    (having.have_question, 200),
    (having.have_number, 200),
    (having.ownership, 200),
    (having.mine, 200),
    (having.need_thing, 200),
    (having.lose, 200),
    (having.like, 200),
    (having.like_not, 200),
    (having.like_question, 200),
    (having.would_like, 200),
    (having.please, 200),
    (having.there_is_no_more, 200),
    (having.is_there, 200),
    (having.there_are, 200),
    (having.where_is, 200),
    (having.where_is_the, 200),
    (having.where_are, 200),
    (having.in_place, 200),
    (having.thing_in, 200),
    (having.thing_on, 200),
    (doing.now, 200),
    (doing.now_not, 200),
    (doing.now_question, 200),
    (doing.every_day, 200),
    (doing.did, 200),
    (doing.did_on, 200),
    (doing.did_not, 200),
    (doing.did_to, 200),
    (doing.can, 200),
    (doing.cannot, 200),
    (doing.can_question, 200),
    (doing.skill, 200),
    (doing.must, 200),
    (doing.going_to, 200),
    (doing.want_to, 200),
    (doing.want_to_not, 200),
    (doing.like_to, 200),
    (doing.errand, 200),
    (doing.order, 200),
    (doing.ban, 200),
    (doing.lets, 200),
    (doing.go_to, 200),
    (doing.come_from, 200),
    (doing.live_in, 200),
    (doing.language, 200),
    (doing.lesson, 200),
    (doing.play, 200),
    (everyday.greeting, 200),
    (everyday.name, 200),
    (everyday.thanks, 200),
    (everyday.price, 200),
    (everyday.thing_price, 200),
    (everyday.how_much, 200),
    (everyday.how_many, 200),
    (everyday.clock, 200),
    (everyday.opening_hours, 200),
    (everyday.departure, 200),
    (everyday.day, 200),
    (everyday.date, 200),
    (everyday.free_on, 200),
    (everyday.weather, 200),
    (everyday.see_you, 200),
    (everyday.addition, 200),
    (everyday.pain, 200),
    (everyday.room, 200),
    (everyday.phone, 200),
    (everyday.someones_home, 200),
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
