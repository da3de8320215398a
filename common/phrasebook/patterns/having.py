"""What people have, like, want and need, and where things are."""

from itertools import product

from common.phrasebook import lexicon as lex
from common.phrasebook.lexicon import BE, HAVE, LIKE, LOSE, WANT
from common.phrasebook.patterns import Pairs

OWNED = lex.PETS + lex.CLOTHES + lex.DEVICES + lex.CONTAINERS + lex.PAPERS + lex.SMALL_THINGS
CARRIED = lex.CLOTHES + lex.CONTAINERS + lex.PAPERS + lex.DEVICES[3:] + lex.SMALL_THINGS
NEEDED = lex.CLOTHES + lex.CONTAINERS + lex.DISHWARE + lex.DEVICES + lex.SMALL_THINGS + lex.FURNITURE


def have() -> Pairs:
    """Anna has a dog. Anna a un chien."""
    for who, what in product(lex.PEOPLE, OWNED):
        yield f"{HAVE.en_says(who)} a {what.en}.", f"{HAVE.says(who)} {what.a}."


def have_not() -> Pairs:
    """We don't have a dog. Nous n'avons pas de chien."""
    for who, what in product(lex.PEOPLE, OWNED):
        yield f"{who.do_not} have a {what.en}.", f"{HAVE.says_not(who)} de {what.fr}."


def have_question() -> Pairs:
    """Do you have a pen? As-tu un stylo ? Avez-vous un stylo ?"""
    for ask, what in product(("as-tu", "avez-vous"), OWNED + lex.DISHWARE):
        yield f"do you have a {what.en}?", f"{ask} {what.a}?"


def have_number() -> Pairs:
    """We have 3 cats. Nous avons 3 chats."""
    for who, number, what in product(lex.SELF + lex.NAMED, range(2, 10), lex.PETS + lex.PAIRS + lex.FRUIT):
        yield f"{HAVE.en_says(who)} {number} {what.ens}.", f"{HAVE.says(who)} {number} {what.frs}."


def ownership() -> Pairs:
    """This is Tom's hat. C'est le chapeau de Tom."""
    for who, what in product(lex.NAMED, OWNED + lex.VEHICLES[:4]):
        yield f"this is {who.en}'s {what.en}.", f"ce est {what.the} de {who.fr}."


def this_is_my() -> Pairs:
    """This is our house. C'est notre maison."""
    for whose, what in product(lex.POSSESSIVES, OWNED + lex.VEHICLES[:4] + lex.ROOMS):
        yield f"this is {whose.en} {what.en}.", f"ce est {whose.of(what)}."


def mine() -> Pairs:
    """The key is mine. La clé est à moi."""
    for what, (en, fr) in product(OWNED + lex.FURNITURE + lex.VEHICLES[:4], lex.MINE_TO_THEIRS):
        yield f"the {what.en} is {en}.", f"{what.the} est à {fr}."


def need_thing() -> Pairs:
    """I need a knife. J'ai besoin d'un couteau."""
    for who, what in product(lex.PEOPLE, NEEDED):
        yield (
            f"{who.en} {'needs' if who.person == 2 else 'need'} a {what.en}.",
            f"{HAVE.says(who)} besoin de {what.a}.",
        )


def lose() -> Pairs:
    """I lost my key. J'ai perdu ma clé."""
    owners = ((lex.I_M, lex.MY), (lex.TU, lex.YOUR), (lex.VOUS, lex.YOUR_POLITE), (lex.HE, lex.HIS),
              (lex.SHE, lex.HER), (lex.THEY, lex.THEIR), (lex.WE, lex.OUR))  # fmt: skip
    for (who, whose), what in product(owners, CARRIED):
        yield f"{who.en} lost {whose.en} {what.en}.", f"{LOSE.did(who)} {whose.of(what)}."


def like() -> Pairs:
    """Tom likes cheese. Tom aime le fromage."""
    for who, (en, fr) in product(lex.PEOPLE, _tastes()):
        yield f"{LIKE.en_says(who)} {en}.", f"{LIKE.says(who)} {fr}."


