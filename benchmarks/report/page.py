"""A report as one HTML file that needs no network."""

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from benchmarks.report.blocks import Block, Chart, Report


def render(report: Report, raw: str) -> str:
    """One page with all of it: charts, the scripts that draw them, and `raw`, the recording's text, to download."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["kind"] = _kind
    charts = {b.name: b.spec for section in report.sections for b in section.blocks if isinstance(b, Chart)}
    scripts = (_vega(), _text("report.js"))
    recording = raw.encode("utf-8")
    return environment.from_string(_text("report.html")).render(
        report=report,
        style=Markup(_text("report.css")),
        charts=Markup(_inside_script(charts)),
        recording=b64encode(recording).decode("ascii"),
        size=f"{len(recording) / 1e3:,.0f} kB",
        scripts=[Markup(script) for script in scripts],
        hashes=[
            f"'sha256-{b64encode(sha256(script.encode('utf-8')).digest()).decode('ascii')}'" for script in scripts
        ],
    )


def _kind(block: Block) -> str:
    return type(block).__name__


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


def _text(name: str) -> str:
    return (files("benchmarks.report") / "templates" / name).read_text(encoding="utf-8")
