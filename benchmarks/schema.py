"""The schema of a measurement: the classes of its lines and of their parts, with their bounds.

The first line is a `Head`, which has the plan. Lines of the other kinds follow in any order. Times
are in seconds and memory in bytes unless a comment says otherwise.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from backends.interface import BackendFacts
from backends.process.tuned import BUILT_IN, Short, Tuning
from common.machine import Machine
from common.scoring import Scores
from common.settings import DataConfig, ModelConfig, ModelName, TrainConfig
from common.text import quoted

WITHIN = 0.05  # half-width that intervals must reach, as a share, unless --within says otherwise
# Seconds that a benchmark may take, unless --budget or --within is given: under five minutes.
BUDGET = 285.0
MOST_ROWS = 100
MOST_ROUNDS = 10_000
MOST_REFERENCES = 100  # of a sentence; a corpus may have more
MOST_OF_A_SENTENCE = 2000  # characters of a proof's; a setting that it names may have more
WARM_UP_STEPS = 2  # of each process, after the cold step
MOST_OTHERS = 0.1  # cores that all other processes use together; more shows in a timing of 100 ms

# A recorded duration is positive and finite, so that results can divide by it.
Seconds = Annotated[float, msgspec.Meta(ge=1e-9, le=1e9)]
SomeSeconds = Annotated[list[Seconds], msgspec.Meta(min_length=1)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  # of seconds or cores, perhaps none
Count = Annotated[int, msgspec.Meta(ge=1, le=10**15)]
CountOrZero = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
# The work of a turn: training steps, or calls that decode many sentences at once,
# or one sentence alone.
Work = Literal["training", "batch", "alone"]
Lane = Literal["installed", "tuned"]
# The lanes in the order of every page: first the row of a user who sets nothing,
# then the settings' row.
LANES: dict[Lane, str] = {"installed": "as installed", "tuned": "tuned"}
Axis = Literal["latent-dim", "length", "batch-size"]  # of --vary, as typed
Long = Annotated[str, msgspec.Meta(max_length=4096)]
Sentence = Annotated[str, msgspec.Meta(max_length=10_000)]  # compared character by character
Said = Annotated[
    list[Annotated[str, msgspec.Meta(max_length=MOST_OF_A_SENTENCE)]], msgspec.Meta(max_length=20)
]
# Largest error with which a process passes after its turns.
MOST_APART: dict[Work, float] = {"training": 0.01, "batch": 0.01}


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a measurement, with the fields of its class alone."""


class Line(Measured, frozen=True, tag_field="kind", tag=str.lower):
    """A line of a measurement. The class's name in lower case,
    or its `tag`, is the `kind` of its JSON object."""


# The plan


class Row(Measured, frozen=True):
    """A runner and the start of its process: a backend, or somebody's script."""

    backend: Short = ""  # NAME or NAME:VARIANT; "" of a script
    # installed: nothing is set; tuned: the settings that help; both: there are none that help.
    lane: Literal["installed", "tuned", "both"] = "tuned"
    python: Long = ""  # path of a script's interpreter
    name: Short = ""  # a script's, in tables
    sizes: dict[Axis, Count] = msgspec.field(default_factory=dict)  # given by --vary
    # Environment variables that steer a backend's framework, or that a script gets.
    variables: Annotated[dict[Short, Long], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=dict
    )
    # A script's path and arguments, and the SHA-256 of its file.
    command: Annotated[tuple[Long, ...], msgspec.Meta(max_length=1000)] = ()
    sha256: Short = ""

    @property
    def label(self) -> str:
        """The name of this row in tables and charts."""
        sizes = (
            f" ({', '.join(f'{axis} {size:,}' for axis, size in self.sizes.items())})"
            if self.sizes
            else ""
        )
        return f"{self.name or self.backend}{sizes}{', as installed' * self.installed}"

    @property
    def installed(self) -> bool:
        """True for a backend without changed settings that has a row with tuned ones beside it."""
        return bool(self.backend) and self.lane == "installed"


class Training(Measured, frozen=True):
    """The model, data and settings that the backends of a bench train."""

    data: DataConfig
    settings: TrainConfig
    latent_dim: Count
    device: Short
    threads: Count | None  # of each process
    baseline: Short = ""  # backend that ratios compare with; "": the fastest as installed
    run: Long = ""  # folder of the run whose weights all rows decode with; "": the bundled run
    tuned: Long = ""  # file of the table of the tuned lane; "": the built-in one
    tuning: Tuning = BUILT_IN["lstm"]  # this table
    # Sizes of --vary; each combination has a row of each backend.
    axes: dict[Axis, Annotated[tuple[Count, ...], msgspec.Meta(min_length=1, max_length=50)]] = (
        msgspec.field(default_factory=dict)
    )
    model: ModelName = "lstm"


