"""SECURITY.md: its limits are those of the source.
Tests of what its other sentences speak of hold those."""

import re

import pytest
from rosetta_diff.read.description import LONGEST_NAME, MOST_LAYERS

from backends.native.checks import LARGEST_FILE, LARGEST_PICKLE
from backends.process import START_SECONDS, TIMEOUT
from backends.process.parent import PROJECT
from backends.serve.server import LONGEST_QUESTION, _Visit
from benchmarks.measure.measurement import MOST_BYTES
from benchmarks.measure.race import MOST_SCRIPTS
from benchmarks.measure.scripts import MOST_OF_A_MESSAGE, MOST_PIECES
from benchmarks.schema import MOST_ROWS
from common.files import LARGEST_ARCHIVE, LARGEST_JSON, MOST_MEMBERS
from common.run import LARGEST_TEXTS
from common.settings import LARGEST_TEXT, LARGEST_VOCABULARY, MOST_PAIRS, MOST_UNITS
from common.tensors import MOST_IDS, MOST_ONE_HOT
from common.text import LONGEST_LINE, LONGEST_SENTENCE
from common.weights import LARGEST_METADATA

TEXT = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
KIB, MIB, GIB = 10, 20, 30  # powers of two
LIMITS = {
    "common/files.py": [
        f"{LARGEST_ARCHIVE >> MIB} MiB, {MOST_MEMBERS:,} members",
        f"{LARGEST_JSON >> MIB} MiB",
    ],
    "common/settings.py": [
        f"{LARGEST_TEXT >> MIB} MiB",
        *(f"{n:,}" for n in (MOST_PAIRS, LARGEST_VOCABULARY, MOST_UNITS)),
    ],
    "common/text.py": [f"{LONGEST_LINE >> KIB} KiB", f"{LONGEST_SENTENCE:,} characters"],
    "common/run.py": [f"{LARGEST_TEXTS['pairs.tsv'] >> MIB} MiB"],
    "common/tensors.py": [f"{MOST_IDS:,}", f"{MOST_ONE_HOT:,}"],
    "common/weights.py": [f"and {LARGEST_METADATA >> MIB} MiB"],
    "backends/native/checks.py": [
        f"{LARGEST_FILE >> GIB} GiB",
        f"{LARGEST_FILE >> GIB} GiB, {LARGEST_PICKLE >> MIB} MiB",
    ],
    "backends/process/__init__.py": [
        f"{START_SECONDS:.0f} s while it starts; then {TIMEOUT:.0f} s"
    ],
    "porting/rosetta_diff/read/description.py": [
        f"{LONGEST_NAME:,} characters each, {MOST_LAYERS:,} layers"
    ],
    "benchmarks/measure/measurement.py": [f"{MOST_BYTES >> MIB} MiB"],
    "benchmarks/measure/plan.py": [f"{MOST_ROWS} rows"],
    "benchmarks/measure/race.py": [
        f"{MOST_SCRIPTS} scripts, each waited for as long as the budget"
    ],
    "benchmarks/measure/scripts.py": [f"{MOST_OF_A_MESSAGE >> MIB} MiB, {MOST_PIECES:,}"],
}


@pytest.mark.parametrize("file", LIMITS)
def test_each_limit_is_that_of_the_source(file: str) -> None:
    stated = re.findall(rf"^\| [^|]+ \| ([^|]+) \| `{re.escape(file)}` \|$", TEXT, re.MULTILINE)
    assert len(stated) == len(LIMITS[file])
    for limit, expected in zip(stated, LIMITS[file], strict=True):
        assert expected in limit


def test_the_pages_limits_are_those_of_the_source() -> None:
    page = TEXT.partition("\n## The page\n")[2].partition("\n## ")[0]
    assert f"sentences of {LONGEST_QUESTION} characters" in page
    assert f"on which nothing comes for {_Visit.timeout:.0f} s" in page
