"""The words of words.txt, and the forms that a phrase asks of them in both languages."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What stands before a French noun: masculine, feminine and plural.
DETERMINERS = {
    "le": ("le", "la", "les"),
    "un": ("un", "une", "des"),
    "du": ("de le", "de la", "de les"),
    "ce": ("ce", "cette", "ces"),
    "mon": ("mon", "ma", "mes"),
    "ton": ("ton", "ta", "tes"),
    "son": ("son", "sa", "ses"),
    "notre": ("notre", "notre", "nos"),
    "quel": ("quel", "quelle", "quels"),
}
PLURALS = {plural for _, _, plural in DETERMINERS.values()}
# English verbs in the present, with I, with he and with the others.
IRREGULAR = {
    "be": ("am", "is", "are"),
    "have": ("have", "has", "have"),
    "can": ("can", "can", "can"),
    "must": ("must", "must", "must"),
}
PAST_OF_BE = ("was", "was", "were")
DOUBLED = {"run", "swim", "begin", "forget"}  # their last letter is doubled before "ing"
# French endings and verbs, with I, you, he, we, you and they.
PRESENT = ("e", "es", "e", "ons", "ez", "ent")
IMPERFECT = ("ais", "ais", "ait", "ions", "iez", "aient")
AVOIR = ("ai", "as", "a", "avons", "avez", "ont")
ETRE = ("suis", "es", "est", "sommes", "êtes", "sont")


@dataclass(frozen=True)
class Agreement:
    """Features that a verb or an adjective agrees with."""

    person: int = 3  # 1 to 6: I, you, he, we, you, they
    feminine: bool = False

    @classmethod
    def of(cls, marks: str) -> "Agreement":
        """The agreement that is written as "3 f", "f", "p" (several) or "2"."""
        person = re.search("[1-6]", marks)
        return cls(int(person[0]) if person else 6 if "p" in marks else 3, "f" in marks)

    @property
    def english_person(self) -> int:
        """0 with I, 1 with he, 2 with the others."""
        return {1: 0, 3: 1}.get(self.person, 2)


THE_MAN = Agreement()


@dataclass(frozen=True)
class Word:
    """A noun, or a subject, whose French column ends with person and gender,
    or a word without forms."""

    english: str
    french: str
    more: tuple[str, ...] = ()  # the columns after these two

    def agreement(self, many: bool) -> Agreement:
        """Return the features that other words take from this word, or from several."""
        agreement = Agreement.of(self._marks)
        return Agreement(6, agreement.feminine) if many else agreement

    @property
    def _marks(self) -> str:
        marks = re.search("( [1-6])?( [mf])?$", self.french)
        return marks[0] if marks else ""

    def in_english(self, form: str, agreement: Agreement) -> str:
        """The English form. `form` is "a", "many", "past", "ing", "present" or ""."""
        plural = self.more[0] if self.more else f"{self.english}s"
        return {"a": f"a {self.english}", "many": plural}.get(form, self.english)

    def in_french(self, form: str, agreement: Agreement) -> str:
        """The French form.

        `form` is a determiner, "many", "present", "past", "imparfait", "aux", "done" (the
        participle), "imperative", or "".
        """
        word = self.french.removesuffix(self._marks)
        if form in DETERMINERS:
            return f"{DETERMINERS[form][self.agreement(False).feminine]} {word}"
        if form in PLURALS:
            return f"{form} {_plural(word)}"
        return _plural(word) if form == "many" else word


@dataclass(frozen=True)
class Adjective(Word):
    """An adjective, whose French column has the feminine too where it is irregular."""

    def in_english(self, form: str, agreement: Agreement) -> str:
        """With "a" before it, where a noun follows."""
        return f"a {self.english}" if form == "a" else self.english

    def in_french(self, form: str, agreement: Agreement) -> str:
        """Agreed, and with a determiner before it, where a noun follows."""
        word = _agreed(self.french, agreement)
        return f"{DETERMINERS[form][agreement.feminine]} {word}" if form else word


@dataclass(frozen=True)
class Verb(Word):
    """A verb, whose English column has base and past."""

    @property
    def base(self) -> str:
        """The English infinitive."""
        words = self.english.split()
        return " ".join(words[: len(words) // 2])

    def in_english(self, form: str, agreement: Agreement) -> str:
        """The present or the past, "ing", or the base."""
        first, space, rest = self.base.partition(" ")
        if form == "past":
            past = self.english.removeprefix(self.base).strip()
            return PAST_OF_BE[agreement.english_person] if first == "be" else past
        if form == "ing":
            stem = first + first[-1] if first in DOUBLED else re.sub("(?<=[^e])e$", "", first)
            return f"{stem}ing{space}{rest}"
        if form == "present":
            third = re.sub("(?<=[^aeou])y$", "ie", first) + (
                "es" if re.search("(o|s|x|ch|sh)$", first) else "s"
            )
            first = IRREGULAR.get(first, (first, third, first))[agreement.english_person]
        return first + space + rest

    def in_french(self, form: str, agreement: Agreement) -> str:
        """A tense, a part of one, or the infinitive."""
        stem = self.french.removesuffix("er")
        # Nous mangeons.
        present = [stem + "e" * (stem[-1] + end[0] == "go") + end for end in PRESENT]
        present = self.more[0].split() if self.more else present
        participle = self.more[1] if len(self.more) > 1 else f"{stem}é"
        with_etre, participle = participle.startswith("+"), participle.removeprefix("+")
        auxiliary = (ETRE if with_etre else AVOIR)[agreement.person - 1]
        imperfect = "ét" if self.french == "être" else present[3].removesuffix("ons")
        return {
            "present": present[agreement.person - 1],
            "past": f"{auxiliary} {_agreed(participle, agreement) if with_etre else participle}",
            "imparfait": imperfect + IMPERFECT[agreement.person - 1],
            "aux": auxiliary,
            "done": participle,
            "imperative": present[1].removesuffix("s" if self.french.endswith("er") else ""),
        }.get(form, self.french)


KINDS = {"adjectives": Adjective, "verbs": Verb}  # those of another kind are of the class Word


def _plural(noun: str) -> str:
    """A French plural; of several words the first one takes it, as in "pommes de terre"."""
    first, space, rest = noun.partition(" ")
    if first.endswith(("s", "x", "z")):
        return noun
    first = re.sub("al$", "au", first)
    return first + ("x" if first.endswith("au") else "s") + space + rest


def _agreed(adjective: str, agreement: Agreement) -> str:
    """An adjective or a participle in gender and number;
    after a space it may have an irregular feminine."""
    word, _, feminine = adjective.partition(" ")
    if agreement.feminine:
        word = feminine or re.sub("x$", "s", word) + "e" * (not word.endswith("e"))
    return _plural(word) if agreement.person > 3 else word


def read_words(path: Path) -> dict[str, list[Word]]:
    """The groups of words.txt by their names."""
    groups: dict[str, list[Word]] = {}
    known: dict[tuple[str, str], Word] = {}  # by kind and English, the first word of this kind
    for line in lines(path):
        if line.startswith("["):
            name, kind = line.strip("[]").split(": ")
            words = groups[name] = []
        elif line.startswith("= all "):
            words += [
                word for name in line.removeprefix("= all ").split(", ") for word in groups[name]
            ]
        elif line.startswith("= "):
            words += [known[kind, english] for english in line.removeprefix("= ").split(", ")]
        else:
            english, french, *more = line.split(" | ")
            word = KINDS.get(kind, Word)(english, french, tuple(more))
            known.setdefault((kind, word.base if isinstance(word, Verb) else english), word)
            words.append(word)
    return groups


def lines(path: Path) -> Iterator[str]:
    """The lines of a text that are neither empty nor a remark."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line
