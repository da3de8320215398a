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

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice
from math import ceil
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends.engines import new_group
from backends.process.group import ask_each, started_group
from backends.process.parent import BackendProcess
from backends.process.runtime import Runtime
from benchmarks.measure import in_child, machine
from benchmarks.measure.in_child import PROFILED_STEPS, WarmUp
from benchmarks.measure.plan import options_of, own_settings
from benchmarks.measure.recording import (
    Evidence,
    Line,
    Recording,
    Round,
    Sizes,
    Start,
    Summed,
    SweepHead,
    Visit,
)
from benchmarks.measure.turns import take_turns
from common.config import DataConfig, ModelConfig, TrainConfig
from common.machine import Watch
from common.material import Material, prepare
from common.tensors import Batch, epoch_order, model_config

WARM_UP_STEPS = 3  # after the cold one
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


def begin(
    path: Path,
    backends: Sequence[str],
    data: DataConfig,
    settings: TrainConfig,
    latent_dim: int,
    device: str,
    threads: int | None,
    workers: int = 1,
    axes: Mapping[str, Sequence[int]] = AXES,
) -> Recording:
    """Begin the recording of a sweep: of workers if there are several, else of the sizes in `axes`.

    `threads` are those of each worker. Raises CannotBeginError if the file exists or the data cannot be read.
    """
    material, digest = prepare(data, settings.seed, "float32")
    return Recording.begin(
        path,
        "rosetta-sweep" if workers == 1 else "rosetta-workers",
        data=data,
        settings=settings,
        latent_dim=latent_dim,
        device=device,
        threads=threads if workers == 1 else threads or 1,
        sizes=Sizes.of(material),
        sha256=digest,
        backends=tuple(backends),
        axes={name: list(sizes) for name, sizes in axes.items()} if workers == 1 else {},
        workers=workers,
    )


def command_of(head: SweepHead) -> str:
    """The command that measures the same again, without options that have their default values."""
    options = {
        "workers": (head.workers, 1),
        "backends": (",".join(head.backends), ""),
        "latent-dim": (head.latent_dim, ModelConfig.latent_dim),
        "threads": (head.threads, None if head.workers == 1 else 1),
        "device": (head.device, "cpu"),
    }
    given = {name: value for name, (value, default) in options.items() if value != default}
    own = own_settings(head.data, head.settings)
    own.pop("split", None)  # which is no option of a sweep, since it validates nothing
    return " ".join(["rosetta sweep", *options_of(given | own)])


def points_of(head: SweepHead) -> list[tuple[str, int]]:
    """The axis and the size of each round of a sweep of sizes, in the order of their numbers."""
    return [(axis, size) for axis, sizes in head.axes.items() for size in sizes]


def measure(recording: Recording) -> Iterator[str]:
    """Measure the rounds that the recording lacks. Yields, before each of them, which of how many it is."""
    head: SweepHead = recording.head
    material, _ = prepare(head.data, head.settings.seed, "float32")
    measured = _round_of_sizes if head.workers == 1 else _round_of_workers
    titles = [f"{axis} {size:,}" for axis, size in points_of(head)] or [
        f"{name}, round {number} of {ROUNDS}" for number in range(1, ROUNDS + 1) for name in head.backends
    ]
    done = {line.number for line in recording.rounds()}
    missing = [(number, title) for number, title in enumerate(titles, 1) if number not in done]
    for place, (number, title) in enumerate(missing, 1):
        yield f"{title} ({place} of {len(missing)})"
        for line in measured(recording, material, number):
            recording.append(line)


@dataclass
class Trainees:
    """A contestant: processes that train at the same time, each by itself or all as one group."""

    row: int
    processes: Sequence[BackendProcess]
    corpus: Batch  # kept in memory; each process gets it whole, so that its memory shows what a corpus takes
    batch_size: int  # pairs of a step, which a group divides
    timed: int = WORKERS_STEPS  # timed steps of a visit

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def order(self, first: int, steps: int) -> NDArray[np.int64]:
        """Row numbers (steps * batch_size,) of so many batches from number `first` on, over and over."""
        return np.arange(first * self.batch_size, (first + steps) * self.batch_size) % len(self.corpus)

    def warm_up(self) -> WarmUp:
        """Train the first steps, in which processes compile and allocate; returns those of the first process."""
        rows, size = self.corpus.take(self.order(0, WARM_UP_STEPS)), self.batch_size
        return ask_each(self.processes, lambda p: p.call(in_child.warm_up, rows=rows, batch_size=size))[0]

    def visit(self, first: int) -> Visit:
        """A turn. One list holds the steps of all processes; of their durations and peaks the largest counts."""
        rows, order, size = self.corpus, self.order(first, LEAD + self.timed), self.batch_size
        found = ask_each(self.processes, lambda p: p.call(in_child.steps, rows=rows, batch_size=size, order=order))
        return Visit(
            row=self.row,
            lead=list(chain.from_iterable(one.step_seconds[:LEAD] for one in found)),
            steps=list(chain.from_iterable(one.step_seconds[LEAD:] for one in found)),
            loop=max(one.seconds for one in found),
            finite=all(one.finite for one in found),
            waited=0.0,
            others=0.0,
            peak=max(one.peak for one in found),
        )


