"""Greetings, numbers, prices, dates, weather and other small talk."""

from itertools import product

from docs.phrasebook import lexicon as lex
from docs.phrasebook.lexicon import BE, HAVE
from docs.phrasebook.patterns import Pairs

HOURS = range(1, 12)


def greeting() -> Pairs:
    """Hello, Tom! Bonjour, Tom !"""
    people = (*((who.en, who.fr) for who in lex.NAMED), ("Mom", "maman"), ("Dad", "papa"))
    for (en, fr, mark), (name_en, name_fr) in product(lex.GREETINGS, people):
        yield f"{en} {name_en}{mark}", f"{fr} {name_fr}{mark}"


def name() -> Pairs:
    """My name is Tom. Je m'appelle Tom."""
    for who in lex.NAMED:
        yield f"my name is {who.en}.", f"je me appelle {who.fr}."
        yield f"I'm {who.en}.", f"je suis {who.fr}."
        yield f"do you know {who.en}?", f"connais-tu {who.fr}?"
        yield f"do you know {who.en}?", f"connaissez-vous {who.fr}?"
        yield f"where is {who.en}?", f"où est {who.fr}?"
        yield f"who is {who.en}?", f"qui est {who.fr}?"


def price() -> Pairs:
    """It costs 8 euros. Ça coûte 8 euros."""
    for number, money in product(range(2, 100), ("euros", "dollars")):
        yield f"it costs {number} {money}.", f"ça coûte {number} {money}."


def thing_price() -> Pairs:
    """The hat costs 20 euros. Le chapeau coûte 20 euros."""
    for what, number in product(lex.CLOTHES + lex.SMALL_THINGS, range(2, 100)):
        yield f"the {what.en} costs {number} euros.", f"{what.the} coûte {number} euros."


def how_many() -> Pairs:
    """How many eggs? Combien d'œufs ?"""
    for what in lex.FRUIT + lex.ANIMALS + lex.DISHWARE + lex.PAPERS + lex.SMALL_THINGS + lex.FURNITURE:
        yield f"how many {what.ens}?", f"combien de {what.frs}?"


def clock() -> Pairs:
    """It's 7:30. Il est 7 h 30."""
    for hour in HOURS:
        yield f"it's {hour} o'clock.", f"il est {_hours(hour)}."
        for minutes in range(10, 60, 5):
            yield f"it's {hour}:{minutes}.", f"il est {hour} h {minutes}."


def opening_hours() -> Pairs:
    """The bank opens at 9. La banque ouvre à 9 heures."""
    for place, hour, (en, fr) in product(lex.PLACES, HOURS, (("opens", "ouvre"), ("closes", "ferme"))):
        if place.en in lex.OPENED_DAILY:
            yield f"the {place.en} {en} at {hour}.", f"{place.the} {fr} à {_hours(hour)}."


def departure() -> Pairs:
    """The bus leaves at 7:45. Le bus part à 7 h 45."""
    for vehicle, hour, minutes in product(lex.VEHICLES, HOURS, range(10, 60, 5)):
        if vehicle.en in ("bus", "plane", "train"):
            yield f"the {vehicle.en} leaves at {hour}:{minutes}.", f"{vehicle.the} part à {hour} h {minutes}."


def _hours(hour: int) -> str:
    return f"{hour} heure{'s' if hour > 1 else ''}"


def day() -> Pairs:
    """Today is Monday. Aujourd'hui, c'est lundi."""
    for en, fr in lex.DAYS:
        yield f"today is {en}.", f"aujourd'hui, ce est {fr}."
        yield f"tomorrow is {en}.", f"demain, ce est {fr}."
        yield f"it's {en}.", f"nous sommes {fr}."


def date() -> Pairs:
    """It's May 8. C'est le 8 mai."""
    for (en, fr), number in product(lex.MONTHS, range(1, 29)):
        yield f"it's {en} {number}.", f"ce est le {number}{'er' if number == 1 else ''} {fr}."


def free_on() -> Pairs:
    """I'm free on Monday. Je suis libre lundi."""
    for who, (en, fr) in product((lex.I_M, lex.HE, lex.SHE, lex.WE, *lex.NAMED), lex.DAYS):
        free = "libres" if who.plural else "libre"
        yield f"{who.be} free on {en}.", f"{BE.says(who)} {free} {fr}."


def weather() -> Pairs:
    """It's cold in Paris. Il fait froid à Paris."""
    where = (("today", "aujourd'hui"), ("here", "ici"), ("outside", "dehors"),
             *((f"in {en}", f"à {fr}") for en, fr in lex.CITIES),
             *((f"in {place.en}", place.within) for place in lex.COUNTRIES))  # fmt: skip
    for (en, fr), (where_en, where_fr) in product(lex.WEATHER, where):
        yield f"it's {en} {where_en}.", f"{fr} {where_fr}."
        yield f"is it {en} {where_en}?", f"est-ce que {fr} {where_fr}?"


def see_you() -> Pairs:
    """See you on Monday, Tom! À lundi, Tom !"""
    for who, (en, fr) in product(lex.NAMED, lex.DAYS):
        yield f"see you on {en}, {who.en}!", f"à {fr}, {who.fr}!"


def addition() -> Pairs:
    """2 plus 3 is 5. 2 plus 3 font 5."""
    for first, second in product(range(1, 10), range(1, 10)):
        yield f"{first} plus {second} is {first + second}.", f"{first} plus {second} font {first + second}."


def pain() -> Pairs:
    """Tom's head hurts. Tom a mal à la tête."""
    owners = (("my", lex.I_M), ("his", lex.HE), ("her", lex.SHE), *((f"{who.en}'s", who) for who in lex.NAMED))
    for (whose, who), part in product(owners, lex.BODY):
        yield f"{whose} {part.en} hurts.", f"{HAVE.says(who)} mal à {part.the}."


def room() -> Pairs:
    """Room 12 is free. La chambre 12 est libre."""
    for number in range(2, 100):
        yield f"room {number} is free.", f"la chambre {number} est libre."
        yield f"I'm in room {number}.", f"je suis dans la chambre {number}."
        yield f"bus {number} is late.", f"le bus {number} est en retard."


def phone() -> Pairs:
    """Call 17-42! Appelle le 17-42 ! Appelez le 17-42 !"""
    for first, second, call in product(range(10, 100, 3), range(11, 100, 7), ("appelle", "appelez")):
        yield f"call {first}-{second}!", f"{call} le {first}-{second}!"
