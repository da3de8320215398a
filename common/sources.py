"""What the sentences were like that a run was trained on: how they are written, and what none of them had."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property

from common.corpus import split
from common.run_directory import RunDirectory
from common.text import listed, normalize

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")  # "I'm" is one
GROUP = 5  # characters; a model of characters has met a sentence if it has met its parts of this length
LEAST_SHARE = 0.8  # of a sentence's groups; if training had fewer of them, the translation is a guess
FEW = 2  # groups that training may lack in any sentence: those of another mark at the end
USUAL = 0.99  # the share of training's sentences from which a habit of writing is taken for a rule
EXAMPLES = 3
# What somebody types in a hurry, or a program makes of it, as patterns, and what is meant.
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
MOST_SOURCES = 1 << 17  # of a larger corpus nothing is told, since reading it would take seconds


class Sources:
    """The source sentences of a run. Those of training are kept as one text."""

    def __init__(self, training: Collection[str], examples: Sequence[str] = ()) -> None:
        """`examples` are sentences that training did not have, for somebody to try."""
        self.examples = examples
        self._count = len(training)
        self._longest = max(map(len, training), default=0)
        self._text = "\n".join(training)
        self._words = set(WORD.findall(self._text))
        # How training writes a word; if in several ways, in the one with the most small letters.
        self._written = {word.lower(): word for word in sorted(self._words, key=lambda word: (word.islower(), word))}
        self._without_apostrophe = {word.replace("'", ""): own for word, own in self._written.items()}
        self._groups = set(_groups(self._text.replace("\n", " \n ")))

    @classmethod
    def of_run(cls, run: RunDirectory) -> "Sources":
        """Those of a run, with some at equal distances in the alphabet as examples. Raises RosettaError."""
        pairs = run.pairs()
        if len(pairs) > MOST_SOURCES:
            return cls([])
        sources = [source for source, _ in pairs]
        training, held_out = split(pairs, run.data_config, run.train_config.seed)
        others = sorted({sources[row] for row in held_out.tolist()})
        examples = others[len(others) // 6 :: len(others) // EXAMPLES or 1][:EXAMPLES]
        return cls([sources[row] for row in training.tolist()], examples)

    def as_written(self, text: str) -> str:
        """The text as training would have written it: "i love you" as "I love you.", where all training is like that.

        Only what training never had is changed: curly quotes, spaces and marks that stand twice, words in other
        letters or without their apostrophe, a small letter at the beginning, and an end without a mark. The mark is
        that of the same sentence in training, else the one that most sentences have there that begin with the same
        two words, or one.
        """
        text = normalize(text)
        if not (self._count and text.strip()):
            return text
        for typed in self._never_typed:
            text = re.sub(typed, TYPED[typed], text)
        text = WORD.sub(lambda found: self._word(found[0]), text)
        if text[0].islower() and self._begins_with_capitals:
            text = text[0].upper() + text[1:]
        if text[-1].isalnum() and self._ends_with_marks:
            text += self._mark_after(text)
        return text

    def doubt(self, text: str) -> str:
        """Why the translation of a text is a guess, as a sentence without capital and stop; "" where it is none."""
        if not (self._count and text.strip()):
            return ""
        words = dict.fromkeys(word for word in WORD.findall(text) if word.lower() not in self._written)
        groups = _groups(f" {text} ")
        if words:
            reason = f"training had no {listed(map(repr, words))}"
        elif len(text) > self._longest:
            reason = f"training had no sentence of more than {self._longest} characters, and this one has {len(text)}"
        elif sum(group not in self._groups for group in groups) > max(FEW, (1 - LEAST_SHARE) * len(groups)):
            reason = "training had no sentence like it"
        else:
            return ""
        return f"{reason}; the translation is a guess"

    def _word(self, word: str) -> str:
        """The word as training writes it, if training has it."""
        small = word.lower()
        return word if word in self._words else self._written.get(small) or self._without_apostrophe.get(small, word)

    @cached_property
    def _never_typed(self) -> list[str]:
        """The patterns of TYPED that training had nowhere."""
        return [typed for typed in TYPED if not re.search(typed, self._text)]

    @cached_property
    def _begins_with_capitals(self) -> bool:
        return len(re.findall(r"(?m)^[^\W\d_a-z]", self._text)) >= USUAL * self._count

    @cached_property
    def _ends_with_marks(self) -> bool:
        return len(re.findall(r"(?m)[^\w\s]$", self._text)) >= USUAL * self._count

    def _mark_after(self, text: str) -> str:
        """The mark of the same sentence in training, or of most of those that begin as the text does."""
        words = WORD.findall(text)
        for opening, rest in ((words, ""), (words[:2], r"\b.*"), (words[:1], r"\b.*"), ([], ".*")):
            pattern = "(?mi)^" + r"\W+".join(opening) + rest + r"([^\w\s])$"
            ends: list[str] = re.findall(pattern, self._text)
            if ends:
                break
        return Counter(ends).most_common(1)[0][0]


def _groups(text: str) -> list[str]:
    """All parts of GROUP characters of a text, to which the spaces around it belong."""
    text = text.ljust(GROUP)
    return [text[start : start + GROUP] for start in range(len(text) - GROUP + 1)]
