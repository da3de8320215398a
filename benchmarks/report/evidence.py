"""Why the figures can be believed: parity, settings read back, kernels, and how to measure again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.parity.ladder import RUNGS
from benchmarks.report import cells
from benchmarks.report.blocks import Block, Code, Details, Table, Text
from benchmarks.results import Results, Row
from benchmarks.wording import MISSING, digits, percent, plain, quantity, scientific

MOST_KERNELS = 8


def parity(results: Results) -> list[Block]:
    """Each row's distance from the referee; nothing where no row has a certificate."""
    rows = [row for row in results.full_rows if row.certificate]
    if not rows:
        return []
    lacking = [row.label for row in results.full_rows if not row.certificate]
    blocks: list[Block] = [ladder(rows)]
    for row in rows:
        if row.quality and row.certificate and (strings := row.certificate.get("strings")):
            text = f"{row.label}: its quality was scored with another backend's decoding of its weights; of "
            text += f"{strings['compared']} sentences that it decoded itself, {strings['equal']} are the same."
            blocks.append(Text(text))
    return [*blocks, Text(f"Without a certificate: {', '.join(lacking)}.")] if lacking else blocks


def ladder(rows: Sequence[Row]) -> Table:
    """How far rows that have a certificate are from the referee."""
    found = [row.certificate or {} for row in rows]
    rungs = [rung for rung in RUNGS if any(rung in certificate["rungs"] for certificate in found)]
    lines = [
        [row.label, "passed" if c["passed"] else "BROKEN", *(_rung(c["rungs"].get(rung)) for rung in rungs)]
        for row, c in zip(rows, found, strict=True)
    ]
    grey = frozenset(place for place, c in enumerate(found) if not c["passed"])
    referees = ", ".join(dict.fromkeys(str(c.get("referee", "")) for c in found))
    note = (
        f"Referee: {referees}. Of each rung: the worst error and what is allowed of it. A row climbs until a rung "
        "breaks; rungs that it did not reach are empty."
    )
    return Table("Worst error on each rung", ("row", "", *rungs), lines, frozenset({0, 1}), grey, note)


def _rung(rung: Mapping[str, Any] | None) -> str:
    if rung is None:
        return ""
    if rung["error"] is None:
        return "differs"
    if rung["error"] == 0 and rung["passed"]:
        return "equal"
    return f"{scientific(rung['error'])} {'≤' if rung['passed'] else '>'} {scientific(rung['tolerance'])}"


def settings(results: Results) -> list[Block]:
    """What the defaults cost, threads and gates, and of each row its settings and kernels."""
    if not results.all_rows:
        return []
    found: list[Block] = []
    costs = [row for row in results.rows if row.default_cost]
    if costs:
        rows = [[row.label, cells.ratio(row.default_cost), cells.verdict(row.default_cost)] for row in costs]
        title = "As installed against the matched settings of the same backend"
        found.append(Table(title, ("row", "speed", "verdict"), rows, frozenset({0, 2})))
    else:
        found.append(Text("What the defaults cost was not measured: there is one lane only."))
    threads = cells.table(
        results.all_rows,
        ("threads, as told", "of the process", "busy while training", "data wait", "gates"),
        lambda row: [
            str(row.threads),
            *(str(row.os_threads.get(which, MISSING)) for which in ("all", "busy")),
            percent(row.data_share),
            "; ".join(map(plain, row.gates)) or "all passed",
        ],
        words={0, 5},
        title="Threads of the operating system, data, and sanity gates",
        note="As told: by the framework, of which TensorFlow tells what it was given. Data wait: to make the steps' "
        "tensors, as a share of the steps' time; keras:example has them before.",
    )
    return [*found, threads, *(_row_details(row) for row in [*results.rows, *results.reduced])]


def _row_details(row: Row) -> Details:
    blocks: list[Table | Text] = []
    if row.settings:
        rows = [[name, _value(value)] for name, value in row.settings.items()]
        blocks.append(Table("Settings, read back", ("setting", "value"), rows, frozenset({0, 1})))
    kernels = sorted(row.kernels, key=lambda kernel: -kernel["seconds"])
    if kernels:
        total = sum(kernel["seconds"] for kernel in kernels) or 1.0
        rows = [
            [
                k["name"],
                k.get("part", ""),
                f"{k['calls']:,}",
                quantity(k["seconds"]),
                percent(k["seconds"] / total),
            ]
            for k in kernels[:MOST_KERNELS]
        ]
        title = "Kernels that took longest, by the framework's own profiler in an untimed pass"
        blocks.append(Table(title, ("kernel", "part", "calls", "time", "share"), rows, frozenset({0, 1})))
    else:
        blocks.append(Text("Kernels were not measured."))
    facts = [[name, _value(value)] for name, value in row.facts.items() if name != "settings"]
    if facts:
        blocks.append(Table("What the process told of itself", ("fact", "value"), facts, frozenset({0, 1})))
    return Details(row.label, blocks)


def again(results: Results) -> list[Block]:
    """The command that measures the same, and what it was measured with."""
    versions = results.machine.get("versions", {})
    rows = [["corpus, SHA-256", results.sha256]]
    rows += [[name, str(results.machine[name])] for name in ("system", "python") if name in results.machine]
    rows += [[str(name), str(version)] for name, version in versions.items()]
    rows += [["training settings", ", ".join(f"{name} {value}" for name, value in asdict(results.settings).items())]]
    return [
        Text("Measure again with:"),
        Code(results.command),
        Text("A recording holds each single time; tables, charts and verdicts are made from it:"),
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
    return digits(value, 4) if isinstance(value, float) else str(value)
