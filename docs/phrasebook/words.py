"""The kinds of words in the lexicon, each with its forms in both languages.

Everywhere ``en`` is the English side and ``fr`` the French one. French forms are full
ones ("je", "le", "de le"); :func:`docs.phrasebook.french.polish` joins them up later.
"""

from dataclasses import dataclass
from typing import Literal

from docs.phrasebook import english, french

Gender = Literal["m", "f"]


@dataclass(frozen=True)
class Noun:
    """A noun; the plurals are given only where they are irregular."""

    en: str
    fr: str
    gender: Gender
    irregular_ens: str = ""
    irregular_frs: str = ""

    @property
    def ens(self) -> str:
        """The English plural."""
        return self.irregular_ens or english.plural(self.en)

    @property
    def frs(self) -> str:
        """The French plural."""
        return self.irregular_frs or french.plural(self.fr)

    @property
    def article(self) -> str:
        """The French indefinite article: un or une."""
        return "un" if self.gender == "m" else "une"

    @property
    def a(self) -> str:
        """The French noun with its indefinite article: un chat, une maison."""
        return f"{self.article} {self.fr}"

    @property
    def the(self) -> str:
        """The French noun with its definite article: le chat, la maison."""
        return f"{'le' if self.gender == 'm' else 'la'} {self.fr}"

    @property
    def some(self) -> str:
        """The French noun with its partitive article: du pain, de la soupe."""
        return f"de {self.the}"

    @property
    def this(self) -> str:
        """The French noun with its demonstrative: ce chat, cette maison."""
        return f"{'ce' if self.gender == 'm' else 'cette'} {self.fr}"


@dataclass(frozen=True)
class Subject:
    """Who the sentence is about; ``person`` counts je, tu, il, nous, vous, ils from 0."""

    en: str
    fr: str
    person: int
    gender: Gender = "m"

    @property
    def plural(self) -> bool:
        """Whether French adjectives take an s; the polite vous addresses one person."""
        return self.person in (3, 5)

    @property
    def pronoun(self) -> bool:
        """Whether the subject is a pronoun, which English contracts: I'm, she's."""
        return self.en in BE

    @property
    def be(self) -> str:
        """I'm, she's, Tom is."""
        return f"{self.en}{BE[self.en][0]}" if self.pronoun else f"{self.en} is"

    @property
    def be_not(self) -> str:
        """I'm not, she isn't, Tom isn't."""
        return "I'm not" if self.person == 0 else f"{self.en} {self.be_word}n't"

    @property
    def be_word(self) -> str:
        """am, is or are."""
        return BE[self.en][1] if self.pronoun else "is"

    @property
    def be_ask(self) -> str:
        """am I, is she, is Tom."""
        return f"{self.be_word} {self.en}"

    @property
    def do_not(self) -> str:
        """I don't, she doesn't."""
        return f"{self.en} {self._do}n't"

    @property
    def _do(self) -> str:
        return "does" if self.person == 2 else "do"


# For each English pronoun: its contraction with "be", and the form of "be" in full.
BE = {
    "I": ("'m", "am"),
    "you": ("'re", "are"),
    "he": ("'s", "is"),
    "she": ("'s", "is"),
    "we": ("'re", "are"),
    "they": ("'re", "are"),
}


@dataclass(frozen=True)
class Adjective:
    """An adjective; ``irregular_f`` is its feminine where the usual rules do not make it."""

    en: str
    fr: str
    irregular_f: str = ""
    invariable: bool = False  # en retard, marron
    before: bool = False  # beau, grand, petit... stand before their noun
    liaison: str = ""  # bel, nouvel, vieil: before a masculine noun that starts with a vowel
    more: str = ""  # the English comparative

    def agree(self, gender: Gender, plural: bool = False) -> str:
        """The French form for this gender and number."""
        if self.invariable:
            return self.fr
        form = self.fr if gender == "m" else self.irregular_f or french.feminine(self.fr)
        return french.plural(form) if plural else form

    def of(self, who: Subject) -> str:
        """The French form that describes the subject."""
        return self.agree(who.gender, who.plural)

    def with_noun(self, noun: Noun) -> str:
        """The French adjective and noun, in their order: grande maison, maison verte."""
        if not self.before:
            return f"{noun.fr} {self.agree(noun.gender)}"
        links = self.liaison and noun.gender == "m" and french.starts_with_vowel(noun.fr)
        return f"{self.liaison if links else self.agree(noun.gender)} {noun.fr}"


@dataclass(frozen=True)
class Verb:
    """A verb; its French present, from je to ils, and participle are given where irregular."""

    en: str
    past: str
    fr: str
    forms: str = ""
    irregular_participle: str = ""
    with_etre: bool = False

    @property
    def ing(self) -> str:
        """The English present participle."""
        return english.ing(self.en)

    def present(self, person: int) -> str:
        """The French present for a person from 0 (je) to 5 (ils)."""
        return (self.forms.split() if self.forms else french.present(self.fr))[person]

    def en_says(self, who: Subject) -> str:
        """she works."""
        return f"{who.en} {english.third_person(self.en) if who.person == 2 else self.en}"

    def says(self, who: Subject) -> str:
        """elle travaille."""
        return f"{who.fr} {self.present(who.person)}"

    def says_not(self, who: Subject) -> str:
        """elle ne travaille pas."""
        return f"{who.fr} ne {self.present(who.person)} pas"

    def asks(self, who: Subject) -> str:
        """est-ce que elle travaille."""
        return f"est-ce que {self.says(who)}"

    def did(self, who: Subject) -> str:
        """elle a travaillé, elle est partie."""
        return f"{who.fr} {self._auxiliary(who)} {self._participle_of(who)}"

    def did_not(self, who: Subject) -> str:
        """elle n'a pas travaillé."""
        return f"{who.fr} ne {self._auxiliary(who)} pas {self._participle_of(who)}"

    def _auxiliary(self, who: Subject) -> str:
        return (french.ETRE if self.with_etre else french.AVOIR)[who.person]

    def _participle_of(self, who: Subject) -> str:
        participle = self.irregular_participle or french.participle(self.fr)
        return Adjective("", participle).of(who) if self.with_etre else participle


@dataclass(frozen=True)
class Determiner:
    """my: mon, ma, mes; the: le, la, les."""

    en: str
    m: str
    f: str
    plural: str
    irregular_ens: str = ""  # these, for this

    @property
    def ens(self) -> str:
        """The English before a plural: my, these."""
        return self.irregular_ens or self.en

    def of(self, noun: Noun) -> str:
        """The form the noun takes: mon, ma; le, la."""
        return self.m if noun.gender == "m" else self.f

    def before(self, noun: Noun) -> str:
        """mon frère, ma sœur, le chat."""
        return f"{self.of(noun)} {noun.fr}"


@dataclass(frozen=True)
class Country:
    """A country, with the article that French gives it."""

    en: str
    fr: str
    gender: Literal["m", "f", "plural"]

    @property
    def within(self) -> str:
        """en France, au Japon, aux États-Unis."""
        return {"m": f"à le {self.fr}", "f": f"en {self.fr}", "plural": f"à les {self.fr}"}[self.gender]

    @property
    def from_(self) -> str:
        """de France, du Japon, des États-Unis."""
        return {"m": f"de le {self.fr}", "f": f"de {self.fr}", "plural": f"de les {self.fr}"}[self.gender]
