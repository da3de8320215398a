"""A framework has one colour on every page."""

import re

from backends import TABLE, colour_of
from backends.process.parent import PROJECT
from tests.conftest import FRAMEWORKS


def test_each_framework_has_a_colour_of_its_own_which_its_variants_and_the_tutorial_have_too() -> None:
    colours = [TABLE[name].colour for name in ("numpy", *FRAMEWORKS)]
    assert len({*colours, ""}) == len(FRAMEWORKS) + 2
    assert colour_of("a stranger's") not in colours
    page = (PROJECT / "docs" / "tutorial" / "index.html").read_text("utf-8")
    for name in FRAMEWORKS:
        assert colour_of(f"{name}:any") == TABLE[name].colour
        assert {*re.findall(rf"--{name}: (#\w+)", page)} == {colour_of(name)}
