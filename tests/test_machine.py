"""What the machine does beside the measurement is seen, and a machine that is not fit is found out."""

import os
import re
import subprocess
import sys
import time
from itertools import accumulate, chain, pairwise
from math import inf
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import common.machine
from backends.process.environment import child_environment
from benchmarks.measure import machine as looked_at
from benchmarks.measure.machine import NOT_KNOWN, Finding, check, wait_until_fit, wait_until_idle
from common.machine import Watch, busy_seconds, cores, quota
from tests.program import rosetta, wait_until

CPU = "sys/devices/system/cpu"
SPUN = 0.25  # seconds of processor time that a spinning program is watched for


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two cores of two threads each, quiet and cool, with a fixed clock."""
    files = {}
    for number in range(4):
        files[f"{CPU}/cpu{number}/cpufreq/scaling_governor"] = "performance\n"
        files[f"{CPU}/cpu{number}/topology/thread_siblings_list"] = f"{number % 2},{number % 2 + 2}\n"
        files[f"{CPU}/cpu{number}/thermal_throttle/core_throttle_count"] = "3\n"
    plant(tmp_path, files)
    return tmp_path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of a planted clock, which goes on where somebody sleeps."""
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(looked_at, "now", lambda: passed[0])
    monkeypatch.setattr(looked_at, "time", SimpleNamespace(sleep=sleep))
    return passed


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {0, 1, 2, 3})


def use(monkeypatch: pytest.MonkeyPatch, numbers: set[int]) -> None:
    """Let this process be allowed to run on these cores, as far as is asked."""
    for module in (looked_at, common.machine):
        monkeypatch.setattr(module, "allowed_cores", lambda: numbers)


def test_the_work_of_others_on_allowed_cores_is_told_from_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert busy_seconds() == 4 * 110 + 0 + 1 + 2 + 3
    use(monkeypatch, {11})
    assert busy_seconds() == 121
    watch, end = Watch([]), time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert watch.others() == 0.0
    watch = Watch([])
    spent(1)
    time.sleep(0.2)
    assert (watch.others() > 1.0, watch.stolen() > 0.1) == (True, True)


def test_a_process_that_spins_is_seen_and_our_own_are_not(monkeypatch) -> None:
    use(monkeypatch, os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinner:
        try:
            time.sleep(0.2)
            strange, known, before = Watch([]), Watch([spinner.pid]), looked_at._processes()
            began, enough = time.monotonic(), before[spinner.pid][1] + SPUN
            wait_until(lambda: looked_at._processes()[spinner.pid][1] >= enough, why="the spinner gets no core")
            used = SPUN / (time.monotonic() - began)  # cores, of which a busy machine leaves it few
            seen, rest, after = strange.others(), known.others(), looked_at._processes()
        finally:
            spinner.kill()
    assert os.getpid() not in after
    assert seen - rest > 0.6 * used, "what else runs on this machine is in both"
    assert rest >= 0.0


@pytest.mark.parametrize(
    ("existing", "others", "threads", "advised"),
    [
        *((2, 0.0, 2, None), (2, 0.4, 2, None), (2, 1.0, 2, 1), (2, 1.0, 1, None), (2, 2.0, 2, 1), (2, 0.6, 2, 1)),
        *((8, 5.0, 2, None), (8, 7.0, 2, 1)),  # a quota allows the time of two of eight cores
    ],
)
def test_fewer_threads_are_advised_where_they_would_share_a_core(
    monkeypatch: pytest.MonkeyPatch, existing: int, others: float, threads: int, advised: int | None
) -> None:
    monkeypatch.setattr(common.machine, "allowed_cores", lambda: set(range(existing)))
    monkeypatch.setattr(common.machine, "cores", lambda: 2)
    monkeypatch.setattr(common.machine, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(Watch, "others", lambda self: others)
    advice = common.machine.fewer_threads(threads, os.getpid())
    assert advice == "" if advised is None else advice.endswith(f"--threads {advised}")


@pytest.mark.parametrize(
    ("shares", "least", "most"),
    [
        ([0.0], looked_at.WINDOW, 0.3),
        ([2.0, 1.0, 0.5, 0.0], 4 * looked_at.WINDOW, looked_at.MOST_WAIT),
        ([1.0] * 1000, looked_at.MOST_WAIT, 2 * looked_at.MOST_WAIT),
    ],
    ids=["idle", "threads spin for a moment", "never idle"],
)
def test_a_visit_waits_for_one_window_of_an_idle_machine_but_not_for_ever(
    clock, monkeypatch, shares, least, most
) -> None:
    """So many cores are at work in each window that is looked at."""
    worked = accumulate(looked_at.WINDOW * share for share in shares)
    readings = chain.from_iterable((before, after) for before, after in pairwise([0.0, *worked]))
    monkeypatch.setattr(looked_at, "busy_seconds", readings.__next__)
    wait_until_idle()
    assert least <= clock[0] < most


@pytest.mark.parametrize("rests_after", [0, 7, inf])
def test_measuring_waits_a_while_for_the_end_of_other_programs_and_says_so(clock, monkeypatch, rests_after) -> None:
    """The busiest is named, once."""
    notes: list[str] = []
    busy = SimpleNamespace(others=lambda: 1.4 if clock[0] <= rests_after else 0.0)
    monkeypatch.setattr(looked_at, "Watch", lambda children: busy)
    monkeypatch.setattr(looked_at, "_processes", lambda: {7: ("shell", 1.0), 8: ("compi\x1bler", clock[0])})
    found = "now 1.4 cores, most by compi?ler (process 8)"
    assert wait_until_fit(notes.append) == (rests_after != inf)
    assert clock[0] == min(rests_after + looked_at.FIT_SECONDS, looked_at.LONGEST_WAIT)
    waiting = f"other programs use the machine, {found}; waiting up to 20 s for their end"
    assert notes == ([waiting] if rests_after else [])


NAMES = "other processes, steal time, frequency governor, thermal throttling, cores, memory, swap".split(", ")


def checked(
    monkeypatch, root: Path, used: float = 0.0, stolen: float = 0.0, gigabytes: int = 12
) -> dict[str, Finding]:
    """What is found of a planted machine on which others use and steal so many cores."""
    watch = SimpleNamespace(others=lambda: used, stolen=lambda: stolen)
    readings = iter([{7: ("shell", 1.0)}, {7: ("shell", 1.1), 8: ("compi\x1bler", 0.3)}])
    monkeypatch.setattr(looked_at, "Watch", lambda children: watch)
    monkeypatch.setattr(looked_at, "_processes", readings.__next__)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=gigabytes << 30))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(used=(12 - gigabytes) << 30))
    found = {finding.name: finding for finding in check(root)}
    assert [*found] == NAMES
    assert all(bool(one.advice) != one.ok and (one.found + one.advice).isprintable() for one in found.values())
    return found


