"""What is said of a comparison: the whole report, and what a terminal shows of it."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.measure.plan import BUCKETED
from benchmarks.report import cells, decoding, evidence, learning, resources, speed, wording
from benchmarks.report.blocks import Block, Points, Report, Section, Table, Text, Warnings
from benchmarks.results.values import Results


def _warnings(results: Results) -> list[Block]:
    return [Warnings(results.warnings)] if results.warnings else []


OPEN: Sequence[tuple[str, str, Callable[[Results], list[Block]]]] = (
    ("speed", "Speed of training", speed.answer),
    ("why", "Why", speed.why),
    ("warnings", "Before you rely on this", _warnings),
    ("sentences", "Decoded sentences", decoding.sentences),
)
FOLDED: Sequence[tuple[str, str, Callable[[Results], list[Block]]]] = (
    ("bucketed", f"Rows that are {BUCKETED}", speed.bucketed),
    ("reduced", "Rows in less than float32", speed.reduced),
    ("decoding", "Speed of decoding", decoding.speed),
    ("start", "Start and memory", resources.start_and_memory),
    ("parts", "Where the time of a step goes", resources.step_parts),
    ("peak", "The machine's peak", resources.peak),
    ("learning", "Learning curves", learning.blocks),
    ("parity", "Parity with the referee", evidence.parity),
    ("settings", "Settings and kernels of each row", evidence.settings),
    ("measured", "How it was measured", evidence.measured),
    ("data", "Data, and how to measure again", evidence.again),
)


def report(results: Results) -> Report:
    """All that is said of a comparison; what was not measured has no section."""
    sections = [
        Section(name, title, blocks, folded)
        for folded, topics in ((False, OPEN), (True, FOLDED))
        for name, title, write in topics
        if (blocks := write(results))
    ]
    return Report("Rosetta benchmark", results.headline, _facts(results), sections)


def summary(results: Results) -> list[Block]:
    """The same as a terminal shows it, in short."""
    rows = results.of_group("main")
    found: list[Block] = [Text(results.headline, strong=True)]
    if rows:
        found.append(_rows(results))
    # Two rows are told by the headline, and more than five do not fit a terminal.
    found += [table for table in cells.matrices(results, results.pairs, "trains")[:1] if 2 < len(table.rows) < 6]
    # The fastest row against each other one: the page has the others too.
    first = next((pair.left for pair in results.pairs if pair.kind == "frameworks"), "")
    if reasons := [pair.why for pair in results.pairs if pair.why and pair.left == first]:
        found.append(Points("Why", reasons))
    if results.advice:
        found.append(Points("As installed", results.advice))
    return [*found, *_warnings(results), *decoding.summary(results)]


def _rows(results: Results) -> Table:
    """One line a row: training, then decoding."""
    rows = results.of_group("main")
    note = "Characters are those that are decoded: of many sentences in one call, a batch, and of one sentence alone."
    return cells.table(
        rows,
        lambda row: {
            "s an epoch": wording.digits(row.speed.epoch_seconds if row.speed else None),
            **cells.to_baseline(results, row),
            "characters a second in a batch": decoding.per_second(row, "batch"),
            "characters a second alone": decoding.per_second(row, "alone"),
        },
        note=note,
    )


def _facts(results: Results) -> dict[str, str]:
    data, settings = results.data, results.settings
    held_out = f"{100 * data.validation_split:.0f}{wording.SPACE}%"
    split = {"tail": "the last rows", "grouped": "whole sources at random"}.get(data.split, data.split)
    measured = f"{wording.count(results.generations, 'generation')}, {wording.count(results.cycles, 'cycle')}"
    return {
        "Model": f"LSTM encoder-decoder, {results.latent_dim} units, batches of {settings.batch_size}",
        "Corpus": f"{data.data}, up to {data.num_samples:,} pairs, {held_out} held out, {split}",
        "Machine": machine(results.machine),
        "When": wording.day(results.started),
        "Measured": f"preset {results.preset}, {measured} in {wording.duration(results.seconds)}",
    }


def machine(described: Mapping[str, object]) -> str:
    """What common.machine.describe_machine gives, in short."""
    words = str(described.get("processor", "processor not known"))
    words += f" ({described['instructions']})" if "instructions" in described else ""
    words += f", {described['cores']} cores" if "cores" in described else ""
    memory = described.get("memory")
    return words + (f", {memory / 2**30:.0f} GiB" if isinstance(memory, int | float) else "")
