"""Numbers, names and tables as people read them."""

from math import inf, nan

import pytest
from markdown_it import MarkdownIt

from benchmarks.measure.statistics import Estimate
from benchmarks.report import render
from benchmarks.report.render import MISSING, SPACE


def plain(texts: list[str]) -> list[str]:
    return [text.replace(SPACE, " ") for text in texts]


def test_numbers_have_three_figures_and_the_unit_that_suits_them() -> None:
    """However large or small they are, and where there are none."""
    values = (9.996, 192_308, -0.5, 0, nan, inf, None)
    assert [render.digits(value) for value in values] == [
        "10.0",
        "192,000",
        "-0.500",
        "0",
        *[MISSING] * 3,
    ]
    times = [render.quantity(seconds) for seconds in (12.04, 7e-7)]
    assert plain([*times, render.megabytes(498_300_000)]) == ["12.0 s", "0.700 µs", "498 MB"]
    ratios = [
        render.around(ratio)
        for ratio in (Estimate(12.3, 11.8, 12.8), Estimate(2.0, 0.5, 8.0), None)
    ]
    assert plain(ratios) == ["12.3× ±4.2 %", "2.00× (not known well)", MISSING]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("keras:on-jax, as installed", "keras:on-jax, as installed"),
        ("set (max_threads), then", "set (`max_threads`), then"),
        ("`a` <b>\n# c", "'a' `<b>` `#` c"),
        ("see www.e.vil @you", "see `www.e.vil` `@you`"),
    ],
)
def test_what_could_be_markup_goes_into_a_code_span(text: str, expected: str) -> None:
    assert render.safe(text) == expected


def test_a_table_keeps_its_shape_without_unmeasured_columns() -> None:
    table = render.markdown_table(
        ("row", "s", "nothing", "word"),
        [("a|b", "1.0", MISSING, "x\ny"), ("c", MISSING, "", "`|`")],
    )
    assert table.splitlines()[1] == "| :-- | --: | :-- |"
    html = MarkdownIt("js-default").render(table)
    assert html.count("<td") == 6
    assert "a|b" in html
    assert "<code>|</code>" in html
