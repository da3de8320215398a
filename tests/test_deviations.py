"""The register of deviations: whole, with tests and evidence that exist."""

import importlib.util
import re
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from benchmarks.compare.comparer import RUNGS

TABLE, *SECTIONS = (PROJECT / "docs" / "deviations.md").read_text(encoding="utf-8").split("\n## ")
FIELDS = ["Effect", "What Rosetta does", "Rung", "Test", "Evidence", "Versions"]
FIELD = re.compile(r"^- \*\*(.+?)\*\*:(.*(?:\n  .+)*)", re.MULTILINE)  # its lines after the first are indented
ENTRIES = {
    section.partition("\n")[0]: {name: " ".join(text.split()) for name, text in FIELD.findall(section)}
    for section in SECTIONS
}


def test_the_table_names_every_entry_with_its_frameworks_and_rung() -> None:
    rows = re.findall(r"^\| \[(.+)\]\(#(.+)\) \| (.+) \| (.+) \|$", TABLE, re.MULTILINE)
    of_versions = [re.findall(r"(\w+) [^,]+", fields["Versions"]) for fields in ENTRIES.values()]
    expected = [(n, n, ", ".join(of), ENTRIES[n]["Rung"]) for n, of in zip(ENTRIES, of_versions, strict=True)]
    assert rows == expected
    assert len(ENTRIES) == len(SECTIONS), "each name is another"


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_whole_and_its_tests_and_its_evidence_exist(name: str) -> None:
    """Evidence is an issue, or a symbol in an installed file."""
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert list(ENTRIES[name]) == FIELDS
    assert all(ENTRIES[name].values())
    assert ENTRIES[name]["Rung"] in (*RUNGS, "none")
    tests = re.findall(r"\[`(\S+)::(\w+)`\]\(\.\./(\S+)\)", ENTRIES[name]["Test"])
    assert tests or ENTRIES[name]["Rung"] == "none", "nothing holds what changes numbers"
    for file, function, linked in tests:
        assert re.search(rf"^def {function}\(", (PROJECT / file).read_text(encoding="utf-8"), re.MULTILINE), function
        assert linked == file
    sources = re.findall(r"`(\S+)`|\[\S+\]\((\S+)\)", ENTRIES[name]["Evidence"])
    assert sources
    for inside, issue in sources:
        if issue:
            assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", issue)
            continue
        file, _, symbol = inside.partition("::")
        package, _, path = file.partition("/")
        spec = importlib.util.find_spec(package)
        assert spec is not None, f"{package} is not installed"
        assert spec.origin is not None
        text = (Path(spec.origin).parent / path).read_text(encoding="utf-8")
        assert re.search(rf"\b{re.escape(symbol)}\b", text), inside
