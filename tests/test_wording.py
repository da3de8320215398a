"""Numbers as people read them."""

from math import inf, nan

import pytest

from benchmarks.intervals import Estimate
from benchmarks.wording import MISSING, SPACE, digits, interval, megabytes, percent, quantity, scientific, times


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0123, "0.0123"),
        (6.1, "6.10"),
        (9.996, "10.0"),
        (99.96, "100"),
        (1640.4, "1,640"),
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


def test_an_interval_is_in_the_unit_of_its_value() -> None:
    assert interval(Estimate(0.0615, 0.0601, 1.2)) == f"61.5{SPACE}ms (60.1 to 1,200)"
    assert interval(Estimate(1.984, 1.88, 2.12), "×") == "1.98× (1.88 to 2.12)"
    assert interval(None) == MISSING


def test_shares_ratios_bytes_and_errors() -> None:
    assert percent(0.6964) == f"69.6{SPACE}%"
    assert times(8184.2) == "8,180×"
    assert megabytes(466.6e6) == f"467{SPACE}MB"
    assert (scientific(2.14e-7), scientific(3.0)) == ("2.1e-7", "3.0e0")
