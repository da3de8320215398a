"""The register of deviations: whole, with tests and evidence that exist, and the page made from it."""

import importlib.util
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from backends.process.parent import PROJECT

ENTRIES: list[dict[str, Any]] = tomllib.loads((PROJECT / "docs" / "deviations.toml").read_text(encoding="utf-8"))[
    "deviation"
]
FIELDS = {"id": str, "what": str, "effect": str, "we": str, "rung": str} | dict.fromkeys(
    ("framework", "version", "evidence", "test"), list
)
RUNGS = {"tensors", "weights", "forward", "loss", "gradients", "step", "trajectory", "counts", "strings", "none"}
entries = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])


def test_the_page_is_what_the_register_says() -> None:
    page = runpy.run_path(str(PROJECT / "docs" / "render_deviations.py"))["render"]()
    assert page == (PROJECT / "docs" / "deviations.md").read_text(encoding="utf-8")


@entries
def test_an_entry_has_every_field_and_no_other(entry: dict[str, Any]) -> None:
    assert {name: type(value) for name, value in entry.items()} == FIELDS
    assert all(value for name, value in entry.items() if name != "test")
    assert entry["test"] or entry["rung"] == "none", "nothing holds what changes numbers"
    assert all(isinstance(item, str) for name in ("framework", "version", "evidence", "test") for item in entry[name])
    assert len(entry["framework"]) == len(entry["version"])
    assert entry["rung"] in RUNGS
    assert re.fullmatch(r"[a-z0-9-]+", entry["id"])
    assert [other["id"] for other in ENTRIES].count(entry["id"]) == 1


@entries
def test_the_tests_that_hold_an_entry_exist(entry: dict[str, Any]) -> None:
    for test in entry["test"]:
        file, _, function = test.partition("::")
        assert re.search(rf"^def {function}\(", (PROJECT / file).read_text(encoding="utf-8"), re.MULTILINE), test


@entries
def test_evidence_is_an_issue_or_a_symbol_in_an_installed_file(entry: dict[str, Any]) -> None:
    for source in entry["evidence"]:
        if source.startswith("https://"):
            assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", source)
            continue
        file, _, symbol = source.partition("::")
        package, _, inside = file.partition("/")
        spec = importlib.util.find_spec(package)
        assert spec is not None, f"{package} is not installed"
        assert spec.origin is not None
        text = (Path(spec.origin).parent / inside).read_text(encoding="utf-8")
        assert re.search(rf"\b{re.escape(symbol)}\b", text), source
