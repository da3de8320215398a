"""Runs an attack, or every attack at length, within an hour, and records what came of each.

    python -m tests.attack NAME COUNT [SEED]
    python -m tests.attack RECORD [SEED]

An attack ends at the first outcome that must not be: something lost, a traceback, a process that hangs or is left
behind, or too much memory; what led there is left in the working folder. RECORD gets a line of JSON for each attack,
and a table is printed; the exit status is 1 if an attack found something. docs/reliability.md shows such a record.
"""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from backends.process.parent import PROJECT

HOUR = 3600.0  # seconds after which whatever is not done is given up
ATTACKS = {  # how many of each
    "damaged_files": 55_000,
    "damaged_torch": 15_000,
    "garbled_messages": 15_000,
    "visitors": 14_000,
    "command_lines": 1_000,
    "fake_workers": 300,
    "damaged_recordings": 3_000,
    "exits": 1_500,
    "kills": 200,
    "signals": 150,
    "full_disks": 60,
}


def attack(name: str, seed: int, end: float) -> dict[str, Any]:
    """Attack in a process of its own, until `end` at the latest; returns the line for the record, with an `error` if
    something was found."""
    count, begun = ATTACKS[name], time.monotonic()
    command = [sys.executable, "-m", "tests.attack", name, str(count), str(seed)]
    with TemporaryFile("w+") as printed, TemporaryFile("w+") as said:
        # A session of its own, so that the children of an attack that hangs are ended with it.
        program = subprocess.Popen(command, cwd=PROJECT, stdout=printed, stderr=said, start_new_session=True)
        ended = 0
        while not ended and time.monotonic() < end:
            time.sleep(0.1)
            ended, status, used = os.wait4(program.pid, os.WNOHANG)  # what `subprocess` does not tell: its memory
        if not ended:
            os.killpg(program.pid, signal.SIGKILL)
            _, status, used = os.wait4(program.pid, 0)
        line = {"attack": name, "count": count, "seed": seed, "seconds": round(time.monotonic() - begun)}
        line["bytes"] = 1024 * used.ru_maxrss  # the most that a process of this attack had
        printed.seek(0)
        said.seek(0)
        if not ended:
            return line | {"error": "not done within the hour"}
        if status:
            return line | {"error": " / ".join(said.read().splitlines()[-3:])}
        return line | {"outcomes": json.loads(printed.read())}


def row(line: dict[str, Any]) -> str:
    """A line of the record in Markdown: what the attack came to, whatever each input was about."""
    came_to: Counter[str] = Counter()
    for outcome, times in line.get("outcomes", {line.get("error"): 1}).items():
        came_to[outcome.partition(": ")[2] or outcome] += times
    found = "; ".join(f"{times:,} × {outcome}" for outcome, times in sorted(came_to.items()))
    name, size = line["attack"].replace("_", " "), f"{line['bytes'] >> 20:,} MiB"
    return f"| {name} | {line['count']:,} | {line['seconds'] / 60:.1f} | {size} | {found} |"


def all_attacks(record: Path, seed: int = 0) -> int:
    failed, end = 0, time.monotonic() + HOUR
    with record.open("w", encoding="utf-8") as file:
        for name in ATTACKS:
            line = attack(name, seed, end)
            failed += "error" in line
            print(row(line), flush=True)
            print(json.dumps(line), file=file, flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    if first not in ATTACKS:
        sys.exit(all_attacks(Path(first), *map(int, rest)))
    warnings.simplefilter("error")
    print(json.dumps(import_module(f"tests.attack.{first}").attack(*map(int, rest[:2]), *rest[2:]), indent=2))
