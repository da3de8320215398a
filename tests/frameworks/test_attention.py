"""The model with attention in every framework, against NumPy's in float64."""

import pytest

from backends import TABLE
from benchmarks.parity.cases import Answers
from benchmarks.parity.comparison import Comparison
from tests.conftest import CasesOf

UNITS = 32


@pytest.mark.parametrize("padding", ["mask", "space"])
@pytest.mark.parametrize("name", [name for name, entry in TABLE.items() if "attention" in entry.models])
def test_every_stage_of_parity_passes(name: str, padding: str, cases_of: CasesOf) -> None:
    cases = cases_of(UNITS, padding, model="attention")
    with cases.start(name, "float64") as process:
        checks = list(Comparison(cases, Answers(process, "float64", cases.by_stage)).run())
    assert [check for check in checks if not check.passed] == []
    assert checks[-1].stage == "strings"
