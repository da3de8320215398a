"""Render the pages of the committed recordings, and README's figures, which are the demo's.

`make pages` measures the recordings of this folder anew and runs this. With the path of a recording as its argument,
it first removes the sentences of the corpus from that recording, so that only figures are left.
"""

import dataclasses
import sys
from pathlib import Path

from msgspec.structs import replace

from backends import title_of
from backends.process.parent import PROJECT
from benchmarks.measure.recording import Decoded, Recording, append_line
from benchmarks.report import page, race, render
from benchmarks.report.bench import LANES, BenchResults

FOLDER, README = PROJECT / "docs" / "benchmark", PROJECT / "README.md"
CORPUS = "fra-eng"  # the name of the corpus whose sentences are left out


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
    """Rewrite a recording without the sentences of its corpus and the path of the file that they were read from."""
    recording = Recording.read(path)
    training, text = recording.plan.training, recording.head.text
    assert training
    assert text
    named = replace(recording.plan, training=replace(training, data=dataclasses.replace(training.data, data=CORPUS)))
    path.unlink()
    Recording.create(path, replace(recording.head, plan=named, text=replace(text, shown=[])))
    for line in recording.lines:
        append_line(path, replace(line, translations=[]) if isinstance(line, Decoded) else line)


def parts_of_readme() -> dict[str, str]:
    """README's parts that are made of the demo's recording, by their names."""
    results = BenchResults(recording := Recording.read(FOLDER / "demo.jsonl"))
    report = page.report_of(recording)
    _, machine, *_ = paragraphs = report.page.split("\n\n")
    table = next(paragraph for paragraph in paragraphs if paragraph.startswith("| row"))
    times = "; ".join(
        f"{title_of(name)} {' and '.join(render.quantity(rows[lane].epoch) for lane in LANES if lane in rows)}"
        for name, rows in results.backends.items()
    )
    alt = f"Seconds that an epoch of training takes, as installed and tuned: {times}"
    image = f'<a href="docs/benchmark/demo.md"><img src="docs/benchmark/demo.svg" width="400" alt="{alt}"></a>'
    answer = f"**{results.headline}** {results.gain}"
    return {"answer": f"{answer}\n\n{machine}\n\n{image}", "table": render.joined(table, page.surprise(results))}


def readme(text: str) -> str:
    """README with these parts, each between two comments with its name."""
    for name, part in parts_of_readme().items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, after = text.split(start)[0], text.split(end)[-1]
        text = before + start + part + end + after
    return text


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        figures_only(Path(argument))
    for path in pages():
        path.write_text(rendered(path), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