def _round_of_sizes(recording: Recording, material: Material, number: int) -> Iterator[Line]:
    """Have all backends take turns at one size; then measure the machine's peak in each that has not done so yet."""
    began, head, seed = machine.now(), recording.head, recording.head.settings.seed
    axis, size = points_of(head)[number - 1]
    batch_size, model, corpus = _training_at(head, material, axis, size)
    starts, contestants = [], []
    with ExitStack() as stack:
        for row, backend in enumerate(head.backends):
            starting = machine.now()
            process = stack.enter_context(Runtime(head.threads, head.device).start(backend, model, head.settings))
            seconds = machine.now() - starting
            trainees = Trainees(row, [process], corpus, batch_size)
            warm_up = trainees.warm_up()
            wanted = ceil(VISIT_SECONDS / warm_up.step_seconds[-1])
            trainees.timed = min(max(wanted, LEAST_STEPS.get(axis, FEW_STEPS)), MOST_STEPS)
            starts.append(Start(row, seconds, process.facts, warm_up))
            contestants.append(trainees)
        cycles = list(islice(take_turns(contestants, np.random.default_rng([seed, number])), CYCLES))
        known = {line.row for line in recording.of_kind(Evidence)}
        for start in starts:  # after all turns, so that these matrices are in no peak of memory
            if start.row not in known:
                machine.wait_until_idle()
                products = contestants[start.row].processes[0].call(in_child.matrix_products, shapes={})
                yield Evidence(start.row, None, products)
    yield Round(number, "training", starts, cycles, machine.now() - began)


def _round_of_workers(recording: Recording, material: Material, number: int) -> Iterator[Line]:
    """Have the arrangements of one backend's processes take turns; then its group sums arrays and is profiled.

    The round comes last: of one that is interrupted, the other lines are measured once more.
    """
    began, head, settings = machine.now(), recording.head, recording.head.settings
    row = (number - 1) % len(head.backends)
    backend, runtime = head.backends[row], Runtime(head.threads, head.device)
    model = model_config(material.batch, material.decoder_vocabulary, head.latent_dim, "float32")
    corpus = material.batch.take(epoch_order(len(material.batch), settings.seed, 1))
    one, whole = settings.batch_size, settings.batch_size * head.workers
    with ExitStack() as stack:
        workers = new_group(backend, head.workers)
        group = stack.enter_context(started_group(workers, runtime, backend, model, settings))
        alone = [stack.enter_context(runtime.start(backend, model, settings)) for _ in range(head.workers)]
        arranged = [(alone[:1], one), (alone, one), (group, whole), (group, one)]  # as in ARRANGEMENTS
        contestants = [Trainees(place, processes, corpus, size) for place, (processes, size) in enumerate(arranged)]
        warm_ups = [contestant.warm_up() for contestant in contestants]
        cycles = list(islice(take_turns(contestants, np.random.default_rng([settings.seed, number])), WORKERS_CYCLES))
        machine.wait_until_idle()
        watch = Watch(process.pid for process in [*group, *alone])
        sums, *_ = ask_each(group, lambda p: p.call(in_child.sums, sizes=[*SUM_SIZES], repetitions=SUMS))
        others = watch.others()
        for size, seconds in zip(SUM_SIZES, sums, strict=True):
            yield Summed(row, size, seconds, others)
        rows = corpus.take(contestants[2].order(0, PROFILED_STEPS))
        profile, *_ = ask_each(group, lambda p: p.call(in_child.profiled, rows=rows, batch_size=whole))
        yield Evidence(row, profile, [])
        start = Start(row, 0.0, group[0].facts, warm_ups[2])  # not timed, since the others start meanwhile
    yield Round(number, "training", [start], cycles, machine.now() - began)


def sizes_at(head: SweepHead, axis: str, size: int) -> tuple[Sizes, int, int]:
    """The sizes of the tensors, the batch size and the units where one axis has this size."""
    tensors = head.sizes
    if axis == "seq_length":
        tensors = msgspec.structs.replace(tensors, max_encoder_seq_length=size, max_decoder_seq_length=size)
    batch_size = size if axis == "batch_size" else head.settings.batch_size
    return tensors, batch_size, size if axis == "latent_dim" else head.latent_dim


def _training_at(head: SweepHead, material: Material, axis: str, size: int) -> tuple[int, ModelConfig, Batch]:
    """The batch size, the model and the rows to train on where one axis has this size."""
    tensors, batch_size, latent_dim = sizes_at(head, axis, size)
    model = model_config(material.batch, material.decoder_vocabulary, latent_dim, "float32")
    if axis != "num_samples":
        return batch_size, model, random_rows(tensors, batch_size, material.batch, head.settings.seed)
    corpus = material.batch.take(spread(size, len(material.batch)))
    return batch_size, model, corpus.take(epoch_order(size, head.settings.seed, 1))


def spread(count: int, num_rows: int) -> NDArray[np.int64]:
    """`count` row numbers in order: evenly spread over all rows, or each repeated if there are fewer rows."""
    return np.arange(count) * num_rows // count


def random_rows(sizes: Sizes, count: int, corpus: Batch, seed: int) -> Batch:
    """A batch of `count` rows of random characters without padding; all else is as in the corpus."""
    rng = np.random.default_rng(seed)
    encoder_steps, decoder_steps = sizes.max_encoder_seq_length, sizes.max_decoder_seq_length
    encoder_ids = rng.integers(corpus.num_encoder_tokens, size=(count, encoder_steps))
    decoder_ids = rng.integers(corpus.num_decoder_tokens, size=(count, decoder_steps + 1))
    return replace(
        corpus,
        encoder_ids=encoder_ids.astype(corpus.encoder_ids.dtype),
        encoder_lengths=np.full(count, encoder_steps, np.int32),
        decoder_ids=decoder_ids.astype(corpus.decoder_ids.dtype),
        decoder_lengths=np.full(count, decoder_steps, np.int32),
    )
