"""Sentences with one gap and what fills it: Tom is drawing my hat, a hat, 3 hats, the red hat, Anna's hat.

A frame opens the sentence and is soon learned; what fills it takes a model longer. Each frame
with each kind of filler is a pattern of the phrasebook.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from docs.phrasebook import lexicon as lex
from docs.phrasebook.patterns import Pairs
from docs.phrasebook.words import Determiner, Noun

Phrases = tuple[tuple[str, str], ...]  # noun phrases, English and French
Nouns = tuple[Noun, ...]


@dataclass(frozen=True)
class Filler:
    """Noun phrases of one kind, and how many English sentences a frame makes with them at most."""

    kind: str
    phrases: Phrases
    limit: int


@dataclass(frozen=True)
class Frame:
    """A sentence with a gap, in both languages, and what fills the gap."""

    name: str
    en: str
    fr: str
    fillers: tuple[Filler, ...]

    def pairs(self, filler: Filler) -> Pairs:
        """The sentence with each of the filler's phrases."""
        for en, fr in filler.phrases:
            yield self.en.format(en), self.fr.format(fr)


def one(*groups: tuple[Nouns, Iterable[Determiner]]) -> Filler:
    """my hat, mon chapeau"""
    phrases = (
        (f"{which.en} {noun.en}", which.before(noun))
        for nouns, determiners in groups
        for noun, which in product(nouns, determiners)
    )
    return Filler("one", tuple(phrases), 360)


def some_one(nouns: Nouns) -> Filler:
    """a hat, un chapeau"""
    return Filler("some_one", tuple((f"a {noun.en}", noun.a) for noun in nouns), 60)


def several(nouns: Nouns) -> Filler:
    """my hats, mes chapeaux"""
    phrases = ((f"{which.ens} {noun.ens}", f"{which.plural} {noun.frs}") for noun, which in product(nouns, lex.ANY))
    return Filler("several", tuple(phrases), 150)


def counted(nouns: Nouns) -> Filler:
    """3 hats, 3 chapeaux"""
    phrases = ((f"{number} {noun.ens}", f"{number} {noun.frs}") for noun, number in product(nouns, range(2, 10)))
    return Filler("counted", tuple(phrases), 90)


def colored(nouns: Nouns) -> Filler:
    """the red hat, le chapeau rouge"""
    phrases = (
        (f"the {color.en} {noun.en}", f"{lex.THE.of(noun)} {color.with_noun(noun)}")
        for noun, color in product(nouns, lex.COLORS)
    )
    return Filler("colored", tuple(phrases), 110)


def owned(nouns: Nouns) -> Filler:
    """Tom's hat, le chapeau de Tom"""
    phrases = ((f"{who.en}'s {noun.en}", f"{noun.the} de {who.fr}") for noun, who in product(nouns, lex.NAMED))
    return Filler("owned", tuple(phrases), 110)


# What can be traded, anything one can point at, and what has a color.
SALABLE = lex.TRADED + lex.PETS
THINGS = lex.GOODS + lex.PETS
COLORED = lex.CLOTHES + lex.CONTAINERS + lex.FURNITURE + lex.RIDES

ONE_OF_ALL = one((THINGS, lex.ANY), (lex.FAMILY, lex.OWN), (lex.PLACES + lex.EDIBLE, lex.POINT))
TO_TRADE, TO_FIND = (
    (one((nouns, lex.ANY)), some_one(nouns), several(nouns), counted(nouns), colored(COLORED), owned(nouns))
    for nouns in (SALABLE, THINGS)
)
TO_MIND = (TO_FIND[0], several(THINGS), colored(COLORED), owned(THINGS))
TO_SEE = (ONE_OF_ALL, *TO_FIND[1:])
TO_LIKE = (ONE_OF_ALL, several(THINGS), colored(COLORED), owned(THINGS))
SINGULAR = (ONE_OF_ALL, some_one(THINGS), colored(COLORED), owned(THINGS))

FRAMES = (
    Frame("can_i_see", "can I see {}?", "est-ce que je peux voir {}?", TO_SEE),
    Frame("i_remember", "I remember {}.", "je me souviens de {}.", TO_SEE),
    Frame("he_needs", "he needs {}.", "il a besoin de {}.", TO_TRADE),
    Frame("she_just_found", "she just found {}.", "elle vient de trouver {}.", TO_FIND),
    Frame("we_must_sell", "we must sell {}.", "nous devons vendre {}.", TO_TRADE),
    Frame("look_at", "look at {}!", "regardez {}!", TO_SEE),
    Frame("do_not_forget", "don't forget {}!", "ne oubliez pas {}!", TO_SEE),
    Frame("tom_is_drawing", "Tom is drawing {}.", "Tom est en train de dessiner {}.", TO_SEE),
    Frame("anna_likes", "Anna likes {}.", "Anna aime bien {}.", TO_LIKE),
    Frame("maybe_it_is", "maybe it's {}.", "ce est peut-être {}.", SINGULAR),
    Frame("mind", "mind {}!", "faites attention à {}!", TO_MIND),
    Frame("why_not_buy", "why not buy {}?", "pourquoi ne pas acheter {}?", TO_TRADE),
)
