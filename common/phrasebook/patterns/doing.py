"""What people do, did, can do and are told to do."""

from itertools import product

from common.phrasebook import english
from common.phrasebook import lexicon as lex
from common.phrasebook.lexicon import CAN, COME, GO, KNOW_HOW, LEARN, LIKE, LIVE, MUST, PLAY, SPEAK, WANT
from common.phrasebook.patterns import Pairs

WHEN_DONE = (
    ("today", "aujourd'hui"),
    ("yesterday", "hier"),
    *((f"on {en}", fr) for en, fr in lex.DAYS),
)
HOW_OFTEN = (
    ("a lot", "beaucoup"),
    ("every day", "tous les jours"),
    ("too much", "trop"),
    ("at home", "à la maison"),
)


def now() -> Pairs:
    """Tom is sleeping. Tom dort."""
    for who, verb in product(lex.PEOPLE, lex.ACTIONS):
        yield f"{who.be} {verb.ing}.", f"{verb.says(who)}."


def now_not() -> Pairs:
    """Tom isn't sleeping. Tom ne dort pas."""
    for who, verb in product(lex.PEOPLE, lex.ACTIONS):
        yield f"{who.be_not} {verb.ing}.", f"{verb.says_not(who)}."


def now_question() -> Pairs:
    """Is Tom sleeping? Est-ce que Tom dort ?"""
    for who, verb in product(lex.PEOPLE, lex.ACTIONS):
        yield f"{who.be_ask} {verb.ing}?", f"{verb.asks(who)}?"


def habit() -> Pairs:
    """She works every day. Elle travaille tous les jours."""
    for who, verb, (en, fr) in product(lex.PEOPLE, lex.PLEASURES, HOW_OFTEN):
        yield f"{verb.en_says(who)} {en}.", f"{verb.says(who)} {fr}."


def did() -> Pairs:
    """We danced. Nous avons dansé."""
    for who, verb in product(lex.PEOPLE, lex.ACTIONS + lex.MOVES):
        yield f"{who.en} {verb.past}.", f"{verb.did(who)}."


def did_when() -> Pairs:
    """Anna left on Monday. Anna est partie lundi."""
    for who, verb, (en, fr) in product(lex.PEOPLE, lex.ACTIONS + lex.MOVES, WHEN_DONE):
        yield f"{who.en} {verb.past} {en}.", f"{verb.did(who)} {fr}."


def did_not() -> Pairs:
    """I didn't sleep. Je n'ai pas dormi."""
    for who, verb in product(lex.PEOPLE, lex.ACTIONS + lex.MOVES):
        yield f"{who.en} didn't {verb.en}.", f"{verb.did_not(who)}."


def did_to() -> Pairs:
    """Tom bought a hat. Tom a acheté un chapeau."""
    for who, frame in product(lex.PEOPLE, lex.EVENTS):
        for what in frame.objects:
            yield f"{who.en} {frame.verb.past} {what.en}.", f"{frame.verb.did(who)} {what.fr}."


def did_not_to() -> Pairs:
    """I didn't close the door. Je n'ai pas fermé la porte."""
    for who, frame in product(lex.PEOPLE, lex.EVENTS):
        for what in frame.objects:
            yield f"{who.en} didn't {frame.verb.en} {what.en}.", f"{frame.verb.did_not(who)} {what.fr_none}."


def can() -> Pairs:
    """You can stay. Tu peux rester. Vous pouvez rester."""
    for who, verb in product(lex.PEOPLE, lex.CHOICES):
        yield f"{who.en} can {verb.en}.", f"{CAN.says(who)} {verb.fr}."


def cannot() -> Pairs:
    """We can't wait. Nous ne pouvons pas attendre."""
    for who, verb in product(lex.PEOPLE, lex.CHOICES):
        yield f"{who.en} can't {verb.en}.", f"{CAN.says_not(who)} {verb.fr}."


def can_question() -> Pairs:
    """Can Tom come? Est-ce que Tom peut venir ?"""
    for who, verb in product(lex.PEOPLE, lex.CHOICES):
        yield f"can {who.en} {verb.en}?", f"{CAN.asks(who)} {verb.fr}?"


def skill() -> Pairs:
    """Paul can swim. Paul sait nager."""
    for who, verb in product(lex.PEOPLE, lex.SKILLS):
        yield f"{who.en} can {verb.en}.", f"{KNOW_HOW.says(who)} {verb.fr}."
        yield f"{who.en} can't {verb.en}.", f"{KNOW_HOW.says_not(who)} {verb.fr}."


def must() -> Pairs:
    """They must leave. Ils doivent partir."""
    for who, verb in product(lex.PEOPLE, lex.CHOICES):
        yield f"{who.en} must {verb.en}.", f"{MUST.says(who)} {verb.fr}."


