"""The page of a run: its losses by epoch, from the history that it keeps."""

from dataclasses import asdict

from backends.commands.progress import EPOCH_COLUMNS, EPOCH_FORMATS
from benchmarks.report import charts
from benchmarks.report.render import Report, joined, markdown_table, safe
from common.errors import CannotBeginError
from common.models import MODELS
from common.run import RunDirectory
from common.text import count

TITLE = "Loss by epoch"


def report_of_run(run: RunDirectory) -> Report:
    """The chart of the loss and the validation loss, and the figures of every epoch.

    Raises CannotBeginError for a run that has no epoch yet,
    and RosettaError for one that is damaged.
    """
    history = run.history()
    if not history:
        raise CannotBeginError(f"{run.path} has no epoch yet; `rosetta train --resume` trains it")
    best, epochs = min(history, key=lambda epoch: epoch.val_loss), count(len(history), "epoch")
    name, figures = safe(run.path.resolve().name), [asdict(epoch) for epoch in history]
    headline = (
        f"{name}: the best val_loss of {epochs} is {best.val_loss:.4f}, in epoch {best.epoch}"
    )
    drawing = charts.losses(
        {name: [epoch[name] for epoch in figures] for name in ("loss", "val_loss")}, run.backend
    )
    rows = [
        [format(epoch[name], EPOCH_FORMATS.get(name, ".4f")) for name in EPOCH_COLUMNS]
        for epoch in figures
    ]
    trained = f"{MODELS[run.model_config.model].title}. Trained by {safe(run.trained_in())}."
    answer = joined(f"# {headline}", f"![{TITLE}](chart)", trained)
    page = joined(answer, "---", f"## Epochs\n\n{markdown_table(EPOCH_COLUMNS, rows)}") + "\n"
    return Report(page, answer, {}, {TITLE: drawing})
