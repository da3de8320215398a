"""Disturbs stories: by kills, signals, full disks, limits of the system, odd places, and the same story beside them.

Each attack has a function that disturbs one story and returns the outcome; the rest is shared.
"""

import os
import random
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import cycle
from pathlib import Path

import psutil

from common.files import UNFINISHED
from common.terminal import ENDING
from tests.fuzz.attack import stories
from tests.fuzz.attack.programs import LONGEST, Program
from tests.fuzz.attack.stories import STORIES, Told
from tests.support import small_run
from tests.support.program import workers

SOONEST = 0.3  # seconds before the first disturbance: before, Python itself starts, and shows a traceback
MOST_KILLS = 6  # of one story
OF_A_KILL = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV]
OTHERS = [signal.SIGKILL, signal.SIGQUIT, signal.SIGSEGV, signal.SIGUSR1, signal.SIGXCPU]
PAGE = 4096  # bytes; a disk in memory has a whole number of pages
ROOM = 1 << 14  # pages that are enough for everything
MOST_PAGES, MOST_FILES = 90, 14  # left on a disk that is to be full
# Words that limit a program, by what they limit.
LIMITS: dict[str, Callable[[random.Random], list[str]]] = {
    "memory": lambda rng: ["prlimit", f"--as={rng.randrange(300, 1000) << 20}"],
    "the size of files": lambda rng: ["prlimit", f"--fsize={rng.randrange(100_000)}"],
    "open files": lambda rng: ["prlimit", f"--nofile={rng.randrange(12, 40)}"],
    "ASCII": lambda rng: ["env", "PYTHONIOENCODING=ascii"],
    "no locale": lambda rng: ["env", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0"],
}
# Root may write everywhere, unless this is taken from it.
BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
# Names of outputs, and what is done in an output's place before.
NAMES: dict[str, Callable[[random.Random], str]] = {
    "a long name": lambda rng: "n" * rng.randint(200, 245),
    "a name that is too long": lambda rng: "n" * rng.randint(256, 5000),
    "a name that writes over a terminal": lambda rng: "a\x1b[2J\u202e\n",
    "a name that is no text": lambda rng: os.fsdecode(b"\xff\xe9"),
}
PLACES: dict[str, Callable[[Path], object]] = {
    "an unwritable folder": lambda out: out.parent.chmod(0o555),
    "a link to nothing": lambda out: out.symlink_to("nothing"),
    "a link to itself": lambda out: out.symlink_to(out),
    "a pipe": os.mkfifo,
    "a folder": lambda out: (out / "of somebody").mkdir(parents=True),
    "a file": lambda out: out.write_text("of somebody"),
}

Disturb = Callable[[Told, random.Random], str]


def disturbing(
    disturb: Disturb, turns: Iterable[str], rng: random.Random, folder: Path, names: Sequence[str]
) -> Iterator[str]:
    """Disturb stories in turn, those of these names where some are given, each beside a run of two epochs."""
    run = folder / "run"
    small_run.write(small_run.create(run), [2.0, 1.0])

    @cache
    def whole(name: str) -> Told:
        told = Told(STORIES[name], folder / f"whole {name}", run)
        if told.story.out != stories.NOTHING:
            told.go_on()
        return told

    for number, name in enumerate(cycle(names or turns)):
        told = Told(STORIES[name], folder / str(number), run, whole(name))
        yield f"{name}: {disturb(told, rng)}"
        shutil.rmtree(told.folder)


def _still_runs(program: Program, told: Told, rng: random.Random, share: float = 0.8) -> bool:
    """Wait until a story is to be disturbed. True if its program still runs then."""
    return program.runs_for(rng.uniform(SOONEST, max(share * told.whole.seconds, 2 * SOONEST)))


def killed(told: Told, rng: random.Random) -> str:
    """Send SIGKILL to the program, a signal of some kind to a backend's process, or both, some times."""
    times = 0
    for _ in range(rng.randint(1, MOST_KILLS)):
        number, whom = rng.choice(OF_A_KILL), ""
        with told.start() as program:
            if _still_runs(program, told, rng):
                living = workers(program.process)
                whom = rng.choice(["program", "worker", "program and worker"]) if living else "program"
                if "worker" in whom:
                    with suppress(psutil.NoSuchProcess):
                        rng.choice(living).send_signal(number)
                if "program" in whom:
                    program.process.kill()
            status = program.ended(-signal.SIGKILL)
            assert status == 0 or (status == 1 and "worker" in whom) or (status < 0 and "program" in whom), status
            assert status != 1 or f"was ended by signal {number:d}" in program.lines()[-1], program.lines()
        times += status != 0
        if told.look() == "all of it" or status == 0:
            break
    told.check_end()
    return f"killed {times} times, and went on to the same end"


def signalled(told: Told, rng: random.Random) -> str:
    """SIGINT and SIGTERM end a command with 130 and 143, with one line at most; the others at once."""
    number = rng.choice(ENDING) if rng.random() < 0.7 else rng.choice(OTHERS)
    with told.start() as program:
        if not _still_runs(program, told, rng, share=1.3):
            assert program.ended() == 0
            return "done before the signal"
        caught = _catches(program, number)
        program.process.send_signal(number)
        status = program.ended(128 + number if number in ENDING else -number, *([] if caught else [-number]))
        assert status not in (1, 2), program.lines()  # but 0, where its work was done when the signal came
        assert len(program.lines()) <= 1 or not told.story.quiet, program.lines()
    if number in ENDING:
        assert os.listdir(told.temporary) == [], os.listdir(told.temporary)
    told.look()
    return f"ended by {number.name}, with {status}" if status else "done"


def _catches(program: Program, number: int) -> bool:
    """True if the program has a handler of its own for the signal."""
    with suppress(OSError):
        status = Path(f"/proc/{program.process.pid}/status").read_text(encoding="ascii")
        return bool(int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16) >> (number - 1) & 1)
    return False


