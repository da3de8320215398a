"""The site that `make site` writes: it works from files, no link is dead, and a workflow publishes it."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.process.parent import PROJECT
from tests.conftest import OVERFLOW, Open

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
PAGES = ["index.html", "docs/using.html", "docs/porting/README.html"]
STEPS_OF_SITE = ["pip install --editable .", "python docs/render_site.py"]


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(PROJECT / "docs" / "render_site.py"))


@pytest.fixture(scope="module")
def site(program: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("site")
    program["build"](folder)
    return folder


def test_every_guide_has_a_page_and_no_link_is_dead(program: dict[str, Any], site: Path, tmp_path: Path) -> None:
    for guide in (PROJECT / "docs").rglob("*.md"):
        assert (site / guide.relative_to(PROJECT)).with_suffix(".html").is_file(), guide
    assert 'class="chart"' in (site / "docs" / "benchmark" / "intel.html").read_text("utf-8"), "the report itself"
    assert program["dead_links"](site) == []
    (tmp_path / "page.html").write_text(
        '<h2 id="there"></h2><a href="#there"></a><a href="#gone"></a><img src="no.svg">'
    )
    assert program["dead_links"](tmp_path) == ["page.html: #gone", "page.html: no.svg"]


def test_no_page_runs_a_script_or_loads_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        assert not re.search(r"<(?:script|link|iframe)\b", text), path
        assert not re.search(r'\bsrc="(?!data:)\w+:', text), path
        assert "Content-Security-Policy" in text


@pytest.mark.parametrize("width", [390, 1400])
def test_images_are_there_and_nothing_is_wider_than_the_window(opened: Open, site: Path, width: int) -> None:
    for name in PAGES:
        page = opened(site / name, width=width)
        wide, window = page.evaluate(OVERFLOW)
        assert wide <= window, name
        assert all(page.evaluate("[...document.images].map(image => image.naturalWidth)")), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_little_runs_what_developers_run_and_takes_actions_of_one_version(path: Path) -> None:
    text = path.read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    asked = [job["permissions"] for job in workflow["jobs"].values() if "permissions" in job]
    assert asked == ([{"pages": "write", "id-token": "write"}] if path.stem == "site" else [])
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    actions = [step["uses"] for step in steps if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"actions/[\w-]+@(?:v\d+|[0-9a-f]{40})", action) for action in actions)
    assert "secrets." not in text
    assert [step["run"] for step in steps if "run" in step] == (STEPS_OF_SITE if path.stem == "site" else [".ci/run"])
