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

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends.groups.engines import new_group
from backends.process.group import ask_each, started_group
from backends.process.parent import BackendProcess, Runtime
from benchmarks.measure import in_child, machine
from benchmarks.measure.in_child import PROFILED_STEPS
from benchmarks.measure.plan import Plan
from benchmarks.measure.recording import Line, Recording, Round, RowProfile, Sizes, Start, Summed, Text
from benchmarks.measure.turns import Trainees, take_turns
from common.config import ModelConfig
from common.material import Material, prepare
from common.tensors import Batch, epoch_order, model_config

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


def begin(path: Path, plan: Plan) -> Recording:
    """Begin the recording of a sweep. Raises CannotBeginError if the file exists or the data cannot be read."""
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    return Recording.begin(path, plan, Text(digest, Sizes.of(material)))


def resumed(path: Path) -> Recording:
    """The recording of a sweep, to measure what it lacks. Raises as `Recording.read` and `Recording.resume` do."""
    return Recording.read(path, "rosetta-sweep", "rosetta-workers").resume()


def points_of(plan: Plan) -> list[tuple[str, int]]:
    """The axis and the size of each round of a sweep of sizes, in the order of their numbers."""
    return [(axis, size) for axis, sizes in plan.axes.items() for size in sizes]


def measure(recording: Recording) -> Iterator[str]:
    """Measure the rounds that the recording lacks. Yields, before each of them, which of how many it is."""
    plan = recording.plan
    material, _ = prepare(plan.data, plan.settings.seed, "float32")
    measured = _round_of_sizes if plan.workers == 1 else _round_of_workers
    titles = [f"{axis} {size:,}" for axis, size in points_of(plan)] or [
        f"{row.label}, round {number} of {ROUNDS}" for number in range(1, ROUNDS + 1) for row in plan.rows
    ]
    done = {line.number for line in recording.rounds()}
    missing = [(number, title) for number, title in enumerate(titles, 1) if number not in done]
    for place, (number, title) in enumerate(missing, 1):
        yield f"{title} ({place} of {len(missing)})"
        for line in measured(recording, material, number):
            recording.append(line)


def batches_of(corpus: Batch, batch_size: int) -> Callable[[int, int], Mapping[str, Any]]:
    """What gives the batches of a contestant, over and over through the corpus.

    Each process gets the corpus whole, so that its memory shows what a corpus takes.
    """

    def batches(first: int, steps: int) -> Mapping[str, Any]:
        order = np.arange(first * batch_size, (first + steps) * batch_size) % len(corpus)
        return {"rows": corpus, "order": order}

    return batches


def _round_of_sizes(recording: Recording, material: Material, number: int) -> Iterator[Line]:
    """Have all backends take turns at one size; then measure the machine's peak in each that has not done so yet."""
    began, plan, corpus = machine.now(), recording.plan, recording.head.corpus
    axis, size = points_of(plan)[number - 1]
    batch_size, model, rows = _training_at(plan, corpus.sizes, material, axis, size)
    runtime, least = Runtime(plan.threads, plan.device), LEAST_STEPS.get(axis, FEW_STEPS)
    starts, contestants = [], []

    def counts(step: float) -> tuple[int, int]:
        return LEAD, min(max(ceil(VISIT_SECONDS / step), least), MOST_STEPS)

    with ExitStack() as stack:
        for row, backend in enumerate(row.backend for row in plan.rows):
            starting = machine.now()
            process = stack.enter_context(runtime.start(backend, model, plan.settings))
            seconds = machine.now() - starting
            trainees = Trainees(row, [process], batch_size, batches_of(rows, batch_size), counts)
            starts.append(Start(row, seconds, process.facts, trainees.warm_up()))
            contestants.append(trainees)
        rng = np.random.default_rng([plan.settings.seed, number])
        cycles = list(islice(take_turns(contestants, rng), CYCLES))
        known = {line.row for line in recording.of_kind(RowProfile)}
        for one in contestants:  # after all turns, so that these matrices are in no peak of memory
            if one.row not in known:
                machine.wait_until_idle()
                yield RowProfile(one.row, None, one.processes[0].call(in_child.product_speed))
    yield Round(number, "training", starts, cycles, machine.now() - began)


def _round_of_workers(recording: Recording, material: Material, number: int) -> Iterator[Line]:
    """Have the arrangements of one backend's processes take turns; then its group sums arrays and is profiled.

    The round comes last: of one that is interrupted, the other lines are measured once more.
    """
    began, plan = machine.now(), recording.plan
    row = (number - 1) % len(plan.rows)
    backend, runtime, settings = plan.rows[row].backend, Runtime(plan.threads, plan.device), plan.settings
    model = model_config(material.batch, material.decoder_vocabulary, plan.latent_dim, "float32")
    corpus = material.batch.take(epoch_order(len(material.batch), settings.seed, 1))
    one, whole = settings.batch_size, settings.batch_size * plan.workers
    with ExitStack() as stack:
        workers, launch = new_group(backend, plan.workers), partial(BackendProcess, backend, model, settings, runtime)
        group = stack.enter_context(started_group(workers, launch))
        alone = [stack.enter_context(runtime.start(backend, model, settings)) for _ in range(plan.workers)]
        arranged = [(alone[:1], one), (alone, one), (group, whole), (group, one)]  # as in ARRANGEMENTS
        contestants = [
            Trainees(place, processes, size, batches_of(corpus, size), lambda step: (LEAD, WORKERS_STEPS))
            for place, (processes, size) in enumerate(arranged)
        ]
        warm_ups = [contestant.warm_up() for contestant in contestants]
        cycles = list(islice(take_turns(contestants, np.random.default_rng([settings.seed, number])), WORKERS_CYCLES))
        machine.wait_until_idle()
        sums, *_ = ask_each(group, lambda p: p.call(in_child.sums, sizes=[*SUM_SIZES], repetitions=SUMS))
        for size, seconds in zip(SUM_SIZES, sums, strict=True):
            yield Summed(row, size, seconds)
        rows = corpus.take(np.arange(PROFILED_STEPS * whole) % len(corpus))
        profile, *_ = ask_each(group, lambda p: p.call(in_child.profiled, rows=rows, batch_size=whole))
        yield RowProfile(row, profile, None)
        start = Start(row, 0.0, group[0].facts, warm_ups[2])  # not timed, since the others start meanwhile
    yield Round(number, "training", [start], cycles, machine.now() - began)


def sizes_at(plan: Plan, tensors: Sizes, axis: str, size: int) -> tuple[Sizes, int, int]:
    """The sizes of the tensors, the batch size and the units where one axis has this size."""
    if axis == "seq_length":
        tensors = msgspec.structs.replace(tensors, max_encoder_seq_length=size, max_decoder_seq_length=size)
    batch_size = size if axis == "batch_size" else plan.settings.batch_size
    return tensors, batch_size, size if axis == "latent_dim" else plan.latent_dim


def _training_at(
    plan: Plan, tensors: Sizes, material: Material, axis: str, size: int
) -> tuple[int, ModelConfig, Batch]:
    """The batch size, the model and the rows to train on where one axis has this size."""
    tensors, batch_size, latent_dim = sizes_at(plan, tensors, axis, size)
    model = model_config(material.batch, material.decoder_vocabulary, latent_dim, "float32")
    if axis != "num_samples":
        return batch_size, model, random_rows(tensors, batch_size, material.batch, plan.settings.seed)
    corpus = material.batch.take(spread(size, len(material.batch)))
    return batch_size, model, corpus.take(epoch_order(size, plan.settings.seed, 1))


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