def going_to() -> Pairs:
    """I'm going to sleep. Je vais dormir."""
    for who, verb in product(lex.PEOPLE, lex.CHOICES + lex.PLEASURES):
        yield f"{who.be} going to {verb.en}.", f"{GO.says(who)} {verb.fr}."


def want_to() -> Pairs:
    """She wants to dance. Elle veut danser."""
    for who, verb in product(lex.PEOPLE, lex.CHOICES + lex.PLEASURES):
        yield f"{WANT.en_says(who)} to {verb.en}.", f"{WANT.says(who)} {verb.fr}."


def want_to_not() -> Pairs:
    """He doesn't want to go out. Il ne veut pas sortir."""
    for who, verb in product(lex.PEOPLE, lex.CHOICES + lex.PLEASURES):
        yield f"{who.do_not} want to {verb.en}.", f"{WANT.says_not(who)} {verb.fr}."


def like_to() -> Pairs:
    """Clara likes to read. Clara aime lire."""
    for who, verb in product(lex.PEOPLE, lex.PLEASURES):
        yield f"{LIKE.en_says(who)} to {verb.en}.", f"{LIKE.says(who)} {verb.fr}."


def errand() -> Pairs:
    """I must buy a coat. Je dois acheter un manteau."""
    for who, frame in product(lex.PEOPLE, lex.ERRANDS):
        for what in frame.objects:
            yield f"{who.en} must {frame.verb.en} {what.en}.", f"{MUST.says(who)} {frame.verb.fr} {what.fr}."


def order() -> Pairs:
    """Close the door! Ferme la porte ! Fermez la porte !"""
    for frame, person in product(lex.ORDERS, (lex.TU.person, lex.VOUS.person)):
        for what in frame.objects:
            yield f"{frame.verb.en} {what.en}!", f"{frame.verb.command(person)} {what.fr}!"


def ban() -> Pairs:
    """Don't open the box! N'ouvre pas la boîte ! N'ouvrez pas la boîte !"""
    for frame, person in product(lex.BANS, (lex.TU.person, lex.VOUS.person)):
        for what in frame.objects:
            yield f"don't {frame.verb.en} {what.en}!", f"ne {frame.verb.command(person)} pas {what.fr_none}!"


def lets() -> Pairs:
    """Let's buy a boat! Achetons un bateau !"""
    for verb in (*lex.CHOICES, *lex.PLEASURES):
        yield f"let's {verb.en}!", f"{verb.command(lex.WE.person)}!"
    for frame in lex.ERRANDS:
        for what in frame.objects:
            yield f"let's {frame.verb.en} {what.en}!", f"{frame.verb.command(lex.WE.person)} {what.fr}!"


def go_to() -> Pairs:
    """We're going to the bank. Nous allons à la banque."""
    for who, where in product(lex.PEOPLE, lex.PLACES):
        yield f"{who.be} going to the {where.en}.", f"{GO.says(who)} à {where.the}."


def come_from() -> Pairs:
    """She's from Japan. Elle vient du Japon."""
    for who, where in product(lex.PEOPLE, lex.COUNTRIES):
        yield f"{who.be} from {where.en}.", f"{COME.says(who)} {where.from_}."


def live_in() -> Pairs:
    """They live in France. Ils habitent en France."""
    places = (*((c.en, c.within) for c in lex.COUNTRIES), *((en, f"à {fr}") for en, fr in lex.CITIES))
    for who, (en, fr) in product(lex.PEOPLE, places):
        yield f"{LIVE.en_says(who)} in {en}.", f"{LIVE.says(who)} {fr}."


def language() -> Pairs:
    """Marc speaks German. Marc parle allemand."""
    for who, what in product(lex.PEOPLE, lex.LANGUAGES):
        yield f"{SPEAK.en_says(who)} {what.en}.", f"{SPEAK.says(who)} {what.fr}."
        yield f"{who.be} learning {what.en}.", f"{LEARN.says(who)} le {what.fr}."


def play() -> Pairs:
    """Nina plays the piano. Nina joue du piano."""
    for who, (en, fr) in product(lex.PEOPLE, lex.SPORTS):
        yield f"{PLAY.en_says(who)} {en}.", f"{PLAY.says(who)} {fr}."


def company() -> Pairs:
    """Emma is working with us. Emma travaille avec nous."""
    others = tuple((who.en, who.fr) for who in lex.NAMED) + lex.ME_TO_THEM
    for who, verb, (en, fr) in product((lex.HE, lex.SHE, *lex.NAMED), lex.PLEASURES, others):
        if en != who.en and (who in lex.NAMED or en not in ("him", "her", "them")):
            yield f"{who.en} {english.third_person(verb.en)} with {en}.", f"{verb.says(who)} avec {fr}."