class Plan(Measured, frozen=True):
    """The whole plan. It is saved at the head of the measurement."""

    rows: Annotated[tuple[Row, ...], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]
    # Half-width that the intervals of the question must reach, as a share: 0.03 is 3 %.
    within: Amount = WITHIN
    budget: Amount = BUDGET  # seconds from the first check of the machine to the end
    fixed: bool = False  # True if the user gave the budget, so that it never grows
    training: Training | None = None  # None in a race of scripts

    @property
    def rows_by_size(self) -> list[list[int]]:
        """Indices of the rows that a round starts together: rows of equal sizes, in either lane."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, row in enumerate(self.rows):
            by_size.setdefault(tuple(row.sizes.values()), []).append(index)
        return [*by_size.values()]

    @property
    def command(self) -> str:
        """The command of a bench that measures the same again,
        without options that have default values."""
        assert self.training
        training = self.training
        options: dict[str, tuple[Any, Any]] = {
            "backends": (",".join(dict.fromkeys(row.backend for row in self.rows)), ""),
            "within": (f"{_typed_number(100 * self.within)}%", f"{_typed_number(100 * WITHIN)}%"),
            "budget": (f"{_typed_number(self.budget)}s" if self.fixed else "", ""),
            "baseline": (training.baseline, ""),
            "run": (training.run, ""),
            "tuned": (training.tuned, ""),
            "latent-dim": (training.latent_dim, ModelConfig.latent_dim),
            "model": (training.model, ModelConfig.model),
            "threads": (training.threads, None),
            "device": (training.device, "cpu"),
        }
        settings = vars(training.data) | vars(training.settings)
        defaults = vars(DataConfig()) | vars(TrainConfig())
        names = [name for name in settings if name != "split"]
        options |= {name.replace("_", "-"): (settings[name], defaults[name]) for name in names}
        given = {name: value for name, (value, default) in options.items() if value != default}
        words = [
            f"--{name}" + ("" if value is True else f" {quoted(str(value))}")
            for name, value in given.items()
        ]
        axes = [
            f"--vary {axis}={','.join(map(str, sizes))}" for axis, sizes in training.axes.items()
        ]
        return " \\\n    ".join(["rosetta bench", *words, *axes])


def _typed_number(number: float) -> str:
    """A number as typed for an option: without an exponent and trailing zeros."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


# The head


class ShownSentence(Measured, frozen=True):
    """A sentence of the corpus that a page shows with its translations."""

    source: Sentence
    references: Annotated[list[Sentence], msgspec.Meta(min_length=1, max_length=MOST_REFERENCES)]
    held_out: bool  # True if it was held out of training


class Text(Measured, frozen=True):
    """The text that the backends of a bench train on,
    and the weights with which they decode some of it."""

    sha256: Short  # of the text
    training_rows: Count
    weights: Sentence = ""  # the weights that all rows decode with, in words
    weights_sha256: Short = ""  # of the file with these weights; "" for fresh weights
    shown: Annotated[list[ShownSentence], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=list
    )


class Head(Line, frozen=True, kw_only=True):
    """The first line: plan and text, machine and start."""

    format: Literal["rosetta-recording"] = "rosetta-recording"
    version: Literal[1] = 1
    machine: Machine
    started: datetime
    plan: Plan
    text: Text | None = None  # None in a race


# Rounds of processes


class WarmUp(Measured, frozen=True):
    """The first steps of a process."""

    first_step_seconds: Seconds  # the cold step, including all compiling
    step_seconds: list[Seconds]  # the steps after it
    peak: Count  # most bytes of memory of the process so far


class Ready(Measured, frozen=True):
    """The message of a script that has called `take_turns`."""

    python: Short
    # By package; "" of one that is not imported.
    versions: Annotated[dict[Short, Short], msgspec.Meta(max_length=20)]
    batch: Annotated[int, msgspec.Meta(ge=1, le=10**9)]  # items in a step
    synced: bool
    record: Long | None  # absolute path of the folder of its record


class Start(Measured, frozen=True, omit_defaults=True):
    """The start of a runner's process in a round."""

    row: CountOrZero  # index of the row in the plan
    # From start until it was ready; 0 if not timed, as others were starting meanwhile.
    seconds: Amount
    warm_up: WarmUp
    facts: BackendFacts | None = None  # of a backend
    ready: Ready | None = None  # of a script
    threads: CountOrZero = 0  # number of threads of a script's process


