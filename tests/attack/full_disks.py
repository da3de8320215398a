"""Has programs write to a small disk that is full at a random point; what was there before stays whole.

    python -m tests.attack.full_disks COUNT [SEED]

The disk is a tmpfs of a random number of pages and inodes, in a mount namespace of its own, which root may make, and
where the system allows it any user. Where it cannot be made, nothing is tried and this is an error. With room again,
what was ended goes on to the bytes of what never met a full disk.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from backends.process.parent import PROJECT
from benchmarks.measure.recording import Recording
from common.run_directory import RunDirectory
from tests.attack.limits import folder_left_behind
from tests.attack.victims import BENCH, HERE_TOO, NUMPY_TWICE, SMALL, Place, assert_same_run, figures
from tests.damage import COMMITTED
from tests.small_run import contents

NAMESPACES = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"])  # as root, as another user
NONE = "no small disk can be mounted here: neither root's nor a user's mount namespace can be made"
PAGE = 4096  # bytes, of which a tmpfs has a whole number
ROOM = 1 << 14  # pages that are enough for everything
EPOCHS = (12, 18)  # of a run before it meets the full disk, and in all
INSIDE = "--inside"  # the namespace

Story = Callable[["Small"], str]


class Whole:
    """What programs make that meet no full disk; each is made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, Place(folder)

    @cached_property
    def begun(self) -> Path:
        self.place.does(*_train(self.folder / "begun", EPOCHS[0]))
        return self.folder / "begun"

    @cached_property
    def run(self) -> Path:
        shutil.copytree(self.begun, self.folder / "run")
        self.place.does(*_train(self.folder / "run", EPOCHS[1], "--resume"))
        return self.folder / "run"

    @cache  # noqa: B019 (it lives as long as the attack)
    def converted(self, to: str) -> dict[str, bytes]:
        self.place.does("convert", self.run, "--to", to, "--out", self.folder / to)
        return contents(self.folder / to)

    @cached_property
    def page(self) -> bytes:
        self.place.does("report", COMMITTED / "intel.jsonl", "-o", self.folder / "page.md")
        return (self.folder / "page.md").read_bytes()

    @cached_property
    def lines(self) -> list[bytes]:
        """Of a recording."""
        out = self.folder / "a.jsonl"
        with self.place.start_short(2, *BENCH, *NUMPY_TWICE, "--out", out) as victim:
            assert victim.status() == 0, victim.said()
        return out.read_bytes().splitlines(keepends=True)

    @cached_property
    def sentences(self) -> Path:
        (self.folder / "sentences").write_text("Look at the skirt!\n" * 600)
        return self.folder / "sentences"

    @cached_property
    def translations(self) -> bytes:
        path = self.folder / "translations"
        with path.open("wb") as output:
            command = ["translate", "--backend", "numpy", "--file", self.sentences]
            with self.place.start(*command, output=output.fileno()) as victim:
                assert victim.status() == 0, victim.said()
        return path.read_bytes()


class Small:
    """A small disk, on which the temporary files of programs are in some cases, too."""

    def __init__(self, folder: Path, rng: random.Random, whole: Whole) -> None:
        self.rng, self.whole = rng, whole
        self.disk = folder / "disk"
        self.disk.mkdir(parents=True)
        _do("mount", "-t", "tmpfs", "-o", f"size={ROOM * PAGE}", "none", self.disk)
        self.temporary_too = rng.random() < 0.3
        self.place = Place(folder, (self.disk if self.temporary_too else folder) / "temporary")

    def fill(self, pages: int, inodes: int) -> None:
        """Leave so many pages free at most, or, in some cases, so many inodes."""
        found = os.statvfs(self.disk)
        used, named = found.f_blocks - found.f_bfree, found.f_files - found.f_ffree
        if self.rng.random() < 0.2:
            _do("mount", "-o", f"remount,nr_inodes={named + self.rng.randint(1, inodes)}", self.disk)
        else:
            free = self.rng.randint(0, pages)
            _do("mount", "-o", f"remount,size={max(1, used + free) * PAGE}", self.disk)

    def empty(self) -> None:
        _do("mount", "-o", f"remount,size={ROOM * PAGE},nr_inodes=0", self.disk)

    def tries(self, *arguments: object, module: str = "rosetta", output: int | None = None) -> int:
        """Run a program to its end, and return its status: 0, or 1 or 2 with one line that says why."""
        with self.place.start(*arguments, module=module, output=output) as victim:
            status, said = victim.status(), victim.said()
        assert status in (0, 1, 2), f"status {status}: {said}"
        if status:
            assert said[-1].startswith("rosetta: "), said
            assert any(why in said[-1] for why in ("the disk is full", "No space left")), said
        return status

    def close(self) -> None:
        _do("umount", "--lazy", self.disk)


def _do(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, timeout=60)


def _train(out: Path, epochs: int, *resume: str) -> list[object]:
    return ["train", "--backend", "numpy", "--out", out, "--epochs", epochs, *(resume or SMALL)]


def training(small: Small) -> str:
    """A new run."""
    out = small.disk / "runs" / "run"
    small.fill(90, 14)
    small.tries(*_train(out, EPOCHS[1]))
    begun = out.exists()
    if begun:
        kept = figures(RunDirectory.open(out))  # on the full disk
        assert kept == figures(RunDirectory.open(small.whole.run))[: len(kept)]
        RunDirectory.open(out).read_state("best")
    else:
        assert not out.parent.exists() or os.listdir(out.parent) == []
    small.empty()
    done = begun and len(kept) == EPOCHS[1]
    if not done:
        small.place.does(*_train(out, EPOCHS[1], *(["--resume"] if begun else [])))
    assert_same_run(out, small.whole.run)
    return "done" if done else f"it keeps {'some' if kept else 'no'} epochs" if begun else "nothing is left of it"