def like_not() -> Pairs:
    """Tom doesn't like cats. Tom n'aime pas les chats."""
    for who, (en, fr) in product(lex.PEOPLE, _tastes()):
        yield f"{who.do_not} like {en}.", f"{LIKE.says_not(who)} {fr}."


def like_question() -> Pairs:
    """Do you like tea? Aimes-tu le thé ? Aimez-vous le thé ?"""
    for ask, (en, fr) in product(("aimes-tu", "aimez-vous"), _tastes()):
        yield f"do you like {en}?", f"{ask} {fr}?"


def _tastes() -> tuple[tuple[str, str], ...]:
    plural = tuple((noun.ens, f"les {noun.frs}") for noun in lex.FRUIT + lex.ANIMALS)
    return tuple((noun.en, noun.the) for noun in lex.FOOD) + plural


def want_some() -> Pairs:
    """I want some tea. Je veux du thé."""
    for who, what in product(lex.PEOPLE, lex.FOOD):
        yield f"{WANT.en_says(who)} some {what.en}.", f"{WANT.says(who)} {what.some}."


def please() -> Pairs:
    """Some tea, please. Du thé, s'il vous plaît. Du thé, s'il te plaît."""
    for what, you in product(lex.FOOD, ("vous", "te")):
        yield f"some {what.en}, please.", f"{what.some}, s'il {you} plaît."


def there_is_some() -> Pairs:
    """There is some bread. Il y a du pain."""
    for what in lex.FOOD:
        yield f"there is some {what.en}.", f"il y a {what.some}."
        yield f"there is no {what.en}.", f"il ne y a pas de {what.fr}."
        yield f"is there any {what.en}?", f"est-ce que il y a {what.some}?"
        yield f"there is no more {what.en}.", f"il ne y a plus de {what.fr}."


def there_are() -> Pairs:
    """There are 12 chairs. Il y a 12 chaises."""
    for number, what in product(range(2, 31), lex.FURNITURE + lex.ANIMALS + lex.FRUIT + lex.PAPERS + lex.DISHWARE):
        yield f"there are {number} {what.ens}.", f"il y a {number} {what.frs}."


def where_is() -> Pairs:
    """Where is my key? Où est ma clé ?"""
    for whose, what in product(lex.POSSESSIVES, CARRIED + lex.FAMILY):
        yield f"where is {whose.en} {what.en}?", f"où est {whose.of(what)}?"


def where_is_the() -> Pairs:
    """Where is the station? Où est la gare ?"""
    for what in lex.PLACES + lex.ROOMS[:2] + lex.ROOMS[5:] + lex.DISHWARE + lex.CONTAINERS + lex.FOOD:
        yield f"where is the {what.en}?", f"où est {what.the}?"


def where_are() -> Pairs:
    """Where are my shoes? Où sont mes chaussures ?"""
    for whose, what in product(lex.POSSESSIVES, lex.PAIRS + lex.SMALL_THINGS + lex.PETS + lex.PAPERS):
        yield f"where are {whose.en} {what.ens}?", f"où sont {whose.plural} {what.frs}?"


def in_place() -> Pairs:
    """Tom is in the kitchen. Tom est dans la cuisine."""
    for who, where in product(lex.PEOPLE, lex.ROOMS):
        yield f"{who.be} in the {where.en}.", f"{BE.says(who)} dans {where.the}."


def thing_in() -> Pairs:
    """The key is in the bag. La clé est dans le sac."""
    for what, where in product(lex.SMALL_THINGS + lex.PAPERS + lex.DISHWARE + lex.FRUIT, lex.CONTAINERS):
        yield f"the {what.en} is in the {where.en}.", f"{what.the} est dans {where.the}."


def thing_on() -> Pairs:
    """The cat is under the bed. Le chat est sous le lit."""
    things = lex.SMALL_THINGS + lex.PAPERS + lex.DISHWARE + lex.CONTAINERS + lex.DEVICES
    for what, (en, fr), where in product(things, (("on", "sur"), ("under", "sous")), lex.FURNITURE):
        yield f"the {what.en} is {en} the {where.en}.", f"{what.the} est {fr} {where.the}."
