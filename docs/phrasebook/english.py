"""The little English morphology the phrasebook needs: endings, "an", capitals."""

import re
from collections.abc import Callable

VOWELS = "aeiou"


def plural(noun: str) -> str:
    """The regular plural: cats, boxes, cherries."""
    return _with_s(noun)


def third_person(verb: str) -> str:
    """The form after he or she: works, watches, studies, goes out."""
    return "has" if verb == "have" else _on_first_word(_with_s, verb)


def _with_s(word: str) -> str:
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")


def ing(verb: str) -> str:
    """The form after "is": working, writing, running, going out."""
    return _on_first_word(_ing, verb)


def _on_first_word(inflect: Callable[[str], str], phrase: str) -> str:
    first, *rest = phrase.split()
    return " ".join((inflect(first), *rest))


def _ing(verb: str) -> str:
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    one_syllable = len(re.findall("[aeiou]+", verb)) == 1
    if one_syllable and re.search("[^aeiou][aeiou][^aeiouwxy]$", verb):
        return verb + verb[-1] + "ing"
    return verb + "ing"


def polish(text: str) -> str:
    """Turn "a apple is good." into "An apple is good."."""
    text = re.sub(r"\b(a|A) (?=[aeiou])", r"\1n ", text)
    return text[0].upper() + text[1:]
