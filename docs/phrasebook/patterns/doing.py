"""What people do, did, can do and are told to do."""

from itertools import product

from docs.phrasebook import lexicon as lex
from docs.phrasebook.lexicon import CAN, COME, GO, LEARN, LIVE, MUST, PLAY, SPEAK, WANT
from docs.phrasebook.patterns import Pairs


def now() -> Pairs:
    """Tom is sleeping. Tom dort."""
    for who, verb in product(lex.TOM_AND_ALL, lex.ACTIONS):
        yield f"{who.be} {verb.ing}.", f"{verb.says(who)}."


def now_question() -> Pairs:
    """Is Tom sleeping? Est-ce que Tom dort ?"""
    for who, verb in product(lex.NAMED, lex.ACTIONS):
        yield f"{who.be_ask} {verb.ing}?", f"{verb.asks(who)}?"


def did() -> Pairs:
    """We danced. Nous avons dansé."""
    for who, verb in product(lex.TOM_AND_ALL, lex.ACTIONS):
        yield f"{who.en} {verb.past}.", f"{verb.did(who)}."


def did_on() -> Pairs:
    """Anna left on Monday. Anna est partie lundi."""
    for who, verb, (en, fr) in product((lex.HE, lex.SHE, lex.THEY, *lex.NAMED), lex.MOVES, lex.DAYS):
        yield f"{who.en} {verb.past} on {en}.", f"{verb.did(who)} {fr}."


def did_not() -> Pairs:
    """I didn't sleep. Je n'ai pas dormi."""
    for who, verb in product((*lex.ME, lex.WE), lex.ACTIONS + lex.MOVES):
        yield f"{who.en} didn't {verb.en}.", f"{verb.did_not(who)}."


def cannot() -> Pairs:
    """He can't wait. Il ne peut pas attendre."""
    for who, verb in product((lex.I_M, lex.HE, lex.SHE), lex.CHOICES):
        yield f"{who.en} can't {verb.en}.", f"{CAN.says_not(who)} {verb.fr}."


def can_question() -> Pairs:
    """Can Tom come? Est-ce que Tom peut venir ?"""
    for who, verb in product((lex.I_M, lex.WE, *lex.NAMED), lex.CHOICES):
        yield f"can {who.en} {verb.en}?", f"{CAN.asks(who)} {verb.fr}?"


def must() -> Pairs:
    """They must leave. Ils doivent partir."""
    for who, verb in product((*lex.YOU, lex.WE, lex.THEY), lex.CHOICES):
        yield f"{who.en} must {verb.en}.", f"{MUST.says(who)} {verb.fr}."


def going_to() -> Pairs:
    """I'm going to sleep. Je vais dormir."""
    for who, verb in product((lex.I_M, lex.HE, lex.SHE), lex.CHOICES + lex.PLEASURES):
        yield f"{who.be} going to {verb.en}.", f"{GO.says(who)} {verb.fr}."


def want_to() -> Pairs:
    """Anna wants to dance. Anna veut danser."""
    for who, verb in product(lex.NAMED, lex.CHOICES + lex.PLEASURES):
        yield f"{WANT.en_says(who)} to {verb.en}.", f"{WANT.says(who)} {verb.fr}."


def want_to_not() -> Pairs:
    """I don't want to go out. Je ne veux pas sortir."""
    for who, verb in product((lex.I_M, lex.WE, lex.THEY), lex.CHOICES + lex.PLEASURES):
        yield f"{who.do_not} want to {verb.en}.", f"{WANT.says_not(who)} {verb.fr}."


def come_from() -> Pairs:
    """Nina is from Japan. Nina vient du Japon."""
    for who, where in product((lex.HE, lex.SHE, *lex.NAMED), lex.COUNTRIES):
        yield f"{who.be} from {where.en}.", f"{COME.says(who)} {where.from_}."


def live_in() -> Pairs:
    """My aunt lives in France. Ma tante habite en France."""
    places = (*((c.en, c.within) for c in lex.COUNTRIES), *((en, f"à {fr}") for en, fr in lex.CITIES))
    for who, (en, fr) in product(lex.RELATIVES, places):
        yield f"{LIVE.en_says(who)} in {en}.", f"{LIVE.says(who)} {fr}."


def language() -> Pairs:
    """Marc speaks German. Marc parle allemand."""
    for who, what in product(lex.NAMED, lex.LANGUAGES):
        yield f"{SPEAK.en_says(who)} {what.en}.", f"{SPEAK.says(who)} {what.fr}."


def lesson() -> Pairs:
    """I'm learning French. J'apprends le français."""
    for who, what in product((lex.I_M, lex.HE, lex.SHE, lex.WE, lex.THEY), lex.LANGUAGES):
        yield f"{who.be} learning {what.en}.", f"{LEARN.says(who)} le {what.fr}."


def play() -> Pairs:
    """Nina plays the piano. Nina joue du piano."""
    for who, (en, fr) in product((lex.HE, lex.SHE, *lex.NAMED), lex.SPORTS):
        yield f"{PLAY.en_says(who)} {en}.", f"{PLAY.says(who)} {fr}."
