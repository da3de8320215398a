"""Render the pages of the committed measurements, and the figures of README,
the guide and the page of models.

`make pages` makes the measurements of this folder anew and runs this. With the path of a
measurement
as its argument, it first removes the sentences of the corpus from it, so that only figures are
left.
"""

import dataclasses
import sys
from collections.abc import Callable
from math import log
from pathlib import Path
from statistics import median, stdev

from msgspec.structs import replace

from backends import EXAMPLE, title_of
from backends.process.parent import PROJECT
from backends.process.tuned import BUILT_IN
from benchmarks.measure.measurement import Measurement, append_line
from benchmarks.measure.statistics import Estimate, grouped
from benchmarks.report import page, race_results, render
from benchmarks.report.bench_results import PARTS as PARTS_OF_A_STEP
from benchmarks.report.bench_results import BenchResults
from benchmarks.report.repeated import RepeatedResults
from benchmarks.schema import LANES, Decoded
from common.models import MODELS

FOLDER = PROJECT / "docs" / "benchmark"
NAMES = ("demo", "fra-eng")  # of the pages of this folder


def measurements_of(name: str) -> list[Path]:
    """The measurements of a page of this folder, the oldest first:
    NAME.jsonl, or NAME-1.jsonl, NAME-2.jsonl, …."""
    return sorted(FOLDER.glob(f"{name}.jsonl")) or sorted(FOLDER.glob(f"{name}-*.jsonl"))


def rendered(path: Path) -> str:
    """The page of measurements in the format of `path`, beside which the measurements stand."""
    paths = measurements_of(path.stem) if path.parent == FOLDER else [path.with_suffix(".jsonl")]
    measurements = [Measurement.read(measurement) for measurement in paths]
    report = (
        page.report_of_bench(*measurements)
        if measurements[0].plan.training
        else race_results.report_of_race(measurements[0])
    )
    if path.suffix == ".svg":
        return render.image(report)
    return (
        render.html(report.page, report.charts)
        if path.suffix == ".html"
        else render.markdown(report.page)
    )


def pages() -> list[Path]:
    """The pages of measurements under docs."""
    benches = [FOLDER / f"{name}.jsonl" for name in NAMES]
    races = (PROJECT / "docs" / "racing").glob("*.jsonl")
    beside = (
        path.with_suffix(suffix)
        for path in (*benches, *races)
        for suffix in (".md", ".html", ".svg")
    )
    return sorted(path for path in beside if path.exists())


def figures_only(path: Path) -> None:
    """Rewrite a measurement, named as its corpus,
    without the sentences of that corpus and the path of its file."""
    measurement = Measurement.read(path)
    training, text = measurement.plan.training, measurement.head.text
    assert training
    assert text
    named = replace(
        measurement.plan,
        training=replace(training, data=dataclasses.replace(training.data, data=path.stem)),
    )
    path.unlink()
    Measurement.create(path, replace(measurement.head, plan=named, text=replace(text, shown=[])))
    for line in measurement.lines:
        append_line(path, replace(line, translations=[]) if isinstance(line, Decoded) else line)


def parts_of_readme() -> dict[str, str]:
    """README's parts that are made of the demo's measurement, by their names."""
    results = RepeatedResults([Measurement.read(path) for path in measurements_of("demo")])
    times = "; ".join(
        f"{title_of(name)} "
        f"{' and '.join(render.quantity(rows[lane].epoch) for lane in LANES if lane in rows)}"
        for name, rows in results.backends.items()
    )
    alt = f"An epoch, as installed and tuned: {times}"
    image = (
        '<a href="docs/benchmark/demo.md"><img src="docs/benchmark/demo.svg" width="400" '
        f'alt="{alt}"></a>'
    )
    paragraphs = rendered(FOLDER / "demo.md").split("\n\n")
    table = next(paragraph for paragraph in paragraphs if paragraph.startswith("| row"))
    first, last = (
        render.day(one.head.started).partition(",")[0]
        for one in (results.single[0], results.single[-1])
    )
    days = first if first == last else f"{first} to {last}"
    answer = f"{page.machine_of(results)}, {days}: **{results.headline}** {results.gain}"
    return {"answer": f"{answer}\n\n{image}", "table": table, "models": times_of_models(rounded)}


def parts_of_guide() -> dict[str, str]:
    """The guide's tables of the effects of settings and of the measurements."""
    tables = []
    dated = [
        ((table.model, effect.date), effect)
        for table in BUILT_IN.values()
        for effect in table.effects
    ]
    for (model, date), of_date in grouped(dated).items():
        lines = []
        for framework, effects in grouped((effect.framework, effect) for effect in of_date).items():
            words = [
                (e.helps, f"{e.knob} {render.ratio(Estimate(e.ratio, e.low, e.high))}")
                for e in effects
            ]
            of_lane = grouped(words)
            lines.append(
                (framework, *(", ".join(of_lane.get(helps, ["–"])) for helps in (True, False)))
            )
        columns = ("framework", "set: a step is so many times as fast", "not set")
        tables += [
            f"Measured with {model} on {date}, on an {BUILT_IN[model].processor}, "
            f"{BUILT_IN[model].cores} cores:",
            render.markdown_table(columns, lines),
        ]
    lines = []
    for name in NAMES:
        measurements = [Measurement.read(path) for path in measurements_of(name)]
        measurement = measurements[-1]
        command = " ".join(measurement.plan.command.replace("\\\n", " ").split())
        day = render.day(measurement.head.started).partition(",")[0]
        lines.append(
            (f"[{name}](benchmark/{name}.md)", str(len(measurements)), render.code(command), day)
        )
    made = render.markdown_table(("page", "measurements", "made by", "the last one on"), lines)
    return {"effects": render.joined(*tables), "measurements": made, "spread": spread()}


