"""docs/reliability.md shows what its records hold, and these hold what it says."""

import json
from typing import Any

from backends.process.parent import PROJECT
from tests.attack import signals, soak
from tests.attack.__main__ import ATTACKS, table
from tests.attack.limits import MOST_MEMORY

PAGE = PROJECT / "docs" / "reliability.md"
FRAMEWORK = 600 << 20  # bytes that a process has of Keras, which has the most


def read(name: str) -> list[dict[str, Any]]:
    lines = (PROJECT / "docs" / "reliability" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_page_shows_a_run_of_all_attacks_in_which_nothing_was_lost() -> None:
    lines = read("attacks.jsonl")
    assert [line["attack"] for line in lines] == list(ATTACKS)
    assert not [line["error"] for line in lines if "error" in line]
    assert {line["attack"]: line["count"] for line in lines} == ATTACKS
    assert sum(line["seconds"] for line in lines) < 3600
    assert max(line["bytes"] for line in lines) < MOST_MEMORY + FRAMEWORK
    sent = next(line["outcomes"] for line in lines if line["attack"] == "signals")
    ended_by = {outcome.rpartition(" ")[2] for outcome in sent if " by " in outcome}
    assert ended_by >= {number.name for number in {*signals.ENDING, *signals.OTHERS} - {*signals.IGNORED}}
    assert table(lines) in PAGE.read_text(encoding="utf-8")


def test_the_page_shows_a_soak_of_an_hour_in_which_nothing_grew() -> None:
    rounds = read("soak.jsonl")
    assert sum(each["seconds"] for each in rounds) >= 3600
    assert not soak.grown(rounds)
    page = PAGE.read_text(encoding="utf-8")
    assert soak.table(rounds) in page
    assert f"{len(rounds)} rounds" in page


def test_a_soak_in_which_something_grew_is_not_passed() -> None:
    rounds = read("soak.jsonl")
    for number, each in enumerate(rounds):
        each["torch"]["bytes"] += number << 22
        each["keras"]["descriptors"] += number // 10
        each["processes"] += number == len(rounds) - 1
    found = soak.grown(rounds)
    assert [each.partition(":")[0] for each in found[:2]] == ["torch", "keras"]
    assert "4 processes in the first half, 5 in the second" in found[2]
