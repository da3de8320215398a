"""`rosetta-diff` and `rosetta-carry` as programs: run, answered by, refused by."""

import io
import json
import os
import sys
from typing import Any
from unittest.mock import patch

from rosetta_diff.commands import main, main_carry

PROGRAMS = {"diff": main, "carry": main_carry}


def rosetta(command: str, *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output, standard error of diff or carry. The program runs in this
    process, which has imported it already; its terminal has 80 columns."""
    printed, said = io.StringIO(), io.StringIO()
    argv = [f"rosetta-{command}", *map(str, arguments)]
    with (
        patch.multiple(sys, argv=argv, stdout=printed, stderr=said),
        patch.dict(os.environ, {"COLUMNS": "80"}),
    ):
        try:
            PROGRAMS[command]()
        except SystemExit as ended:
            status = ended.code
    return int(status or 0), printed.getvalue(), said.getvalue()


def answer(*arguments: str) -> dict[str, Any]:
    """The JSON object on the last line of output."""
    status, printed, said = rosetta(*arguments, "--json")
    assert status == 0, said
    answered: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return answered


def refusal(status: int, *arguments: str) -> str:
    """The one line on standard error of a command that must end with this status."""
    got, _, said = rosetta(*arguments)
    assert got == status, said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1, said
    return lines[0]
