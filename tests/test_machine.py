"""What the machine does beside the measurement is seen, and a machine that is not fit is found out."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmarks.measure import machine as looked_at
from benchmarks.measure.machine import NOT_KNOWN, Finding, check, wait_until_idle
from common import load
from common.load import Watch, busy_seconds, fewer_threads
from tests.program import rosetta

CPU = "sys/devices/system/cpu"


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two cores of two threads each, quiet and cool, with a fixed clock."""
    files = {
        "proc/stat": "cpu  100 0 100 9800 0 0 0 0 0 0\ncpu0 50 0 50 4900 0 0 0 0 0 0\n",
        f"{CPU}/cpufreq/boost": "0\n",
    }
    for number in range(4):
        files[f"{CPU}/cpu{number}/cpufreq/scaling_governor"] = "performance\n"
        files[f"{CPU}/cpu{number}/topology/thread_siblings_list"] = f"{number % 2},{number % 2 + 2}\n"
        files[f"{CPU}/cpu{number}/thermal_throttle/core_throttle_count"] = "3\n"
    plant(tmp_path, files)
    return tmp_path


def turned(finding: Finding, found: str, advice: str) -> bool:
    """Whether a finding is an objection in these words, with advice of one line."""
    assert not finding.ok
    assert found in finding.found, finding
    assert advice in finding.advice, finding
    assert "\n" not in finding.found + finding.advice
    return True


def is_fine(finding: Finding, found: str) -> bool:
    assert (finding.ok, finding.advice) == (True, ""), finding
    assert found in finding.found, finding
    return True


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {0, 1, 2, 3})


def use(monkeypatch: pytest.MonkeyPatch, cores: set[int]) -> None:
    """Let this process be allowed to use these cores, as far as is asked."""
    for module in (looked_at, load):
        monkeypatch.setattr(module, "allowed_cores", lambda: cores)


def test_the_busiest_process_is_named() -> None:
    before = {7: ("shell", 1.0), 8: ("compiler", 5.0), 9: ("idle", 2.0)}
    after = {7: ("shell", 1.1), 8: ("compiler", 6.5), 9: ("idle", 2.0), 10: ("ne\x1bw", 0.2)}
    finding = looked_at.others(0.9, before, after)
    assert turned(finding, "0.90 cores in use, most by compiler (process 8)", "end compiler (process 8)")
    assert is_fine(looked_at.others(0.0, before, before), "0.00 cores in use")
    assert "ne?w (process 10)" in looked_at.others(0.2, {}, {10: after[10]}).found
    # Process 8 ended and its number went to one that has used little; what used the rest has ended too.
    assert turned(looked_at.others(0.5, before, {8: ("new", 0.1)}), "0.50 cores in use", "wait until")


def test_the_time_of_allowed_cores_is_counted(machine: Path, monkeypatch) -> None:
    tick = 1 / os.sysconf("SC_CLK_TCK")
    lines = "cpu  0 0 0 0 0 0 0 0 0 0\n" + "".join(f"cpu{n} {n} 10 100 9999 9 9 9 9 9 9\n" for n in range(12))
    plant(machine, {"proc/stat": lines})
    assert busy_seconds(machine) == pytest.approx((4 * 110 + 0 + 1 + 2 + 3) * tick)
    use(monkeypatch, {11})
    assert busy_seconds(machine) == pytest.approx(121 * tick)
    plant(machine, {"proc/stat": "nothing\n"})
    assert busy_seconds(machine) == 0.0


SPIN = [sys.executable, "-c", "import time; end = time.time() + 60\nwhile time.time() < end: pass"]


@pytest.fixture
def spinner():
    process = subprocess.Popen(SPIN)
    time.sleep(0.2)
    yield process
    process.kill()
    process.wait()


def test_a_process_that_spins_is_seen_and_our_own_are_not(spinner, monkeypatch) -> None:
    use(monkeypatch, os.sched_getaffinity(0))
    strange, known = Watch([]), Watch([spinner.pid])
    before = looked_at._processes()[spinner.pid]
    time.sleep(1)
    seen, rest = strange.others(), known.others()
    assert looked_at._processes()[spinner.pid][1] > before[1] + 0.2
    assert os.getpid() not in looked_at._processes()
    assert seen - rest > 0.2, "what else runs on this machine is in both"
    assert rest >= 0.0