@pytest.mark.parametrize("planted", [True, False], ids=["a quiet machine", "a system that tells nothing"])
def test_a_quiet_machine_is_fit_and_what_is_not_known_is_no_objection(
    machine: Path, clock, tmp_path_factory, monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    found = checked(monkeypatch, machine if planted else tmp_path_factory.mktemp("none"))
    assert all(finding.ok for finding in found.values())
    not_known = {name for name, finding in found.items() if NOT_KNOWN in finding.found}
    assert not_known == (set() if planted else {"frequency governor", "thermal throttling", "cores"})


def test_what_makes_a_machine_unfit_is_told_with_what_to_do(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And cores that this process may not use do not count."""
    use(monkeypatch, {0, 1, 2})
    plant(machine, {f"{CPU}/cpu2/cpufreq/scaling_governor": "powersave\n"})
    hot = {f"{CPU}/cpu1/thermal_throttle/package_throttle_count": "4\n"}
    monkeypatch.setattr(looked_at, "time", SimpleNamespace(sleep=lambda seconds: plant(machine, hot)))
    found = checked(monkeypatch, machine, used=0.9, stolen=0.2, gigabytes=1)
    assert {name: (one.found, re.split(":| until", one.advice)[0]) for name, one in found.items()} == {
        "other processes": ("0.90 cores in use, most by compi?ler (process 8)", "end them, or wait"),
        "steal time": ("6.7 %", "other virtual machines use this processor"),
        "frequency governor": ("performance, powersave", "sudo cpupower frequency-set -g performance"),
        "thermal throttling": (
            "4 times within a second, 16 times since the start",
            "let the machine cool down, free its vents, plug it in",
        ),
        "cores": ("3 logical on 2 physical; shared with others: 1 with 3", "use whole physical cores"),
        "memory": ("1.0 GiB available", "close programs"),
        "swap": ("11.0 GiB in use", "close programs, then move the swapped memory back"),
    }
    assert found["cores"].advice.endswith("taskset --cpu-list 0,1,2,3")
    use(monkeypatch, {0, 1})
    assert looked_at.governor(machine).found == "performance"
    assert looked_at.throttling(16, 16).found == "not now, 16 times since the start"


V1, V2, HYBRID = (
    "cgroup /sys/fs/cgroup/memory cgroup rw 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n",
    "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n",
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
)
JOB = "0::/box/job\n"
MANY = f"5:memory:/other\n4:cpu,cpuacct:/box/job\n1:name=systemd:/box\n{JOB}"


def group(folder: str, microseconds: str) -> dict[str, str]:
    """The files of a control group of version 1 that may compute for so many microseconds in 100,000."""
    place = f"sys/fs/cgroup/cpu,cpuacct/{folder}"
    return {f"{place}/cpu.cfs_quota_us": microseconds, f"{place}/cpu.cfs_period_us": "100000\n"}


def group2(folder: str, most: str) -> dict[str, str]:
    """The file of a control group of version 2."""
    return {f"sys/fs/cgroup/{folder}/cpu.max": f"{most}\n"}


@pytest.mark.parametrize(
    ("mounts", "own", "files", "allowed", "usable"),
    [
        (V2, JOB, group2("box/job", "max 100000"), inf, 4),
        (V2, JOB, group2("box/job", "50000 100000"), 0.5, 1),
        (V2, JOB, group2("box/job", "900000 100000"), 9, 4),
        (V2, JOB, group2("box/job", "max 100000") | group2("box", "200000 100000"), 2, 2),
        (V2, "0::/\n", group2("", "100000 100000"), 1, 1),
        (V2, "0::/../job\n", {}, inf, 4),
        (V1 + HYBRID, MANY, group("box/job", "250000\n"), 2.5, 3),
        (V1 + HYBRID, MANY, group("box/job", "-1\n") | group("box", "100000\n"), 1, 1),
        (V1, "4:cpu,cpuacct:/outside/the/container\n", group("", "200000\n"), 2, 2),
        (V1, MANY, group("other", "100000\n"), inf, 4),  # its processes are others
        *((V1, MANY, group("box/job", odd), inf, 4) for odd in ("", "0\n", "many\n", "1e5\n", "١٠٠٠٠٠\n")),
        ("", "0::/\n", group2("", "100000 100000"), inf, 4),
    ],
)
def test_the_quota_of_the_control_group_bounds_the_cores(
    machine: Path, mounts: str, own: str, files: dict[str, str], allowed: float, usable: int
) -> None:
    plant(machine, {"proc/self/mounts": mounts, "proc/self/cgroup": own, **files})
    assert (quota(machine), cores(machine)) == (allowed, usable)
    told = "4 logical on 2 physical" + f"; the control group allows {allowed:g} core{'s'[allowed == 1 :]}" * (
        allowed < inf
    )
    assert looked_at.cores(machine).found == told


def test_a_quota_bounds_the_threads_that_a_backend_gets_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.machine, "quota", lambda root: 2.5)
    assert cores() == 3
    assert child_environment("matched", None, "cpu")["OMP_NUM_THREADS"] == "3"


def test_the_command_says_whether_the_machine_is_fit(monkeypatch) -> None:
    for ok, status in ((True, 0), (False, 1)):
        swap = Finding("swap", ok, "2 GiB in use", "" if ok else "close programs")
        monkeypatch.setattr(looked_at, "check", lambda found=swap: [Finding("memory", True, "12.0 GiB", ""), found])
        for option, said in ([], "2 GiB in use"), (["--json"], f'"fit": {str(ok).lower()}'):
            got, out, _ = rosetta("machine", *option)
            assert (got, said in out) == (status, True)


def test_the_work_of_a_process_that_has_ended_stays_our_own() -> None:
    """It may end while it is watched, or just before; its parent, which is watched too, has its seconds then."""
    spin = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    child = subprocess.Popen([sys.executable, "-c", spin])
    watch = Watch([child.pid, ended.pid])
    before = watch.before[1]
    child.wait()
    assert watch._seconds()[1] - before > 0.2
    assert watch.others() >= 0
    assert [process.pid for process in watch.spent] == [os.getpid()]


def test_energy_is_that_of_all_processors_and_their_counters_begin_anew(tmp_path: Path) -> None:
    """A counter within a processor's is not counted twice, and one that nobody may read tells nothing."""
    zones = "sys/class/powercap"
    plant(tmp_path, {f"{zones}/intel-rapl:{name}/energy_uj": "900000\n" for name in ("0", "1", "0:0")})
    plant(tmp_path, {f"{zones}/intel-rapl:{name}/max_energy_range_uj": "1000000\n" for name in "01"})
    before = looked_at.energy(tmp_path)
    plant(tmp_path, {f"{zones}/intel-rapl:0/energy_uj": "950000", f"{zones}/intel-rapl:1/energy_uj": "100000"})
    assert looked_at.energy_since(before, tmp_path) == pytest.approx(0.05 + 0.2)
    assert looked_at.energy_since(looked_at.energy(tmp_path / "empty"), tmp_path) is None
