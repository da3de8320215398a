"""Sweeps: of sizes, here, and of workers, in the module beside this one.

A sweep of sizes measures how time and memory grow with the length of sentences, the units, the batch size and the
corpus.

- A point is one backend at one size of one axis; all other sizes stay at the benchmark's own.
- Each point has a new process, since the units are fixed when a model is built, and since the operating system tells
  the peak of memory of a whole process only.
- The sentences are random characters, since only their number matters to the time of a step; on the axis of the
  corpus they are the corpus's own.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends.process.parent import SILENCE
from backends.process.runtime import Runtime
from benchmarks.measure import scenarios
from benchmarks.measure.machine import wait_until_idle
from benchmarks.measure.plan import Cell, options_of, own_settings
from benchmarks.measure.recording import FirstLine, Line, LineOf, Lines, Sizes, damages_of_cells
from benchmarks.measure.scenarios import AT_LEAST, Count, Point, SomeSeconds, data_seconds, seconds_of
from common.config import DataConfig, ModelConfig, TrainConfig
from common.interface import BackendFacts
from common.material import Material, prepare
from common.tensors import Batch, Batches, model_config

LEAST_STEPS = {"num_samples": 32}  # least timed steps by axis: memory reaches its peak only after some steps
FEW_STEPS = 3  # least timed steps on the other axes


class AnySweepHead(FirstLine, frozen=True, kw_only=True):
    """What the first line of both kinds of sweeps has."""

    data: DataConfig
    settings: TrainConfig
    latent_dim: Count
    device: str
    threads: Count | None
    sizes: Sizes  # of the corpus's tensors
    sha256: str  # of the corpus


AnyHead = TypeVar("AnyHead", bound=AnySweepHead)
Piece = TypeVar("Piece")


@dataclass
class AnySweep(Lines[AnyHead, LineOf], Generic[AnyHead, LineOf, Piece]):
    """An opened recording of a sweep, which is measured and recorded piece by piece."""

    @classmethod
    def create(
        cls,
        path: Path,
        data: DataConfig,
        settings: TrainConfig,
        latent_dim: int,
        device: str,
        threads: int | None,
        **own: Any,
    ) -> Self:
        """Begin a recording, with its `own` fields of the head. Raises CannotBeginError if that or the data fails."""
        material, digest = prepare(data, settings.seed, "float32")
        own |= {"latent_dim": latent_dim, "device": device, "threads": threads}
        return cls.begin(path, data=data, settings=settings, sizes=Sizes.of(material), sha256=digest, **own)

    def planned(self) -> list[Piece]:
        """The pieces of the whole sweep, in the order in which they are measured."""
        raise NotImplementedError

    def piece_of(self, line: LineOf) -> Piece:
        """The piece that a line is the measurement of."""
        raise NotImplementedError

    def title(self, piece: Piece) -> str:
        """What a piece is called."""
        raise NotImplementedError

    def measured(self, piece: Piece, material: Material) -> LineOf:
        """Measure a piece."""
        raise NotImplementedError

    def run(self) -> Iterator[str]:
        """Measure what the recording lacks. Yields, before each piece is measured, which of how many it is."""
        material, _ = prepare(self.head.data, self.head.settings.seed, "float32")
        done = set(map(self.piece_of, self.lines))
        missing = [piece for piece in self.planned() if piece not in done]
        for number, piece in enumerate(missing, 1):
            yield f"{self.title(piece)} ({number} of {len(missing)})"
            self.append(self.measured(piece, material))

    def damages(self) -> Iterator[str]:
        planned = set(self.planned())
        for piece in map(self.piece_of, self.lines):
            if piece not in planned:
                yield f"it measures {self.title(piece)} twice, or without having planned it"
            planned.discard(piece)

    def command_with(self, own: dict[str, Any], threads: int | None) -> str:
        """The command that measures the same again, with options of its `own`; `threads` are those by default."""
        head = self.head
        others = {
            "latent-dim": (head.latent_dim, ModelConfig.latent_dim),
            "threads": (head.threads, threads),
            "device": (head.device, "cpu"),
        }
        given = own | own_settings(head.data, head.settings)
        given |= {name: value for name, (value, default) in others.items() if value != default}
        given.pop("split", None)  # which is no option of a sweep, since it validates nothing
        return " ".join(["rosetta sweep", *options_of(given)])


Axis = Annotated[tuple[Count, ...], msgspec.Meta(max_length=50)]


@dataclass(frozen=True)
class Axes:
    """The sizes that are measured on each axis."""

    seq_length: Axis = (8, 16, 32, 64)  # characters of every source and target: both T_enc and T_dec
    latent_dim: Axis = (64, 256, 512, 1024)
    batch_size: Axis = (1, 16, 128, 1024)
    num_samples: Axis = (1_000, 10_000, 50_000, 200_000)  # pairs; the corpus is repeated to get as many


class SweepHead(AnySweepHead, frozen=True, kw_only=True, tag="sweep"):
    """The first line: what is swept, and the sizes that a point has except on its own axis."""

    cells: tuple[Cell, ...]
    axes: Axes


class DataMeasured(Line, frozen=True):
    """The seconds that NumPy takes to prepare a corpus of `num_samples` pairs, one number for each repetition."""

    num_samples: Count
    encode_seconds: SomeSeconds  # from text to ids, with vocabularies and split
    epoch_seconds: SomeSeconds  # to make the tensors of all batches of an epoch


class PointMeasured(Line, frozen=True):
    """The measurement of a cell at one size of one axis."""

    axis: str  # a field of Axes
    value: int  # the size
    cell: Cell
    facts: BackendFacts
    point: Point


AnyLine = DataMeasured | PointMeasured
AnyPiece = int | tuple[str, int, Cell]  # the pairs of a corpus, or axis, size and cell of a point


@dataclass
class Sweep(AnySweep[SweepHead, AnyLine, AnyPiece]):
    """An opened recording of a sweep of sizes."""

    format = "rosetta-sweep"
    version = 1
    kinds = SweepHead, AnyLine

    def planned(self) -> list[AnyPiece]:
        axes = asdict(self.head.axes)
        points = [(axis, size, cell) for axis, sizes in axes.items() for size in sizes for cell in self.head.cells]
        return [*self.head.axes.num_samples, *points]

    def piece_of(self, line: AnyLine) -> AnyPiece:
        return line.num_samples if isinstance(line, DataMeasured) else (line.axis, line.value, line.cell)

    def title(self, piece: AnyPiece) -> str:
        if isinstance(piece, int):
            return f"data of {piece:,} pairs"
        axis, value, cell = piece
        return f"{cell.label}, {axis} {value:,}"

    def damages(self) -> Iterator[str]:
        yield from damages_of_cells(self.head.cells)
        yield from super().damages()

    @property
    def command(self) -> str:
        """The command that measures the same again."""
        return self.command_with({"backends": ",".join(cell.backend for cell in self.head.cells)}, threads=None)

    def measured(self, piece: AnyPiece, material: Material) -> AnyLine:
        if isinstance(piece, int):
            return data_work(piece, material, self.head.data, self.head.settings)
        return self._point(material, *piece)

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
