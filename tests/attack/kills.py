"""Kills programs at random moments; nothing is lost, and what goes on ends as what was never killed.

SIGKILL comes to the program alone, to its worker (a backend's process) alone, or to both, several times in a row in
one story. The attack ends at the first outcome that must not be: a run that does not open, other bytes than those of
a run that was never killed, a line that is lost or twice, a process that outlives its program, a temporary file that
stays.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.attack.limits import folder_left_behind
from tests.attack.stories import NUMPY_TWICE, Benchmark, Conversion, Page, Story, Training, Wholes
from tests.attack.victims import Place, Victim

SOONEST = 0.3  # seconds after which a kill comes: before, the program is not even imported
MOST_KILLS = 6  # of one story

# Each with its weight among all: those that take long are rarer.
STORIES: dict[str, tuple[Callable[..., Story], int]] = {
    **{f"train in {name}": (partial(Training, backend=name), 1) for name in ("torch", "paddle", "keras")},
    "train in numpy": (partial(Training, backend="numpy"), 12),
    "bench of numpy": (partial(Benchmark, backends=NUMPY_TWICE), 3),
    "bench of numpy and torch": (partial(Benchmark, backends=["--backends", "numpy,torch"]), 1),
    "report as a page": (partial(Page, suffix=".html"), 2),
    "report as Markdown": (partial(Page, suffix=".md"), 2),
    **{f"convert to {to}": (partial(Conversion, to=to), 2) for to in ("weights", "torch")},
}


def attack(count: int, seed: int = 0, *names: str) -> Counter[str]:
    """Kill `count` times in all, at random from the seed, in stories of all or of these names; returns what came of
    each kill, and how many stories went on to their end."""
    outcomes: Counter[str] = Counter()
    rng, chosen = random.Random(seed), list(names or STORIES)
    left, number = count, 0
    with TemporaryDirectory() as temporary:
        wholes = Wholes(Path(temporary, "whole"))
        while left:
            number += 1
            (name,) = rng.choices(chosen, [STORIES[name][1] for name in chosen])
            folder = Path(temporary, str(number))
            with folder_left_behind(folder, f"killed-{number}", f"story {number} of seed {seed}: {name}"):
                whole = wholes.of(name, STORIES[name][0])
                story = STORIES[name][0](folder / "made", Place(folder), whole)
                for _ in range(rng.randint(1, min(left, MOST_KILLS))):
                    whom = _killed(story.start(), rng.uniform(SOONEST, max(0.8 * whole.seconds, 2 * SOONEST)), rng)
                    found = story.look()
                    if not whom:
                        break
                    outcomes[f"kill of {name}'s {whom}: {found}"] += 1
                    left -= 1
                    if found == "done":  # killed after its last epoch, with nothing left to go on with
                        break
                if story.look() != "done":
                    story.go_on()
                story.check_end()
                story.place.assert_nothing_temporary()
            outcomes[f"{name}: went on to the end, and nothing was lost"] += 1
    return outcomes


def _killed(victim: Victim, seconds: float, rng: random.Random) -> str:
    """Kill a program after so many seconds. Returns whom the kill came to; "" if the program ended before."""
    whom = ""
    with victim:
        if victim.runs_for(seconds):
            workers = victim.workers()
            whom = rng.choice(["program", "worker", "program and worker"]) if workers else "program"
            if "worker" in whom:
                with suppress(psutil.NoSuchProcess):
                    workers[0].kill()
            if "program" in whom:
                victim.process.kill()
        status, said = victim.status(), victim.said()
    if status == 0:  # it had done all that it was to do
        return ""
    if status == 1 and "worker" in whom:  # of both, the worker's death may be told before the program's own
        assert "'s process was ended by signal 9" in said[-1], said
        assert "bench" not in victim.command or "go on with: rosetta bench " in said[-1], said
    else:
        assert "program" in whom, f"it ended by itself with {status}: {said}"
        assert status == -9, f"status {status}: {said}"
    return whom
