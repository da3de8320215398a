"""Why the figures can be believed: parity, settings and kernels, how it was measured, and how to do it again."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.parity.certificate import Rung
from benchmarks.report import cells, wording
from benchmarks.report.blocks import Block, Code, Details, Table, Text
from benchmarks.results.values import Results, Row

MOST_KERNELS = 8


def parity(results: Results) -> list[Block]:
    """How far each row is from the referee, rung by rung."""
    found = {row.label: row.certificate for row in results.rows if row.certificate}
    if not found:
        return []
    rungs = list(dict.fromkeys(rung for certificate in found.values() for rung in certificate.rungs))
    lines = [
        [label, "passed" if c.passed else "BROKEN", *(_rung(c.rungs.get(rung)) for rung in rungs)]
        for label, c in found.items()
    ]
    grey = frozenset(place for place, c in enumerate(found.values()) if not c.passed)
    note = (
        "Each cell has the worst error of a rung and the most that is allowed. A row climbs until a rung breaks; the "
    )
    note += "rungs after that are empty."
    referees = wording.listed(dict.fromkeys(c.referee for c in found.values()))
    title = f"Distance of each row from the referee, {referees}"
    return [Table(title, ("row", "parity", *rungs), lines, frozenset({0, 1}), grey, note)]


def _rung(rung: Rung | None) -> str:
    if rung is None:
        return ""
    if rung.error is None:
        return "differs"
    if rung.error == 0 and rung.passed:
        return "equal"
    return f"{wording.scientific(rung.error)} {'≤' if rung.passed else '>'} {wording.scientific(rung.tolerance)}"


def settings(results: Results) -> list[Block]:
    """Of each row its settings and kernels, and what its process told of itself."""
    return [_of_row(row) for row in results.rows]


def _of_row(row: Row) -> Details:
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
        title = "Kernels that took longest, by the framework's own profiler in a pass that is not timed"
        blocks.append(Table(title, columns, rows, words))
    names = ("version", "device", "threads", "os_threads", "precision", "python", "python_version", "libraries")
    lines = [(name.replace("_", " "), _value(getattr(row.facts, name))) for name in names]
    return Details(row.label, [*blocks, Table("What the process told of itself", ("fact", "value"), lines, words)])


def measured(results: Results) -> list[Block]:
    """How it was measured, and what that says of how sure the figures are."""
    within, reached = (wording.percent(share) for share in (results.within, results.reached))
    found: list[Block] = [
        Text(
            f"{wording.count(results.generations, 'generation')} of processes were measured, each with one process "
            f"for every row, all alive at once. In a cycle every row is visited once, in random order, while all "
            f"others sleep; there were {wording.count(results.cycles, 'cycle')} in all, in "
            f"{wording.duration(results.seconds)}. {wording.count(results.dropped, 'cycle')} "
            f"{'was' if results.dropped == 1 else 'were'} dropped, since other processes were at work meanwhile; on "
            f"average these used {results.others:.2f} cores. Visits waited for an idle machine for "
            f"{wording.duration(results.waited)} in all."
        ),
        Text(
            f"Intervals were asked to reach at most {within} to either side"
            + (f"; the widest of the rows that are compared reaches {reached}." if results.reached else ".")
        ),
    ]
    for pair in results.pairs:
        if pair.kind == "control":
            text = f'The same backend measured twice, as "{pair.left}" against "{pair.right}", gives '
            found.append(Text(f"{text}{wording.ratio(pair.ratio)}; an honest interval holds 1.00."))
    pairs = [
        (p.left, p.right, wording.ratio(p.ratio), wording.ratio(p.pairwise), p.word)
        for p in results.pairs
        if p.kind == "frameworks"
    ]
    if pairs:
        columns = ("row", "against", "times as fast", "by these two rows alone", "verdict")
        note = (
            "The first interval is from a fit of all rows; the second, from the two rows alone, is wider where there "
        )
        note += "are few generations."
        found.append(Table("Training, two rows at a time", columns, pairs, frozenset({0, 1, 4}), note=note))
    note = (
        "Settling is by how much the first ten of twenty timed steps are slower than the last ten. Busy threads are "
    )
    note += (
        "those that worked while the row trained. Data is the share of a step's time in which its tensors are made."
    )
    table = cells.table(
        results.rows,
        lambda row: {
            "version": row.facts.version,
            "threads, as the framework tells": str(row.facts.threads),
            "threads of the process": str(row.resources.threads),
            "busy threads": str(row.resources.busy_threads),
            "settling": wording.percent(row.speed.settling if row.speed else None),
            "data": "made before" if (share := row.resources.data_share) is None else wording.percent(share),
        },
        words=("version",),
        title="Each row while it was measured",
        note=note,
    )
    return [*found, table] if results.rows else found


def again(results: Results) -> list[Block]:
    """The command that measures the same, and what it was measured with."""
    machine = results.machine
    rows = [("SHA-256 of the corpus", results.sha256)]
    rows += [(name, str(machine[name])) for name in ("system", "python") if name in machine]
    rows += [(str(name), str(version)) for name, version in machine.get("versions", {}).items()]
    rows += [("training settings", ", ".join(f"{name} {value}" for name, value in asdict(results.settings).items()))]
    return [
        Text("Measure the same again with:"),
        Code(results.command),
        Text("The recording holds each single time; a page like this one is made from it with:"),
        Code("rosetta report recording.jsonl -o report.html"),
        Table("What it was measured with", ("what", "which"), rows, frozenset({0, 1})),
    ]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not told"}[value]
    return wording.digits(value, 4) if isinstance(value, float) else str(value)
