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
    (describing.trait, 150),
    (describing.trait_question, 250),
    (describing.trait_very, 100),
    (describing.do_not_be, 64),
    (describing.need, 50),
    (describing.need_question, 64),
    (describing.job, 150),
    (describing.comparison, 112),
    (describing.age, 350),
    (describing.kinship, 300),
    (describing.thing, 150),
    (describing.thing_too, 150),
    (describing.this_thing, 150),
    (describing.things, 48),
    (describing.color, 250),
    (describing.colored_thing, 200),
    (describing.exclamation, 250),
    (having.have, 200),
    (having.have_not, 150),
    (having.have_question, 100),
    (having.have_number, 300),
    (having.ownership, 350),
    (having.mine, 150),
    (having.need_thing, 300),
    (having.lose, 150),
    (having.like, 100),
    (having.like_not, 120),
    (having.like_question, 300),
    (having.would_like, 100),
    (having.please, 50),
    (having.there_is_no_more, 50),
    (having.is_there, 50),
    (having.there_are, 350),
    (having.where_is, 200),
    (having.looking_for, 300),
    (having.cannot_find, 300),
    (having.where_is_the, 50),
    (having.where_are, 70),
    (having.in_place, 60),
    (doing.now, 150),
    (doing.now_question, 200),
    (doing.every_day, 100),
    (doing.did, 100),
    (doing.did_on, 100),
    (doing.did_not, 80),
    (doing.did_to, 200),
    (doing.cannot, 54),
    (doing.can_question, 150),
    (doing.must, 72),
    (doing.going_to, 80),
    (doing.want_to, 200),
    (doing.want_to_not, 80),
    (doing.errand, 150),
    (doing.order, 350),
    (doing.ban, 70),
    (doing.lets, 200),
    (doing.go_to, 50),
    (doing.come_from, 100),
    (doing.live_in, 100),
    (doing.language, 60),
    (doing.lesson, 45),
    (doing.play, 60),
    (everyday.greeting, 200),
    (everyday.name, 50),
    (everyday.thanks, 100),
    (everyday.price, 196),
    (everyday.thing_price, 200),
    (everyday.how_much, 200),
    (everyday.how_many, 60),
    (everyday.clock, 121),
    (everyday.opening_hours, 150),
    (everyday.departure, 250),
    (everyday.day, 30),
    (everyday.date, 350),
    (everyday.free_on, 60),
    (everyday.weather, 250),
    (everyday.see_you, 56),
    (everyday.addition, 81),
    (everyday.pain, 120),
    (everyday.room, 294),
    (everyday.phone, 100),
    (everyday.someones_home, 60),
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
