"""`rosetta diff` without records: what a stranger sees first."""

import pytest

from backends.process.parent import PROJECT
from tests.support.program import answer, rosetta


@pytest.fixture
def shown() -> str:
    status, printed, errors = rosetta("diff")
    assert (status, errors) == (1, "rosetta: paddle-block and torch-block differ\n")
    return " ".join(printed.split())


def test_the_demo_names_both_mistakes(shown: str) -> None:
    lines = (PROJECT / "porting" / "demo" / "block_paddle.py").read_text("utf-8").splitlines()
    (line,) = (number for number, line in enumerate(lines, 1) if "x + self.out(" in line)
    for words in (
        "judged 2 are wrong",
        "likely: the attention's mask is causal on the left and none on the right",
        f"called by block_paddle.py:{line}: x = x + self.out(",
        "the activation before block.down is gelu on the left and gelu by tanh on the right",
        "`rosetta-diff --demo fixed`",
    ):
        assert words in shown


def test_the_mended_port_passes() -> None:
    assert answer("diff", "--demo", "fixed")["passed"]


def test_the_tools_readme_shows_the_demo(shown: str) -> None:
    readme = (PROJECT / "porting" / "README.md").read_text(encoding="utf-8")
    _, _, block = readme.partition("```\npaddle-block against")
    words = " ".join(block.partition("```")[0].split()).replace(
        "rosetta-diff: paddle-block", "rosetta: paddle-block"
    )
    assert f"paddle-block against {words}" == (
        f"{shown} rosetta: paddle-block and torch-block differ"
    )
