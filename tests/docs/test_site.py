"""The site that `make site` writes: it works from files and no link is dead."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from backends.process.parent import PROJECT
from tests.conftest import OVERFLOW, Open

PAGES = [
    "index.html",
    "docs/using.html",
    "porting/ports/README.html",
    "docs/tutorial/sentence.html",
]


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(PROJECT / "docs" / "render_site.py"))


@pytest.fixture(scope="module")
def site(program: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("site")
    program["build"](folder)
    return folder


def test_every_guide_has_a_page_and_no_link_is_dead(
    program: dict[str, Any], site: Path, tmp_path: Path
) -> None:
    for guide in (PROJECT / "docs").rglob("*.md"):
        assert (site / guide.relative_to(PROJECT)).with_suffix(".html").is_file(), guide
    assert 'class="chart"' in (site / "docs" / "benchmark" / "demo.html").read_text("utf-8"), (
        "the report itself"
    )
    assert program["dead_links"](site) == []
    (tmp_path / "page.html").write_text(
        '<h2 id="there"></h2><a href="#there"></a><a href="#gone"></a><img src="no.svg">'
    )
    assert program["dead_links"](tmp_path) == ["page.html: #gone", "page.html: no.svg"]


def test_no_page_runs_a_foreign_script_or_loads_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        # Its buttons copy.
        script = "script" if path != site / "docs" / "tutorial" / "index.html" else "script (?!>)"
        assert not re.search(rf"<(?:{script}|link|iframe)\b", text), path
        assert not re.search(r'\bsrc="(?!data:)\w+:', text), path
        assert "Content-Security-Policy" in text


@pytest.mark.parametrize("width", [390, 1400])
def test_images_are_there_and_nothing_is_wider_than_the_window(
    opened: Open, site: Path, width: int
) -> None:
    for name in PAGES:
        page = opened(site / name, width=width)
        wide, window = page.evaluate(OVERFLOW)
        assert wide <= window, name
        assert all(page.evaluate("[...document.images].map(image => image.naturalWidth)")), name
