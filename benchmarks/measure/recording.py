"""The recording of a benchmark or a sweep: its head with the plan, and the kinds of its lines. See lines.py."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Self

import msgspec

from benchmarks.compare.comparer import Certificate
from benchmarks.in_child import Count, CountOrZero, Measured, Profile, Seconds, SomeSeconds
from benchmarks.measure.lines import Line, Lines, Opening, Round, Work, cut_torn_line, damages_of_cycles, shown_text
from benchmarks.measure.plan import Plan
from common.corpus import Material
from common.errors import CannotBeginError
from common.machine import describe_machine
from common.scoring import Scores

# The version of each format. They have the same kinds of lines, and differ in what their plans measure.
FORMATS = {"rosetta-benchmark": 5, "rosetta-sweep": 4, "rosetta-workers": 4}
MOST_ROWS = 100
MOST_REFERENCES = 100  # of a sentence; a corpus may have more

Words = Annotated[str, msgspec.Meta(max_length=10_000)]  # a sentence: those are compared character by character


class Sizes(Measured, frozen=True):
    """Sizes of the tensors that are made of the corpus."""

    training_rows: Count
    max_encoder_seq_length: Count  # T_enc
    max_decoder_seq_length: Count  # T_dec
    num_encoder_tokens: Count  # V_enc
    num_decoder_tokens: Count  # V_dec

    @classmethod
    def of(cls, material: Material) -> "Sizes":
        return cls(
            training_rows=len(material.training_rows),
            max_encoder_seq_length=material.max_encoder_seq_length,
            max_decoder_seq_length=material.max_decoder_seq_length,
            num_encoder_tokens=material.batch.num_encoder_tokens,
            num_decoder_tokens=material.batch.num_decoder_tokens,
        )

    def step_flop(self, batch_size: int, latent_dim: int, one_hot: bool = True) -> int:
        """Floating-point operations of a training step: the forward pass, and the gradients of weights and hidden
        states.

        Only matrix products are counted: two operations, a multiplication and an addition, for each pair of numbers
        that are multiplied. Gates, softmax and optimizer are left out: they are some per cent of the operations.

        - The gradient of a weight, and that of a state, takes as many operations as the forward product of both.
        - `one_hot` says whether one-hot inputs are multiplied by the kernels like any other matrix. If not, rows of
          the kernels are looked up, which costs no operation. The gradient of the inputs is not needed.
        """
        gates, steps = 4 * latent_dim, self.max_encoder_seq_length + self.max_decoder_seq_length
        inputs = self.max_encoder_seq_length * self.num_encoder_tokens * gates
        inputs += self.max_decoder_seq_length * self.num_decoder_tokens * gates
        states = steps * latent_dim * gates + self.max_decoder_seq_length * latent_dim * self.num_decoder_tokens
        return 2 * batch_size * (2 * inputs * one_hot + 3 * states)


class ShownSentence(Measured, frozen=True):
    """A sentence of the corpus whose translations a report shows."""

    source: Words
    references: Annotated[
        list[Words], msgspec.Meta(min_length=1, max_length=MOST_REFERENCES)
    ]  # translations that the corpus has
    held_out: bool  # whether it was held out of training


class Text(Measured, frozen=True):
    """The text that is trained on. A benchmark decodes some of it, with weights that are named here."""

    sha256: str  # of the text
    sizes: Sizes
    weights: str = ""  # the weights that all rows decode with, in words
    weights_sha256: str = ""  # of the file with these weights; "" for fresh weights
    shown: Annotated[list[ShownSentence], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=list)


class Head(Opening, frozen=True, tag="plan"):
    """The first line of a benchmark or a sweep: what is measured, and of what."""

    plan: Plan
    corpus: Text


class Certified(Line, frozen=True):
    """The parity certificate of a row: how far it is from the referee."""

    row: CountOrZero
    certificate: Certificate


class Decoded(Line, frozen=True):
    """The translations of a row and their scores; recorded once for each row."""

    row: CountOrZero
    translations: list[Words]  # of the shown sentences
    seconds: Seconds  # per character of the shown sentences, decoded once: the speed of a row without batches
    characters: tuple[Count, Count] | None  # put out by a timed call: in a batch, and alone; None if not timed
    sentences: CountOrZero  # number of sentences in the batch of the timed calls
    scores: Scores | None  # over all held-out sources; None if these were not decoded


class RowProfile(Line, frozen=True, tag="profiling"):
    """Which kernels a row's framework ran and how fast it multiplies matrices; recorded once for each row."""

    row: CountOrZero
    profile: Profile | None
    # Floating-point operations a second of a large product in float32; None where it was not measured.
    flops: Annotated[float, msgspec.Meta(ge=1.0)] | None


