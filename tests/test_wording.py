"""Numbers, names and tables as people read them."""

from math import inf, nan

import pytest
from markdown_it import MarkdownIt

from benchmarks.measure.statistics import Estimate
from benchmarks.report import render
from benchmarks.report.render import MISSING, SPACE


def plain(texts: list[str]) -> list[str]:
    return [text.replace(SPACE, " ") for text in texts]


def test_three_significant_figures() -> None:
    values = (0.0123, 6.1, 9.996, 1640.4, 192_308, -0.5, 0, nan, inf, None)
    expected = ["0.0123", "6.10", "10.0", "1,640", "192,000", "-0.500", "0", MISSING, MISSING, MISSING]
    assert [render.digits(value) for value in values] == expected


def test_times_shares_and_sizes_have_the_unit_that_suits_them() -> None:
    times = [render.quantity(seconds) for seconds in (12.04, 1.0, 0.0615, 2.5e-4, 7e-7)]
    assert plain(times) == ["12.0 s", "1.00 s", "61.5 ms", "250 µs", "0.700 µs"]
    assert plain([render.duration(seconds) for seconds in (7.4, 270, 7200)]) == ["7 s", "4.5 min", "2.0 h"]
    assert plain([render.percent(share) for share in (0.6964, 0.03, None)]) == ["69.6 %", "3 %", MISSING]
    assert plain([render.megabytes(466.6e6)]) == ["467 MB"]
    assert [render.count(number, "cycle") for number in (0, 1, 1200)] == ["0 cycles", "1 cycle", "1,200 cycles"]
    assert render.day("2025-11-25T14:03:11Z") == "25 November 2025, 14:03 UTC"
    assert render.day("yesterday") == "yesterday"


def test_an_interval_is_in_the_unit_and_the_decimals_of_its_value() -> None:
    estimates = [Estimate(0.0615, 0.06009, 0.0629), Estimate(0.0615, 0.0001, 1.2), Estimate(2.0, 2.0, 2.0), None]
    expected = ["61.5 ms (60.1 to 62.9)", "61.5 ms (0.100 to 1,200)", "2.00 s", MISSING]
    assert plain([render.interval(estimate) for estimate in estimates]) == expected
    assert render.ratio(Estimate(1.474, 1.43, 1.519)) == "1.47× (1.43 to 1.52)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch:compile, as installed", "torch:compile, as installed"),
        ("set (max_threads), then", "set (`max_threads`), then"),
        ("`a` <b>\n# c", "'a' `<b>` `#` c"),
        ("see www.e.vil @you", "see `www.e.vil` `@you`"),
    ],
)
def test_what_could_be_markup_goes_into_a_code_span(text: str, expected: str) -> None:
    assert render.safe(text) == expected


def test_a_table_keeps_its_shape_and_leaves_out_what_was_not_measured() -> None:
    made = render.table(("row", "s", "nothing", "word"), [("a|b", "1.0", MISSING, "x\ny"), ("c", MISSING, "", "`|`")])
    assert made.splitlines()[1] == "| :-- | --: | :-- |"
    html = MarkdownIt("js-default").render(made)
    assert html.count("<td") == 6
    assert "a|b" in html
    assert "<code>|</code>" in html
