"""What people and things are like."""

from itertools import product

from docs.phrasebook import lexicon as lex
from docs.phrasebook.lexicon import BE, HAVE
from docs.phrasebook.patterns import Pairs


def trait() -> Pairs:
    """Tom is tired. Tom est fatigué."""
    for who, how in product(lex.TOM_AND_ALL, lex.TRAITS):
        yield f"{who.be} {how.en}.", f"{BE.says(who)} {how.of(who)}."


def trait_not() -> Pairs:
    """We aren't ready. Nous ne sommes pas prêts."""
    for who, how in product((*lex.ME, lex.WE, lex.THEY), lex.TRAITS):
        yield f"{who.be_not} {how.en}.", f"{BE.says_not(who)} {how.of(who)}."


def trait_question() -> Pairs:
    """Are you ready, Anna? Es-tu prête, Anna ?"""
    for who, how in product(lex.NAMED, lex.TRAITS):
        yield f"are you {how.en}, {who.en}?", f"es-tu {how.of(who)}, {who.fr}?"


def trait_very() -> Pairs:
    """My sister is very kind. Ma sœur est très gentille."""
    for who, how in product(lex.RELATIVES, lex.TRAITS):
        if how.en in lex.DEGREES:
            yield f"{who.be} very {how.en}.", f"{BE.says(who)} très {how.of(who)}."


def do_not_be() -> Pairs:
    """Don't be sad, Tom! Ne sois pas triste, Tom !"""
    for who, how in product(lex.NAMED, lex.TRAITS):
        if how.en in lex.AVOIDABLE:
            yield f"don't be {how.en}, {who.en}!", f"ne sois pas {how.of(who)}, {who.fr}!"


def need() -> Pairs:
    """He's hungry. Il a faim."""
    for who, (en, fr) in product(lex.TOM_AND_ALL, lex.HAVING):
        yield f"{who.be} {en}.", f"{HAVE.says(who)} {fr}."


def job() -> Pairs:
    """My aunt is a doctor. Ma tante est médecin."""
    for who, what in product((lex.HE, lex.SHE, *lex.RELATIVES), lex.JOBS):
        yield f"{who.be} a {what.en}.", f"{BE.says(who)} {what.of(who)}."


def comparison() -> Pairs:
    """Tom is taller than Anna. Tom est plus grand qu'Anna."""
    for who, how, other in product(lex.NAMED, lex.TRAITS, lex.NAMED):
        if how.more and who != other:
            yield f"{who.be} {how.more} than {other.en}.", f"{BE.says(who)} plus {how.of(who)} que {other.fr}."


def age() -> Pairs:
    """Tom is 12 years old. Tom a 12 ans."""
    for who, years in product((lex.HE, lex.SHE, *lex.NAMED), range(2, 100)):
        yield f"{who.be} {years} years old.", f"{HAVE.says(who)} {years} ans."


def kinship() -> Pairs:
    """Anna is my sister. Anna est ma sœur."""
    whose_kin = (lex.MY, lex.HIS, lex.HER, lex.OUR, lex.THEIR)
    for who, whose, relative in product(lex.NAMED, whose_kin, lex.FAMILY + lex.FRIENDS):
        if relative.gender == who.gender and relative.en not in ("husband", "wife"):
            yield f"{who.be} {whose.en} {relative.en}.", f"{BE.says(who)} {whose.before(relative)}."


def thing() -> Pairs:
    """The house is big. La maison est grande."""
    for noun, how in lex.THINGS:
        yield f"the {noun.en} is {how.en}.", f"{noun.the} est {how.agree(noun.gender)}."


def thing_too() -> Pairs:
    """The soup is too hot. La soupe est trop chaude."""
    for noun, how in lex.THINGS:
        if how in lex.TOO:
            yield f"the {noun.en} is too {how.en}.", f"{noun.the} est trop {how.agree(noun.gender)}."


def this_thing() -> Pairs:
    """This coat is very old. Ce manteau est très vieux."""
    for noun, how in lex.THINGS:
        if how in lex.VERY:
            yield f"this {noun.en} is very {how.en}.", f"{noun.this} est très {how.agree(noun.gender)}."


def things() -> Pairs:
    """The apples are ripe. Les pommes sont mûres."""
    for noun, how in lex.FRUIT_THINGS:
        yield f"the {noun.ens} are {how.en}.", f"les {noun.frs} sont {how.agree(noun.gender, plural=True)}."


def color() -> Pairs:
    """My dress is red. Ma robe est rouge."""
    for whose, noun, how in product((lex.MY, lex.HIS, lex.HER), lex.CLOTHES, lex.COLORS):
        yield f"{whose.en} {noun.en} is {how.en}.", f"{whose.before(noun)} est {how.agree(noun.gender)}."


def colored_thing() -> Pairs:
    """I have a red bag. J'ai un sac rouge."""
    for noun, how in product(lex.CLOTHES + lex.CONTAINERS, lex.COLORS):
        yield f"I have a {how.en} {noun.en}.", f"je ai {noun.article} {how.with_noun(noun)}."


def exclamation() -> Pairs:
    """What a beautiful house! Quelle belle maison !"""
    for noun, how in lex.THINGS:
        if how.before and noun not in lex.FOOD:
            what = "quel" if noun.gender == "m" else "quelle"
            yield f"what a {how.en} {noun.en}!", f"{what} {how.with_noun(noun)}!"
