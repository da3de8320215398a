"""The programs `rosetta-diff` and `rosetta-carry`."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from rosetta_diff.helpers import (
    CannotBeginError,
    DiffError,
    as_json,
    count,
    err,
    out,
    quoted,
    reason,
    say,
)

if TYPE_CHECKING:
    from rosetta_diff.pair.mapping import MappingFile
    from rosetta_diff.read.side import Side

GUIDE = "porting/guide.md"
# The bundled records; demo/make.py of the sources makes them.
DEMO = Path(__file__).with_name("demo")
DEMO_HINTS = {
    "mistakes": "These records are bundled. `rosetta-diff --demo fixed` compares the mended port, "
    f"and {GUIDE} tells how to record a model of your own.",
    "fixed": f"These records are bundled; {GUIDE} tells how to record a model of your own.",
}
Mapping = Annotated[
    Path | None, typer.Option(help="A file that says which weights and layers belong together.")
]


def in_a_line(command: Callable[..., None]) -> Callable[..., None]:
    """Have a command end with one line on standard error,
    and the exit status, where it raises DiffError."""

    @wraps(command)
    def ended(**arguments: Any) -> None:
        try:
            command(**arguments)
        except DiffError as error:
            out.file.flush()
            say(f"{Path(sys.argv[0]).stem}: {error}", err)
            raise typer.Exit(error.exit_code) from error

    return ended


@in_a_line
def diff(
    left: Annotated[
        Path | None,
        typer.Argument(
            help="The record that is expected, a folder of rosetta_record.",
            show_default="two bundled records",
        ),
    ] = None,
    right: Annotated[
        Path | None, typer.Argument(help="The record that is compared with it.", show_default=False)
    ] = None,
    demo: Annotated[
        Literal["mistakes", "fixed"] | None,
        typer.Option(
            help="Compare bundled records: a Transformer's block in torch and its port to Paddle."
        ),
    ] = None,
    mapping: Mapping = None,
    write_mapping: Annotated[
        Path | None,
        typer.Option(help="Write what was paired, and how, into this file, and compare nothing."),
    ] = None,
    again: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another run of the left side for its noise: repeated, with other "
            "threads, in float64."
        ),
    ] = None,
    feed: Annotated[
        Path | None,
        typer.Option(
            help="Write what the left side's layers gave into this folder, for Record(feed=...) of "
            "the right side, and compare nothing."
        ),
    ] = None,
    require: Annotated[
        str,
        typer.Option(
            help="Fail where one of these stages is not compared; weights, for "
            "records of these alone."
        ),
    ] = "forward",
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Compare two records of one model, made by rosetta_record in any frameworks:
    inputs, weights, outputs, training.

    The comparison goes in stages, up to the first that breaks; then the layer, the tensor and the
    place in it are named, with likely causes, and the exit status is 1. The left side is expected.
    Without records two bundled ones are compared, of a port with two mistakes.
    """
    from rosetta_diff import report
    from rosetta_diff.diff import compare_records, parse_stages
    from rosetta_diff.pair.mapping import read_mapping
    from rosetta_diff.read.side import Side

    required = parse_stages(require.split(","))
    hint = DEMO_HINTS[demo or "mistakes"] if left is None else ""
    left, right = _find_records(left, right, demo)
    known = read_mapping(mapping) if mapping else None
    sides = Side(left), Side(right)
    if write_mapping:
        say(_draft(write_mapping, sides, known))
        return
    if feed:
        say(_feed(feed, sides, known))
        return
    comparison = compare_records(*sides, known, [Side(record) for record in again or []], required)
    if json:
        print(as_json(comparison.as_json()), flush=True)
    else:
        report.show(comparison, out)
        if hint:
            say(hint)
    if not comparison.passed:
        raise DiffError(comparison.why_failed)


def _find_records(left: Path | None, right: Path | None, demo: str | None) -> tuple[Path, Path]:
    """Folders of the left and the right record: both given,
    or both bundled. Raises CannotBeginError."""
    if left and right and demo is None:
        return left, right
    if left:
        given = (
            "--demo compares bundled records, and a record was given"
            if demo
            else "one record was given"
        )
        raise CannotBeginError(f"{given}; expected two records or none: rosetta-diff LEFT RIGHT")
    return DEMO / "torch-block", DEMO / ("mended-block" if demo == "fixed" else "paddle-block")


