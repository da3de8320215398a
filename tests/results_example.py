"""The recording that the documentation shows, the same with times that are planted, and with a stranger's words."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from backends.process.parent import PROJECT
from benchmarks.measure.recording import Recording, Round, Visit

STANDARD = PROJECT / "docs" / "benchmark" / "intel.jsonl"
# HTML, a table's line, code, a link, a mention, an address, and what writes over a terminal or turns a line round.
HOSTILE = "<img src=x onerror=alert(1)>|`**a**`[b](http://e.vil)@you #1 www.e.vil\u2028\u202e\x1b[31m\n---\n# c"
REPLACED = ("torch", "aten::mm", "flushed", "He needs 6 ties.", "Il a besoin de 6 cravates.", "cpu", "NumPy")
REPLACED += ("Intel(R) Xeon(R) Processor", "the weights of the bundled run after 55 epochs")


def standard() -> Recording:
    return Recording.read(STANDARD)


def hostile(path: Path) -> Recording:
    """The recording with a hostile text wherever a stranger could write one, saved at `path`."""
    text = STANDARD.read_text(encoding="utf-8")
    for word in REPLACED:
        text = text.replace(json.dumps(word), json.dumps(HOSTILE))
    path.write_text(text, encoding="utf-8")
    return Recording.read(path)


def slowed(recording: Recording, label: str, factor: float) -> Recording:
    """The recording in which the steps and calls of one row take `factor` times as long."""
    row = [row.label for row in recording.plan.rows].index(label)

    def slower(visit: Visit) -> Visit:
        return msgspec.structs.replace(visit, steps=[factor * seconds for seconds in visit.steps])

    return of_rounds(recording, lambda cycle: [slower(visit) if visit.row == row else visit for visit in cycle])


def of_rounds(recording: Recording, changed: Callable[[list[Visit]], list[Visit]]) -> Recording:
    """The recording with each cycle of its rounds changed."""
    lines = [
        msgspec.structs.replace(line, cycles=[changed(cycle) for cycle in line.cycles])
        if isinstance(line, Round)
        else line
        for line in recording.lines
    ]
    return replace(recording, lines=lines)