class Summed(Line, frozen=True):
    """How long a group of workers took to sum arrays of one size, by the framework's own engine."""

    row: CountOrZero
    size: Count  # bytes of one worker's array
    seconds: SomeSeconds


LATER = Round | Certified | Decoded | RowProfile | Summed  # every line but the first


@dataclass
class Recording(Lines[Head]):
    """An opened recording of a benchmark or a sweep."""

    VERSIONS = FORMATS
    HEAD = Head
    LATER = LATER

    def items(self, work: Work) -> dict[int, int]:
        """The characters that a call puts out."""
        if work == "training":
            return {}
        place = ("batch", "alone").index(work)
        return {line.row: line.characters[place] for line in self.of_kind(Decoded) if line.characters}

    @property
    def plan(self) -> Plan:
        return self.head.plan

    def resume(self, corpus: Text) -> Self:
        """Cut off a torn last line, so that lines can be appended again; `corpus` is what there is now.

        Raises CannotBeginError if this is not the machine that the recording was begun on, or has other versions, or
        if the text or the weights have changed; the first difference is named. What was not known then, or is not
        now, does not count: a processor's name is not found every time.
        """
        then, now = (
            {**machine, "versions": None, **machine["versions"]}
            for machine in (self.head.machine, describe_machine())
        )
        for name in {**then, **now}:
            before, found = (facts.get(name, "not installed") for facts in (then, now))
            if before and found and before != found:
                what = shown_text(f"{name} was {before} and is now {found}")
                raise CannotBeginError(f"{self.path} was begun elsewhere: {what}; choose another --out")
        text = self.head.corpus
        for what, digest, digest_now in (
            (f"{self.plan.data.data} has", text.sha256, corpus.sha256),
            (f"{text.weights} have", text.weights_sha256, corpus.weights_sha256),
        ):
            if digest_now != digest:
                raise CannotBeginError(
                    f"{shown_text(what)} changed since {self.path} was begun; choose another --out"
                )
        cut_torn_line(self.path)
        return self

    def damages(self) -> Iterator[str]:
        rows, shown, labels = len(self.plan.rows), len(self.head.corpus.shown), {row.label for row in self.plan.rows}
        contestants = rows if self.plan.workers == 1 else MOST_ROWS
        if not 0 < len(labels) == rows <= MOST_ROWS:
            yield f"it has {rows} rows with {len(labels)} labels, expected at most {MOST_ROWS} and one label each"
        if not self.plan.question:
            yield "none of its rows has matched settings"
        if self.head.format != f"rosetta-{self.plan.kind}":
            yield f"its plan is that of a rosetta-{self.plan.kind}"
        seen, counted = set(), {line.row for line in self.of_kind(Decoded) if line.characters}
        for line in self.lines:
            indices = [start.row for start in line.starts] if isinstance(line, Round) else [line.row]
            if max(indices, default=0) >= rows:
                yield f"it has lines of other rows than its {rows}"
            if isinstance(line, Decoded) and len(line.translations) != shown:
                yield f'there are not {shown} translations in each line of kind "decoded"'
            if isinstance(line, RowProfile) and line.profile and any(one.seconds < 0 for one in line.profile.kernels):
                yield "a kernel took less than no time"
            if isinstance(line, Round):
                yield from damages_of_cycles(line, contestants)
                if (line.number, line.work) in seen:
                    yield f"round {line.number} is recorded twice"
                if line.work != "training" and not counted.issuperset(v.row for cycle in line.cycles for v in cycle):
                    yield f"round {line.number} times decoding, but no line has the number of characters"
                seen.add((line.number, line.work))
