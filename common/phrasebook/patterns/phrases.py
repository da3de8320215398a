"""Phrases with one gap, for a noun and the word before it: I lost my key, j'ai perdu ma clé."""

from dataclasses import dataclass
from itertools import product

from common.phrasebook import lexicon as lex
from common.phrasebook.patterns import Pairs
from common.phrasebook.words import Determiner, Noun

Gap = tuple[tuple[Noun, ...], tuple[Determiner, ...]]


@dataclass(frozen=True)
class Phrase:
    """A phrase with its French versions, and what fills its gap: nouns and their determiners."""

    name: str
    en: str
    fr: tuple[str, ...]
    gaps: tuple[Gap, ...]

    def pairs(self) -> Pairs:
        """The phrase with each of its nouns, in each of its French versions."""
        for nouns, determiners in self.gaps:
            for noun, determiner, fr in product(nouns, determiners, self.fr):
                yield self.en.format(f"{determiner.en} {noun.en}"), fr.format(determiner.before(noun))


# What fills the gaps. Places and prices are pointed at, people are someone's; and a phrase that
# speaks to someone has no "your", since one French "you" per sentence is enough.
ANYONES = (lex.GOODS + lex.PETS, lex.ANY)
SOMEONES = (lex.GOODS + lex.PETS, lex.OWN)
NOT_YOURS = (lex.GOODS + lex.PETS, lex.UNADDRESSED)
TO_CARRY = (lex.PORTABLE, lex.ANY)
TO_HAND_OVER = (lex.PORTABLE, lex.UNADDRESSED)
TO_TRADE = (lex.TRADED, lex.ANY)
TO_USE = (lex.USED, lex.ANY)
TO_OPEN = (lex.OPENINGS + lex.CONTAINERS, lex.UNADDRESSED)
ON_SALE = (lex.TRADED, lex.POINT)
FOOD = (lex.EDIBLE, lex.ANY)
SERVED = (lex.EDIBLE, lex.POINT)
PEOPLE = (lex.FAMILY, lex.OWN)
PLACES = (lex.PLACES, lex.POINT)

