"""A framework has one colour on every page, which is seen on light and on dark paper."""

import re

import pytest

from backends import TABLE, colour_of
from backends.process.parent import PROJECT
from tests.conftest import FRAMEWORKS

STYLES = (
    "benchmarks/report/templates/page.css",
    "docs/tutorial/templates/page.html",
    "backends/serve/static/page.css",
)
LEAST_CONTRAST = 3.0  # of what is no text, by the Web Content Accessibility Guidelines 2.1, 1.4.11


def channels(colour: str) -> tuple[float, float, float]:
    """Red, green and blue from 0 to 1."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    red, green, blue = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
    return red, green, blue


def luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_each_framework_has_a_colour_of_its_own_and_its_variants_have_it_too() -> None:
    colours = [TABLE[name].colour for name in ("numpy", *FRAMEWORKS)]
    assert len({*colours, ""}) == len(FRAMEWORKS) + 2
    assert {colour_of(f"{name}:any") for name in FRAMEWORKS} == {TABLE[name].colour for name in FRAMEWORKS}
    assert colour_of("a stranger's") not in colours


@pytest.mark.parametrize("style", STYLES)
def test_each_colour_is_seen_on_the_paper_of_a_page_by_day_and_by_night(style: str) -> None:
    papers = re.findall(r"--paper: (#[0-9a-f]+)", (PROJECT / style).read_text("utf-8"))
    assert len(papers) >= 2
    for name in (*TABLE, "a stranger's"):
        for paper in papers:
            assert contrast(colour_of(name), paper) >= LEAST_CONTRAST, (name, paper)


def test_the_tutorial_has_the_colours_of_the_reports() -> None:
    page = (PROJECT / "docs" / "tutorial" / "index.html").read_text("utf-8")
    for name in FRAMEWORKS:
        assert {*re.findall(rf"--{name}: (#\w+)", page)} == {colour_of(name)}
