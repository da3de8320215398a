"""The locks of dependencies: whole, with hashes but for PyTorch's, for what pyproject.toml asks."""

import re
import tomllib
from itertools import chain

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from backends.process.parent import PROJECT
from requirements.lock import DEV, TORCH, pins

ABOUT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ASKED = [
    Requirement(line)
    for line in chain(ABOUT["dependencies"], *ABOUT["optional-dependencies"].values())
]


def test_all_packages_but_torch_are_locked_with_hashes() -> None:
    hashed = re.compile(r"[a-z0-9.-]+==\S+( +--hash=sha256:[0-9a-f]{64})+")
    without_comments = re.sub(r"^ *#.*\n", "", DEV.read_text(encoding="utf-8"), flags=re.MULTILINE)
    packages = without_comments.replace("\\\n", "").splitlines()
    assert [line for line in packages if not hashed.fullmatch(line)] == []
    assert len(pins(DEV)) == len(packages) > 0
    assert list(pins(TORCH)) == ["torch"]


def test_dependencies_are_locked_at_allowed_versions() -> None:
    locked = pins(DEV, TORCH)
    asked = [requirement for requirement in ASKED if requirement.name != ABOUT["name"]]
    versions = {
        requirement: locked.get(canonicalize_name(requirement.name)) for requirement in asked
    }
    wrong = {
        str(r): version
        for r, version in versions.items()
        if not (version and r.specifier.contains(version))
    }
    assert wrong == {}, "run `make lock`"
