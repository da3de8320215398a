"""The report of several recordings of one plan: the machines, each row on each of them, and where they differ."""

from dataclasses import replace

from benchmarks.measure.plan import SEPARATOR
from benchmarks.report import cells, content, wording
from benchmarks.report.blocks import Block, Code, Report, Section, Table, Text, Warnings
from benchmarks.results.joined import Joined, Part
from common.text import listed

NOT_COMPARABLE = (
    "Each row is compared with a row that the same machine measured in turns with it. Times of different machines "
    "are not to be compared: a row that takes longer on another machine need not be slower. The numbers in brackets "
    f"are 95{wording.SPACE}% intervals."
)
PAGE_ONLY = {"measured", "when", "system"}  # columns of the machines
DIFFERS = (
    "Each line has the two recordings whose ratios are furthest apart, if their intervals have no number in common. "
    "Two machines on which a ratio is the same come out so in about one comparison of a hundred."
)
TOGETHER = (
    "{names} are of machines with the same hardware: the same processor, instructions, number of cores and memory. "
    "So their rows are compared even where no machine measured both of them, through the rows that these machines "
    "have in common. That assumes that the ratio of two rows is the same on each of them."
)


def report(joined: Joined) -> Report:
    """The whole report. What was not measured has no section."""
    sections: dict[str, tuple[str, list[Block]]] = {
        "machines": ("Machines", [_machines(joined)]),
        "differences": ("Where machines differ", _differences(joined)),
        "rows": ("Each row on each machine", [_rows(joined)] if joined.rows else []),
        "together": ("Machines with the same hardware", _together(joined)),
        "warnings": ("Before you rely on this", _warnings(joined)),
        "again": ("How to measure the same again", _again(joined)),
    }
    found = [Section(name, title, blocks, folded=False) for name, (title, blocks) in sections.items() if blocks]
    return Report("Rosetta benchmark of several machines", _headline(joined), _facts(joined), found)


def summary(joined: Joined) -> list[Block]:
    """What a terminal shows of the report."""
    found: list[Block] = [Text(_headline(joined), strong=True)]
    for section in report(joined).sections:
        for block in section.blocks if section.name != "again" else []:
            found.append(_in_terminal(block, section.title) if isinstance(block, Table) else block)
    return found


def _in_terminal(table: Table, title: str) -> Table:
    """The table with its section's title if it has none, and without columns for which a terminal has no room."""
    kept = [place for place, name in enumerate(table.columns) if name not in PAGE_ONLY]
    rows = [[row[place] for place in kept] for row in table.rows]
    words = frozenset(new for new, place in enumerate(kept) if place in table.words)
    return replace(
        table, title=table.title or title, columns=[table.columns[n] for n in kept], rows=rows, words=words
    )


def _headline(joined: Joined) -> str:
    """Whether the machines agree about the ratios that more than one of them measured."""
    if joined.differences:
        said = dict.fromkeys(f"{one.high.label} is as {one.high.reference}" for one in joined.differences)
        return f"Machines differ in how many times as fast {listed(said)}."
    several = [parts for parts in joined.rows.values() if sum(part.ratio is not None for part in parts) > 1]
    if several:
        ratios = wording.count(len(several), "ratio")
        return f"{ratios} measured on several machines: none of them differs beyond its intervals."
    return "No ratio of two rows was measured on more than one machine."


def _facts(joined: Joined) -> dict[str, str]:
    plan = joined.plan
    return {
        "Model": f"LSTM encoder-decoder, {plan.latent_dim} units, batches of {plan.settings.batch_size}",
        "Corpus": f"{plan.data.data}, up to {plan.data.num_samples:,} pairs",
        "Measured": f"preset {plan.preset}, {wording.count(len(joined.places), 'recording')} of "
        f"{len(joined.rows)} of {wording.count(len(plan.rows), 'row')}",
    }


def _machines(joined: Joined) -> Table:
    """The machines, and how fast the baseline is on each."""
    first: dict[tuple[object, ...], str] = {}
    lines = []
    for place in joined.places:
        alike = first.setdefault(place.hardware, place.name)
        speed = wording.SELF if place is joined.places[0] else wording.ratio(joined.baseline_speed(place))
        measured = f"{wording.count(place.generations, 'generation')} in {wording.duration(place.seconds)}"
        lines.append(
            (
                place.name,
                content.machine(place.head.machine),
                "" if alike == place.name else alike,
                speed,
                measured,
                wording.day(place.head.started),
                place.head.machine["system"],
            )
        )
    columns = ("recording", "machine", "same hardware as", "baseline", "measured", "when", "system")
    note = ""
    if joined.baseline:
        note = (
            f"The column of the baseline says how many times as fast {joined.baseline} trains on this machine as on "
            "the first one. The two did not take turns, so what else each machine did is in the interval."
        )
    return Table("", columns, lines, frozenset(range(7)) - {3}, note=note)


def _differences(joined: Joined) -> list[Block]:
    """The ratios about which machines do not agree."""
    lines = [
        (one.high.label, one.high.reference, *_ratio_there(one.high), *_ratio_there(one.low))
        for one in joined.differences
    ]
    columns = ("row", "compared with", "is on", "times as fast", "but on", "times as fast")
    if not lines:
        return [Text("No ratio that several machines measured differs by more than its intervals.")]
    return [Table("", columns, lines, frozenset({0, 1, 2, 4}), note=DIFFERS)]


def _ratio_there(part: Part) -> tuple[str, str]:
    return part.place, wording.ratio(part.ratio)


def _rows(joined: Joined) -> Table:
    """A line for each row and each machine that measured it."""
    parts = [part for found in joined.rows.values() for part in found]
    lines = [
        (
            part.label,
            part.place,
            wording.interval(part.step),
            part.reference,
            wording.SELF if part.label == joined.baseline else wording.ratio(part.ratio) if part.ratio else "",
        )
        for part in parts
    ]
    grey = frozenset(place for place, part in enumerate(parts) if not part.compared)
    columns = ("row", "recording", "a training step", "compared with", "times as fast")
    return Table("", columns, lines, frozenset({0, 1, 3}), grey, NOT_COMPARABLE)


def _together(joined: Joined) -> list[Block]:
    """The rows of machines with the same hardware, compared with one another."""
    found: list[Block] = []
    for group in joined.together:
        names = listed(group.places)
        title = "How many times as fast each row trains as each other row"
        if group.why_not:
            said = f"{names} are of machines with the same hardware. Their rows are not compared: {group.why_not}."
            found.append(Text(said))
        elif matrix := cells.matrix(group.pairs, group.labels, title):
            found += [Text(TOGETHER.format(names=names)), matrix]
    return found


def _warnings(joined: Joined) -> list[Block]:
    """Rows that nobody measured, and the warnings of each recording."""
    found = [f"{place.name}: {warning}" for place in joined.places for warning in place.warnings]
    if joined.missing:
        found.insert(0, f"not measured on any of these machines: {SEPARATOR.join(joined.missing)}")
    return [Warnings(found)] if found else []


def _again(joined: Joined) -> list[Block]:
    return [
        Text("Measure the whole plan on one machine with this command, or a part of it by adding --rows:"),
        Code(joined.plan.command),
    ]
