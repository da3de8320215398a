"""The whole report of a comparison, and the summary of it that a terminal shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.measure.plan import BUCKETED
from benchmarks.report import cells, decoding, evidence, learning, resources, speed, wording
from benchmarks.report.blocks import Block, Code, Points, Report, Section, Table, Text, Warnings
from benchmarks.results.values import Results


def _warnings(results: Results) -> list[Block]:
    return [Warnings(results.warnings)] if results.warnings else []


# The sections of a report: anchor, title, and the function that makes its blocks. OPEN ones are visible at first.
Topics = Sequence[tuple[str, str, Callable[[Results], list[Block]]]]
OPEN: Topics = (
    ("speed", "Training speed", speed.answer),
    ("why", "Why", speed.why),
    ("warnings", "Before you rely on this", _warnings),
    ("sentences", "Decoded sentences", decoding.sentences),
)
FOLDED: Topics = (
    ("bucketed", f"Rows that are {BUCKETED}", speed.bucketed),
    ("reduced", "Rows that compute in less than float32", speed.reduced),
    ("decoding", "Decoding speed", decoding.speed),
    ("start", "Start-up time and memory", resources.start_and_memory),
    ("parts", "Where the time of a step goes", resources.step_parts),
    ("peak", "Share of the machine's peak", resources.peak),
    ("learning", "Learning curves", learning.blocks),
    ("parity", "Parity with the referee", evidence.parity),
    ("settings", "Settings and kernels of each row", evidence.settings),
    ("measured", "How it was measured", evidence.measured),
    ("data", "Data, and how to measure the same again", evidence.again),
)


def report(results: Results) -> Report:
    """The whole report. What was not measured has no section."""
    sections = [
        Section(name, title, blocks, folded)
        for folded, topics in ((False, OPEN), (True, FOLDED))
        for name, title, make in topics
        if (blocks := make(results))
    ]
    return Report("Rosetta benchmark", results.headline, _facts(results), sections)


def summary(results: Results) -> list[Block]:
    """What a terminal shows of the report."""
    found: list[Block] = [Text(results.headline, strong=True)]
    if results.of_group("main"):
        found.append(_rows(results))
    # The headline compares two rows already, and a matrix of more than five does not fit a terminal.
    found += [table for table in cells.matrices(results, results.pairs, "trains")[:1] if 2 < len(table.rows) < 6]
    # Only the reasons why other rows are slower than the fastest one: the page has those for all pairs.
    main = {row.label for row in results.of_group("main")}
    fastest = next((pair.left for pair in results.pairs if pair.kind == "frameworks" and pair.left in main), "")
    if reasons := [pair.why for pair in results.pairs if pair.why and pair.left == fastest]:
        found.append(Points("Why", reasons))
    if results.advice:
        found.append(Points("As installed", results.advice))
    return [*found, *_warnings(results), *decoding.summary(results)]


def _rows(results: Results) -> Table:
    """One line for each row, with its speed of training and of decoding."""
    note = "Characters are those put out while decoding: many sentences in one call (in a batch), or one sentence by "
    note += "itself (alone)."
    return cells.table(
        results.of_group("main"),
        lambda row: {
            "seconds an epoch": wording.digits(row.speed.epoch_seconds if row.speed else None),
            **cells.to_baseline(results, row),
            "characters a second in a batch": decoding.per_second(row, "batch"),
            "characters a second alone": decoding.per_second(row, "alone"),
        },
        note=note,
    )


def _facts(results: Results) -> dict[str, str]:
    data, settings = results.data, results.settings
    held_out = f"{100 * data.validation_split:.0f}{wording.SPACE}%"
    split = {"tail": "the last pairs", "grouped": "all pairs of randomly drawn sources"}.get(data.split, data.split)
    measured = f"{wording.count(results.generations, 'generation')}, {wording.count(results.cycles, 'cycle')}"
    return {
        "Model": f"LSTM encoder-decoder, {results.latent_dim} units, batches of {settings.batch_size}",
        "Corpus": f"{data.data}, up to {data.num_samples:,} pairs, {held_out} held out: {split}",
        "Machine": machine(results.machine),
        "When": wording.day(results.started),
        "Measured": f"preset {results.preset}, {measured} in {wording.duration(results.seconds)}",
    }


def machine(described: Mapping[str, object]) -> str:
    """Processor, cores and memory of a machine that common.machine.describe_machine described."""
    words = str(described.get("processor") or "unknown processor")
    words += f" ({described['instructions']})" if "instructions" in described else ""
    words += f", {described['cores']} cores" if "cores" in described else ""
    memory = described.get("memory")
    return words + (f", {memory / 2**30:.0f} GiB" if isinstance(memory, int | float) else "")


def again(command: str, machine: Mapping[str, Any]) -> Section:
    """The last section of a sweep's report: the command that measures the same again, and the versions."""
    found: list[Block] = [Text("Measure the same again with:"), Code(command)]
    if versions := [(str(name), str(version)) for name, version in machine.get("versions", {}).items()]:
        found.append(Table("Versions that were measured", ("what", "version"), versions, frozenset({0, 1})))
    return Section("data", "How to measure the same again", found)
