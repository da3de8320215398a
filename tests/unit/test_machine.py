"""Load beside a measurement is seen."""

import os
import subprocess
import sys
import time
from math import inf
from pathlib import Path

import psutil
import pytest

import common.machine
from backends.process import child_environment
from common.machine import Watch, busy_seconds, cores, quota


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def use(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Let this process be allowed to run on these cores, as far as is asked."""
    monkeypatch.setattr(common.machine, "allowed_cores", lambda: {*numbers})


def test_other_processes_work_is_told_from_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the planted times of the cores stand still, others did nothing, whatever this process does."""
    second = os.sysconf("SC_CLK_TCK")

    def spent(seconds: int) -> None:
        lines = [
            f"cpu{n} {(n + seconds) * second} {10 * second} {100 * second} 99 9 9 9 {seconds * second} 9 9"
            for n in range(12)
        ]
        stat = "\n".join(["cpu  9 9 9 9 9 9 9 9 9 9", *lines, "ctxt 9"])
        monkeypatch.setattr(common.machine, "system_text", lambda file: stat if str(file) == "/proc/stat" else "")

    spent(0)
    use(monkeypatch, 0, 11)
    assert busy_seconds() == 2 * 110 + 0 + 11
    watch, end = Watch([]), time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert watch.others() == 0.0
    watch = Watch([])
    spent(1)
    time.sleep(0.2)
    assert (watch.others() > 1.0, watch.stolen() > 0.1) == (True, True)


def test_the_work_of_a_child_is_never_that_of_others() -> None:
    """It may end while it is watched, or just before; its parent, which is watched too, has its seconds then."""
    spin = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    child = subprocess.Popen([sys.executable, "-c", spin])
    known, strange = Watch([child.pid, ended.pid]), Watch([])
    before = known.before[1]
    while sum(psutil.Process(child.pid).cpu_times()[:2]) < 0.4:
        time.sleep(0.05)
    assert strange.others() > known.others(), "what else runs on this machine is in both"
    child.wait()
    assert known._seconds()[1] - before > 0.2


@pytest.mark.parametrize(
    ("existing", "used", "threads", "advised"),
    [
        *((2, 0.0, 2, None), (2, 0.4, 2, None), (2, 1.0, 2, 1), (2, 1.0, 1, None), (2, 0.6, 2, 1)),
        *((8, 5.0, 2, None), (8, 7.0, 2, 1)),  # a quota allows the time of two of eight cores
    ],
)
def test_fewer_threads_are_advised_where_they_would_share_a_core(
    monkeypatch: pytest.MonkeyPatch, existing: int, used: float, threads: int, advised: int | None
) -> None:
    use(monkeypatch, *range(existing))
    monkeypatch.setattr(common.machine, "cores", lambda: 2)
    monkeypatch.setattr(common.machine, "ADVICE_SECONDS", 0.0)
    monkeypatch.setattr(Watch, "others", lambda self: used)
    advice = common.machine.fewer_threads(threads, os.getpid())
    assert advice == "" if advised is None else advice.endswith(f"--threads {advised}")


V1, V2, HYBRID = (
    "cgroup /sys/fs/cgroup/memory cgroup rw 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n",
    "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n",
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
)
JOB = "0::/box/job\n"
MANY = f"5:memory:/other\n4:cpu,cpuacct:/box/job\n1:name=systemd:/box\n{JOB}"


@pytest.mark.parametrize(
    ("mounts", "cgroup", "quotas", "allowed", "usable"),  # quotas by the folder, in microseconds of each 100,000
    [
        (V2, JOB, {"box/job": "50000"}, 0.5, 1),
        (V2, JOB, {"box/job": "900000"}, 9, 4),
        (V2, JOB, {"box/job": "max", "box": "200000"}, 2, 2),
        (V2, "0::/../job\n", {}, inf, 4),
        (V1 + HYBRID, MANY, {"box/job": "250000\n"}, 2.5, 3),
        (V1 + HYBRID, MANY, {"box/job": "-1\n", "box": "100000\n"}, 1, 1),
        (V1, "4:cpu,cpuacct:/outside/the/container\n", {".": "200000\n"}, 2, 2),
        (V1, MANY, {"other": "100000\n"}, inf, 4),  # its processes are others
        *((V1, MANY, {"box/job": odd}, inf, 4) for odd in ("", "0\n", "1e5\n", "١٠٠٠٠٠\n")),
    ],
)
def test_the_quota_of_the_control_group_bounds_threads(
    tmp_path: Path, monkeypatch, mounts: str, cgroup: str, quotas: dict[str, str], allowed: float, usable: int
) -> None:
    use(monkeypatch, 0, 1, 2, 3)
    plant(tmp_path, {"proc/self/mounts": mounts, "proc/self/cgroup": cgroup})
    for folder, quota_of_it in quotas.items():
        place = f"sys/fs/cgroup/cpu,cpuacct/{folder}"
        files = {f"{place}/cpu.cfs_quota_us": quota_of_it, f"{place}/cpu.cfs_period_us": "100000\n"}
        plant(tmp_path, {f"sys/fs/cgroup/{folder}/cpu.max": f"{quota_of_it} 100000\n"} if mounts == V2 else files)
    assert (quota(tmp_path), cores(tmp_path)) == (allowed, usable)
    monkeypatch.setattr(common.machine, "quota", lambda root: allowed)
    assert child_environment("matched", None, "cpu")["OMP_NUM_THREADS"] == str(usable)
