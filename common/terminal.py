"""Tables and progress bars for people. Machines get one JSON object as the last line of output."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

NO_BREAK = dict.fromkeys(map(ord, "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"), " ")  # French has them


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the program's end, which is the same whatever was being printed when the reader went."""
        raise BrokenPipeError


out = _Console()
err = Console(stderr=True)


def warn(message: str) -> None:
    err.print(f"[yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Without the control characters by which a text from elsewhere could write over the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def print_json(content: Mapping[str, Any]) -> None:
    """The one line that a machine reads."""
    print(json.dumps(content, ensure_ascii=False), flush=True)


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], numeric: Iterable[str] = ()) -> Table:
    """A Rich table of plain values; the columns named in `numeric` are set flush right and never broken."""
    numbers = set(numeric)
    cells = [[str(value) for value in row] for row in rows]
    made = Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False)
    made.pad_edge, made.padding = False, (0, 1, 0, 0)
    for column, *values in zip(columns, *cells, strict=True):
        if column in numbers:
            width = max(len(line) for value in (column, *values) for line in value.split("\n"))
            made.add_column(column, justify="right", no_wrap=True, min_width=width)
        else:
            made.add_column(column, overflow="fold")
    for row in cells:
        made.add_row(*map(escape, row))
    return made


@contextmanager
def training_progress(title: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A progress bar on standard error; gives the function that takes a backend's events."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(escape(title), total=None)

        def on_event(event: Mapping[str, Any]) -> None:
            if "step" in event:
                loss = "" if event["loss"] != event["loss"] else f"  loss {event['loss']:.4f}"
                description = f"{escape(title)}  epoch {event['epoch']}{loss}"
                progress.update(task, description=description, completed=event["step"], total=event["steps"])
            elif "epoch_done" in event:
                progress.print(epoch_line(event["epoch_done"]), highlight=False, soft_wrap=True)
            elif "warning" in event:
                progress.console.print(f"[yellow]warning:[/] {escape(event['warning'])}", highlight=False)
            elif "translated" in event:
                description = f"{escape(title)}  translating"
                progress.update(task, description=description, completed=event["translated"], total=None)

        yield on_event


def epoch_line(epoch: Mapping[str, Any]) -> str:
    """One epoch's figures, as `train` prints them when it ends."""
    return (
        f"epoch {epoch['epoch']:3d}  {epoch['seconds']:6.2f} s  loss {epoch['loss']:.4f}  "
        f"accuracy {epoch['accuracy']:.4f}  val_loss {epoch['val_loss']:.4f}  "
        f"val_accuracy {epoch['val_accuracy']:.4f}  (real characters {epoch['val_accuracy_real']:.4f})"
    )


def backends_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """What each backend reported of itself, or what it lacks."""
    columns = ["backend", "version", "device", "threads", "import", "libraries"]
    rows = []
    for name, facts in found.items():
        if "missing" in facts:
            rows.append([name, facts["missing"], "", "", "", ""])
        else:
            seconds, libraries = f"{facts['import_seconds']:.1f} s", "\n".join(facts["libraries"])
            rows.append([name, facts["version"], facts["device"], facts["threads"], seconds, libraries])
    return table("Backends", columns, rows, numeric=["threads", "import"])


def scores_table(title: str, figures: Mapping[str, Any]) -> Table:
    """What `evaluate` found, each figure with what it means."""
    rows = [
        ("loss", f"{figures['loss']:.4f}", "mean cross-entropy over all positions, in nats"),
        (
            "accuracy",
            f"{figures['accuracy']:.1%}",
            "over all positions, padding included, as the example counts",
        ),
        ("accuracy_real", f"{figures['accuracy_real']:.1%}", "over the characters of the sentences alone"),
        (
            "accuracy_always_space",
            f"{figures['accuracy_always_space']:.1%}",
            "what answering a space always scores",
        ),
        ("exact_match", f"{figures['exact_match']:.1%}", "translations equal to one of their references"),
        ("chrf", f"{figures['chrf']:.2f}", figures["chrf_signature"]),
        (
            "character_error_rate",
            f"{figures['character_error_rate']:.3f}",
            "edits over characters, nearest reference",
        ),
        ("rows", figures["rows"], f"of validation, with {figures['sentences']} distinct sources"),
    ]
    return table(title, ["figure", "value", "meaning"], rows, numeric=["value"])


SIDE_BY_SIDE = (
    "ms: milliseconds that decoding the sentence by itself took in the backend's process, which had decoded one "
    "before to warm up. same: whether the sentence is the one that most backends give."
)


def side_by_side_table(line: Mapping[str, Any]) -> Table:
    """What the backends made of one line; see `backends.side_by_side.SideBySide.lines`."""
    columns, rows = ["backend", "sentence", "score", "ms", "same"], []
    for found in line["backends"]:
        milliseconds = "" if found["milliseconds"] is None else f"{found['milliseconds']:.1f}"
        best, *others = found.get("n_best", [{"translation": found["translation"], "score": None}])
        rows.append([found["backend"], *_scored(best), milliseconds, "yes" if found["same"] else "no"])
        rows += [["", *_scored(other), "", ""] for other in others]
    if not any(row[2] for row in rows):
        columns.remove("score")
        rows = [[*row[:2], *row[3:]] for row in rows]
    return table(printable(line["source"]), columns, rows, numeric=["score", "ms"])


def _scored(found: Mapping[str, Any]) -> list[str]:
    """Sentence and score, as a table shows them."""
    score = "" if found["score"] is None else f"{found['score']:.4f}"
    return [printable(found["translation"].translate(NO_BREAK)), score]