def test_our_own_work_is_not_others(machine: Path, monkeypatch) -> None:
    """A planted /proc/stat that stands still: whatever this process does, others did nothing."""
    watch = Watch([], machine)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert watch.others() == 0.0
    watch = Watch([], machine)
    plant(machine, {"proc/stat": "cpu  100 0 100 9800 0 0 0 0 0 0\ncpu0 150 0 50 4900 0 0 0 0 0 0\n"})
    time.sleep(0.2)
    assert watch.others() > 1.0


@pytest.mark.parametrize(
    ("others", "threads", "advised"),
    [(0.0, 2, None), (0.4, 2, None), (1.0, 2, 1), (1.0, 1, None), (2.0, 2, 1), (0.6, 2, 1)],
)
def test_fewer_threads_are_advised_where_they_would_share_a_core(
    monkeypatch: pytest.MonkeyPatch, others: float, threads: int, advised: int | None
) -> None:
    monkeypatch.setattr(load, "cores", lambda: 2)
    monkeypatch.setattr(load, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(Watch, "others", lambda self: others)
    advice = fewer_threads(threads, os.getpid())
    assert advice == "" if advised is None else advice.endswith(f"--threads {advised}")


def busy(monkeypatch, shares: list[float]) -> None:
    """Let so many cores be at work in each window that is looked at; the last of them for ever."""
    worked, readings = 0.0, 0

    def reading() -> float:
        nonlocal worked, readings
        readings += 1
        if readings % 2 == 0:  # at the end of a window
            worked += looked_at.WINDOW * (shares.pop(0) if len(shares) > 1 else shares[0])
        return worked

    monkeypatch.setattr(looked_at, "busy_seconds", reading)


@pytest.mark.parametrize(
    ("shares", "least", "most"),
    [
        ([0.0], looked_at.WINDOW, 0.3),
        ([2.0, 1.0, 0.5, 0.0], 4 * looked_at.WINDOW, looked_at.MOST_WAIT),
        ([1.0], looked_at.MOST_WAIT, 2 * looked_at.MOST_WAIT),
    ],
    ids=["idle", "threads spin for a moment", "never idle"],
)
def test_a_visit_waits_for_one_window_of_an_idle_machine_but_not_for_ever(monkeypatch, shares, least, most) -> None:
    busy(monkeypatch, shares)
    assert least <= wait_until_idle() < most


def test_stolen_time() -> None:
    none = psutil.cpu_times()
    before, quiet = none._replace(steal=0.0, idle=0.0), none._replace(steal=0.0, idle=2.0)
    assert turned(looked_at.steal(before, quiet._replace(steal=0.1, idle=1.9)), "5.0 %", "virtual machines")
    assert is_fine(looked_at.steal(before, quiet), "0.0 %")
    assert is_fine(looked_at.steal(before, before), NOT_KNOWN)
    assert is_fine(looked_at.steal((0.0,) * 4, (1.0,) * 4), NOT_KNOWN), "of a system that tells no such time"


def test_a_governor_that_changes_the_clock(machine: Path, monkeypatch) -> None:
    assert is_fine(looked_at.governor(machine), "performance")
    plant(machine, {f"{CPU}/cpu2/cpufreq/scaling_governor": "powersave\n"})
    finding = looked_at.governor(machine)
    assert turned(finding, "performance, powersave", "cpupower frequency-set -g performance")
    use(monkeypatch, {0, 1})
    assert is_fine(looked_at.governor(machine), "performance")


@pytest.mark.parametrize(
    ("path", "on", "off", "advice"),
    [
        ("cpufreq/boost", "1", "0", "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"),
        ("intel_pstate/no_turbo", "0", "1", "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"),
    ],
)
def test_boost_is_named_and_no_objection(tmp_path: Path, path: str, on: str, off: str, advice: str) -> None:
    plant(tmp_path, {f"{CPU}/{path}": on})
    finding = looked_at.boost(tmp_path)
    assert finding.ok
    assert finding.found.startswith("on")
    assert finding.advice.endswith(advice)
    plant(tmp_path, {f"{CPU}/{path}": off})
    assert is_fine(looked_at.boost(tmp_path), "off")


def test_heat_that_slows_the_processor_now(machine: Path) -> None:
    before = looked_at.throttles(machine)
    assert before == 12
    assert is_fine(looked_at.throttling(before, looked_at.throttles(machine)), "not now, 12 times since the start")
    plant(machine, {f"{CPU}/cpu1/thermal_throttle/package_throttle_count": "4\n"})
    assert turned(looked_at.throttling(before, looked_at.throttles(machine)), "4 times within a second", "cool down")


def test_half_a_core_is_shared_with_others(machine: Path, monkeypatch) -> None:
    assert is_fine(looked_at.cores(machine), "4 logical on 2 physical")
    use(monkeypatch, {0, 2})
    assert is_fine(looked_at.cores(machine), "2 logical on 1 physical")
    use(monkeypatch, {0, 1, 2})
    finding = looked_at.cores(machine)
    assert turned(finding, "3 logical on 2 physical; shared with others: 1 with 3", "taskset --cpu-list 0,1,2,3")


def test_memory_and_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, available=12 << 30, swapped=0)
    assert is_fine(looked_at.memory(), "12.0 GiB available")
    assert is_fine(looked_at.swap(), "not in use")
    have(monkeypatch, available=1 << 30, swapped=3 << 30)
    assert turned(looked_at.memory(), "1.0 GiB available", "close programs")
    assert turned(looked_at.swap(), "3.0 GiB in use", "swapoff")