def resuming(small: Small) -> str:
    """A run that has epochs already."""
    out = small.disk / "run"
    shutil.copytree(small.whole.begun, out)
    small.fill(30, 3)
    small.tries(*_train(out, EPOCHS[1], "--resume"))
    kept = figures(RunDirectory.open(out))
    assert kept == figures(RunDirectory.open(small.whole.run))[: len(kept)]
    assert len(kept) >= EPOCHS[0], "epochs are lost"
    RunDirectory.open(out).read_state("best")
    small.empty()
    if len(kept) < EPOCHS[1]:
        small.place.does(*_train(out, EPOCHS[1], "--resume"))
    assert_same_run(out, small.whole.run)
    return "done" if len(kept) == EPOCHS[1] else "its epochs are kept"


def converting(small: Small, to: str, pages: int) -> str:
    """A run in another form."""
    out, run = small.disk / "files", small.whole.run
    small.fill(pages, 8)
    command = ["convert", run, "--to", to, "--out", out]
    status = small.tries(*command)
    assert out.exists() == (status == 0)
    small.empty()
    if status:
        small.place.does(*command)
    assert contents(out) == small.whole.converted(to)
    assert {path.name for path in small.disk.iterdir()} <= {"files", "temporary"}
    return "nothing is left of it" if status else "done"


def reporting(small: Small) -> str:
    """A page, in place of an older one."""
    page = small.disk / "page.md"
    page.write_text("old")
    small.fill(12, 2)
    command = ["report", COMMITTED / "intel.jsonl", "-o", page]
    status = small.tries(*command)
    found = page.read_bytes()
    assert found == (b"old" if status else small.whole.page)
    small.empty()
    small.place.does(*command)
    assert page.read_bytes() == small.whole.page
    assert {path.name for path in small.disk.iterdir()} <= {"page.md", "temporary"}
    return "the old page" if status else "done"


def measuring(small: Small) -> str:
    """A recording that is new, or that has some lines already."""
    out = small.disk / "a.jsonl"
    short: dict[str, str] = {"module": "tests.short_bench"}
    arguments: list[object] = [*BENCH[1:], *NUMPY_TWICE]
    before = b""
    if small.rng.random() < 0.7:
        whole = small.whole.lines
        before = b"".join(whole[: small.rng.randint(1, len(whole) - 1)])
        out.write_bytes(before)
        arguments = ["--resume", *HERE_TOO]
    small.fill(5, 2)
    small.tries("2", "bench", *arguments, "--out", out, **short)
    content = out.read_bytes() if out.exists() else b""
    assert content.startswith(before), "lines that were there are lost"
    small.empty()
    kept = content[: content.rfind(b"\n") + 1]
    if kept:
        arguments = ["--resume", *HERE_TOO]
    with small.place.start("2", "bench", *arguments, "--out", out, **short) as victim:  # type: ignore[arg-type]
        assert victim.status() == 0, victim.said()
    recording = Recording.read(out)
    assert out.read_bytes().startswith(kept)
    numbers = [line.number for line in recording.rounds()]
    assert numbers == list(range(1, max(2, len(numbers)) + 1)), "a round is lost or twice"
    return "its lines are kept" if kept else "nothing is left of it"


def translating(small: Small) -> str:
    """Many translations into a file."""
    sentences = small.whole.sentences
    small.fill(6, 2)
    try:
        output = os.open(small.disk / "translations", os.O_WRONLY | os.O_CREAT)
    except OSError:
        return "the shell cannot make the file"
    try:
        status = small.tries("translate", "--backend", "numpy", "--file", sentences, output=output)
    finally:
        os.close(output)
    found, expected = (small.disk / "translations").read_bytes(), small.whole.translations
    assert expected.startswith(found)
    assert (status == 0) == (found == expected)
    return "some lines" if status else "done"


STORIES: dict[str, tuple[Story, int]] = {
    "train": (training, 4),
    "train --resume": (resuming, 5),
    "convert to weights": (partial(converting, to="weights", pages=45), 2),
    "convert to torch": (partial(converting, to="torch", pages=40), 1),
    "report": (reporting, 2),
    "bench": (measuring, 2),
    "translate": (translating, 2),
}


def attack(count: int, seed: int = 0, *names: str) -> Counter[str]:
    """Have `count` programs meet a full disk, at random from the seed, all or those of these names; returns what
    came of them. Raises AssertionError where no small disk can be mounted."""
    namespace = namespace_command()
    assert namespace, NONE
    command = [*namespace, sys.executable, "-m", "tests.attack.full_disks", INSIDE, str(count), str(seed), *names]
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


def _inside(count: int, seed: int, *names: str) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    rng = random.Random(seed)
    chosen = list(names or STORIES)
    with TemporaryDirectory() as temporary:
        whole = Whole(Path(temporary, "whole"))
        for number in range(count):
            (name,) = rng.choices(chosen, [STORIES[name][1] for name in chosen])
            small = Small(Path(temporary, str(number)), rng, whole)
            with closing(small), folder_left_behind(small.disk, f"full-{number}", f"{name}, {number} of seed {seed}"):
                outcomes[f"{name}: {STORIES[name][0](small)}"] += 1
                if not small.temporary_too:
                    small.place.assert_nothing_temporary()
    return outcomes


if __name__ == "__main__":
    inside = INSIDE in sys.argv
    given = [argument for argument in sys.argv[1:] if argument != INSIDE]
    print(json.dumps((_inside if inside else attack)(*map(int, given[:2]), *given[2:]), indent=2))  # type: ignore
