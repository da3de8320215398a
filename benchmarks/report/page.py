"""A report as one HTML file that needs no network."""

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from benchmarks.report.blocks import Chart, Report


def render(report: Report, raw: str) -> str:
    """The report as one HTML file, with its charts and the scripts that draw them.

    It also contains `raw`, the text of the recording, which a reader can download.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
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


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script. Bundling them takes a second, so the script is cached."""
    from vl_convert import javascript_bundle

    # The braces keep the bundle's names apart from those of the page's own script. A browser turns carriage returns
    # into newlines, after which the script would no longer match its hash.
    return f"{{{javascript_bundle('window.vegaEmbed = vegaEmbed;')}}}".replace("\r", "")


def _inside_script(values: Any) -> str:
    """JSON that may stand inside a script element.

    - "<" is escaped, because "</script" would end the element even inside a string.
    - NaN and infinity, which JSON cannot express, become null.
    """
    finite = json.loads(json.dumps(values), parse_constant=lambda name: None)
    return json.dumps(finite, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _text(name: str) -> str:
    """The text of a file in templates/."""
    return (files("benchmarks.report") / "templates" / name).read_text(encoding="utf-8")
