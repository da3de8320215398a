"""What this project asks of each framework, and what its best row reaches."""

from benchmarks.report.blocks import Block, Table
from benchmarks.results import Results
from benchmarks.targets import TARGETS, Reached, Target, reached

COLUMNS = ("figure", "framework", "asked", "reached", "by", "")


def blocks(results: Results) -> list[Block]:
    """Nothing where no target's figure was measured."""
    pairs = [(target, framework) for target in TARGETS for framework in target.least]
    best = [reached(target, framework, results) for target, framework in pairs]
    if not any(best):
        return []
    lines = [_line(*pair, found) for pair, found in zip(pairs, best, strict=True)]
    note = "Of each framework the best row that is ranked. Shares apart, figures are times as fast as the example's "
    note += "way. Met or missed: with the whole 95 % interval, which the time to a chrF has none of; by the median: "
    note += "with that alone; noise floors are not reckoned with. Set for two cores with AVX-512 and 10,000 pairs of "
    note += "fra-eng, whose sentences differ more in length than the phrasebook's."
    return [Table("Each framework's best row", COLUMNS, lines, frozenset({0, 1, 4, 5}), note=note)]


def _line(target: Target, framework: str, found: Reached | None) -> list[str]:
    asked = target.words(target.least[framework])
    if found is None:
        return [target.name, framework, asked, "", "no such row", ""]
    value, low, high = (target.words(end) for end in (found.figure.value, found.figure.low, found.figure.high))
    interval = f" ({low} to {high})" if low != high else ""
    return [target.name, framework, asked, f"{value}{interval}", found.label, found.word]
