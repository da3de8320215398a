"""The phrases of phrases.txt, filled with words, spelled, and chosen for the phrasebook."""

import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import chain, product, zip_longest
from pathlib import Path

from docs.phrasebook.words import THE_MAN, Agreement, Word, lines, read_words

HERE = Path(__file__).parent
PAIRS = 10_000  # as many as the example trains on
LONGEST_ENGLISH, LONGEST_FRENCH = 26, 36
FORM = re.compile(r"\{(?:(\w+) )?(\w+)(?:@(many )?(\w+))?\}")  # {form group@many other}
# English that is said in two ways. A phrase without places stands for both,
# a filled one for one of them.
SUBJECTS = (
    "I am|I'm You are|You're He is|He's She is|She's It is|It's We are|We're They are|They're That "
    "is|That's"
)
CONTRACTIONS = (
    *re.findall(
        r"(\w+ \w+)\|(\S+)",
        f"{SUBJECTS} What is|What's Where is|Where's Who is|Who's I would|I'd I will|I'll",
    ),
    *((f"{verb} not", f"{verb}n't") for verb in ("Do", "do", "does", "did", "is", "are")),
    ("cannot", "can't"),
)
WORD = r"\b"  # where a word begins
# Each of them as a pattern, and what may stand in its place.
WAYS = [
    (re.compile(rf"{'^' if apart[0].isupper() else WORD}{said}(?= {unless})"), instead)
    for apart, together in CONTRACTIONS
    for said, instead, unless in ((apart, together, r"(?!it\b)"), (together, apart, ""))
]
LIAISONS = {"beau": "bel", "nouveau": "nouvel", "vieux": "vieil"}
VOWEL = "(?!oui)[aeiouhàâéèêîôûœAEIOUHÉÈÊÎŒ]"

Phrase = tuple[str, list[str]]  # an English sentence, and the French ones, the commonest first


def pairs() -> Iterator[tuple[str, str]]:
    """The pairs of the phrasebook: all phrases without places,
    and so many filled ones as make it full."""
    words = read_words(HERE / "words.txt")
    chosen: dict[str, list[str]] = {}
    filled: list[Iterator[Phrase]] = []  # of each phrase with places, its fillings
    for english, french in _phrases():
        if FORM.search(english):
            filled.append(_fillings(english, french, words))
        else:
            for sentence in _said(_english(english)):
                chosen[sentence] = list(map(_french, french))
    left = PAIRS - sum(map(len, chosen.values()))
    # The first filling of every phrase, then the second of every one, and so on.
    for source, texts in filter(None, chain.from_iterable(zip_longest(*filled))):
        if source not in chosen and len(texts) <= left:
            chosen[source] = texts
            left -= len(texts)
        if not left:
            break
    return ((english, text) for english, french in chosen.items() for text in french)


def _phrases() -> Iterator[Phrase]:
    """The phrases of the file; a line that ends with ".!" has two."""
    for line in lines(HERE / "phrases.txt"):
        english, french = line.split(" = ")
        texts = french.split(" | ")
        if english.endswith(".!"):
            yield english[:-1], [text[:-1] for text in texts]
            yield english[:-2] + "!", [text[:-2] + " !" for text in texts]
        else:
            yield english, texts


def _fillings(english: str, french: list[str], words: dict[str, list[Word]]) -> Iterator[Phrase]:
    """The phrase with all words in its places that are short enough, in the order of hashes."""
    groups = list(
        dict.fromkeys(place[2] for text in (english, *french) for place in FORM.finditer(text))
    )
    fillings: list[tuple[str, dict[str, Word]]] = []
    for choice in product(*(words[group] for group in groups)):
        chosen = dict(zip(groups, choice, strict=True))
        filled = _fill(chosen, english, "english")
        fillings.append((_said(_english(filled))[_hash(filled)[0] % 2 - 1], chosen))
    for source, chosen in sorted(fillings, key=lambda filling: _hash(filling[0])):
        if len(source) <= LONGEST_ENGLISH:
            texts = [_french(_fill(chosen, text, "french")) for text in french]
            if max(map(len, texts)) <= LONGEST_FRENCH:
                yield source, texts


def _fill(words: dict[str, Word], text: str, language: str) -> str:
    """The text with the words of a language in its places, by the names of their groups."""

    def form(place: re.Match[str]) -> str:
        form, group, many, giver = place.groups()
        agreement = THE_MAN
        if giver:
            agreement = (
                words[giver].agreement(bool(many)) if giver in words else Agreement.of(giver)
            )
            form = form or "present" * hasattr(words[group], "base")
        word = words[group]
        return (word.in_english if language == "english" else word.in_french)(form or "", agreement)

    return FORM.sub(form, text)


def _hash(english: str) -> bytes:
    """Number that chooses among the fillings; a hash,
    unlike a random generator, never changes its mind."""
    return sha256(f"rosetta {english}".encode()).digest()


def _said(english: str) -> list[str]:
    """A sentence as it is written, and with one contraction more or less where it has one."""
    for pattern, instead in WAYS:
        if pattern.search(english):
            return [english, pattern.sub(instead, english, count=1)]
    return [english]


def _english(text: str) -> str:
    """Spell English: "an" before a vowel, and a capital letter."""
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[0].upper() + text[1:]


def _french(text: str) -> str:
    """Spell French: elide, contract, set the narrow space before ! and ?, and a capital letter."""
    text = re.sub(rf"(?<=\b)(un|ce|le|[mts]on) (beau|nouveau|vieux) (?={VOWEL})", _liaison, text)
    text = re.sub(rf"\b([mts])a (?={VOWEL})", r"\1on ", text)
    text = re.sub(rf"(?<!-)\bce (?={VOWEL})", "cet ", text)
    text = re.sub(rf"(?<!-)\b([JjNnMmTtSsDdLl]|[Qq]u)[ea] (?={VOWEL})", r"\1'", text)
    for apart, together in (
        ("de le ", "du "),
        ("de les ", "des "),
        ("à le ", "au "),
        ("à les ", "aux "),
    ):
        text = re.sub(rf"\b{apart}", together, text)
    text = re.sub(" (?=[!?])", "\u202f", text)
    return text[0].upper() + text[1:]


def _liaison(adjective: re.Match[str]) -> str:
    return f"{adjective[1]} {LIAISONS[adjective[2]]} "
