"""Render the pages of the committed recordings, README's figures, which are the demo's, and the guide's table.

`make pages` measures the recordings of this folder anew and runs this. With the path of a recording as its argument,
it first removes the sentences of the corpus from that recording, so that only figures are left.
"""

import dataclasses
import sys
from pathlib import Path

from msgspec.structs import replace

from backends import title_of
from backends.process.parent import PROJECT
from backends.process.tuned import EFFECTS
from benchmarks.measure.recording import Decoded, Recording, append_line
from benchmarks.measure.statistics import Estimate, grouped
from benchmarks.report import page, race, render
from benchmarks.report.bench import LANES, BenchResults

FOLDER = PROJECT / "docs" / "benchmark"


def rendered(path: Path) -> str:
    """The page of a recording in the format of `path`, beside which the recording stands."""
    recording = Recording.read(path.with_suffix(".jsonl"))
    report = page.report_of(recording) if recording.plan.training else race.report_of(recording)
    if path.suffix == ".svg":
        return render.image(report)
    return render.html(report.page, report.charts) if path.suffix == ".html" else render.markdown(report.page)


def pages() -> list[Path]:
    """The pages of recordings under docs."""
    places = (PROJECT / "docs" / folder for folder in ("benchmark", "racing"))
    recordings = [path for place in places for path in place.glob("*.jsonl")]
    beside = (path.with_suffix(suffix) for path in recordings for suffix in (".md", ".html", ".svg"))
    return sorted(path for path in beside if path.exists())


def figures_only(path: Path) -> None:
    """Rewrite a recording, named as its corpus, without the sentences of that corpus and the path of its file."""
    recording = Recording.read(path)
    training, text = recording.plan.training, recording.head.text
    assert training
    assert text
    named = replace(
        recording.plan, training=replace(training, data=dataclasses.replace(training.data, data=path.stem))
    )
    path.unlink()
    Recording.create(path, replace(recording.head, plan=named, text=replace(text, shown=[])))
    for line in recording.lines:
        append_line(path, replace(line, translations=[]) if isinstance(line, Decoded) else line)


def parts_of_readme() -> dict[str, str]:
    """README's parts that are made of the demo's recording, by their names."""
    results = BenchResults(Recording.read(FOLDER / "demo.jsonl"))
    times = "; ".join(
        f"{title_of(name)} {' and '.join(render.quantity(rows[lane].epoch) for lane in LANES if lane in rows)}"
        for name, rows in results.backends.items()
    )
    alt = f"An epoch, as installed and tuned: {times}"
    image = f'<a href="docs/benchmark/demo.md"><img src="docs/benchmark/demo.svg" width="400" alt="{alt}"></a>'
    answer, table = answer_of("demo")
    return {"answer": f"{answer}\n\n{image}", "table": table}


def answer_of(name: str) -> tuple[str, str]:
    """The answer of a recording of this folder, with machine and date; and its table. Empty without the recording."""
    if not (path := FOLDER / f"{name}.jsonl").exists():
        return "", ""
    results = BenchResults(recording := Recording.read(path))
    paragraphs = page.report_of(recording).page.split("\n\n")
    table = next(paragraph for paragraph in paragraphs if paragraph.startswith("| row"))
    where = f"{paragraphs[1].partition(' · ')[0]}, {render.day(results.head.started).partition(',')[0]}"
    return f"{where}: **{results.headline}** {results.gain}", table


def parts_of_guide() -> dict[str, str]:
    """The guide's tables of the effects of settings and of the recordings."""
    tables = []
    measured = grouped(((effect.date, effect.machine), effect) for effect in EFFECTS)
    for (date, machine), of_machine in measured.items():
        lines = []
        for framework, effects in grouped((effect.framework, effect) for effect in of_machine).items():
            words = [(e.helps, f"{e.group} {render.ratio(Estimate(e.ratio, e.low, e.high))}") for e in effects]
            of_lane = grouped(words)
            lines.append((framework, *(", ".join(of_lane.get(helps, ["–"])) for helps in (True, False))))
        columns = ("framework", "set: a step is so many times as fast", "not set")
        tables += [f"Measured on {date}, on an {machine}:", render.table(columns, lines)]
    lines = []
    for path in sorted(FOLDER.glob("*.jsonl")):
        recording = Recording.read(path)
        command = " ".join(recording.plan.command.replace("\\\n", " ").split())
        day = render.day(recording.head.started).partition(",")[0]
        lines.append((f"[{path.stem}](benchmark/{path.stem}.md)", render.code(command), day))
    recordings = render.table(("recording", "made by", "on"), lines)
    return {"effects": render.joined(*tables), "recordings": recordings}


PARTS = {
    PROJECT / "README.md": parts_of_readme,
    PROJECT / "docs" / "benchmarking.md": parts_of_guide,
    PROJECT / "docs" / "keras_engines.md": lambda: {"engines": render.joined(*answer_of("engines"))},
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
    for path in FOLDER.glob("*.jsonl"):
        path.with_suffix(".md").touch()
        # Processes tell where this copy's Python is.
        path.write_text(path.read_text(encoding="utf-8").replace(f"{PROJECT}/", ""), encoding="utf-8")
    for path in pages():
        path.write_text(rendered(path), encoding="utf-8")
    for path in PARTS:
        path.write_text(filled(path), encoding="utf-8")
