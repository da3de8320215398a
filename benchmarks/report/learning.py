"""What trainings come to: loss and chrF against the seconds of training, and the scores after the last epoch."""

from collections.abc import Sequence
from itertools import accumulate
from math import isfinite
from statistics import median

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Table
from benchmarks.report.drawing import Values
from benchmarks.results.values import Results, Row, ScoredEpoch


def blocks(results: Results) -> list[Block]:
    """Nothing where no training was scored."""
    rows = [row for row in results.rows if row.learning]
    if not rows:
        return []
    found: list[Block] = []
    # A masked loss is a mean over other positions, which is not to be held against the others.
    comparable = [row for row in rows if not row.cell.bucketed]
    for shown, field, title in (
        (comparable, "loss", "Training loss against seconds of training"),
        (rows, "chrf", "chrF of held-out sentences against seconds of training"),
    ):
        if shown:
            found.append(_chart(shown, field, title))
    return [*found, _scores(results, rows)]


def _chart(rows: Sequence[Row], field: str, title: str) -> Chart:
    thin, thick = _values(rows, field)
    seeds = max(len(row.learning) for row in rows)
    key = "A thick line has a point for each epoch"
    key += f", the median of {seeds} trainings; a thin line is one training." if seeds > 1 else "."
    key += " Dotted lines are rows on bucketed batches." if any(row.cell.bucketed for row in rows) else ""
    spec = drawing.curves(
        thick, thin, "seconds of training", field.replace("chrf", "chrF"), {"epoch": "epoch", "median": "median"}
    )
    fewest = min(len(training.epochs) for row in rows for training in row.learning)
    shown = sorted({0, fewest // 4, fewest // 2, fewest - 1})
    table = cells.table(
        rows,
        lambda row: {f"epoch {number + 1}": wording.digits(_median(row, field, number)) for number in shown},
        note="Medians over the trainings.",
    )
    return Chart(field, title, spec, table, key)


def _values(rows: Sequence[Row], field: str) -> tuple[Values, Values]:
    """The points of each training, and those of the medians."""
    thin: Values = []
    thick: Values = []
    for row in rows:
        look = {"label": row.label, "backend": row.cell.backend, "bucketed": row.cell.bucketed}
        lines = [_line(training.epochs, field) for training in row.learning]
        for training, line in zip(row.learning, lines, strict=True):
            thin += [look | {"x": x, "y": y, "seed": training.seed} for x, y in line if isfinite(y)]
        for number, points in enumerate(zip(*lines, strict=False), 1):
            x, y = (median(values) for values in zip(*points, strict=True))
            if isfinite(y):
                thick.append(look | {"x": x, "y": y, "epoch": number, "median": wording.digits(y)})
    return thin, thick


def _line(epochs: Sequence[ScoredEpoch], field: str) -> list[tuple[float, float]]:
    return list(zip(accumulate(e.seconds for e in epochs), (getattr(e, field) for e in epochs), strict=True))


def _median(row: Row, field: str, number: int = -1) -> float:
    return float(median(getattr(training.epochs[number], field) for training in row.learning))


def _scores(results: Results, rows: Sequence[Row]) -> Table:
    """After the last epoch, and how soon each row is as good as the baseline is in the end."""
    own = [row for row in rows if row.label == results.baseline]
    target = min(_median(row, "chrf") for row in own or rows)
    note = f"The scores are of sentences that were held out. The signature of chrF is {results.chrf_signature}. "
    note += f"A chrF of {target:.1f} is what {results.baseline if own else 'the worst row'} reaches in the end; a "
    note += "training that never reaches it counts as the longest."
    if any(row.cell.bucketed for row in rows):
        note += (
            " On bucketed batches the loss is a mean over characters without padding, which is not to be compared "
        )
        note += "with the others'."
    return cells.table(
        rows,
        lambda row: {
            "trainings": str(len(row.learning)),
            "epochs": str(min(len(training.epochs) for training in row.learning)),
            "loss": f"{_median(row, 'loss'):.4f}",
            "validation loss": f"{_median(row, 'val_loss'):.4f}",
            "chrF": f"{_median(row, 'chrf'):.1f}",
            "exact translations": wording.percent(_median(row, "exact_match")),
            "character error rate": wording.percent(_median(row, "character_error_rate")),
            "right characters": wording.percent(_median(row, "val_accuracy_real")),
            f"seconds until chrF {target:.1f}": _until(row, target),
        },
        title="Scores after the last epoch, the medians over the trainings",
        note=note,
    )


def _until(row: Row, chrf: float) -> str:
    """The median of the trainings' seconds, and how many of them never arrive."""
    seconds = [training.seconds_to(chrf) for training in row.learning]
    never = sum(not isfinite(found) for found in seconds)
    text = wording.digits(median(seconds)) if isfinite(median(seconds)) else "never"
    return f"{text} ({never} of {len(seconds)} never)" if 0 < never < len(seconds) else text
