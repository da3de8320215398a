"""The French morphology the phrasebook needs: endings, agreement, and how words meet.

Patterns are written with every word in its full form ("je ai mal à le dos !");
:func:`polish` then does what French does where words meet: "J'ai mal au dos !".
"""

import re

AVOIR = ("ai", "as", "a", "avons", "avez", "ont")
ETRE = ("suis", "es", "est", "sommes", "êtes", "sont")

NARROW_SPACE = "\u202f"  # French sets a narrow no-break space before ? and !

# A vowel sound: a vowel letter or an h, unless the h (or y) blocks elision.
VOWEL_SOUND = r"(?!haricot|yaourt)[aeiouyhàâéèêîôœ]"

# The order matters: "de le ami" is "de l'ami", so elision comes before contraction.
MEETINGS = (
    (rf"(?<![-\w])(j|m|t|s|l|d|n|qu)(?:e|(?<=l)a) (?={VOWEL_SOUND})", r"\1'"),
    (r"\b(c)e (?=est\b)", r"\1'"),
    (rf"\b(c)e (?={VOWEL_SOUND})", r"\1et "),
    (rf"\b([mts])a (?={VOWEL_SOUND})", r"\1on "),
    (r"\b(d)e le ", r"\1u "),
    (r"\b(d)e les ", r"\1es "),
    (r"\b([àÀ]) le ", "au "),
    (r"\b([àÀ]) les ", "aux "),
    (r" *([?!])", rf"{NARROW_SPACE}\1"),
)

# Feminine endings, the first that fits; an adjective in -e does not change.
FEMININES = (
    ("e", "e"),
    ("eux", "euse"),
    ("f", "ve"),
    ("er", "ère"),
    ("en", "enne"),
    ("on", "onne"),
    ("el", "elle"),
    ("", "e"),
)


def polish(text: str) -> str:
    """Elide, contract and punctuate: "je ai mal à le dos !" becomes "J'ai mal au dos !"."""
    for meeting, spelling in MEETINGS:
        text = re.sub(meeting, spelling, text, flags=re.IGNORECASE)
    return text[0].upper() + text[1:]


def starts_with_vowel(word: str) -> bool:
    """Whether le and la lose their vowel before the word."""
    return re.match(VOWEL_SOUND, word, flags=re.IGNORECASE) is not None


def plural(word: str) -> str:
    """The plural of a noun or adjective: chats, nez, gâteaux, chevaux."""
    if word.endswith(("s", "x", "z")):
        return word
    if word.endswith("al"):
        return word[:-2] + "aux"
    return word + ("x" if word.endswith("eau") else "s")


def feminine(adjective: str) -> str:
    """The regular feminine of an adjective: grande, heureuse, neuve, chère."""
    ending, spelling = next(pair for pair in FEMININES if adjective.endswith(pair[0]))
    return adjective.removesuffix(ending) + spelling


def present(infinitive: str) -> tuple[str, ...]:
    """The present of a regular verb in -er, -ir or -re, from je to ils."""
    stem, ending = infinitive[:-2], infinitive[-2:]
    if ending == "ir":
        return stem + "is", stem + "is", stem + "it", stem + "issons", stem + "issez", stem + "issent"
    if ending == "re":
        return stem + "s", stem + "s", stem, stem + "ons", stem + "ez", stem + "ent"
    soft = stem[:-1] + "ç" if stem.endswith("c") else stem + "e" if stem.endswith("g") else stem
    return stem + "e", stem + "es", stem + "e", soft + "ons", stem + "ez", stem + "ent"


def participle(infinitive: str) -> str:
    """The past participle of a regular verb in -er, -ir or -re."""
    return infinitive[:-2] + {"er": "é", "ir": "i", "re": "u"}[infinitive[-2:]]
