"""The rules by which every hostile input is judged.
Hypothesis searches for an input that breaks one, and shrinks it.

- An input is read, or refused by a RosettaError of one printable line.
- A case takes no longer than its limit.
- Nothing that a file holds is run.

conftest.py adds the limit of memory.
"""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import RosettaError
from tests.support.program import one_line

CASE_SECONDS = 20  # timeout of one case; the machine may be busy with other things
HARMED = "harmed"  # file that hostile code would leave in the working folder


def attack(case: Callable[[random.Random], object], count: int, least: int = 2) -> None:
    """Try `count` cases, each made of a random number generator, and print their outcomes.

    A case returns its outcome as a word, or anything else where an input was read. Raises
    AssertionError for fewer than `least` different outcomes: an attack whose every input is refused
    shows nothing.
    """
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=count,
        deadline=1000 * CASE_SECONDS,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def tried(rng: random.Random) -> None:
        try:
            outcome = case(rng)
            outcomes[outcome if isinstance(outcome, str) else "read"] += 1
        except RosettaError as error:
            one_line(error)
            outcomes["refused"] += 1
        assert not Path(HARMED).exists(), "code in a file was run"

    tried()
    print("; ".join(f"{number:,} × {outcome}" for outcome, number in sorted(outcomes.items())))
    if len(outcomes) < least:
        pytest.fail(f"every input had the same outcome: {outcomes}")