def have(monkeypatch: pytest.MonkeyPatch, available: int, swapped: int) -> None:
    """Let this machine have so many bytes of memory available, and so many moved to disk."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(used=swapped))


def test_what_a_system_does_not_tell_is_named_and_no_objection(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in check(tmp_path)}
    asked_of_psutil = {"other processes", "steal time", "memory", "swap"}
    assert {name for name in found if NOT_KNOWN not in found[name].found} == asked_of_psutil
    assert all(finding.ok for name, finding in found.items() if name not in asked_of_psutil)


def test_files_that_hold_something_else_are_not_known(machine: Path, monkeypatch) -> None:
    use(monkeypatch, {0})
    plant(
        machine,
        {
            f"{CPU}/cpufreq/boost": "maybe",
            f"{CPU}/cpu0/topology/thread_siblings_list": "all",
            f"{CPU}/cpu0/cpufreq/scaling_governor": "",
        },
    )
    found = [looked_at.boost(machine), looked_at.cores(machine), looked_at.governor(machine)]
    assert all(is_fine(finding, NOT_KNOWN) for finding in found)


def test_a_quiet_machine_is_fit(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, available=12 << 30, swapped=0)
    times = psutil.cpu_times()
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    findings = check(machine)
    names = "other processes, steal time, frequency governor, boost, thermal throttling, cores, memory, swap"
    assert {finding.name: finding.ok for finding in findings} == dict.fromkeys(names.split(", "), True)


def test_the_real_machine_is_judged_in_about_a_second(monkeypatch) -> None:
    use(monkeypatch, os.sched_getaffinity(0))
    start = time.perf_counter()
    findings = check()
    assert time.perf_counter() - start < 5
    assert all(finding.ok or finding.advice for finding in findings)


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_the_command_says_whether_the_machine_is_fit(monkeypatch, ok: bool, status: int) -> None:
    findings = [
        Finding("boost", True, "off", ""),
        Finding("swap", ok, "2 GiB in use", "" if ok else "close programs"),
    ]
    monkeypatch.setattr(looked_at, "check", lambda: findings)
    for option, said in ([], "2 GiB in use"), (["--json"], f'"fit": {str(ok).lower()}'):
        got, out, _ = rosetta("machine", *option)
        assert got == status
        assert said in out
