"""Load beside a measurement is seen, and how many cores may be used."""

import subprocess
import sys
import time
from math import inf
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import common.machine
from backends.process.tuned import tuned_variables
from benchmarks.measure import quiet
from benchmarks.measure.quiet import Watch, busy_seconds
from common.machine import cores, quota


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def use(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Let this process be allowed to run on these cores, as far as is asked."""
    for module in (quiet, common.machine):
        monkeypatch.setattr(module, "allowed_cores", lambda: {*numbers})


def test_other_processes_work_is_told_from_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the planted times of the cores stand still,
    others did nothing, whatever this process does."""

    def spent(seconds: float) -> None:
        times = [
            SimpleNamespace(user=n + seconds, nice=10.0, system=100.0, steal=seconds)
            for n in range(12)
        ]
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: times)

    spent(0)
    use(monkeypatch, 0, 11)
    assert busy_seconds() == 2 * 110 + 0 + 11
    watch, end = Watch([]), time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert watch.others_and_stolen()[0] == 0.0
    watch = Watch([])
    spent(1)
    time.sleep(0.2)
    others, stolen = watch.others_and_stolen()
    assert (others > 1.0, stolen > 0.1) == (True, True)


def test_the_work_of_a_child_is_never_that_of_others() -> None:
    """It may end while it is watched, or just before; its parent,
    which is watched too, has its seconds then."""
    spin = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    child = subprocess.Popen([sys.executable, "-c", spin])
    known, strange = Watch([child.pid, ended.pid]), Watch([])
    before = known.before[1]
    while sum(psutil.Process(child.pid).cpu_times()[:2]) < 0.4:
        time.sleep(0.05)
    assert strange.others_and_stolen()[0] > known.others_and_stolen()[0], (
        "what else runs on this machine is in both"
    )
    child.wait()
    assert known._seconds()[1] - before > 0.2


@pytest.mark.parametrize(
    ("group", "quotas", "allowed", "usable"),  # quotas by the folder
    [
        ("box/job", {"box/job": "50000 100000\n"}, 0.5, 1),
        ("box/job", {"box/job": "900000 100000\n"}, 9, 4),
        ("box/job", {"box/job": "max 100000\n", "box": "200000 100000\n"}, 2, 2),
        ("outside/the/container", {".": "250000 100000\n"}, 2.5, 3),
        ("../job", {}, inf, 4),
    ],
)
def test_the_quota_of_the_control_group_bounds_threads(
    tmp_path: Path, monkeypatch, group: str, quotas: dict[str, str], allowed: float, usable: int
) -> None:
    use(monkeypatch, 0, 1, 2, 3)
    plant(tmp_path, {"proc/self/cgroup": f"0::/{group}\n"})
    plant(tmp_path, {f"sys/fs/cgroup/{folder}/cpu.max": limit for folder, limit in quotas.items()})
    assert (quota(tmp_path), cores(tmp_path)) == (allowed, usable)
    monkeypatch.setattr(common.machine, "quota", lambda root=tmp_path: allowed)
    threads = tuned_variables("jax").get("NPROC")  # frameworks see the cores, and no quota
    assert threads == (str(usable) if allowed < 4 else None)
