"""The locks of dependencies: whole, with hashes, for what pyproject.toml asks; and the page of their licences."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from backends.process.parent import PROJECT
from requirements.licences import PAGE
from requirements.lock import DEV, TORCH_CPU, TORCH_CUDA, pins

ABOUT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ASKED = [Requirement(line) for line in chain(ABOUT["dependencies"], *ABOUT["optional-dependencies"].values())]


@pytest.mark.parametrize("torch", [TORCH_CPU, TORCH_CUDA], ids=lambda lock: lock.stem)
def test_dependencies_are_locked_with_hashes_at_allowed_versions(torch: Path) -> None:
    hashed = re.compile(r"[a-z0-9.-]+==\S+( +--hash=sha256:[0-9a-f]{64})+")
    for lock in (DEV, torch):
        without_comments = re.sub(r"^ *#.*\n", "", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
        lines = without_comments.replace("\\\n", "").splitlines()
        packages = [line for line in lines if not line.startswith("--index-url https://")]
        assert [line for line in packages if not hashed.fullmatch(line)] == []
        assert len(pins(lock)) == len(packages) > 0
    locked = pins(DEV, torch)
    asked = [requirement for requirement in ASKED if requirement.name != ABOUT["name"]]
    versions = {requirement: locked.get(canonicalize_name(requirement.name)) for requirement in asked}
    wrong = {str(r): version for r, version in versions.items() if not (version and r.specifier.contains(version))}
    assert wrong == {}, "run `make lock`"
    assert locked["torch"] == pins(TORCH_CPU)["torch"], "both builds are of one version"


def test_the_page_of_licences_lists_the_locked_packages() -> None:
    rows = re.findall(r"^\| (\S+) \| ([0-9]\S*) \| .+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == pins(DEV, TORCH_CPU), "run `make lock`"
