"""How well rows learn: loss and chrF over the seconds of training, and the scores after the last epoch."""

from collections.abc import Sequence
from itertools import accumulate
from math import isfinite
from statistics import median

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Table
from benchmarks.report.drawing import Values
from benchmarks.results.values import Results, Row


def blocks(results: Results) -> list[Block]:
    """The charts and scores of trainings; no blocks where no training was scored."""
    rows = [row for row in results.rows if row.learning]
    if not rows:
        return []
    found: list[Block] = []
    # With padding masked, the loss is a mean over other positions and cannot be compared with the other rows' losses.
    if comparable := [row for row in rows if not row.cell.bucketed]:
        found.append(_chart(comparable, "loss", "Training loss over seconds of training"))
    found.append(_chart(rows, "chrf", "chrF of held-out sentences over seconds of training"))
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
    """The points of every single training, and the points of the medians over a row's trainings."""
    thin: Values = []
    thick: Values = []
    for row in rows:
        look = {"label": row.label, "backend": row.cell.backend, "bucketed": row.cell.bucketed}
        # For each epoch of a training, the seconds of training until its end, and its value.
        lines = [
            list(zip(accumulate(e.seconds for e in one.epochs), (getattr(e, field) for e in one.epochs), strict=True))
            for one in row.learning
        ]
        for training, line in zip(row.learning, lines, strict=True):
            thin += [look | {"x": x, "y": y, "seed": training.seed} for x, y in line if isfinite(y)]
        for number, points in enumerate(zip(*lines, strict=False), 1):
            x, y = (median(values) for values in zip(*points, strict=True))
            if isfinite(y):
                thick.append(look | {"x": x, "y": y, "epoch": number, "median": wording.digits(y)})
    return thin, thick


def _median(row: Row, field: str, number: int = -1) -> float:
    """The median over a row's trainings of one epoch's value; of the last epoch unless another index is given."""
    return float(median(getattr(training.epochs[number], field) for training in row.learning))


def _scores(results: Results, rows: Sequence[Row]) -> Table:
    """The scores after the last epoch, and how soon each row is as good as the baseline is in the end."""
    baseline = [row for row in rows if row.label == results.baseline]
    target = min(_median(row, "chrf") for row in baseline or rows)
    note = f"The scores are of held-out sentences. The signature of chrF is {results.chrf_signature}. "
    note += f"A chrF of {target:.1f} is what {results.baseline if baseline else 'the worst row'} reaches in the end; "
    note += "a training that never reaches it counts as longer than all others."
    if any(row.cell.bucketed for row in rows):
        note += " On bucketed batches the loss is a mean over characters without padding and cannot be compared with "
        note += "the other losses."
    return cells.table(
        rows,
        lambda row: {
            "trainings": str(len(row.learning)),
            "epochs": str(min(len(training.epochs) for training in row.learning)),
            "loss": _loss(row, "loss"),
            "validation loss": _loss(row, "val_loss"),
            "chrF": f"{_median(row, 'chrf'):.1f}",
            "exact translations": wording.percent(_median(row, "exact_match")),
            "character error rate": wording.percent(_median(row, "character_error_rate")),
            "correct characters": wording.percent(_median(row, "val_accuracy_real")),
            f"seconds until chrF {target:.1f}": _until(row, target),
        },
        title="Scores after the last epoch, medians over the trainings",
        note=note,
    )


def _loss(row: Row, field: str) -> str:
    """The median of a loss after the last epoch, which is not finite where a training has diverged."""
    loss = _median(row, field)
    return f"{loss:.4f}" if isfinite(loss) else "not finite"


def _until(row: Row, chrf: float) -> str:
    """The median of the seconds until the trainings reach this chrF, and how many of them never do."""
    seconds = [training.seconds_to(chrf) for training in row.learning]
    never = sum(not isfinite(found) for found in seconds)
    text = wording.digits(median(seconds)) if isfinite(median(seconds)) else "never"
    return f"{text} ({never} of {len(seconds)} never)" if 0 < never < len(seconds) else text
