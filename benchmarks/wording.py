"""Numbers as a report writes them: with as many digits as they bear, and a unit."""

import re
from datetime import datetime
from math import floor, isfinite, log10

from benchmarks.intervals import Estimate

MISSING = "not measured"
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit
AXES = {  # of a sweep
    "seq_length": "characters a sentence",
    "latent_dim": "units of each LSTM",
    "batch_size": "pairs a batch",
    "num_samples": "pairs in the corpus",
}
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def digits(value: float | None, figures: int = 3) -> str:
    """A number with three significant figures: 0.0123, 6.10, 1,640."""
    if value is None or not isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    places = figures - 1 - floor(log10(abs(value)))
    value = round(value, places)
    return f"{value:,.{max(0, figures - 1 - floor(log10(abs(value))))}f}"


def percent(share: float | None) -> str:
    return MISSING if share is None or not isfinite(share) else f"{100 * share:.1f}{SPACE}%"


def times(ratio: float) -> str:
    return f"{digits(ratio)}×"


def quantity(seconds: float | None) -> str:
    """Seconds in the unit that suits them."""
    if seconds is None or not isfinite(seconds):
        return MISSING
    unit, name = unit_of(seconds)
    return f"{digits(seconds / unit)}{SPACE}{name}"


def interval(estimate: Estimate | None, unit: str = "") -> str:
    """An estimate and its 95 % interval: of seconds where no unit is given, in the unit that suits them."""
    if estimate is None:
        return MISSING
    scale, name = (1.0, unit) if unit else unit_of(estimate.value)
    value, low, high = (digits(number / scale) for number in (estimate.value, estimate.low, estimate.high))
    return f"{value}{'' if unit else SPACE}{name} ({low} to {high})"


def megabytes(size: float | None) -> str:
    return MISSING if size is None or not isfinite(size) else f"{size / 1e6:,.0f}{SPACE}MB"


def scientific(value: float) -> str:
    """Two figures and a short exponent: 2.1e-7."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def plain(text: str) -> str:
    """A verdict's or a warning's text with the same multiplication sign everywhere, a space before the percent sign,
    and no backticks around commands."""
    return re.sub(r"(?<=\d) ?%", f"{SPACE}%", re.sub(r"(?<=\d)x\b", "×", text)).replace("`", "")


def day(started: str) -> str:
    """A time of ISO 8601 in words; what is none stays as it is."""
    try:
        when = datetime.fromisoformat(started)
    except ValueError:
        return started
    return f"{when.day} {when:%B %Y, %H:%M} {when.tzname() or ''}".rstrip()


def unit_of(seconds: float) -> tuple[float, str]:
    """The unit that suits a time, in seconds, and its name."""
    return next(((unit, name) for unit, name in UNITS if abs(seconds) >= unit), UNITS[-1])
