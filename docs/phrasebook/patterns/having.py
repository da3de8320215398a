"""What people have, like, want and need, and where things are."""

from itertools import product

from docs.phrasebook import lexicon as lex
from docs.phrasebook.lexicon import BE, HAVE, LIKE
from docs.phrasebook.patterns import Pairs

OWNED = lex.PETS + lex.CLOTHES + lex.DEVICES + lex.CONTAINERS + lex.PAPERS + lex.SMALL_THINGS
COUNTED = lex.FURNITURE + lex.PETS + lex.FRUIT + lex.PAPERS + lex.DISHWARE
TASTES = (
    *((noun.en, noun.the) for noun in lex.FOOD),
    *((noun.ens, f"les {noun.frs}") for noun in lex.FRUIT),
)


def have() -> Pairs:
    """Anna has a dog. Anna a un chien."""
    for who, what in product((lex.HE, lex.SHE, *lex.NAMED), OWNED):
        yield f"{HAVE.en_says(who)} a {what.en}.", f"{HAVE.says(who)} {what.a}."


def have_not() -> Pairs:
    """We don't have a dog. Nous n'avons pas de chien."""
    for who, what in product((lex.I_M, lex.WE, lex.THEY), OWNED):
        yield f"{who.do_not} have a {what.en}.", f"{HAVE.says_not(who)} de {what.fr}."


def have_question() -> Pairs:
    """Do you have a pen? As-tu un stylo ? Avez-vous un stylo ?"""
    for ask, what in product(("as-tu", "avez-vous"), OWNED + lex.DISHWARE):
        yield f"do you have a {what.en}?", f"{ask} {what.a}?"


def have_number() -> Pairs:
    """We have 3 cats. Nous avons 3 chats."""
    for who, number, what in product((lex.WE, lex.THEY), range(2, 20), lex.PETS):
        yield f"{HAVE.en_says(who)} {number} {what.ens}.", f"{HAVE.says(who)} {number} {what.frs}."


def ownership() -> Pairs:
    """This is Tom's hat. C'est le chapeau de Tom."""
    for who, what in product(lex.NAMED, OWNED):
        yield f"this is {who.en}'s {what.en}.", f"ce est {what.the} de {who.fr}."


def mine() -> Pairs:
    """The key is mine. La clé est à moi."""
    for what, (en, fr) in product(OWNED, lex.MINE_TO_THEIRS):
        yield f"the {what.en} is {en}.", f"{what.the} est à {fr}."


def like() -> Pairs:
    """Tom likes cheese. Tom aime le fromage."""
    for who, (en, fr) in product(lex.TOM_AND_ALL, TASTES):
        yield f"{LIKE.en_says(who)} {en}.", f"{LIKE.says(who)} {fr}."


def like_question() -> Pairs:
    """Do you like tea, Tom? Aimes-tu le thé, Tom ?"""
    for who, (en, fr) in product(lex.NAMED, TASTES):
        yield f"do you like {en}, {who.en}?", f"aimes-tu {fr}, {who.fr}?"


def would_like() -> Pairs:
    """I'd like some tea. Je voudrais du thé."""
    wishes = (("I'd", "je voudrais"), ("he'd", "il voudrait"), ("she'd", "elle voudrait"),
              ("we'd", "nous voudrions"), ("they'd", "ils voudraient"))  # fmt: skip
    for (en, fr), what in product(wishes, lex.FOOD):
        yield f"{en} like some {what.en}.", f"{fr} {what.some}."


def please() -> Pairs:
    """Some tea, please. Du thé, s'il vous plaît. Du thé, s'il te plaît."""
    for what, you in product(lex.FOOD, ("vous", "te")):
        yield f"some {what.en}, please.", f"{what.some}, s'il {you} plaît."


def there_is_no_more() -> Pairs:
    """There is no more bread. Il n'y a plus de pain."""
    for what in lex.FOOD:
        yield f"there is no more {what.en}.", f"il ne y a plus de {what.fr}."


def there_are() -> Pairs:
    """There are 12 chairs. Il y a 12 chaises."""
    for number, what in product(range(2, 31), COUNTED):
        yield f"there are {number} {what.ens}.", f"il y a {number} {what.frs}."


def where_are() -> Pairs:
    """Where are your shoes? Où sont tes chaussures ? Où sont vos chaussures ?"""
    for whose, what in product(lex.OWN, lex.PAIRS + lex.SMALL_THINGS):
        yield f"where are {whose.en} {what.ens}?", f"où sont {whose.plural} {what.frs}?"


def in_place() -> Pairs:
    """Tom is in the kitchen. Tom est dans la cuisine."""
    for who, where in product(lex.TOM_AND_ALL, lex.ROOMS):
        yield f"{who.be} in the {where.en}.", f"{BE.says(who)} dans {where.the}."


def thing_on() -> Pairs:
    """The key is on the table. La clé est sur la table."""
    things = lex.SMALL_THINGS + lex.PAPERS + lex.DISHWARE + lex.CONTAINERS + lex.DEVICES
    for what, (en, fr), where in product(things, (("on", "sur"), ("under", "sous")), lex.FURNITURE):
        yield f"the {what.en} is {en} the {where.en}.", f"{what.the} est {fr} {where.the}."
