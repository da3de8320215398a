"""What this project asks of each framework's speed, held to a recording: `python -m tests.targets RECORDING`.

The figures are multiples of the official example's in the same recording, and shares of the machine's peak. They were
set for two cores with AVX-512 and the example's sizes, 10,000 pairs of `fra-eng`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from backends import BASELINE
from benchmarks.measure.recording import Recording
from benchmarks.results.rows import results_of
from benchmarks.results.values import Results, Row

FRAMEWORKS = ("torch", "keras", "paddle")


def _training(row: Row, results: Results) -> float | None:
    ratio = results.ratio(row.label, BASELINE)
    return ratio.value if ratio else None


def _share(row: Row, results: Results) -> float | None:
    return row.resources.roofline.share if row.resources.roofline else None


def _decoding(alone: bool) -> Callable[[Row, Results], float | None]:
    """How many times as fast a character is as the example's, which decodes sentence by sentence."""

    def ratio(row: Row, results: Results) -> float | None:
        examples = [r.decoding for r in results.rows if r.cell.backend == BASELINE and r.decoding]
        example = examples[0].once_character if examples else None
        own = row.decoding and (row.decoding.alone_character if alone else row.decoding.batch_character)
        return example / own.value if example and own else None

    return ratio


# Each figure with the least that is asked of torch, Keras and Paddle, in this order.
TARGETS: dict[str, tuple[tuple[float, float, float], Callable[[Row, Results], float | None]]] = {
    "training, times as fast as the example": ((1.6, 1.4, 1.2), _training),
    "share of the machine's peak": ((0.9, 0.75, 0.65), _share),
    "a character in a batch, times as fast": ((8000, 6000, 4000), _decoding(alone=False)),
    "a character of one sentence alone, times as fast": ((1000, 2000, 800), _decoding(alone=True)),
}


def reached(results: Results) -> list[tuple[str, str, float, float, str]]:
    """Of each figure and framework: what is asked, what its best row in the matched lane reaches, and that row."""
    found = []
    for figure, (least, value_of) in TARGETS.items():
        for framework, asked in zip(FRAMEWORKS, least, strict=True):
            rows = [row for row in results.of_group("main") if row.cell.lane == "matched" and row.compared]
            own = [row for row in rows if row.cell.backend.partition(":")[0] == framework and row.label != BASELINE]
            values = [(value, row.label) for row in own if (value := value_of(row, results)) is not None]
            if values:
                found.append((figure, framework, asked, *max(values)))
    return found


if __name__ == "__main__":
    for figure, framework, asked, value, label in reached(results_of(Recording.read(Path(sys.argv[1])))):
        word = "met" if value >= asked else "missed"
        print(f"{figure:50s} {framework:7s} asked {asked:<8g} reached {value:<10.4g} by {label:15s} {word}")