class Turn(Measured, frozen=True, omit_defaults=True):
    """A runner's turn in one cycle. Lists hold the seconds of each step or call.

    The process leaves `row`, `others`, `stolen` and `tries` to its parent.
    """

    row: CountOrZero  # index of the runner in the plan
    # Steps before the timed ones, which do not count; of a script all in one number.
    lead: list[Seconds]
    steps: SomeSeconds  # timed training steps, or calls that decode
    # From the start of the first step until the results of the last one are read back.
    loop: Seconds
    finite: bool = True  # True if every loss is finite
    # Of a step: pairs in training, characters that a call puts out, or a script's items.
    items: Count = 1
    others: Amount = 0.0  # cores that other processes used during the turn, on average
    stolen: Amount = 0.0  # cores that other virtual machines took meanwhile, on average
    tries: Count = 1  # of the turn, of which other processes disturbed all before the last
    peak: CountOrZero = 0  # most bytes of memory of the process so far; 0 if not measured
    first: CountOrZero = 0  # number of the first timed step, of a script
    each: Count = 1  # steps that were timed together; `steps` has their mean
    idle: Amount = 0.0  # cores that a script used on average since its last turn

    @property
    def disturbed(self) -> bool:
        """True if other programs slowed the turn.

        Stolen time does not decide: on a shared machine it may never end.
        """
        return self.others > MOST_OTHERS


class Round(Line, frozen=True):
    """Turns of one kind of work, of processes that were alive together."""

    # From 1; lines of one number have the same processes.
    number: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROUNDS)]
    work: Work
    # Of the processes that were started for this line; empty where they had been before.
    starts: list[Start]
    cycles: list[list[Turn]]  # a cycle is one turn of each runner
    seconds: Amount  # duration, with starting


# What a row computes


class StageResult(Measured, frozen=True):
    """The result of one stage, with the error of the check that came nearest
    to its bound or exceeded it most.

    This need not be the largest error, since the checks of a stage have different bounds.
    """

    # None where it is not a number: a wrong shape or dtype, or values that are not finite
    error: float | None
    bound: float
    passed: bool  # True if every check of the stage passed


class Certificate(Measured, frozen=True):
    """The result of all stages for one backend with float32 weights."""

    version: str  # of the backend's framework
    reference: str  # its backend, version and precision
    passed: bool
    # The stages that were compared, by name.
    stages: Annotated[dict[str, StageResult], msgspec.Meta(max_length=20)]


class Certified(Line, frozen=True):
    """The parity certificate of a backend's row: its errors against the reference."""

    row: CountOrZero
    certificate: Certificate


class Checked(Line, frozen=True):
    """A process of a row compared with the reference after its turns."""

    row: CountOrZero
    number: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROUNDS)]  # of the round
    work: Work
    # Largest of the tensors' root mean square errors after some steps, as a share of the learning
    # rate; or the share of sentences that are decoded otherwise. None: not finite.
    error: Amount | None

    @property
    def passed(self) -> bool:
        return self.error is not None and self.error <= MOST_APART[self.work]


class Decoded(Line, frozen=True):
    """The translations of a row; recorded once for each row."""

    row: CountOrZero
    translations: list[Sentence]  # of the shown sentences
    sentences: CountOrZero  # number of sentences in the batch of the timed calls
    # Over all held-out sources, of one row: all rows have the same weights.
    scores: Scores | None = None


class Profile(Measured, frozen=True):
    """A few training steps under the framework's profiler,
    which slows them: the times show shares only."""

    steps: Count
    seconds: Seconds  # duration of these steps
    products: Amount  # seconds in which an LSTM or a matrix product was running
    others: Amount  # seconds in which other kernels alone were running
    # Seconds to make the tensors of these steps, measured separately without the profiler.
    data: Amount


class RowProfile(Line, frozen=True, tag="profiling"):
    """A row's profile, which is recorded once."""

    row: CountOrZero
    profile: Profile


class Proof(Line, frozen=True):
    """The comparison of a script's record with that of the first script."""

    row: CountOrZero
    word: Literal["same", "differs", "not compared"]
    stages: Said  # that were compared
    # The largest; None where the scripts differ, or nothing was compared.
    error: Amount | None = None
    why: Said = msgspec.field(default_factory=list)


Later = Round | Certified | Checked | Decoded | RowProfile | Proof  # every line but the first
