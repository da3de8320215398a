"""docs/reliability.md shows what the committed record of the attacks holds, and tells of each attack."""

import json

import pytest

from tests.attack.__main__ import ATTACKS, PAGE, RECORD, with_table
from tests.attack.soak import grown


def test_the_page_has_the_table_of_a_record_in_which_nothing_was_lost() -> None:
    page = PAGE.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in RECORD.read_text(encoding="utf-8").splitlines()]
    assert not any("error" in line for line in lines)
    assert [(line["attack"], line["count"]) for line in lines] == [(name, of[1]) for name, of in ATTACKS.items()]
    assert page == with_table(page, lines)
    assert not [name for name in ATTACKS if f"**{name}**" not in page.lower()]


@pytest.mark.parametrize("kind", ["bytes", "descriptors", "threads", "processes"])
def test_a_soak_sees_what_grows(kind: str) -> None:
    looks = [{"bytes": 50 << 20, "descriptors": 5, "threads": 3, "processes": 0} for _ in range(40)]
    assert grown(looks) == []
    for number, look in enumerate(looks):
        look[kind] += number << 20
    assert [found.split()[1] for found in grown(looks)] == [kind]
