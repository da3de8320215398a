"""Run an attack, or every attack at length, and record the outcomes.

    python -m tests.fuzz.attack NAME COUNT [SEED [WHAT...]]
    python -m tests.fuzz.attack RECORD [SEED]

An attack ends at the first outcome that must not be, whose folder it leaves and names; the exit status is then 1.
WHAT are names of what to attack, as the outcomes show them. COUNT is a number of cases, for `soak` of seconds. RECORD
gets a line of JSON for each attack, which a single attack prints; the rows printed meanwhile are the table of
docs/reliability.md.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from backends.process.parent import PROJECT
from common.terminal import ENDING
from tests.fuzz.attack import limits

INPUT_SECONDS = 20.0  # of one input; the machine may be busy with other things
STORY_SECONDS = 1200.0  # of a command with all its disturbances
ATTACKS = {  # module and function, cases at length, and the seconds that one case may take
    "files": ("damaged_files.files", 5_000, INPUT_SECONDS),
    "recordings": ("damaged_files.recordings", 1_000, INPUT_SECONDS),
    "torch files": ("damaged_files.torch_files", 1_000, INPUT_SECONDS),
    "keras files": ("damaged_files.keras_files", 1_000, INPUT_SECONDS),
    "workers": ("workers.workers", 300, INPUT_SECONDS),
    "requests": ("visitors.requests", 5_000, INPUT_SECONDS),
    "slow visitors": ("visitors.slow_visitors", 60, 180.0),
    "command lines": ("command_lines.command_lines", 1_000, INPUT_SECONDS),
    "exits": ("exits.exits", 1_000, 60.0),
    "kills": ("disturbed.kills", 176, STORY_SECONDS),
    "restarts": ("disturbed.restarts", 24, STORY_SECONDS),
    "signals": ("disturbed.signals", 60, STORY_SECONDS),
    "full disks": ("disturbed.full_disks", 60, STORY_SECONDS),
    "limits": ("disturbed.limits", 30, STORY_SECONDS),
    "places": ("disturbed.places", 60, STORY_SECONDS),
    "races": ("disturbed.races", 30, STORY_SECONDS),
    "soak": ("soak.soak", 600, 1800.0),  # trainings beside all else, on a busy machine
}
NAMESPACES = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"])  # as root, as another user
WITHIN = "ROSETTA_ATTACK_MAY_MOUNT"  # variable of a process that is in a namespace already


def namespace() -> list[str]:
    """Return the words before a command that may then mount disks; [] where this system allows nobody to."""
    for words in NAMESPACES:
        try:
            tried = subprocess.run([*words, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
        except OSError:  # there is no such program
            return []
        if tried.returncode == 0:
            return words
    return []


def tried(name: str, count: int, seed: int = 0, *what: str) -> dict[str, Any]:
    """Attack in a new process; return the line for the record, with an `error` if something was found."""
    begun, command = time.monotonic(), [sys.executable, "-m", "tests.fuzz.attack", name, str(count), str(seed), *what]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    seconds = round(time.monotonic() - begun)
    return {"attack": name, "count": count, "seed": seed, "seconds": seconds, "error": done.stderr}


def attack(name: str, count: int, seed: int = 0, *what: str) -> dict[str, Any]:
    """Attack in this process; return the line for the record."""
    begun, (place, _, longest) = time.monotonic(), ATTACKS[name]
    module, _, function = place.partition(".")  # imported now, since one of them imports torch
    attacking = getattr(importlib.import_module(f"tests.fuzz.attack.{module}"), function)
    outcomes = limits.judged(attacking, count, longest, seed, what)
    seconds, date = round(time.monotonic() - begun), time.strftime("%Y-%m-%d")
    line = {"attack": name, "count": count, "seed": seed, "date": date, "seconds": seconds}
    return line | {"bytes": limits.most_memory(), "outcomes": outcomes}


def row(line: dict[str, Any]) -> str:
    """Return a line of the record as a row in Markdown, with outcomes counted over all that was attacked."""
    counts: Counter[str] = Counter()
    last_of_error = " / ".join(line.get("error", "").splitlines()[-3:])
    for outcome, times in line.get("outcomes", {last_of_error: 1}).items():
        counts[outcome.partition(": ")[2] or outcome] += times
    outcomes = "; ".join(f"{times:,} × {outcome}" for outcome, times in sorted(counts.items()))
    size = f"{line.get('bytes', 0) >> 20:,} MiB"
    tries = f"{line['count']:,} | {line.get('date', '')} | {line['seconds'] / 60:.1f}"
    return f"| {line['attack']} | {tries} | {size} | {outcomes} |"


def all_attacks(record: Path, seed: int = 0) -> int:
    """Try them all, and return the exit status."""
    status = 0
    with record.open("w", encoding="utf-8") as file:
        for name, (_, count, _) in ATTACKS.items():
            line = tried(name, count, seed)
            print(row(line), flush=True)
            print(json.dumps(line), file=file, flush=True)
            status |= "error" in line
    return status


if __name__ == "__main__":
    first, *rest = sys.argv[1:] or ["--help"]
    if first.startswith("-"):
        print(f"{__doc__}\nNAME is one of {', '.join(ATTACKS)}.")
        sys.exit()
    if first not in ATTACKS:
        sys.exit(all_attacks(Path(first), *map(int, rest)))
    if first == "full disks" and WITHIN not in os.environ:
        command = [*namespace(), "env", f"{WITHIN}=yes", sys.executable, "-m", "tests.fuzz.attack", *sys.argv[1:]]
        os.execvp(command[0], command)
    warnings.simplefilter("error")
    for number in ENDING:  # ignored by some that start this; its programs would ignore them too
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core is large
    count, *seed_and_what = rest
    print(json.dumps(attack(first, int(count), *map(int, seed_and_what[:1]), *seed_and_what[1:])))
