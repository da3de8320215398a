"""Sends every signal that ends to commands at random moments, and looks how they end and what they leave.

SIGINT, SIGTERM and SIGHUP end a command with 130, 143 and 129, with one line at most, no traceback, no worker (a
backend's process) and no temporary file. Of others the system tells, and the next program removes what was left;
Python ignores SIGPIPE and SIGXFSZ, so that a command then goes on.
"""

import os
import random
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from common.ending import ENDING
from common.run_directory import RunDirectory
from tests.attack.limits import folder_left_behind
from tests.attack.stories import BENCH, NUMPY_TWICE, SMALL
from tests.attack.victims import Place, Victim
from tests.damage import COMMITTED

# These end no program, but stop it, let it go on, or tell it of something.
GOING_ON = {
    *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT),
    *(signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH),
}
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python
OTHERS = tuple(signal.valid_signals() - {*ENDING, *GOING_ON} - set(range(signal.SIGRTMIN, signal.SIGRTMAX + 1)))
SOONEST = 0.3  # seconds until a program is sure to read rosetta.py, before which Python itself shows a traceback


@dataclass(frozen=True)
class Command:
    """A command that is attacked in a folder; {} stands for the folder in its arguments."""

    words: str
    seconds: float  # until it is done, more or less, where nothing else runs
    ends: bool = True  # by itself
    quiet: bool = True  # has at most one line on standard error; others tell there how far they have come
    module: str = "rosetta"


OPTIONS, PAGE = " ".join(SMALL), COMMITTED / "intel.jsonl"
TRAIN = f"train {OPTIONS} --epochs 20 --out {{}}/run --backend"
COMMANDS = {
    "translate": Command("translate --backend numpy", 1.5, ends=False),
    "translate in torch": Command("translate --backend torch", 3, ends=False),
    "train": Command(f"{TRAIN} numpy", 2, quiet=False),
    "train in paddle": Command(f"{TRAIN} paddle", 3, quiet=False),
    "train in keras": Command(f"{TRAIN} keras", 6, quiet=False),
    "evaluate": Command("evaluate --backend numpy --limit 20", 2.5),
    "bench": Command(
        " ".join(["2", *BENCH, *NUMPY_TWICE, "--out {}/a.jsonl"]), 5, quiet=False, module="tests.short_bench"
    ),
    "sweep": Command(f"sweep --backends numpy {OPTIONS} --out {{}}/b.jsonl", 4, ends=False, quiet=False),
    "parity": Command("parity --quick --backends numpy --latent-dim 16", 6),
    "serve": Command("serve --backends numpy,torch --port 0", 4, ends=False),
    "report": Command(f"report {PAGE} -o {{}}/page.html", 2.5),
    "compare": Command(f"compare {PAGE} {PAGE}", 2),
    "convert": Command("convert {}/old --to torch --out {}/files", 2),
    "backends": Command("backends", 6),
    "data": Command("data", 1),
}


def attack(count: int, seed: int = 0, *names: str) -> Counter[str]:
    """Send `count` signals, at random from the seed, to all commands or those of these names; returns how they
    ended."""
    outcomes: Counter[str] = Counter()
    rng = random.Random(seed)
    others = cycle(rng.sample(OTHERS, len(OTHERS)))  # so that each comes
    with TemporaryDirectory() as temporary:
        old = Place(Path(temporary, "old"))
        old.does("train", "--backend", "numpy", *SMALL, "--epochs", 2, "--out", old.folder / "old")
        for each in range(count):
            name = rng.choice(list(names or COMMANDS))
            number = rng.choice(ENDING) if rng.random() < 0.6 else next(others)
            folder = Path(temporary, str(each))
            place = Place(folder)
            shutil.copytree(old.folder / "old", folder / "old")
            told = f"{number.name} to {name}, signal {each} of seed {seed}"
            with folder_left_behind(folder, f"signalled-{each}", told):
                outcomes[f"{name}: {_sent(place, COMMANDS[name], number, rng)}"] += 1
    return outcomes


def _sent(place: Place, command: Command, number: signal.Signals, rng: random.Random) -> str:
    """Start a command and send it a signal; returns how it ended."""
    arguments = command.words.replace("{}", str(place.folder)).split()
    with place.start(*arguments, module=command.module) as victim:
        if not victim.runs_for(rng.uniform(SOONEST, 1.3 * command.seconds)):
            assert victim.status() == 0, f"it ended by itself: {victim.said()}"
            return "done before the signal"
        heard = _catches(victim, number)
        victim.process.send_signal(number)
        if number in IGNORED and (not command.ends or rng.random() < 0.5):
            assert victim.runs_for(0.5) or victim.status() == 0
            victim.process.send_signal(signal.SIGTERM)
            number, heard = signal.SIGTERM, heard and _catches(victim, signal.SIGTERM)
        status, said = victim.status(), victim.said()
    assert len(said) <= 1 or not command.quiet, said
    as_it_should = {0} if command.ends else set()  # it had done its work, and Python was about to end
    if number in ENDING:
        as_it_should |= {128 + number} | (set() if heard else {-number})
        assert os.listdir(place.temporary) == [], os.listdir(place.temporary)
    elif number not in IGNORED:
        as_it_should |= {-number}
    assert status in as_it_should, f"status {status}, expected one of {as_it_should}: {said}"
    place.assert_nothing_temporary()
    for run in ("old", "run"):
        if (place.folder / run).exists():
            RunDirectory.open(place.folder / run).read_state("best")
    if status == 0:
        return "went on to its end"
    return f"ended {'at once' if status == -number else 'in the way of Ctrl-C'} by {number.name}"


def _catches(victim: Victim, number: signal.Signals) -> bool:
    """Whether a program has a handler of its own for a signal."""
    try:
        status = Path(f"/proc/{victim.process.pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)
