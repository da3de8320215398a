"""What supports the figures: parity, settings and kernels, how they were measured, and how to measure them again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.parity.certificate import Rung
from benchmarks.report import cells, wording
from benchmarks.report.blocks import Block, Code, Details, Table, Text
from benchmarks.results.values import Results, Row
from common.text import listed

MOST_KERNELS = 8  # kernels that a row's table lists at most


def parity(results: Results) -> list[Block]:
    """How far each row is from the referee on each rung of the parity ladder."""
    certificates = {row.label: row.certificate for row in results.rows if row.certificate}
    if not certificates:
        return []
    rungs = list(dict.fromkeys(rung for certificate in certificates.values() for rung in certificate.rungs))
    lines = [
        [label, "passed" if c.passed else "BROKEN", *(_rung(c.rungs.get(rung)) for rung in rungs)]
        for label, c in certificates.items()
    ]
    grey = frozenset(place for place, c in enumerate(certificates.values()) if not c.passed)
    note = (
        "Each cell has the largest error on that rung of the ladder and the tolerance. A row stops at the first rung "
        "that breaks, and the cells of the rungs above it are empty."
    )
    referees = listed(dict.fromkeys(c.referee for c in certificates.values()))
    title = f"Distance of each row from the referee, {referees}"
    return [Table(title, ("row", "parity", *rungs), lines, frozenset({0, 1}), grey, note)]


def _rung(rung: Rung | None) -> str:
    """The cell of a rung: its error and tolerance; empty where the row did not reach it."""
    if rung is None:
        return ""
    if rung.error is None:
        return "differs"
    if rung.error == 0 and rung.passed:
        return "equal"
    return f"{wording.scientific(rung.error)} {'≤' if rung.passed else '>'} {wording.scientific(rung.tolerance)}"


def settings(results: Results) -> list[Block]:
    """For each row its settings and kernels, and what its process reported about itself."""
    return [_settings_of(row) for row in results.rows]


def _settings_of(row: Row) -> Details:
    blocks: list[Table | Text] = []
    words = frozenset({0, 1})
    if row.facts.settings:
        lines = [(name, _value(value)) for name, value in row.facts.settings.items()]
        blocks.append(Table("Settings, read back from the framework", ("setting", "value"), lines, words))
    if kernels := row.resources.kernels:
        total = sum(kernel.seconds for kernel in kernels) or 1.0
        longest = sorted(kernels, key=lambda kernel: -kernel.seconds)[:MOST_KERNELS]
        rows = [
            (
                k.name,
                wording.PARTS[k.part],
                f"{k.calls:,}",
                wording.quantity(k.seconds),
                wording.percent(k.seconds / total),
            )
            for k in longest
        ]
        columns = ("kernel", "part of a step", "calls", "time", "share")
        title = "The kernels that took longest, from the framework's own profiler in steps that are not timed"
        blocks.append(Table(title, columns, rows, words))
    names = ("version", "device", "threads", "os_threads", "precision", "python", "python_version", "libraries")
    lines = [(name.replace("_", " "), _value(getattr(row.facts, name))) for name in names]
    title = "What the process reported about itself"
    return Details(row.label, [*blocks, Table(title, ("fact", "value"), lines, words)])


def measured(results: Results) -> list[Block]:
    """How the figures were measured, and how sure they are."""
    found: list[Block] = [Text(_turns(results)), Text(_precision(results))]
    for pair in results.pairs:
        if pair.kind == "control":
            text = f"The same backend was measured twice. How many times as fast {pair.left} is as {pair.right}: "
            text += f"{wording.ratio(pair.ratio)}. Without a bias the interval contains 1.00."
            found.append(Text(text))
    pairs = [
        (p.left, p.right, wording.ratio(p.ratio), wording.ratio(p.pairwise), p.word)
        for p in results.pairs
        if p.kind == "frameworks"
    ]
    if pairs:
        columns = ("row", "compared with", "times as fast", "from these two rows alone", "verdict")
        note = (
            "The first interval is from a fit of all rows. The second one is from the two rows alone, and is wider "
            "where there are few generations."
        )
        found.append(Table("Training, two rows at a time", columns, pairs, frozenset({0, 1, 4}), note=note))
    return [*found, _while_measured(results.rows)] if results.rows else found


def _turns(results: Results) -> str:
    """How rows were measured in turns, and how much was measured."""
    return (
        f"{wording.count(results.generations, 'generation')} of processes were measured. A generation has one "
        f"process for every row, and all of them are alive at the same time. In a cycle every row is visited once, "
        f"in random order, while all others sleep. There were {wording.count(results.cycles, 'cycle')}, which took "
        f"{wording.duration(results.seconds)}. {wording.count(results.dropped, 'cycle')} "
        f"{'was' if results.dropped == 1 else 'were'} dropped because other processes were at work meanwhile; on "
        f"average over all visits, other processes used {results.others:.2f} cores. Visits waited for an idle "
        f"machine for {wording.duration(results.waited)} in total."
    )


def _precision(results: Results) -> str:
    """How narrow the intervals should be, and how narrow they are."""
    asked = f"Intervals should reach at most {wording.percent(results.within)} to either side"
    if not results.reached:
        return f"{asked}."
    return f"{asked}; the widest one between rows that are compared reaches {wording.percent(results.reached)}."


def _while_measured(rows: Sequence[Row]) -> Table:
    """Version and threads of each row, how much slower its first steps are, and the share of making its tensors."""
    return cells.table(
        rows,
        lambda row: {
            "version": row.facts.version,
            "threads, according to the framework": str(row.facts.threads),
            "threads of the process": str(row.resources.threads),
            "busy threads": str(row.resources.busy_threads),
            "slower at first": wording.percent(row.speed.settling if row.speed else None),
            "making tensors": "before the steps"
            if (share := row.resources.data_share) is None
            else wording.percent(share),
        },
        words=("version",),
        title="Each row while it was measured",
        note="Busy threads are the threads that worked while the row trained. Slower at first says how much "
        "slower the first ten of twenty timed steps are than the last ten. Making tensors is given as a share of a "
        "step's time.",
    )


def again(results: Results) -> list[Block]:
    """The command that measures the same again, and the data, versions and settings of this measurement."""
    machine = results.machine
    rows = [("SHA-256 of the corpus", results.sha256)]
    rows += [(name, str(machine[name])) for name in ("system", "python") if name in machine]
    rows += [(str(name), str(version)) for name, version in machine.get("versions", {}).items()]
    rows += [("training settings", ", ".join(f"{name} {value}" for name, value in asdict(results.settings).items()))]
    return [
        Text("Measure the same again with:"),
        Code(results.command),
        Text("The recording holds every single time. A page like this one is made from it with:"),
        Code("rosetta report recording.jsonl -o report.html"),
        Table("What was used for this measurement", ("what", "value"), rows, frozenset({0, 1})),
    ]


def _value(value: Any) -> str:
    """A setting or fact as text."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    return wording.digits(value, 4) if isinstance(value, float) else str(value)
