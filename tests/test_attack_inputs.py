"""The attacks of tests/attack for a moment each; `python -m tests.attack.NAME COUNT` does the same at length."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack import command_lines, damaged_torch, fake_workers, garbled_messages, visitors


@pytest.mark.parametrize(
    ("attack", "count"),
    [
        (damaged_torch.attack, 300),
        (garbled_messages.attack, 900),
        (fake_workers.attack, 8),
        (visitors.attack, 800),
        (command_lines.attack, 50),
    ],
    ids=["PyTorch's files", "messages", "workers", "visitors", "command lines"],
)
def test_what_is_hostile_has_an_outcome_that_may_be(
    attack: Callable[[int, int], Counter[str]], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # in which an input is left that has another one
    outcomes = attack(count, 0)
    assert outcomes.total() == count
    assert len(outcomes) > 2