def met_a_full_disk(told: Told, rng: random.Random) -> str:
    """Put the output, or temporary files, on a disk of a few pages or files. This needs a namespace."""
    with _disk(folder := told.out.parent if rng.random() < 0.7 else told.temporary) as remount:
        told.set_out()
        if rng.random() < 0.4:  # a part of it is made before
            with told.start() as program:
                _still_runs(program, told, rng)
            if told.look() == "all of it":
                return "done before the disk was full"
        disk = os.statvfs(folder)
        if rng.random() < 0.2:
            remount(f"nr_inodes={disk.f_files - disk.f_ffree + rng.randint(1, MOST_FILES)}")
        else:
            pages = int(10 ** rng.uniform(0, 2)) * MOST_PAGES // 100
            remount(f"size={max(1, disk.f_blocks - disk.f_bfree + pages) * PAGE}")
        before = {*folder.rglob(f"*{UNFINISHED}")}
        with told.start() as program:
            status = program.ended()
            words = ("the disk is full", "No space left", "no room")
            assert not status or any(why in program.lines()[-1] for why in words), program.lines()
        outcome = told.look()
        assert {*folder.rglob(f"*{UNFINISHED}")} <= before, "something is left half done"
        remount(f"size={ROOM * PAGE},nr_inodes=0")
        told.check_end()
    return f"status {status}, with {outcome}"


@contextmanager
def _disk(folder: Path) -> Iterator[Callable[[str], object]]:
    """Mount a disk in memory at this folder; yields a function that changes the mount's options."""

    def mount(options: str, *more: str) -> None:
        subprocess.run(["mount", *more, "-o", options, str(folder)], check=True, timeout=60)

    mount(f"size={ROOM * PAGE}", "-t", "tmpfs", "none")
    try:
        yield lambda options: mount(f"remount,{options}")
    except BaseException:
        shutil.copytree(folder, f"{folder}-left", symlinks=True)  # the disk ends with the namespace
        raise
    subprocess.run(["umount", "--lazy", folder], check=True, timeout=60)


def limited(told: Told, rng: random.Random) -> str:
    """Give the program little memory, short files, few descriptors or another encoding."""
    name = rng.choice([*LIMITS])
    with told.start(LIMITS[name](rng)) as program:
        status = program.ended()
    outcome = told.look()
    told.check_end()
    return f"{name}, status {status}, with {outcome}"


def placed(told: Told, rng: random.Random) -> str:
    """Give the output an odd name, or put something in its place before."""
    kind, folder = rng.choice([*NAMES, *PLACES]), told.out.parent
    if kind in NAMES:
        told.out = told.out.with_name(NAMES[kind](rng) + told.out.suffix)
    else:
        PLACES[kind](told.out)
    before = _everything(folder)
    with told.start(BOUND if os.geteuid() == 0 else []) as program:
        status = program.ended()
    folder.chmod(0o755)
    after = _everything(folder)
    assert before.items() <= after.items(), f"{kind}: what was there is lost"
    if status == 0:
        assert told.look() == "all of it"
        return f"{kind}, done"
    assert status == 2, f"{kind}: it began to work for what it cannot write"
    assert after == before, f"{kind}: something is left"
    assert told.out.name[:20] in program.lines()[-1] or str(folder) in program.lines()[-1], program.lines()
    return f"{kind}, refused"


def _everything(folder: Path) -> dict[str, object]:
    """Return each file's bytes, each link's target, and the kind of all else in a folder."""

    def what(path: Path) -> object:
        if path.is_symlink():
            return os.readlink(path)
        return path.read_bytes() if path.is_file() else stat.S_IFMT(path.stat().st_mode)

    return {str(path): what(path) for path in folder.rglob("*")}


def raced(told: Told, rng: random.Random) -> str:
    """Type the same command twice; one at least is done, the other is done too or refused."""
    with told.start() as first:
        first.runs_for(rng.uniform(0, told.whole.seconds))
        told.look()
        with told.start() as second:
            for program in (first, second):  # both have ended before leftovers of one are looked for
                program.runs_for(LONGEST)
            statuses = first.ended(), second.ended()
    assert 0 in statuses, (first.lines(), second.lines())
    told.check_end()
    return f"ended with {' and '.join(map(str, sorted(statuses)))}"


# Stories with frameworks take long, and are rarer.
kills = partial(disturbing, killed, [*stories.WITH_NUMPY] * 3 + [*stories.WITH_FRAMEWORKS])
restarts = partial(disturbing, killed, stories.GROUPS)
signals = partial(disturbing, signalled, stories.WITH_NUMPY | stories.WITH_FRAMEWORKS | stories.ANSWERING)
full_disks = partial(disturbing, met_a_full_disk, stories.WITH_NUMPY)
limits = partial(disturbing, limited, stories.WITH_NUMPY)
# Stories that make a new thing, which is the same under any name.
places = partial(disturbing, placed, ("train", "report as a page", "convert to weights"))
races = partial(disturbing, raced, stories.WITH_NUMPY)
