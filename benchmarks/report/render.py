"""A comparison as one HTML file that needs no network, and as Markdown. Both are functions of results."""

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from benchmarks.report.blocks import Chart, Line
from benchmarks.report.content import report
from benchmarks.results import Results

# Draws the charts and offers the recording. Vega's expressions are interpreted, not compiled, so that the page can
# forbid whatever is not in it.
SCRIPT = """
"use strict";
const bytes = Uint8Array.from(atob(document.getElementById("recording").textContent), (c) => c.charCodeAt(0));
const link = document.getElementById("download");
link.href = URL.createObjectURL(new Blob([bytes], { type: "application/x-ndjson" }));
link.hidden = false;
const specs = JSON.parse(document.getElementById("charts").textContent);
for (const [name, spec] of Object.entries(specs)) {
  const place = document.getElementById(`chart-${name}`);
  vegaEmbed(place, spec, { ast: true, renderer: "svg", actions: false, tooltip: { theme: "custom" } })
    .then(() => { place.dataset.drawn = "yes"; })
    .catch((error) => { console.error(`${name}: ${error}`); place.textContent = "This chart could not be drawn."; });
}
"""


def render_html(results: Results, raw: str) -> str:
    """One page with all of it: charts, the scripts that draw them, and `raw`, the recording's text, to download."""
    from markupsafe import Markup

    made = report(results)
    blocks = [block for section in made.sections for block in section.blocks]
    specs = {block.name: block.spec for block in (*made.overview, *blocks) if isinstance(block, Chart)}
    scripts = (_vega(), SCRIPT)
    return _rendered(
        "report.html",
        True,
        report=made,
        specs=Markup(_inside_script(specs)),
        recording=b64encode(raw.encode("utf-8")).decode("ascii"),
        size=f"{len(raw.encode('utf-8')) / 1e3:,.0f} kB",
        scripts=[Markup(script) for script in scripts],
        hashes=[
            f"'sha256-{b64encode(sha256(script.encode('utf-8')).digest()).decode('ascii')}'" for script in scripts
        ],
    )


def render_markdown(results: Results) -> str:
    """The same as GitHub-flavoured Markdown, with each chart's table in its place."""
    return _rendered("report.md", False, report=report(results))


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which takes a second to bundle."""
    from vl_convert import javascript_bundle

    # In braces, the bundle's names stay its own. Carriage returns would change the hash when the page is read.
    return f"{{{javascript_bundle('window.vegaEmbed = vegaEmbed;')}}}".replace("\r", "")


def _inside_script(values: Any) -> str:
    """JSON inside a script element, which ends at "</script" wherever that stands, inside strings too. What is not
    finite, which JSON has no word for, is null."""
    finite = json.loads(json.dumps(values), parse_constant=lambda name: None)
    return json.dumps(finite, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _rendered(template: str, autoescape: bool, **values: Any) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"markdown": markdown, "fenced": fenced, "marked": marked}
    text = (files("benchmarks.report") / "templates" / template).read_text(encoding="utf-8")
    return environment.from_string(text).render(**values)


def markdown(text: str) -> str:
    """Plain text for Markdown, inside a table's cell too: whatever would be markup is shown as it is."""
    return _entities(" ".join(text.split()))


def marked(line: Line) -> str:
    """A translation for Markdown; what it adds and leaves out is in HTML's elements for that, which GitHub shows."""
    tags = {"same": ("", ""), "added": ("<ins>", "</ins>"), "missing": ("<del>", "</del>")}
    return "".join(_entities(part).join(tags[kind]) for kind, part in line.parts) or "(nothing)"


def fenced(text: str) -> str:
    """Text for a block of code, whose fence nothing in it can close."""
    return text.replace("```", "` ` `")


def _entities(text: str) -> str:
    return "".join(" " if c in "\n\r" else f"&#{ord(c)};" if c in r"\`*_[]|~@#<>&" else c for c in text)
