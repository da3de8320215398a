"""How cost grows: with the length of a sentence, the units, the batch, and the corpus; point by point.

One axis moves and the others stay at the benchmark's own sizes. Each point of a backend is a fresh process, since a
model is built with its units and a peak of memory is that of a whole process. What a step costs does not depend on
which characters it is fed, so that they are random where their number is what is asked.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from backends.session import Material
from benchmarks.plan import BASELINE, Cell, Plan
from benchmarks.roofline import Sizes
from benchmarks.scenarios import AT_LEAST, data_seconds, seconds_of
from common.config import DataConfig
from common.tensors import Batch, Batches

LEAST_STEPS = {"num_samples": 32}  # that are timed; a peak of memory needs some
FEW_STEPS = 3  # on the other axes


@dataclass(frozen=True)
class Point:
    """One size of one axis, for one cell."""

    axis: str  # a field of benchmarks.plan.Sweep
    value: int
    cell: Cell

    @property
    def least_steps(self) -> int:
        return LEAST_STEPS.get(self.axis, FEW_STEPS)


def swept(plan: Plan) -> list[Cell]:
    """The cells of a sweep, in one lane, on the example's batches.

    Without the baseline: it makes a whole epoch's tensors beforehand, so that its memory is set by the corpus. And
    without reduced precision, which the float32 peak is no limit of.
    """
    return [cell for cell in plan.models if cell.backend != BASELINE and not (cell.bucketed or cell.reduced)]


def points(plan: Plan) -> list[Point]:
    """All of a plan's, the cells of a size after one another."""
    axes: dict[str, Sequence[int]] = asdict(plan.sweep) if plan.sweep else {}
    return [Point(axis, value, cell) for axis, values in axes.items() for value in values for cell in swept(plan)]


def rows_of(point: Point, sizes: Sizes, corpus: Batch, seed: int) -> Batch:
    """What the point's steps are fed: a batch of random rows of these sizes, or the corpus, made so large."""
    if point.axis == "num_samples":
        return corpus.take(spread(point.value, len(corpus)))
    return random_rows(sizes, corpus, seed)


def spread(count: int, num_rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`count` row numbers in order: spread over all rows, or each repeated where there are fewer."""
    return np.arange(count) * num_rows // count


def random_rows(sizes: Sizes, corpus: Batch, seed: int) -> Batch:
    """A batch of rows of random characters, as long as the tensors are; the rest is as in the corpus."""
    rng = np.random.default_rng(seed)
    count, encoder_steps, decoder_steps = sizes.batch_size, sizes.max_encoder_seq_length, sizes.max_decoder_seq_length
    encoder_ids = rng.integers(corpus.num_encoder_tokens, size=(count, encoder_steps))
    decoder_ids = rng.integers(corpus.num_decoder_tokens, size=(count, decoder_steps + 1))
    ids = {
        "encoder_ids": encoder_ids.astype(corpus.encoder_ids.dtype),
        "encoder_lengths": np.full(count, encoder_steps, np.int32),
        "decoder_ids": decoder_ids.astype(corpus.decoder_ids.dtype),
        "decoder_lengths": np.full(count, decoder_steps, np.int32),
    }
    return Batch(**corpus.fields() | ids)


def data_work(num_samples: int, material: Material, data: DataConfig, batch_size: int, seed: int) -> dict[str, Any]:
    """What a corpus of so many pairs costs before any framework has it, which takes NumPy alone: `encode_seconds`,
    from text to ids, and `epoch_seconds`, to make the tensors of all batches of an epoch; one a repetition."""
    pairs = [material.pairs[row] for row in spread(num_samples, len(material.pairs))]
    data = replace(data, validation_split=DataConfig.validation_split)  # that of the corpus may be too small here
    batch = material.batch
    encode_seconds: list[float] = []
    while sum(encode_seconds) < AT_LEAST:
        encode_seconds.append(seconds_of(lambda: Material.of_pairs(pairs, data, seed, batch.dtype, batch.padding)))
    batches = Batches(batch, spread(num_samples, len(batch)), batch_size)
    epoch_seconds: list[float] = []
    while sum(epoch_seconds) < AT_LEAST:
        epoch_seconds.append(data_seconds(batches))
    return {"encode_seconds": encode_seconds, "epoch_seconds": epoch_seconds}
