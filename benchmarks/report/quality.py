"""What trainings come to: losses and chrF against time, scores, decoded sentences."""

from collections.abc import Sequence
from math import inf
from statistics import median

from benchmarks.plan import BASELINE, BATCHES, BUCKETED
from benchmarks.report import charts
from benchmarks.report.blocks import Block, Chart, Line, Sentence, Table, Text
from benchmarks.report.differences import difference
from benchmarks.results import Decoded, Results, Row, seconds_to_target
from benchmarks.wording import MISSING, digits, percent, times


def trainings(results: Results) -> list[Block]:
    """Curves and scores; nothing where no training was scored."""
    rows = [row for row in results.full_rows if row.quality]
    comparable = [row for row in results.rows if row.quality]  # a masked loss is a mean over other positions
    loss = charts.quality(comparable, "loss", "training loss")
    if not rows or loss is None:
        return []
    seeds = max(len(row.quality) for row in rows)
    target = _target(results)
    key = f"Thin: each of {seeds} trainings. Thick, with a point an epoch: their median."
    key = key if seeds > 1 else "A point an epoch."
    note = "Scoring is off the clock."
    found: list[Block] = [
        Chart(
            "loss",
            "The further left a curve lies, the sooner its loss was reached",
            loss,
            _epochs(comparable, "loss"),
            note,
            key,
        )
    ]
    chrf = charts.quality(rows, "chrf", "chrF of held-out sentences", results.target_chrf)
    if chrf is not None:
        ranked = [row for row in rows if row.ranked]
        first = min(ranked, key=lambda row: seconds_to_target(row.quality), default=None)
        title = "chrF against seconds of training"
        if first and len(rows) > 1 and seconds_to_target(first.quality) < inf:
            title = f"{first.label} is the first at {target}, by the median of its trainings"
        if results.target_chrf is not None:
            note = f"The target, {target}, is the median of what {BASELINE}'s trainings reach, or the worst row's."
        key += f" Dotted: {BUCKETED}." if len(rows) > len(comparable) else ""
        found.append(Chart("chrf", title, chrf, _epochs(rows, "chrf"), note, key))
    return [*found, scores(results, rows)]


def _target(results: Results) -> str:
    return f"chrF {digits(results.target_chrf)}" if results.target_chrf is not None else "target"


def scores(results: Results, rows: Sequence[Row]) -> Table:
    """What the trainings of rows have come to."""
    last = [
        [
            row.label,
            str(len(row.quality)),
            *(_median(row, name) for name in ("loss", "val_loss")),
            _median(row, "chrf", 1),
            *(_share(row, name) for name in ("exact_match", "character_error_rate", "val_accuracy_real")),
            _to_target(row),
            _target_ratio(row),
        ]
        for row in rows
    ]
    columns = (
        "row",
        "trainings",
        "loss",
        "val. loss",
        "chrF",
        "exact match",
        "character error rate",
        "right characters",
    )
    target = _target(results)
    masked = " Masked, a loss is a mean over characters alone, which is not to be compared with the others'."
    masked = masked if any(row.batches != BATCHES[0] for row in rows) else ""
    longer = max((len(t.epochs) for row in rows if row.batches != BATCHES[0] for t in row.quality), default=0)
    epochs = f"epochs: {results.num_epochs}" + f"; {BUCKETED}: {longer}" * (longer > results.num_epochs)
    return Table(
        f"After the last epoch, medians over seeds ({epochs})",
        (*columns, f"seconds to {target}", "ratio"),
        last,
        grey=frozenset(place for place, row in enumerate(rows) if not row.ranked),
        note=f"chrF's signature: {results.chrf_signature}. Right characters: of validation rows, without padding. "
        f"Ratio: the seconds of {BASELINE}'s whole training over those to {target}; above 1 is sooner.{masked}",
    )


def sentences(results: Results) -> list[Block]:
    """What the rows make of some held-out sentences."""
    if not results.decoded:
        return []
    lead = (
        "Held-out sentences after each row's last epoch of the first seed's training. Rows that say the same share a "
        "line. "
    )
    lead += "Against the nearest reference, characters that a row adds are underlined and those it leaves out are "
    lead += "struck through. Rounding moves trainings apart after some dozens of steps, so rows say different things "
    lead += "with the same mathematics."
    return [Text(lead), *(_sentence(decoded) for decoded in results.decoded)]


def _sentence(decoded: Decoded) -> Sentence:
    lines = [Line(labels, *difference(said, decoded.references)) for labels, said in decoded.said]
    return Sentence(decoded.source, decoded.references, lines)


def _epochs(rows: Sequence[Row], name: str) -> Table:
    """A figure by epoch: the median over the seeds; empty past a row's last one."""
    counts = [len(training.epochs) for row in rows for training in row.quality]
    fewest, most = min(counts), max(counts)
    numbers = sorted({0, fewest // 4, fewest // 2, fewest - 1, most - 1})
    columns = ("row", *(f"epoch {number + 1}" for number in numbers))
    cells = [[row.label, *(_median_at(row, name, number) for number in numbers)] for row in rows]
    return Table("Medians over the seeds", columns, cells)


def _median_at(row: Row, name: str, number: int) -> str:
    if all(number >= len(training.epochs) for training in row.quality):
        return ""
    found = [t.epochs[number][name] for t in row.quality if number < len(t.epochs) and name in t.epochs[number]]
    return digits(median(found)) if found else MISSING


def _last(row: Row, name: str) -> list[float]:
    return [training.epochs[-1][name] for training in row.quality if training.epochs and name in training.epochs[-1]]


def _median(row: Row, name: str, places: int = 4) -> str:
    found = _last(row, name)
    return f"{median(found):.{places}f}" if found else MISSING


def _share(row: Row, name: str) -> str:
    found = _last(row, name)
    return percent(median(found)) if found else MISSING


def _to_target(row: Row) -> str:
    """The median of the trainings, those that never arrived counted as the longest, and how many these are."""
    never = sum(training.seconds_to_target is None for training in row.quality)
    seconds = seconds_to_target(row.quality)
    text = "never" if seconds == inf else digits(seconds)
    return f"{text} ({never} of {len(row.quality)} never)" if 0 < never < len(row.quality) else text


def _target_ratio(row: Row) -> str:
    if row.target_ratio is not None:
        return times(row.target_ratio)
    return "never" if seconds_to_target(row.quality) == inf else MISSING
