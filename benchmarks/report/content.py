"""A report's sections in their order, its title and its facts."""

from collections.abc import Callable, Sequence

from benchmarks.plan import BUCKETED, LANES
from benchmarks.report import apart, decoding, evidence, quality, resources, scaling, speed, start, targets
from benchmarks.report.blocks import Block, Report, Section, Text
from benchmarks.results import REDUCED, Results
from benchmarks.wording import SPACE, day, plain

SECTIONS: Sequence[tuple[str, str, Callable[[Results], list[Block]]]] = (
    ("verdicts", "Verdicts", speed.verdicts),
    ("targets", "Targets", targets.blocks),
    ("bucketed", BUCKETED.capitalize(), apart.bucketed),
    ("reduced", REDUCED, apart.reduced),
    ("start", "Cold and warm", start.blocks),
    ("decoding", "Decoding", decoding.blocks),
    ("roofline", "What the machine can do", resources.roofline),
    ("parts", "Where a step's time goes", resources.time_parts),
    ("memory", "Memory", resources.memory),
    ("scaling", "How cost grows", scaling.blocks),
    ("quality", "Quality", quality.trainings),
    ("sentences", "Decoded sentences", quality.sentences),
    ("parity", "Parity", evidence.parity),
    ("evidence", "Settings and evidence", evidence.settings),
    ("data", "Data, and how to measure again", evidence.again),
)


def report(results: Results) -> Report:
    """All that is said of a comparison."""
    names = _names(results) or "nothing"
    written = [(name, title, blocks(results)) for name, title, blocks in SECTIONS]
    # A sweep by itself measures one thing; of a benchmark with rounds it is said what it lacks.
    sections = [
        Section(name, title, blocks or [Text("Not measured in this benchmark.")])
        for name, title, blocks in written
        if blocks or results.planned_rounds
    ]
    title, headline = f"Rosetta benchmark: {names}", plain(results.headline)
    return Report(title, headline, _facts(results), len(results.warnings), speed.overview(results), sections)


def _names(results: Results) -> str:
    """The backends of the rows, or of a sweep by itself."""
    curves = results.scaling.curves if results.scaling else []
    return ", ".join(dict.fromkeys([*(row.name for row in results.all_rows), *(curve.name for curve in curves)]))


def _facts(results: Results) -> dict[str, str]:
    data, settings, machine = results.data, results.settings, results.machine
    lanes = dict.fromkeys(LANES.get(row.lane, row.lane) for row in results.rows)
    rounds = f"{results.rounds} of {results.planned_rounds} rounds" if results.planned_rounds else "a sweep alone"
    memory = f", {machine['memory'] / 2**30:.0f} GiB" if "memory" in machine else ""
    processor = machine.get("processor", "unknown")
    processor += f" ({machine['instructions']})" if "instructions" in machine else ""
    held_out = f"{100 * data.validation_split:.0f}{SPACE}%"
    split = {"tail": "the last rows", "grouped": "whole sources at random"}.get(data.split, data.split)
    return {
        "Compared": "; ".join(filter(None, (_names(results), " and ".join(lanes)))),
        "Model": f"LSTM encoder-decoder, {results.latent_dim} units, batches of {settings.batch_size}",
        "Corpus": f"{data.data}, up to {data.num_samples:,} pairs, {held_out} held out, {split}",
        "Machine": f"{processor}, {machine.get('cores', '?')} cores{memory}",
        "When": day(results.started),
        "Preset": f"{results.preset}, {rounds}",
    }
