"""Numbers as people read them."""

from math import inf, nan

import pytest

from benchmarks.report.wording import (
    MISSING,
    SPACE,
    count,
    day,
    digits,
    duration,
    interval,
    megabytes,
    percent,
    quantity,
    ratio,
    scientific,
    times,
)
from benchmarks.results.intervals import Estimate
from common.text import listed


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0123, "0.0123"),
        (6.1, "6.10"),
        (9.996, "10.0"),
        (99.96, "100"),
        (1640.4, "1,640"),
        (192_308, "192,000"),
        (-0.5, "-0.500"),
        (0, "0"),
        (nan, MISSING),
        (inf, MISSING),
        (None, MISSING),
    ],
)
def test_three_significant_figures(value: float | None, expected: str) -> None:
    assert digits(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (12.04, f"12.0{SPACE}s"),
        (1.0, f"1.00{SPACE}s"),
        (0.0615, f"61.5{SPACE}ms"),
        (2.5e-4, f"250{SPACE}µs"),
        (7e-7, f"0.700{SPACE}µs"),
        (None, MISSING),
    ],
)
def test_seconds_have_the_unit_that_suits_them(seconds: float | None, expected: str) -> None:
    assert quantity(seconds) == expected


def test_an_interval_is_in_the_unit_and_the_decimals_of_its_value() -> None:
    assert interval(Estimate(0.0615, 0.06009, 0.0629)) == f"61.5{SPACE}ms (60.1 to 62.9)"
    assert interval(Estimate(0.0615, 0.0001, 1.2)) == f"61.5{SPACE}ms (0.100 to 1,200)"
    assert interval(None) == MISSING


def test_ratios_have_two_decimals_where_these_are_enough() -> None:
    assert ratio(Estimate(1.474, 1.43, 1.519)) == "1.47× (1.43 to 1.52)"
    assert ratio(Estimate(1.0, 0.984, 1.016)) == "1.00× (0.98 to 1.02)"
    assert [times(value) for value in (8184.2, 12.34, 0.00113, None)] == ["8,180×", "12.3×", "0.0011×", MISSING]


def test_shares_bytes_errors_and_stretches_of_time() -> None:
    assert percent(0.6964) == f"69.6{SPACE}%"
    assert megabytes(466.6e6) == f"467{SPACE}MB"
    assert (scientific(2.14e-7), scientific(3.0)) == ("2.1e-7", "3.0e0")
    assert [duration(s) for s in (7.4, 270, 7200)] == [f"7{SPACE}s", f"4.5{SPACE}min", f"2.0{SPACE}h"]


def test_words() -> None:
    assert [count(number, "cycle") for number in (0, 1, 1200)] == ["0 cycles", "1 cycle", "1,200 cycles"]
    assert [listed(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert day("2025-11-25T14:03:11Z") == "25 November 2025, 14:03 UTC"
    assert day("yesterday") == "yesterday"