def spread() -> str:
    """A table of the deviations of ratios from one measurement of the demo to the next,
    and within a measurement."""
    results = RepeatedResults([Measurement.read(path) for path in measurements_of("demo")])
    lines = []
    for pair in results.pairs:
        left, right = results.by_label[pair.left], results.by_label[pair.right]
        known = [
            single.ratio(single.by_label[left.label], single.by_label[right.label])
            for single in results.single
        ]
        ratios = [estimate for estimate in known if estimate]
        between = stdev(log(estimate.value) for estimate in ratios)
        within = median(log(estimate.high / estimate.low) / 2 for estimate in ratios)
        cells = (
            f"{pair.left} over {pair.right}",
            render.ratio(pair.ratio),
            f"{min(r.value for r in ratios):.2f} to {max(r.value for r in ratios):.2f}",
            render.percent(between),
            f"±{render.percent(within)}",
        )
        lines.append(cells)
    columns = (
        "ratio",
        "mean (a further measurement)",
        "seen",
        "deviation of its logarithm",
        "interval of one measurement",
    )
    return render.markdown_table(columns, lines)


def benches_of_models() -> dict[str, BenchResults]:
    """A measurement of each model, by the model's name."""
    return {name: BenchResults(Measurement.read(FOLDER / f"{name}.jsonl")) for name in MODELS}


def rounded(estimate: Estimate | None) -> str:
    """A ratio without its interval."""
    return render.around(estimate).partition(render.SPACE)[0]


def times_of_models(write: Callable[[Estimate | None], str] = render.around) -> str:
    """A table of the frameworks' times with each model,
    as installed and tuned, as multiples of PyTorch's."""
    benches = benches_of_models()
    lines = []
    for name in (name for name in benches["lstm"].backends if name != EXAMPLE):
        cells = []
        for results in benches.values():
            pairs = [
                (results.backends["torch"][lane], results.backends[name][lane]) for lane in LANES
            ]
            ratios = [
                "1×" if row is first else write(results.ratio(first, row)) for first, row in pairs
            ]
            cells.append(" and ".join(dict.fromkeys(ratios)))
        lines.append((title_of(name), *cells))
    return render.markdown_table(("× PyTorch", *benches), lines)


def parts_of_models() -> dict[str, str]:
    """The page's table of times, its answers, and where the time of a tuned step goes."""
    benches = benches_of_models()
    answers, lines = [], []
    for model, results in benches.items():
        answers.append(f"- **{model}**: {results.headline.removeprefix(results.named)}")
        rows = {name: rows["tuned"] for name, rows in results.backends.items() if name != EXAMPLE}
        for name, row in sorted(rows.items(), key=lambda of: sum(of[1].step_parts.values())):
            times = [render.quantity(row.step_parts.get(part)) for part in PARTS_OF_A_STEP]
            lines.append(
                (
                    model,
                    title_of(name),
                    render.quantity(row.epoch),
                    render.quantity(row.step),
                    *times,
                )
            )
    last = benches["lstm"]
    day = render.day(last.head.started).partition(",")[0]
    parts = render.markdown_table(
        ("model", "framework", "an epoch", "a step", *PARTS_OF_A_STEP.values()), lines
    )
    measured = f"{page.machine_of(last)}, {day}, one measurement of each model:"
    return {
        "answers": "\n".join((measured, "", *answers)),
        "times": times_of_models(),
        "parts": parts,
    }


PARTS = {
    PROJECT / "README.md": parts_of_readme,
    PROJECT / "docs" / "benchmarking.md": parts_of_guide,
    PROJECT / "docs" / "models.md": parts_of_models,
}


def filled(path: Path) -> str:
    """The text of a file of PARTS with its parts, each between two comments with its name."""
    text = path.read_text(encoding="utf-8")
    for name, part in PARTS[path]().items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        text = text.partition(start)[0] + start + part + end + text.partition(end)[2]
    return text


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        figures_only(Path(argument))
    for name in NAMES:
        (FOLDER / f"{name}.md").touch()
    for path in FOLDER.glob("*.jsonl"):
        # Processes tell where this copy's Python is.
        path.write_text(
            path.read_text(encoding="utf-8").replace(f"{PROJECT}/", ""), encoding="utf-8"
        )
    for path in pages():
        path.write_text(rendered(path), encoding="utf-8")
    for path in PARTS:
        path.write_text(filled(path), encoding="utf-8")