def _draft(path: Path, sides: "tuple[Side, Side]", known: "MappingFile | None") -> str:
    """Write a mapping of two records; what it has, in a sentence."""
    from rosetta_diff.pair.drafts import write_mapping
    from rosetta_diff.pair.pairing import pair_sides

    pairing = pair_sides(*sides, known)
    write_mapping(path, pairing)
    alone = sum(group.required for group in (*pairing.left, *pairing.right))
    return (
        f"{quoted(path)} has {count(len(pairing.pairs), 'pair')}; {alone} groups of weights have "
        "no partner"
    )


def _feed(path: Path, sides: "tuple[Side, Side]", known: "MappingFile | None") -> str:
    """Write a feed for the right side; what it has, in a sentence."""
    from rosetta_diff.feed import write_feed
    from rosetta_diff.judge.items import Stages
    from rosetta_diff.pair.pairing import pair_sides

    left, right = sides
    calls = write_feed(path, Stages(left, right, pair_sides(left, right, known).require()))
    return (
        f"{quoted(path)} has what {calls} calls of layers gave; record {right.name} with "
        f"feed={path!s}"
    )


@in_a_line
def carry(
    left: Annotated[
        Path,
        typer.Argument(help="The record whose weights are carried, a folder of rosetta_record."),
    ],
    to: Annotated[
        Literal["torch", "paddle", "keras", "flax"],
        typer.Option(help="The framework that loads them."),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The file to write, such as model.pdparams.")
    ],
    like: Annotated[
        Path | None,
        typer.Option(
            help="A record of the other framework's model, which has its names and layouts."
        ),
    ] = None,
    mapping: Mapping = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace a file of this name, such as that of the last time."
        ),
    ] = False,
) -> None:
    """Write the weights of a record as another framework's model has them, for its own loader."""
    from rosetta_diff.carry import aliases, carry_weights, write_carried
    from rosetta_diff.pair.drafts import remark_on_lines
    from rosetta_diff.pair.mapping import read_mapping
    from rosetta_diff.pair.pairing import pair_sides
    from rosetta_diff.read.side import Side

    if like is None:
        raise CannotBeginError(
            f"the {to} model's names are not known; record it with rosetta_record and name the "
            "record with --like"
        )
    sides = Side(left), Side(like)
    framework = sides[1].framework.name
    if framework != to:
        raise CannotBeginError(
            f"{like} is a record of {framework}, and --to asks for {to}; name a record of {to}"
        )
    pairing = pair_sides(*sides, read_mapping(mapping) if mapping else None)
    arrays = carry_weights(pairing)
    arrays |= {alias: arrays[name] for alias, name in aliases(sides[1]).items()}
    loaded = write_carried(out, sides[1], arrays, overwrite)
    say(f"The weights of {left} are in {quoted(out)}: {loaded}")
    known = f" --mapping {quoted(mapping)}" if mapping else ""
    drafting = f"rosetta-diff {quoted(left)} {quoted(like)}{known} --write-mapping FILE"
    for remark in remark_on_lines(pairing, ("order", "shape"), drafting):
        say(remark)


def main() -> None:
    """The program `rosetta-diff`."""
    _run(diff, "rosetta-diff")


def main_carry() -> None:
    """The program `rosetta-carry`."""
    _run(carry, "rosetta-carry")


class Program(TyperCommand):
    """The command of a program."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the arguments. Raises BadParameter without the words
        that pydantic puts before its own."""
        try:
            return super().make_context(*arguments, **options)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


def _run(command: Callable[..., None], name: str) -> None:
    """Run a command as a program. Exit status 0: done; 2:
    could not begin; 1: failed after it began."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command(cls=Program)(command)
    try:
        app(prog_name=name)
    except OSError as error:
        say(f"{name}: {error.filename or 'standard output'}: {reason(error)}", err)
        sys.exit(1)
