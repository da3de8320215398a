"""What passes before the first step is done, and who is ahead after how many."""

from benchmarks.report import cells, charts
from benchmarks.report.blocks import Block, Chart, Table
from benchmarks.results import Results, answering
from benchmarks.wording import interval, quantity


def blocks(results: Results) -> list[Block]:
    """Nothing where no start was measured."""
    spec = charts.start(results)
    if spec is None:
        return []
    rows = [row for row in results.rows if row.start]
    quickest = min(answering(rows), key=lambda row: (not row.ranked, sum(row.start.values())))
    title = f"{quickest.label} is the first to have done a step, after {quantity(sum(quickest.start.values()))}"
    table = cells.table(
        results.rows,
        ("process", "import", "build", "first step", "together", "a warm step"),
        lambda row: [
            *(quantity(row.start.get(phase)) for phase in charts.PHASES),
            quantity(sum(row.start.values()) if row.start else None),
            interval(row.step),
        ],
    )
    note = "A process with NumPy, the framework's import, the model, and the first step with all that it compiles."
    found: list[Block] = [Chart("start", title, spec, table, note)]
    lines = charts.break_even(results)
    if lines is not None:
        title = "Who starts sooner stays ahead"
        if results.overtakings:
            drawn = charts.overtakings_shown(results) or results.overtakings
            first = min(drawn, key=lambda overtaking: overtaking.steps)
            title = f"{first.slow_starter} starts later than {first.overtakes} and has caught up after "
            title += _steps(first.steps)
        crossings = [[o.slow_starter, o.overtakes, _steps(o.steps)] for o in results.overtakings]
        crossings = crossings or [["no row", "any other", "—"]]
        columns = ("starts later", "overtakes", "after the first step and")
        key = "Lines begin when the first step is done and rise by a warm step each; ranked rows of one lane, "
        key += "where the table has all. Circles: one overtakes another."
        found.append(Chart("break_even", title, lines, Table("", columns, crossings, frozenset({0, 1})), key=key))
    return found


def _steps(steps: float) -> str:
    return f"{max(1, round(steps)):,} step{'s' * (round(steps) > 1)}"
