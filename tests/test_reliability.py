"""What the committed records of the attacks and of the soak hold, docs/reliability.md tells."""

import json
from typing import Any

from backends.process.parent import PROJECT
from tests.attack import soak
from tests.attack.__main__ import ATTACKS, row

PAGE = (PROJECT / "docs" / "reliability.md").read_text(encoding="utf-8")


def read(name: str) -> list[dict[str, Any]]:
    lines = (PROJECT / "docs" / "reliability" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_in_a_run_of_all_attacks_nothing_was_lost() -> None:
    lines = read("attacks.jsonl")
    assert {line["attack"]: line["count"] for line in lines if "error" not in line} == ATTACKS
    assert sum(line["seconds"] for line in lines) < 3600
    assert all(row(line) in PAGE for line in lines)


def test_in_an_hours_soak_nothing_grew_and_growth_would_be_seen() -> None:
    rounds = read("soak.jsonl")
    assert sum(each["seconds"] for each in rounds) >= 3600
    assert f"{len(rounds)} rounds" in PAGE
    assert not soak.grown(rounds)
    for number, each in enumerate(rounds):
        each["torch"]["bytes"] += number << 22
        each["processes"] += number == len(rounds) - 1
    assert [found.partition(":")[0] for found in soak.grown(rounds)] == [
        "torch",
        "4 processes in the first half, 5 in the second",
    ]