PHRASES = (
    Phrase("where_is", "where is {}?", ("où est {}?",), (SOMEONES,)),
    Phrase("where_is_the", "where is {}?", ("où se trouve {}?",), (PLACES,)),
    Phrase("how_much", "how much is {}?", ("combien coûte {}?",), (ON_SALE, SERVED)),
    Phrase("whose", "whose is {}?", ("à qui est {}?",), ((lex.GOODS + lex.PETS, lex.POINT),)),
    Phrase("who_took", "who took {}?", ("qui a pris {}?",), (TO_CARRY,)),
    Phrase("can_see", "can I see {}?", ("est-ce que je peux voir {}?",), (ANYONES,)),
    Phrase("may_use", "may I use {}?", ("puis-je utiliser {}?",), (TO_USE,)),
    Phrase("pleasing", "do you like {}?", ("est-ce que {} te plaît?", "est-ce que {} vous plaît?"),
           ((lex.TRADED + lex.PETS, lex.UNADDRESSED),)),
    Phrase("do_you_see", "do you see {}?", ("est-ce que tu vois {}?",), (NOT_YOURS,)),
    Phrase("do_you_know", "do you know {}?", ("connaissez-vous {}?",),
           (PLACES, (lex.FAMILY, lex.UNADDRESSED[2:]))),
    Phrase("need", "I need {}.", ("je ai besoin de {}.",), (TO_USE, TO_CARRY)),
    Phrase("look_for", "I'm looking for {}.", ("je cherche {}.",), (ANYONES,)),
    Phrase("cannot_find", "I can't find {}.", ("je ne trouve pas {}.",), (TO_CARRY,)),
    Phrase("lose", "I lost {}.", ("je ai perdu {}.",), ((lex.PORTABLE, lex.OWN),)),
    Phrase("love", "I love {}.", ("je adore {}.",), (TO_TRADE, (lex.PETS, lex.ANY), SERVED)),
    Phrase("dislike", "I don't like {}.", ("je ne aime pas {}.",), (TO_TRADE, SERVED)),
    Phrase("remember", "I remember {}.", ("je me souviens de {}.",), (TO_TRADE, PEOPLE, PLACES)),
    Phrase("want_to_buy", "I want to buy {}.", ("je veux acheter {}.",), (ON_SALE,)),
    Phrase("must_sell", "I must sell {}.", ("je dois vendre {}.",), (TO_TRADE,)),
    Phrase("forget", "he forgot {}.", ("il a oublié {}.",), (TO_CARRY,)),
    Phrase("wash", "he's washing {}.", ("il lave {}.",), ((lex.CLOTHES + lex.DISHWARE + lex.RIDES, lex.ANY),)),
    Phrase("sell", "she sold {}.", ("elle a vendu {}.",), (TO_TRADE,)),
    Phrase("near", "she's near {}.", ("elle est près de {}.",), ((lex.FURNITURE + lex.RIDES, lex.ANY), PLACES)),
    Phrase("buy", "we bought {}.", ("nous avons acheté {}.",), (ON_SALE,)),
    Phrase("paint", "we painted {}.", ("nous avons peint {}.",), ((lex.FURNITURE + lex.INDOORS, lex.ANY),)),
    Phrase("visit", "we visited {}.", ("nous avons visité {}.",), ((lex.SIGHTS, lex.POINT),)),
    Phrase("want", "they want {}.", ("ils veulent {}.",), (TO_TRADE, (lex.PETS, lex.ANY), SERVED)),
    Phrase("break", "Tom broke {}.", ("Tom a cassé {}.",), ((lex.BREAKABLE, lex.ANY),)),
    Phrase("hide", "Marc hid {}.", ("Marc a caché {}.",), (TO_CARRY,)),
    Phrase("find", "Anna found {}.", ("Anna a trouvé {}.",), (TO_CARRY, (lex.PETS, lex.ANY))),
    Phrase("draw", "Nina is drawing {}.", ("Nina dessine {}.",), (ANYONES,)),
    Phrase("eat", "Emma ate {}.", ("Emma a mangé {}.",), (FOOD,)),
    Phrase("under", "it's under {}.", ("ce est sous {}.",),
           ((lex.FURNITURE + lex.CLOTHES + lex.CONTAINERS + lex.PAPERS, lex.ANY),)),
    Phrase("behind", "it's behind {}.", ("ce est derrière {}.",),
           ((lex.FURNITURE + lex.CONTAINERS + lex.RIDES, lex.ANY), PLACES)),
    Phrase("this_is", "this is {}.", ("ce est {}.",), (SOMEONES, PEOPLE)),
    Phrase("is_here", "{} is here.", ("{} est ici.",), (ANYONES,)),
    Phrase("thanks", "thanks for {}.", ("merci pour {}.",), (SERVED, (lex.PAPERS + lex.SMALL_THINGS, lex.POINT))),
    Phrase("give", "give me {}!", ("donnez-moi {}!",), (TO_HAND_OVER,)),
    Phrase("look_at", "look at {}!", ("regardez {}!",), (NOT_YOURS,)),
    Phrase("bring", "bring {}!", ("apportez {}!",), (TO_HAND_OVER, SERVED)),
    Phrase("taste", "taste {}!", ("goûtez {}!",), ((lex.EDIBLE, lex.UNADDRESSED),)),
    Phrase("open", "open {}!", ("ouvrez {}!",), (TO_OPEN,)),
    Phrase("do_not_close", "don't close {}!", ("ne fermez pas {}!",), (TO_OPEN,)),
    Phrase("do_not_touch", "don't touch {}!", ("ne touchez pas {}!",), ((lex.GOODS, lex.UNADDRESSED),)),
    Phrase("carry", "help me carry {}!", ("aidez-moi à porter {}!",), ((lex.HEAVY_THINGS, lex.UNADDRESSED),)),
)  # fmt: skip
