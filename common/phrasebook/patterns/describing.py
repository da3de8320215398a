"""What people and things are like."""

from itertools import product

from common.phrasebook import lexicon as lex
from common.phrasebook.lexicon import BE, HAVE
from common.phrasebook.patterns import Pairs


def trait() -> Pairs:
    """Tom is tired. Tom est fatigué."""
    for who, how in product(lex.PEOPLE, lex.TRAITS):
        yield f"{who.be} {how.en}.", f"{BE.says(who)} {how.of(who)}."


def trait_not() -> Pairs:
    """Tom isn't tired. Tom n'est pas fatigué."""
    for who, how in product(lex.PEOPLE, lex.TRAITS):
        yield f"{who.be_not} {how.en}.", f"{BE.says_not(who)} {how.of(who)}."


def trait_question() -> Pairs:
    """Is Tom tired? Est-ce que Tom est fatigué ?"""
    for who, how in product(lex.PEOPLE, lex.TRAITS):
        yield f"{who.be_ask} {how.en}?", f"{BE.asks(who)} {how.of(who)}?"


def trait_very() -> Pairs:
    """Tom is very tired. Tom est très fatigué."""
    for who, how in product(lex.PEOPLE, lex.TRAITS):
        if how.en in lex.DEGREES:
            yield f"{who.be} very {how.en}.", f"{BE.says(who)} très {how.of(who)}."


def need() -> Pairs:
    """Tom is hungry. Tom a faim."""
    for who, (en, fr) in product(lex.PEOPLE, lex.HAVING):
        yield f"{who.be} {en}.", f"{HAVE.says(who)} {fr}."


def need_not() -> Pairs:
    """Tom isn't hungry. Tom n'a pas faim."""
    for who, (en, fr) in product(lex.PEOPLE, lex.HAVING):
        yield f"{who.be_not} {en}.", f"{HAVE.says_not(who)} {fr}."


def need_question() -> Pairs:
    """Are you hungry? Est-ce que tu as faim ?"""
    for who, (en, fr) in product(lex.PEOPLE, lex.HAVING):
        yield f"{who.be_ask} {en}?", f"{HAVE.asks(who)} {fr}?"


def nationality() -> Pairs:
    """She's Italian. Elle est italienne."""
    for who, how in product(lex.PEOPLE, lex.NATIONALITIES):
        yield f"{who.be} {how.en}.", f"{BE.says(who)} {how.of(who)}."


def job() -> Pairs:
    """Emma is a doctor. Emma est médecin."""
    for who, what in product(lex.PEOPLE, lex.JOBS):
        if not who.plural:
            yield f"{who.be} a {what.en}.", f"{BE.says(who)} {what.of(who)}."


def job_not() -> Pairs:
    """Emma isn't a doctor. Emma n'est pas médecin."""
    for who, what in product(lex.PEOPLE, lex.JOBS):
        if not who.plural:
            yield f"{who.be_not} a {what.en}.", f"{BE.says_not(who)} {what.of(who)}."


def comparison() -> Pairs:
    """Tom is taller than Anna. Tom est plus grand qu'Anna."""
    than = tuple((who.en, who.fr) for who in lex.NAMED) + lex.ME_TO_THEM
    for who, how, (en, fr) in product((lex.HE, lex.SHE, *lex.NAMED), lex.TRAITS, than):
        if how.more and en != who.en and (who in lex.NAMED or en not in ("him", "her")):
            yield f"{who.be} {how.more} than {en}.", f"{BE.says(who)} plus {how.of(who)} que {fr}."


def age() -> Pairs:
    """Tom is 12 years old. Tom a 12 ans."""
    for who, years in product((*lex.SELF, lex.TU, lex.VOUS, *lex.NAMED), range(2, 100)):
        yield f"{who.be} {years} years old.", f"{HAVE.says(who)} {years} ans."


def kinship() -> Pairs:
    """Anna is my sister. Anna est ma sœur."""
    for who, whose, relative in product(lex.NAMED, lex.POSSESSIVES, lex.FAMILY + lex.FRIENDS):
        if relative.gender == who.gender:
            yield f"{who.be} {whose.en} {relative.en}.", f"{BE.says(who)} {whose.of(relative)}."


def thing() -> Pairs:
    """The house is big. La maison est grande."""
    for noun, how in lex.THINGS:
        yield f"the {noun.en} is {how.en}.", f"{noun.the} est {how.agree(noun.gender)}."


def thing_not() -> Pairs:
    """The soup isn't hot. La soupe n'est pas chaude."""
    for noun, how in lex.THINGS:
        yield f"the {noun.en} isn't {how.en}.", f"{noun.the} ne est pas {how.agree(noun.gender)}."


def thing_question() -> Pairs:
    """Is the bank open? Est-ce que la banque est ouverte ?"""
    for noun, how in lex.THINGS:
        yield f"is the {noun.en} {how.en}?", f"est-ce que {noun.the} est {how.agree(noun.gender)}?"


def thing_too() -> Pairs:
    """The soup is too hot. La soupe est trop chaude."""
    for noun, how in lex.THINGS:
        if how in lex.TOO:
            yield f"the {noun.en} is too {how.en}.", f"{noun.the} est trop {how.agree(noun.gender)}."


def this_thing() -> Pairs:
    """This coat is very old. Ce manteau est très vieux."""
    for noun, how in lex.THINGS:
        fr = how.agree(noun.gender)
        yield f"this {noun.en} is {how.en}.", f"{noun.this} est {fr}."
        if how in lex.VERY:
            yield f"this {noun.en} is very {how.en}.", f"{noun.this} est très {fr}."


def things() -> Pairs:
    """The apples are ripe. Les pommes sont mûres."""
    fruit = tuple(product(lex.FRUIT, lex.FRUIT_QUALITIES))
    for noun, how in lex.THINGS + fruit:
        if noun not in lex.FOOD:
            yield (
                f"the {noun.ens} are {how.en}.",
                f"les {noun.frs} sont {how.agree(noun.gender, plural=True)}.",
            )


def color() -> Pairs:
    """The dress is red. La robe est rouge."""
    for noun, how in product(lex.CLOTHES + lex.VEHICLES + lex.CONTAINERS, lex.COLORS):
        yield f"the {noun.en} is {how.en}.", f"{noun.the} est {how.agree(noun.gender)}."


def a_colored_thing() -> Pairs:
    """I have a red dress. J'ai une robe rouge."""
    for noun, how in product(lex.CLOTHES + lex.CONTAINERS, lex.COLORS):
        article = noun.a.split()[0]
        yield f"it's a {how.en} {noun.en}.", f"ce est {article} {how.with_noun(noun)}."


def a_thing() -> Pairs:
    """It's a beautiful tree. C'est un bel arbre."""
    for noun, how in lex.THINGS:
        if how.before and noun not in lex.FOOD:
            article = noun.a.split()[0]
            yield f"it's a {how.en} {noun.en}.", f"ce est {article} {how.with_noun(noun)}."


def exclamation() -> Pairs:
    """What a beautiful house! Quelle belle maison !"""
    for noun, how in lex.THINGS:
        if how.before and noun not in lex.FOOD:
            what = "quel" if noun.gender == "m" else "quelle"
            yield f"what a {how.en} {noun.en}!", f"{what} {how.with_noun(noun)}!"
