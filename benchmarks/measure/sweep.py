"""How cost grows: with the length of a sentence, the units, the batch, and the corpus; point by point.

One axis moves and the others stay at the benchmark's own sizes. Each point of a backend is a fresh process, since a
model is built with its units and a peak of memory is that of a whole process. What a step costs does not depend on
which characters it is fed, so they are random where their number is what is asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends.process import SILENCE
from backends.session import Material, Runtime, prepare
from benchmarks.measure import scenarios
from benchmarks.measure.machine import wait_until_idle
from benchmarks.measure.plan import Cell, options_of, own_settings
from benchmarks.measure.recording import Line, Sizes, append_line, create_lines, cut_torn_line, read_lines
from benchmarks.measure.scenarios import AT_LEAST, Point, data_seconds, seconds_of
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError
from common.interface import BackendFacts
from common.machine import Machine, describe_machine
from common.tensors import Batch, Batches, model_config

FORMAT = "rosetta-sweep"
VERSION = 1
LEAST_STEPS = {"num_samples": 32}  # that are timed; a peak of memory needs some
FEW_STEPS = 3  # on the other axes


@dataclass(frozen=True)
class Axes:
    """The sizes at which cost is measured, axis by axis."""

    seq_length: tuple[int, ...] = (8, 16, 32, 64)  # characters of source and target, T_enc and T_dec
    latent_dim: tuple[int, ...] = (64, 256, 512, 1024)
    batch_size: tuple[int, ...] = (1, 16, 128, 1024)
    num_samples: tuple[int, ...] = (1_000, 10_000, 50_000, 200_000)  # pairs of the corpus, which is repeated


class SweepHead(Line, frozen=True, tag="sweep"):
    """What is swept, on what."""

    format: str
    version: int
    data: DataConfig
    settings: TrainConfig
    latent_dim: int
    device: str
    threads: int | None
    cells: tuple[Cell, ...]
    axes: Axes
    sizes: Sizes  # of the axes that stay
    sha256: str  # of the corpus
    machine: Machine
    started: str  # ISO 8601


class DataMeasured(Line, frozen=True):
    """What a corpus costs before any framework has it, which takes NumPy alone; a number a repetition."""

    num_samples: int
    encode_seconds: list[float]  # from text to ids
    epoch_seconds: list[float]  # to make the tensors of all batches of an epoch


class PointMeasured(Line, frozen=True):
    """A cell at one size of one axis."""

    axis: str  # a field of Axes
    value: int
    cell: Cell
    facts: BackendFacts
    point: Point


@dataclass
class Sweep:
    """An opened sweep. `read` raises CannotBeginError where there is none, RosettaError where it is damaged."""

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
        """Write the head of a new recording. Raises CannotBeginError for what cannot be measured or written."""
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
        return cls(path, head)

    @classmethod
    def read(cls, path: Path) -> "Sweep":
        head, *lines = read_lines(path, FORMAT, VERSION, SweepHead, DataMeasured | PointMeasured)
        return cls(path, head, lines)

    @classmethod
    def resumed(cls, path: Path) -> "Sweep":
        """Go on with a recording, where the machine and the versions are what they were."""
        sweep = cls.read(path)
        if describe_machine() != sweep.head.machine:
            raise CannotBeginError(f"{path} was begun on another machine or version; choose another --out")
        cut_torn_line(path)
        return sweep

    @property
    def command(self) -> str:
        """What is typed to measure the same again."""
        head = self.head
        given: dict[str, Any] = {"backends": ",".join(cell.backend for cell in head.cells)}
        given |= own_settings(head.data, head.settings)
        others = {
            "latent-dim": (head.latent_dim, 256),
            "threads": (head.threads, None),
            "device": (head.device, "cpu"),
        }
        given |= {name: value for name, (value, default) in others.items() if value != default}
        return " ".join(["rosetta sweep", *options_of(given)])

    def run(self) -> Iterator[tuple[str, int, int]]:
        """Measure what is missing; gives each piece's title when it begins, its number, and how many are missing."""
        head = self.head
        material, _ = prepare(head.data, head.settings.seed, "float32")
        done = {line.num_samples if isinstance(line, DataMeasured) else key_of(line) for line in self.lines}
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


def key_of(line: PointMeasured) -> tuple[str, int, Cell]:
    return line.axis, line.value, line.cell


def sizes_at(head: SweepHead, axis: str, value: int) -> tuple[Sizes, int, int]:
    """The sizes of a point: those of the tensors, pairs a batch, units."""
    sizes, batch_size, latent_dim = head.sizes, head.settings.batch_size, head.latent_dim
    if axis == "seq_length":
        sizes = msgspec.structs.replace(sizes, max_encoder_seq_length=value, max_decoder_seq_length=value)
    return sizes, value if axis == "batch_size" else batch_size, value if axis == "latent_dim" else latent_dim


def spread(count: int, num_rows: int) -> NDArray[np.int64]:
    """`count` row numbers in order: spread over all rows, or each repeated where there are fewer."""
    return np.arange(count) * num_rows // count


def random_rows(sizes: Sizes, count: int, corpus: Batch, seed: int) -> Batch:
    """A batch of `count` rows of random characters, as long as the tensors are; the rest is as in the corpus."""
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
    """What a corpus of so many pairs costs before any framework has it."""
    pairs = [material.pairs[row] for row in spread(num_samples, len(material.pairs))]
    data = replace(data, validation_split=DataConfig.validation_split)  # that of the corpus may be too small here
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
