"""A sweep of workers: what a group of workers on this machine loses against one worker, and how fast it sums arrays.

- A piece is one framework in one generation. It has new processes: several that are alone, and a group of as many.
  Frameworks take turns, since generations follow one another.
- In each cycle of a piece four arrangements of these processes train in turns; see ARRANGEMENTS.
- All processes have the same number of threads, so what a group loses is not what fewer threads would lose.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np

from backends.process.group import ask_each, started_group
from backends.process.parent import BackendProcess
from backends.process.runtime import Runtime
from benchmarks.measure import scenarios
from benchmarks.measure.machine import wait_until_idle
from benchmarks.measure.recording import Line
from benchmarks.measure.scenarios import Amount, Count, Profile, SomeSeconds
from benchmarks.measure.sweep import AnySweep, AnySweepHead
from common.interface import BackendFacts
from common.load import Watch
from common.material import Material
from common.tensors import Batch, epoch_order, model_config
from common.weights import initial_state

GENERATIONS = 4
CYCLES = 3  # in a generation of one framework
LEAD = 2  # steps of a visit before the timed ones
STEPS = 8  # timed steps of a visit
SUMS = 20  # timed sums of each size
SUM_SIZES = (8, 1 << 15, 1 << 18, 1 << 20, 1 << 22)  # bytes of the arrays
MOST_WORKERS = 64

# How the processes are arranged. The last two are a group, whose workers share each global batch.
ARRANGEMENTS = {
    "one": "one worker, while the others sleep",
    "apart": "all workers at once, without a group",
    "group": "a group, with as many pairs a worker",
    "divided": "a group that divides one worker's batch",
}
Name = Annotated[str, msgspec.Meta(max_length=100)]


class WorkersHead(AnySweepHead, frozen=True, kw_only=True, tag="workers"):
    """The first line: what is measured. The batch size of its settings is that of one worker."""

    threads: Count  # of each worker
    workers: Annotated[int, msgspec.Meta(ge=2, le=MOST_WORKERS)]
    backends: tuple[Name, ...]
    generations: Annotated[int, msgspec.Meta(ge=1, le=1000)]


class Trained(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One arrangement's turn in a cycle."""

    arrangement: str  # one of ARRANGEMENTS
    steps: Annotated[list[SomeSeconds], msgspec.Meta(min_length=1)]  # of each worker its timed steps
    others: Amount  # cores that other processes used meanwhile, on average


class Summed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the group took to sum arrays of one size, by the framework's own engine."""

    size: Count  # bytes of one worker's array
    seconds: SomeSeconds
    others: Amount  # cores that other processes used meanwhile, on average


class PieceMeasured(Line, frozen=True):
    """The measurement of one framework in one generation."""

    generation: Count  # from 1
    backend: Name
    facts: BackendFacts  # of the first worker of the group
    cycles: list[list[Trained]]
    sums: list[Summed]
    profile: Profile  # of the group's first worker


@dataclass
class Workers(AnySweep[WorkersHead, PieceMeasured, tuple[int, str]]):
    """An opened recording of a sweep of workers. A piece is the number of a generation, and a backend."""

    format = "rosetta-workers"
    version = 1
    kinds = WorkersHead, PieceMeasured

    def planned(self) -> list[tuple[int, str]]:
        return [(number, name) for number in range(1, self.head.generations + 1) for name in self.head.backends]

    def piece_of(self, line: PieceMeasured) -> tuple[int, str]:
        return line.generation, line.backend

    def title(self, piece: tuple[int, str]) -> str:
        number, name = piece
        return f"{name}, generation {number} of {self.head.generations}"

    def damages(self) -> Iterator[str]:
        backends = self.head.backends
        if not 0 < len(set(backends)) == len(backends) <= MOST_WORKERS:
            yield f"it has {len(backends)} backends, of which {len(set(backends))} differ"
        yield from super().damages()
        for line in self.lines:
            if any(sorted(turn.arrangement for turn in cycle) != sorted(ARRANGEMENTS) for cycle in line.cycles):
                title = f"generation {line.generation} of {line.backend}"
                yield f"{title} has a cycle that is not a turn of each arrangement"
            if any(kernel.seconds < 0 for kernel in line.profile.kernels):
                yield "a kernel took less than no time"

    @property
    def command(self) -> str:
        """The command that measures the same again."""
        return self.command_with({"workers": self.head.workers, "backends": ",".join(self.head.backends)}, threads=1)

    def measured(self, piece: tuple[int, str], material: Material) -> PieceMeasured:
        number, name = piece
        return _Piece(self.head, name, material).measured(number)


class _Piece:
    """One framework in one generation."""

    def __init__(self, head: WorkersHead, backend: str, material: Material) -> None:
        self.head, self.backend, self.corpus = head, backend, material.batch
        self.order = epoch_order(len(material.batch), head.settings.seed, 1)
        self.model = model_config(material.batch, material.decoder_vocabulary, head.latent_dim, "float32")

    def measured(self, number: int) -> PieceMeasured:
        """Start all processes, have them train in turns, have the group sum arrays, and end them."""
        head, settings = self.head, self.head.settings
        runtime, rng = Runtime(head.threads, head.device), np.random.default_rng([settings.seed, number])
        with ExitStack() as stack:
            group = stack.enter_context(started_group(head.workers, runtime, self.backend, self.model, settings))
            alone = [
                stack.enter_context(runtime.start(self.backend, self.model, settings)) for _ in range(head.workers)
            ]
            self.processes = [*group, *alone]
            state = initial_state(self.model, settings.seed)
            ask_each(self.processes, lambda process: process.call(scenarios.load, state=state))
            arranged = {
                "one": (alone[:1], settings.batch_size),
                "apart": (alone, settings.batch_size),
                "group": (group, settings.batch_size * head.workers),
                "divided": (group, settings.batch_size),
            }
            for name in ARRANGEMENTS:  # the first steps of all compile and allocate
                self._steps(*arranged[name])
            cycles = [
                [self._trained(name, *arranged[name]) for name in rng.permutation([*ARRANGEMENTS])]
                for _ in range(CYCLES)
            ]
            sums = [self._summed(group, size) for size in SUM_SIZES]
            rows = self._rows(scenarios.PROFILED_STEPS, settings.batch_size * head.workers)
            profile, *_ = ask_each(
                group,
                lambda process: process.call(
                    scenarios.profiled, rows=rows, batch_size=settings.batch_size * head.workers
                ),
            )
            return PieceMeasured(number, self.backend, group[0].facts, cycles, sums, profile)

    def _rows(self, steps: int, batch_size: int) -> Batch:
        return self.corpus.take(np.resize(self.order, steps * batch_size))

    def _steps(self, processes: Sequence[BackendProcess], batch_size: int) -> list[list[float]]:
        """The timed steps of each of these processes, which train at the same time."""
        rows = self._rows(LEAD + STEPS, batch_size)
        found = ask_each(processes, lambda process: process.call(scenarios.steps, rows=rows, batch_size=batch_size))
        return [one.step_seconds[LEAD:] for one in found]

    def _trained(self, arrangement: str, processes: Sequence[BackendProcess], batch_size: int) -> Trained:
        wait_until_idle()
        watch = Watch(process.pid for process in self.processes)
        steps = self._steps(processes, batch_size)
        return Trained(str(arrangement), steps, watch.others())

    def _summed(self, group: Sequence[BackendProcess], size: int) -> Summed:
        wait_until_idle()
        watch = Watch(process.pid for process in self.processes)
        found = ask_each(group, lambda process: process.call(scenarios.sums, sizes=[size], repetitions=SUMS))
        return Summed(size, found[0][0], watch.others())
