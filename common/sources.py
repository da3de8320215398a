"""Rules from a run's training pairs: how a sentence is written,
and when its translation is a guess."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from itertools import pairwise, permutations, takewhile

from common.corpus import split
from common.run import RunDirectory
from common.text import listed, printable

LETTERS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")  # "I'm" is one
LETTERS_OR_DIGITS = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
USUAL = 0.99  # least share of training's sentences that makes a habit of writing a rule
EXAMPLES_OF = ("Seen in training", "Not seen in training")
EXAMPLES = 3
# Patterns of careless or automatic typing, and their corrections.
TYPED = {
    "[‘’]": "'",
    "[“”]": '"',
    "[–—]": "-",
    "…": "...",
    r"[^\S\n]*[^\S\n ][^\S\n]*| {2,}": " ",
    r"(?m)^ | $": "",
    r" (?=[?!.,])": "",
    r"([?!.,])\1+": r"\1",
}
# A larger corpus is not read, and no rules are made, which would take seconds.
MOST_BYTES_OF_PAIRS = 1 << 23

Words = Sequence[str]


class Sources:
    """The pairs that a run was trained on. The sources are also kept as one text."""

    def __init__(
        self, pairs: Sequence[tuple[str, str]], examples: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """`examples` are sentences to try, by their kind."""
        self.examples = examples or {}
        self._pairs = pairs
        sources = dict.fromkeys(source for source, _ in pairs)
        self._count, self._longest = len(sources), max(map(len, sources), default=0)
        self._text = "\n".join(sources)
        self._words = set(LETTERS.findall(self._text))
        # How training writes a word; if in several ways, in the one with the most small letters.
        self._written = {
            word.lower(): word
            for word in sorted(self._words, key=lambda word: (word.islower(), word))
        }
        self._without_apostrophe = {
            word.replace("'", ""): written for word, written in self._written.items()
        }

    @classmethod
    def of_run(cls, run: RunDirectory) -> "Sources":
        """The sources of a run, with some at equal distances in the alphabet as examples.
        Raises RosettaError."""
        path = run.path / "pairs.tsv"
        if path.is_file() and path.stat().st_size > MOST_BYTES_OF_PAIRS:
            return cls([])
        pairs = run.pairs()
        parts = split(pairs, run.data_config, run.train_config.seed)
        examples = {}
        for name, rows in zip(EXAMPLES_OF, parts, strict=True):
            sources = sorted({pairs[row][0] for row in rows.tolist()})
            examples[name] = sources[len(sources) // 6 :: len(sources) // EXAMPLES or 1][:EXAMPLES]
        return cls([pairs[row] for row in parts[0].tolist()], examples)

    def as_written(self, text: str) -> str:
        """Write a text as training would: "i love you" becomes "I love you!"
        if all training is like that.

        Changes only what training never had: curly quotes, doubled spaces and marks, the case of a
        word, a missing apostrophe, a small first letter, and a missing final mark. The mark comes
        from the same sentence in training, else from most of the sentences with the same first two
        words, or the same first word. Takes a text in Unicode's form NFC.
        """
        if not (self._count and text.strip()):
            return text
        never_typed, begin_with_capitals, end_with_marks = self._habits
        for typed in never_typed:
            text = re.sub(typed, TYPED[typed], text)
        text = LETTERS.sub(lambda match: self._word(match[0]), text)
        if text[0].islower() and begin_with_capitals:
            text = text[0].upper() + text[1:]
        if text[-1].isalnum() and end_with_marks:
            text += self._mark_after(text)
        return text

    def doubt(self, text: str, translation: str) -> str:
        """The reason why the translation of a text is a guess,
        without capital and full stop; "" if it is none.

        A small model learns its training by heart, and gives an unknown sentence a translation that
        it knows. A translation is no guess in three cases: training had it for this sentence;
        training had it for a sentence that differs only in words with one translation elsewhere,
        such as "I'm" and "I am"; or it is new, and each pair of its neighbouring words stood in
        training.
        """
        if not (self._count and text.strip()):
            return ""
        unknown = dict.fromkeys(
            word for word in LETTERS.findall(text) if word.lower() not in self._written
        )
        source, target, (translations, sources) = _key(text), _key(translation), self._by_key
        if unknown:
            reason = f"training had no {listed(map(repr, unknown))}"
        elif len(text) > self._longest:
            reason = (
                f"training had no sentence of more than {self._longest} characters, and this one "
                f"has {len(text)}"
            )
        elif not translation.strip():
            reason = "the model ended the sentence at once"
        elif target in translations.get(source, ()):
            return ""
        elif source in translations:
            first = next(iter(translations[source]))
            reason = (
                f"training had {_first_quoted(translations[source])} for "
                f"{printable(sources[first][source])!r}"
            )
        elif target in sources:
            if any(self._same(source, known) for known in sources[target]):
                return ""
            reason = f"training had this translation for {_first_quoted(sources[target])}"
        elif new := next(
            (pair for pair in _neighbours(target) if pair not in self._neighbours), ""
        ):
            reason = f"training had no translation with {new.strip()!r}"
        else:
            return ""
        return f"{reason}; the translation is a guess"

    def build_index(self) -> None:
        """Build the index of `doubt` ahead of time; it takes some 70 ms."""
        assert self._neighbours is not None

    @cached_property
    def _by_key(self) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
        """The translations of each source, and the sources of each translation,
        by their keys as they are written."""
        translations: dict[str, dict[str, str]] = {}
        sources: dict[str, dict[str, str]] = {}
        for source, target in self._pairs:
            translations.setdefault(_key(source), {}).setdefault(_key(target), target)
            sources.setdefault(_key(target), {}).setdefault(_key(source), source)
        return translations, sources

    @cached_property
    def _neighbours(self) -> set[str]:
        """The words that stood beside each other in training's translations."""
        return {pair for key in self._by_key[1] for pair in _neighbours(key)}

    @cached_property
    def _exchanged(self) -> set[tuple[str, str]]:
        """The words in which alone two sources of training with a translation in common differ."""
        alike = (
            map(str.split, sources) for sources in self._by_key[1].values() if len(sources) > 1
        )
        return {
            _difference(left, right)
            for sources in alike
            for left, right in permutations(sources, 2)
        }

    def _same(self, left: str, right: str) -> bool:
        """True if two keys differ only in words that training exchanged."""
        left_words, right_words = left.split(), right.split()
        changes = SequenceMatcher(None, left_words, right_words, autojunk=False).get_opcodes()
        parts = (
            (" ".join(left_words[a:b]), " ".join(right_words[c:d]))
            for how, a, b, c, d in changes
            if how != "equal"
        )
        return self._exchanged.issuperset(parts)

    def _word(self, word: str) -> str:
        """The word as training writes it, if training has it."""
        small = word.lower()
        return (
            word
            if word in self._words
            else self._written.get(small) or self._without_apostrophe.get(small, word)
        )

    @cached_property
    def _habits(self) -> tuple[list[str], bool, bool]:
        """The patterns of TYPED that training had nowhere; whether its sentences begin with
        capitals, and end with marks."""
        capitals, marks = (
            re.findall(pattern, self._text) for pattern in (r"(?m)^[^\W\d_a-z]", r"(?m)[^\w\s]$")
        )
        never = [typed for typed in TYPED if not re.search(typed, self._text)]
        return never, len(capitals) >= USUAL * self._count, len(marks) >= USUAL * self._count

    def _mark_after(self, text: str) -> str:
        """The mark of the same sentence in training,
        or of most of those that begin as the text does."""
        words = LETTERS.findall(text)
        for opening, rest in ((words, ""), (words[:2], r"\b.*"), (words[:1], r"\b.*"), ([], ".*")):
            pattern = "(?mi)^" + r"\W+".join(opening) + rest + r"([^\w\s])$"
            ends: list[str] = re.findall(pattern, self._text)
            if ends:
                break
        return Counter(ends).most_common(1)[0][0]


def _key(text: str) -> str:
    """The text's words in small letters, without marks; a text without words as it is."""
    return " ".join(LETTERS_OR_DIGITS.findall(text.lower())) or text


def _neighbours(key: str) -> Iterator[str]:
    """The pairs of words that stand beside each other, with the beginning and the end."""
    return map(" ".join, pairwise(["", *key.split(), ""]))


def _difference(left: Words, right: Words) -> tuple[str, str]:
    """The rests of two lists of words without their common beginning and end."""
    start = _common(left, right)
    left, right = left[start:], right[start:]
    end = _common(left[::-1], right[::-1])
    return " ".join(left[: len(left) - end]), " ".join(right[: len(right) - end])


def _common(left: Words, right: Words) -> int:
    """The number of words with which both begin."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    )


def _first_quoted(texts: Mapping[str, str]) -> str:
    """The first of some texts."""
    return repr(printable(next(iter(texts.values()))))
