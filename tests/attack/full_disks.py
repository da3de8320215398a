"""Has programs write to a small disk that is full at a random point; what was there before stays whole.

The disk is a tmpfs of a random number of pages and inodes, in a mount namespace of its own, which root may make, and
where the system allows it any user. Where it cannot be made, nothing is tried and this is an error. With room again,
what was ended goes on to the bytes of what never met a full disk.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from backends.process.parent import PROJECT
from common.files import UNFINISHED
from tests.attack.limits import folder_left_behind
from tests.attack.stories import NUMPY_TWICE, Benchmark, Conversion, Page, Story, Training, Translation, Wholes
from tests.attack.victims import Place

NAMESPACES = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"])  # as root, as another user
NONE = "no small disk can be mounted here: neither root's nor a user's mount namespace can be made"
INSIDE = "import sys; from tests.attack.full_disks import inside; inside(*sys.argv[1:])"  # the namespace
PAGE = 4096  # bytes, of which a tmpfs has a whole number
ROOM = 1 << 14  # pages that are enough for everything

# Each with its weight among all, and with the most pages and inodes that are left to it.
STORIES: dict[str, tuple[Callable[..., Story], int, int, int]] = {
    "train": (partial(Training, backend="numpy", epochs=18), 4, 90, 14),
    "train --resume": (partial(Training, backend="numpy", epochs=18, begun=12), 5, 30, 3),
    "convert to weights": (partial(Conversion, to="weights"), 2, 45, 8),
    "convert to torch": (partial(Conversion, to="torch"), 1, 40, 8),
    "report": (partial(Page, suffix=".md"), 2, 12, 2),
    "bench": (partial(Benchmark, backends=NUMPY_TWICE), 1, 5, 2),
    "bench --resume": (partial(Benchmark, backends=NUMPY_TWICE, lines=4), 2, 5, 2),
    "translate": (Translation, 2, 6, 2),
}


def attack(count: int, seed: int = 0, *names: str) -> Counter[str]:
    """Have `count` programs meet a full disk, at random from the seed, all or those of these names; returns what
    came of them. Raises AssertionError where no small disk can be mounted."""
    namespace = namespace_command()
    assert namespace, NONE
    command = [*namespace, sys.executable, "-c", INSIDE, str(count), str(seed), *names]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, "see the error above"
    return Counter(json.loads(done.stdout))


def namespace_command() -> list[str]:
    """The command that runs another one where it may mount disks; [] if there is none."""
    for command in NAMESPACES:
        try:
            script = 'mount -t tmpfs none "$0"'
            with TemporaryDirectory() as folder:
                tried = subprocess.run([*command, "sh", "-c", script, folder], capture_output=True, check=False)
        except OSError:  # there is no such program
            return []
        if tried.returncode == 0:
            return command
    return []


def inside(count: str, seed: str, *names: str) -> None:
    """Attack in the namespace, and print the outcomes as JSON."""
    outcomes: Counter[str] = Counter()
    rng, chosen = random.Random(int(seed)), list(names or STORIES)
    with TemporaryDirectory() as temporary:
        wholes = Wholes(Path(temporary, "whole"))
        for number in range(int(count)):
            (name,) = rng.choices(chosen, [STORIES[name][1] for name in chosen])
            folder = Path(temporary, str(number))
            disk = folder / "disk"
            disk.mkdir(parents=True)
            _mount(disk, f"size={ROOM * PAGE}", "-t", "tmpfs", "none")
            with folder_left_behind(folder, f"full-{number}", f"{name}, {number} of seed {seed}"):
                outcomes[f"{name}: {_met(name, folder, disk, wholes, rng)}"] += 1
            subprocess.run(["umount", "--lazy", disk], check=True)
    print(json.dumps(outcomes))


def _met(name: str, folder: Path, disk: Path, wholes: Wholes, rng: random.Random) -> str:
    """What came of a story on a disk that was full; programs have their temporary files there in some cases, too."""
    make, _, pages, inodes = STORIES[name]
    temporary_too = rng.random() < 0.3
    place = Place(folder, (disk if temporary_too else folder) / "temporary")
    story = make(disk / "made", place, wholes.of(name, make))
    found = os.statvfs(disk)
    if rng.random() < 0.2:
        _mount(disk, f"remount,nr_inodes={found.f_files - found.f_ffree + rng.randint(1, inodes)}")
    else:
        free = rng.randint(0, pages)
        _mount(disk, f"remount,size={max(1, found.f_blocks - found.f_bfree + free) * PAGE}")
    with story.start() as victim:
        status, said = victim.status(), victim.said()
    assert status in (0, 1, 2), f"status {status}: {said}"
    if status:
        assert said[-1].startswith("rosetta: "), said
        assert any(why in said[-1] for why in ("the disk is full", "No space left")), said
    looked = story.look()
    assert not [*disk.rglob(f"*{UNFINISHED}")], "something is left half done"
    _mount(disk, f"remount,size={ROOM * PAGE},nr_inodes=0")
    if status and looked != "done":
        story.go_on()
    story.check_end()
    if not temporary_too:
        place.assert_nothing_temporary()
    return looked if status else "done"


def _mount(disk: Path, options: str, *more: str) -> None:
    subprocess.run(["mount", *more, "-o", options, disk], check=True, timeout=60)
