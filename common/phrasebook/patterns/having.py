"""What people have, like, want and need, and where things are."""

from itertools import product

from common.phrasebook import lexicon as lex
from common.phrasebook.lexicon import BE, HAVE, LIKE, LOSE
from common.phrasebook.patterns import Pairs

OWNED = lex.PETS + lex.CLOTHES + lex.DEVICES + lex.CONTAINERS + lex.PAPERS + lex.SMALL_THINGS
CARRIED = lex.CLOTHES + lex.CONTAINERS + lex.PAPERS + lex.SMALL_THINGS
NEEDED = lex.CLOTHES + lex.CONTAINERS + lex.DISHWARE + lex.DEVICES + lex.SMALL_THINGS + lex.FURNITURE
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


def need_thing() -> Pairs:
    """I need a knife. J'ai besoin d'un couteau."""
    for who, what in product((lex.I_M, lex.WE), NEEDED):
        yield f"{who.en} need a {what.en}.", f"{HAVE.says(who)} besoin de {what.a}."
    for who, whose, what in product((lex.I_M, lex.WE), (lex.MY, lex.HIS, lex.HER, lex.OUR), CARRIED):
        yield f"{who.en} need {whose.en} {what.en}.", f"{HAVE.says(who)} besoin de {whose.of(what)}."


def lose() -> Pairs:
    """I lost my key. J'ai perdu ma clé."""
    owners = ((lex.I_M, lex.MY), (lex.HE, lex.HIS), (lex.SHE, lex.HER), (lex.WE, lex.OUR))
    for (who, whose), what in product(owners, CARRIED):
        yield f"{who.en} lost {whose.en} {what.en}.", f"{LOSE.did(who)} {whose.of(what)}."


def like() -> Pairs:
    """Tom likes cheese. Tom aime le fromage."""
    for who, (en, fr) in product(lex.TOM_AND_ALL, TASTES):
        yield f"{LIKE.en_says(who)} {en}.", f"{LIKE.says(who)} {fr}."


def like_not() -> Pairs:
    """I don't like onions. Je n'aime pas les oignons."""
    for who, (en, fr) in product((lex.I_M, lex.WE, lex.THEY), TASTES):
        yield f"{who.do_not} like {en}.", f"{LIKE.says_not(who)} {fr}."


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


def is_there() -> Pairs:
    """Is there any bread? Est-ce qu'il y a du pain ?"""
    for what in lex.FOOD:
        yield f"is there any {what.en}?", f"est-ce que il y a {what.some}?"


def there_are() -> Pairs:
    """There are 12 chairs. Il y a 12 chaises."""
    for number, what in product(range(2, 31), COUNTED):
        yield f"there are {number} {what.ens}.", f"il y a {number} {what.frs}."


def where_is() -> Pairs:
    """Where is my key? Où est ma clé ?"""
    for whose, what in product(lex.POSSESSIVES, CARRIED):
        yield f"where is {whose.en} {what.en}?", f"où est {whose.of(what)}?"


def looking_for() -> Pairs:
    """I'm looking for my key. Je cherche ma clé."""
    for what in CARRIED + lex.PETS:
        yield f"I'm looking for my {what.en}.", f"je cherche {lex.MY.of(what)}."
    for what in NEEDED + lex.PLACES:
        yield f"I'm looking for a {what.en}.", f"je cherche {what.a}."
        yield f"I'm looking for the {what.en}.", f"je cherche {what.the}."


def cannot_find() -> Pairs:
    """I can't find your key. Je ne trouve pas ta clé. Je ne trouve pas votre clé."""
    for whose, what in product(lex.POSSESSIVES, CARRIED):
        yield f"I can't find {whose.en} {what.en}.", f"je ne trouve pas {whose.of(what)}."
    for what in NEEDED + lex.PLACES + lex.FOOD:
        yield f"I can't find the {what.en}.", f"je ne trouve pas {what.the}."


def where_is_the() -> Pairs:
    """Where is the station? Où se trouve la gare ?"""
    for what in lex.PLACES:
        yield f"where is the {what.en}?", f"où se trouve {what.the}?"


def where_are() -> Pairs:
    """Where are your shoes? Où sont tes chaussures ? Où sont vos chaussures ?"""
    for whose, what in product(lex.POSSESSIVES, lex.PAIRS + lex.SMALL_THINGS):
        yield f"where are {whose.en} {what.ens}?", f"où sont {whose.plural} {what.frs}?"


def in_place() -> Pairs:
    """Tom is in the kitchen. Tom est dans la cuisine."""
    for who, where in product(lex.TOM_AND_ALL, lex.ROOMS):
        yield f"{who.be} in the {where.en}.", f"{BE.says(who)} dans {where.the}."


def thing_in() -> Pairs:
    """The pen is in the bag. Le stylo est dans le sac."""
    for what, where in product(lex.SMALL_THINGS + lex.PAPERS + lex.DISHWARE + lex.FRUIT, lex.CONTAINERS):
        yield f"the {what.en} is in the {where.en}.", f"{what.the} est dans {where.the}."


def thing_on() -> Pairs:
    """The key is on the table. La clé est sur la table."""
    things = lex.SMALL_THINGS + lex.PAPERS + lex.DISHWARE + lex.CONTAINERS + lex.DEVICES
    for what, (en, fr), where in product(things, (("on", "sur"), ("under", "sous")), lex.FURNITURE):
        yield f"the {what.en} is {en} the {where.en}.", f"{what.the} est {fr} {where.the}."
