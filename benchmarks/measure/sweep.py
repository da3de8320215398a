"""A sweep: how time and memory grow with the length of sentences, the units, the batch size and the corpus.

- A point is one backend at one size of one axis; all other sizes stay at the benchmark's own.
- Each point has a new process, since the units are fixed when a model is built, and since the operating system tells
  the peak of memory of a whole process only.
- The sentences are random characters, since only their number matters to the time of a step; on the axis of the
  corpus they are the corpus's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends.process.parent import SILENCE
from backends.process.runtime import Runtime
from benchmarks.measure import scenarios
from benchmarks.measure.machine import wait_until_idle
from benchmarks.measure.plan import Cell, options_of, own_settings
from benchmarks.measure.recording import (
    Line,
    Sizes,
    append_line,
    create_lines,
    cut_torn_line,
    damages_of_cells,
    read_lines,
    refuse_damaged,
    refuse_other_machine,
)
from benchmarks.measure.scenarios import AT_LEAST, Count, Point, Seconds, data_seconds, seconds_of
from common.config import DataConfig, ModelConfig, TrainConfig
from common.interface import BackendFacts
from common.machine import Machine, describe_machine
from common.material import Material, prepare
from common.tensors import Batch, Batches, model_config

FORMAT = "rosetta-sweep"
VERSION = 1
LEAST_STEPS = {"num_samples": 32}  # least timed steps by axis: memory reaches its peak only after some steps
FEW_STEPS = 3  # least timed steps on the other axes


Axis = Annotated[tuple[Count, ...], msgspec.Meta(max_length=50)]


@dataclass(frozen=True)
class Axes:
    """The sizes that are measured on each axis."""

    seq_length: Axis = (8, 16, 32, 64)  # characters of every source and target: both T_enc and T_dec
    latent_dim: Axis = (64, 256, 512, 1024)
    batch_size: Axis = (1, 16, 128, 1024)
    num_samples: Axis = (1_000, 10_000, 50_000, 200_000)  # pairs; the corpus is repeated to get as many


class SweepHead(Line, frozen=True, tag="sweep"):
    """The first line: what is swept, the sizes that stay, and the machine."""

    format: str
    version: int
    data: DataConfig
    settings: TrainConfig
    latent_dim: Count
    device: str
    threads: Count | None
    cells: tuple[Cell, ...]
    axes: Axes
    sizes: Sizes  # of the corpus's tensors, which a point has except on its own axis
    sha256: str  # of the corpus
    machine: Machine
    started: str  # date and time in ISO 8601


class DataMeasured(Line, frozen=True):
    """The seconds that NumPy takes to prepare a corpus of `num_samples` pairs, one number for each repetition."""

    num_samples: Count
    encode_seconds: Annotated[
        list[Seconds], msgspec.Meta(min_length=1)
    ]  # from text to ids, with vocabularies and split
    epoch_seconds: Annotated[
        list[Seconds], msgspec.Meta(min_length=1)
    ]  # to make the tensors of all batches of an epoch


class PointMeasured(Line, frozen=True):
    """The measurement of a cell at one size of one axis."""

    axis: str  # a field of Axes
    value: int  # the size
    cell: Cell
    facts: BackendFacts
    point: Point


@dataclass
class Sweep:
    """An opened recording of a sweep.

    `read` raises CannotBeginError if the file cannot be read, RosettaError if its content is damaged.
    """

    path: Path
    head: SweepHead
    lines: list[DataMeasured | PointMeasured] = field(default_factory=list)

    @classmethod
    def create(
        cls,
        path: Path,
        cells: Sequence[Cell],
        data: DataConfig,
        settings: TrainConfig,
        latent_dim: int,
        device: str,
        threads: int | None,
    ) -> "Sweep":
        """Write the head of a new recording. Raises CannotBeginError if that, or reading the data, fails."""
        material, digest = prepare(data, settings.seed, "float32")
        head = SweepHead(
            FORMAT,
            VERSION,
            data,
            settings,
            latent_dim,
            device,
            threads,
            tuple(cells),
            Axes(),
            Sizes.of(material),
            digest,
            describe_machine(),
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
        create_lines(path, head)
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> "Sweep":
        head, *lines = read_lines(path, FORMAT, VERSION, SweepHead, DataMeasured | PointMeasured)
        refuse_damaged(path, _damages(head, lines))
        return cls(path, head, lines)

    @classmethod
    def resumed(cls, path: Path) -> "Sweep":
        """Open a recording to measure what it lacks.

        Raises CannotBeginError if the machine or a version is not the one that the recording was begun with.
        """
        sweep = cls.read(path)
        refuse_other_machine(path, sweep.head.machine)
        cut_torn_line(path)
        return sweep

    @property
    def command(self) -> str:
        """The command that measures the same again."""
        head = self.head
        given: dict[str, Any] = {"backends": ",".join(cell.backend for cell in head.cells)}
        # A sweep has no option for the split, since it validates nothing.
        given |= {name: value for name, value in own_settings(head.data, head.settings).items() if name != "split"}
        others = {
            "latent-dim": (head.latent_dim, ModelConfig.latent_dim),
            "threads": (head.threads, None),
            "device": (head.device, "cpu"),
        }
        given |= {name: value for name, (value, default) in others.items() if value != default}
        return " ".join(["rosetta sweep", *options_of(given)])

    def run(self) -> Iterator[tuple[str, int, int]]:
        """Measure what the recording lacks, piece by piece.

        Yields, before each piece is measured, its title, its number from 0 and the number of all missing pieces.
        """
        head = self.head
        material, _ = prepare(head.data, head.settings.seed, "float32")
        done = set(map(key_of, self.lines))
        data = [num_samples for num_samples in head.axes.num_samples if num_samples not in done]
        points = [
            (axis, value, cell)
            for axis, values in asdict(head.axes).items()
            for value in values
            for cell in head.cells
            if (axis, value, cell) not in done
        ]
        for number, num_samples in enumerate(data):
            yield f"data of {num_samples:,} pairs", number, len(data) + len(points)
            self._append(data_work(num_samples, material, head.data, head.settings))
        for number, (axis, value, cell) in enumerate(points, len(data)):
            yield f"{cell.label}, {axis} {value:,}", number, len(data) + len(points)
            self._append(self._point(material, axis, value, cell))

    def _append(self, line: DataMeasured | PointMeasured) -> None:
        append_line(self.path, line)
        self.lines.append(line)

    def _point(self, material: Material, axis: str, value: int, cell: Cell) -> PointMeasured:
        """Measure one point in a process of its own."""
        head = self.head
        sizes, batch_size, latent_dim = sizes_at(head, axis, value)
        model = model_config(material.batch, material.decoder_vocabulary, latent_dim, "float32")
        if axis == "num_samples":
            rows = material.batch.take(spread(value, len(material.batch)))
        else:
            rows = random_rows(sizes, batch_size, material.batch, head.settings.seed)
        runtime = Runtime(head.threads, head.device)
        with runtime.start(cell.backend, model, head.settings) as process:
            wait_until_idle()
            point = process.listening(silence=SILENCE).call(
                scenarios.point,
                rows=rows,
                batch_size=batch_size,
                seed=head.settings.seed,
                least_steps=LEAST_STEPS.get(axis, FEW_STEPS),
            )
            return PointMeasured(axis, value, cell, process.facts, point)


def key_of(line: DataMeasured | PointMeasured) -> int | tuple[str, int, Cell]:
    """What tells the lines of a sweep apart: the number of pairs, or axis, size and cell of a point."""
    return line.num_samples if isinstance(line, DataMeasured) else (line.axis, line.value, line.cell)


def _damages(head: SweepHead, lines: Sequence[DataMeasured | PointMeasured]) -> Iterator[str]:
    """One message for each contradiction between lines that are each valid by themselves."""
    yield from damages_of_cells(head.cells)
    planned: set[int | tuple[str, int, Cell]] = set(head.axes.num_samples)
    planned |= {
        (axis, size, cell) for axis, sizes in asdict(head.axes).items() for size in sizes for cell in head.cells
    }
    for line in lines:
        if key_of(line) not in planned:
            what = (
                f"{line.cell.label} at {line.axis} {line.value}"
                if isinstance(line, PointMeasured)
                else line.num_samples
            )
            yield f"it measures {what} twice, or without having planned it"
        planned.discard(key_of(line))


def sizes_at(head: SweepHead, axis: str, value: int) -> tuple[Sizes, int, int]:
    """The sizes of a point: the sizes of its tensors, its batch size, and its number of units."""
    sizes, batch_size, latent_dim = head.sizes, head.settings.batch_size, head.latent_dim
    if axis == "seq_length":
        sizes = msgspec.structs.replace(sizes, max_encoder_seq_length=value, max_decoder_seq_length=value)
    return sizes, value if axis == "batch_size" else batch_size, value if axis == "latent_dim" else latent_dim


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


def data_work(num_samples: int, material: Material, data: DataConfig, settings: TrainConfig) -> DataMeasured:
    """Measure how long NumPy takes to prepare a corpus of `num_samples` pairs."""
    pairs = [material.pairs[row] for row in spread(num_samples, len(material.pairs))]
    batch = material.batch

    def encode() -> Material:
        return Material.of_pairs(pairs, data, settings.seed, batch.dtype, batch.padding)

    encode_seconds: list[float] = []
    while sum(encode_seconds) < AT_LEAST:
        encode_seconds.append(seconds_of(encode))
    batches = Batches(batch, spread(num_samples, len(batch)), settings.batch_size)
    epoch_seconds: list[float] = []
    while sum(epoch_seconds) < AT_LEAST:
        epoch_seconds.append(data_seconds(batches))
    return DataMeasured(num_samples, encode_seconds, epoch_seconds)
