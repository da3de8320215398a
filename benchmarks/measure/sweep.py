"""Sweeps: how time and memory grow with sizes, and what a group of workers loses against one worker.

- A sweep of sizes varies one axis at a time: the length of sentences, the units, the batch size or the corpus. In a
  round all backends take turns at one size of one axis; all other sizes stay at the benchmark's own. The sentences
  are random characters, since only their number matters to the time of a step; on the axis of the corpus they are the
  corpus's own.
- A sweep of workers has ROUNDS rounds for each backend, in which the four ARRANGEMENTS of its processes take turns.
  All processes have the same number of threads, so what a group loses is not what fewer threads would lose.
- Each round has new processes: the units are fixed when a model is built, and the operating system tells the peak of
  memory of a whole process only.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends.process.group import new_group, started_group
from backends.process.parent import BackendProcess, Runtime
from benchmarks import in_child
from benchmarks.in_child import PROFILED_STEPS
from benchmarks.measure import machine
from benchmarks.measure.lines import Round, Start
from benchmarks.measure.plan import Plan
from benchmarks.measure.recording import LATER, Recording, RowProfile, Sizes, Summed, Text
from benchmarks.measure.trainees import Trainees, opened
from benchmarks.measure.turns import take_turns
from common.config import ModelConfig
from common.corpus import Material, prepare
from common.tensors import Batch, Batches, epoch_order, model_config

LEAD = 2  # steps of a visit before the timed ones

# The sizes that a sweep measures on each axis.
AXES = {
    "seq_length": [8, 16, 32, 64],  # characters of every source and target: both T_enc and T_dec
    "latent_dim": [64, 256, 512, 1024],
    "batch_size": [1, 16, 128, 1024],
    "num_samples": [1_000, 10_000, 50_000, 200_000],  # pairs; the corpus is repeated to get as many
}
CYCLES = 2  # at one size
VISIT_SECONDS = 0.25  # that the timed steps of a visit should take
LEAST_STEPS = {"num_samples": 16}  # timed in a visit, by axis: memory reaches its peak only after some steps
FEW_STEPS = 3  # timed in a visit, at least, on the other axes
MOST_STEPS = 50  # timed in a visit, where a step is very short

# How the processes of a round of workers are arranged, by the row of their visits. The last two arrangements are a
# group, whose workers share each global batch.
ARRANGEMENTS = {
    "one": "one worker, while the others sleep",
    "apart": "all workers at once, without a group",
    "group": "a group, with as many pairs a worker",
    "divided": "a group that divides one worker's batch",
}
ROUNDS = 4  # of each backend
WORKERS_CYCLES = 3  # in a round
WORKERS_STEPS = 8  # timed in a visit
SUMS = 20  # timed sums of each size
SUM_SIZES = (8, 1 << 15, 1 << 18, 1 << 20, 1 << 22)  # bytes of the arrays


def points_of(plan: Plan) -> list[tuple[str, int]]:
    """The axis and the size of each round of a sweep of sizes, in the order of their numbers."""
    return [(axis, size) for axis, sizes in plan.axes.items() for size in sizes]


@dataclass(frozen=True)
class Sweep:
    """The recording that is being filled, and the corpus."""

    recording: Recording
    material: Material

    @property
    def plan(self) -> Plan:
        return self.recording.plan

    def run(self, status: Callable[[str], None], note: Callable[[str], None]) -> None:
        """Measure all rounds; `note` is told, before each, which of how many it is."""
        measured = self._round_of_sizes if self.plan.workers == 1 else self._round_of_workers
        titles = [f"{axis} {size:,}" for axis, size in points_of(self.plan)] or [
            f"{row.label}, round {number} of {ROUNDS}" for number in range(1, ROUNDS + 1) for row in self.plan.rows
        ]
        for number, title in enumerate(titles, 1):
            note(f"{title} ({number} of {len(titles)})")
            with ExitStack() as stack:
                for line in measured(number, stack):
                    self.recording.append(line)

    def _round_of_sizes(self, number: int, stack: ExitStack) -> Iterator[LATER]:
        """Have all backends take turns at one size; in the first round, then measure the machine's peak in each."""
        began, (axis, size) = machine.now(), points_of(self.plan)[number - 1]
        model, epoch = self._training_at(axis, size)
        least = LEAST_STEPS.get(axis, FEW_STEPS)

        def launch(row: int) -> BackendProcess:
            return BackendProcess(self.plan.rows[row].backend, model, self.plan.settings, self._runtime)

        def counts(step: float) -> tuple[int, int]:
            return LEAD, min(max(ceil(VISIT_SECONDS / step), least), MOST_STEPS)

        contestants, starts = opened(stack, range(len(self.plan.rows)), launch, epoch, counts)
        rng = np.random.default_rng([self.plan.settings.seed, number])
        cycles = [take_turns(contestants, rng) for _ in range(CYCLES)]
        for one in contestants if number == 1 else []:  # after all turns: these matrices are in no peak of memory
            machine.wait_until_idle()
            (speed,) = one.ask(in_child.product_speed, size=in_child.PRODUCT_SIZE)
            yield RowProfile(one.row, None, speed)
        yield Round(number, "training", starts, cycles, machine.now() - began)

    def _round_of_workers(self, number: int, stack: ExitStack) -> Iterator[LATER]:
        """Have the arrangements of one backend's processes take turns; then its group sums arrays and is profiled."""
        began, corpus, settings = machine.now(), self.material.batch, self.plan.settings
        row = (number - 1) % len(self.plan.rows)
        backend = self.plan.rows[row].backend
        model = model_config(corpus, self.material.decoder_vocabulary, self.plan.latent_dim, "float32")
        launch = partial(BackendProcess, backend, model, settings, self._runtime)
        workers = stack.enter_context(started_group(new_group(backend, self.plan.workers), launch))
        alone = [stack.enter_context(self._runtime.start(backend, model, settings)) for _ in range(self.plan.workers)]
        one = Batches(corpus, epoch_order(len(corpus), settings.seed, 1), settings.batch_size)
        whole = replace(one, batch_size=settings.batch_size * self.plan.workers)
        arranged = [(alone[:1], one), (alone, one), (workers, whole), (workers, one)]  # as in ARRANGEMENTS
        contestants = [
            Trainees(place, processes, epoch, counts=lambda step: (LEAD, WORKERS_STEPS))
            for place, (processes, epoch) in enumerate(arranged)
        ]
        warm_ups = [contestant.warm_up() for contestant in contestants]
        rng = np.random.default_rng([settings.seed, number])
        cycles = [take_turns(contestants, rng) for _ in range(WORKERS_CYCLES)]
        machine.wait_until_idle()
        group = contestants[2]
        sums = group.ask(in_child.sums, sizes=[*SUM_SIZES], repetitions=SUMS)[0]
        yield from (Summed(row, size, seconds) for size, seconds in zip(SUM_SIZES, sums, strict=True))
        yield RowProfile(row, group.ask(in_child.profiled, batches=group.part(0, PROFILED_STEPS))[0], None)
        start = Start(row, 0.0, workers[0].facts, warm_ups[2])  # not timed, since the others start meanwhile
        yield Round(number, "training", [start], cycles, machine.now() - began)

    @property
    def _runtime(self) -> Runtime:
        return Runtime(self.plan.threads, self.plan.device)

    def _training_at(self, axis: str, size: int) -> tuple[ModelConfig, Batches]:
        """The model, and the batches that it trains on, where one axis has this size."""
        corpus, seed = self.material.batch, self.plan.settings.seed
        tensors, batch_size, latent_dim = sizes_at(self.plan, self.recording.head.corpus.sizes, axis, size)
        model = model_config(corpus, self.material.decoder_vocabulary, latent_dim, "float32")
        if axis == "num_samples":
            # Evenly spread over the corpus, or each row repeated where it has fewer.
            rows = corpus.take(np.arange(size) * len(corpus) // size)
        else:
            rows = random_rows(tensors, batch_size, model, seed)
        return model, Batches(rows, epoch_order(len(rows), seed, 1), batch_size)


def opened_sweep(path: Path, plan: Plan) -> Sweep:
    """The sweep of a plan. Raises CannotBeginError if the file exists or the data cannot be read."""
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    recording = Recording.begin(path, f"rosetta-{plan.kind}", plan, Text(digest, Sizes.of(material)))
    return Sweep(recording, material)


def sizes_at(plan: Plan, tensors: Sizes, axis: str, size: int) -> tuple[Sizes, int, int]:
    """The sizes of the tensors, the batch size and the units where one axis has this size."""
    if axis == "seq_length":
        tensors = msgspec.structs.replace(tensors, max_encoder_seq_length=size, max_decoder_seq_length=size)
    batch_size = size if axis == "batch_size" else plan.settings.batch_size
    return tensors, batch_size, size if axis == "latent_dim" else plan.latent_dim


def random_rows(sizes: Sizes, count: int, model: ModelConfig, seed: int) -> Batch:
    """A batch of `count` rows of random characters without padding."""
    rng, width = np.random.default_rng(seed), sizes.max_encoder_seq_length

    def ids(tokens: int, width: int) -> NDArray[np.integer]:
        return rng.integers(tokens, size=(count, width), dtype=np.min_scalar_type(tokens))

    encoder_ids = ids(model.num_encoder_tokens, width)
    decoder_ids = ids(model.num_decoder_tokens, sizes.max_decoder_seq_length + 1)
    return Batch.of_ids(model, encoder_ids, np.full(count, width, np.int32), decoder_ids)
