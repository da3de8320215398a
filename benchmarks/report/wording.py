"""How a report writes numbers, and the names of what was measured."""

from collections.abc import Iterable
from datetime import datetime
from math import floor, isfinite, log10

from benchmarks.results.intervals import Estimate

MISSING = "not measured"
SELF = "—"  # in the cell where a row would be compared with itself
SPACE = "\N{NO-BREAK SPACE}"  # stands between a number and its unit
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))  # units of time, with their length in seconds
AXES = {  # names of the axes of a sweep
    "seq_length": "characters in each sentence",
    "latent_dim": "units of each LSTM",
    "batch_size": "pairs in a batch",
    "num_samples": "pairs in the corpus",
}
PARTS = {  # names of the parts of a training step (see common.evidence.Part) in tables and charts
    "LSTM": "LSTM in one kernel",
    "products": "matrix products",
    "gates": "gates and other operators",
    "optimizer": "optimizer",
    "data": "making tensors",
    "Python": "Python and waiting",
    "other": "other",
}
PHASES = {  # names of the phases of a start, by the fields of Resources that hold their seconds
    "process_seconds": "starting Python and NumPy",
    "import_seconds": "importing the framework",
    "build_seconds": "building the model",
    "first_step_seconds": "the first training step",
}
STAGES = ("Python and the framework", "the model", "training")  # what adds to the memory of a process, in this order


def digits(value: float | None, figures: int = 3) -> str:
    """A number with three significant figures: 0.0123, 6.10, 1,640."""
    if value is None or not isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    value = round(value, figures - 1 - floor(log10(abs(value))))
    return f"{value:,.{max(0, figures - 1 - floor(log10(abs(value))))}f}"


def bounds(value: float, low: float, high: float) -> str:
    """The ends of a value's interval, as in 0.98 to 1.02.

    An end has as many decimal places as the value, unless it is of a very different size.
    """
    places = len(digits(value).partition(".")[2])
    shown = [f"{end:,.{places}f}" if value / 10 < end < 10 * value else digits(end) for end in (low, high)]
    return " to ".join(shown)


def percent(share: float | None) -> str:
    """A share in per cent: 69.6 %."""
    return MISSING if share is None or not isfinite(share) else f"{100 * share:.1f}{SPACE}%"


def times(ratio: float | None) -> str:
    """How many times as fast: with two decimal places where that is precise enough, as in 1.47× and 0.68×."""
    if ratio is None:
        return MISSING
    return f"{ratio:.2f}×" if 0.1 <= ratio < 10 else f"{digits(ratio, 3 if ratio > 1 else 2)}×"


def ratio(estimate: Estimate | None) -> str:
    """How many times as fast, with its interval: 1.47× (1.43 to 1.52)."""
    if estimate is None:
        return MISSING
    low, high = (times(bound).rstrip("×") for bound in (estimate.low, estimate.high))
    return f"{times(estimate.value)} ({low} to {high})"


def quantity(seconds: float | None) -> str:
    """A time given in seconds, in a suitable unit: 61.5 ms."""
    if seconds is None or not isfinite(seconds):
        return MISSING
    unit, name = unit_of(seconds)
    return f"{digits(seconds / unit)}{SPACE}{name}"


def interval(estimate: Estimate | None) -> str:
    """A time given in seconds with its interval, in a suitable unit: 61.5 ms (60.1 to 62.9)."""
    if estimate is None:
        return MISSING
    scaled = estimate.times(1 / unit_of(estimate.value)[0])
    return f"{quantity(estimate.value)} ({bounds(scaled.value, scaled.low, scaled.high)})"


def duration(seconds: float) -> str:
    """A longer time given in seconds: 45 s, 4.5 min, 1.2 h."""
    if seconds < 90:
        return f"{seconds:.0f}{SPACE}s"
    return f"{seconds / 60:.1f}{SPACE}min" if seconds < 5400 else f"{seconds / 3600:.1f}{SPACE}h"


def megabytes(size: float | None) -> str:
    """A size given in bytes, in megabytes of 1,000,000 bytes: 498 MB."""
    return MISSING if size is None or not isfinite(size) else f"{size / 1e6:,.0f}{SPACE}MB"


def scientific(value: float) -> str:
    """A number with two significant figures and a short exponent: 2.1e-7."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def count(number: int, noun: str) -> str:
    """A number and its noun in singular or plural: 1 cycle, 2 cycles."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def shape(sizes: Iterable[int]) -> str:
    """The sizes of a matrix product: 64 × 256 × 1,024."""
    return " × ".join(f"{size:,}" for size in sizes)


def day(started: str) -> str:
    """A date and time in words: 25 November 2025, 14:03 UTC. A text that is not in ISO 8601 is returned as it is."""
    try:
        when = datetime.fromisoformat(started)
    except ValueError:
        return started
    return f"{when.day} {when:%B %Y, %H:%M} {when.tzname() or ''}".rstrip()


def unit_of(seconds: float) -> tuple[float, str]:
    """A suitable unit for a time given in seconds: the unit's length in seconds, and its name."""
    return next(((unit, name) for unit, name in UNITS if abs(seconds) >= unit), UNITS[-1])
