"""A machine that is not fit is found out."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import fitness
from benchmarks.fitness import NOT_KNOWN, Finding, check, fit

CPU = "sys/devices/system/cpu"
MEMORY = "MemTotal: 16000000 kB\nMemAvailable: {available} kB\nSwapTotal: 8000000 kB\nSwapFree: {swap_free} kB\n"
GROUPS = "11:memory:/box\n4:cpu,cpuacct:/box/inner\n0::/box/inner\n"


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two cores of two threads each, quiet and cool, with a fixed clock."""
    files = {
        "proc/loadavg": "0.04 0.10 0.20 1/300 4000\n",
        "proc/stat": "cpu  100 0 100 9800 0 0 0 0 0 0\ncpu0 50 0 50 4900 0 0 0 0 0 0\n",
        "proc/meminfo": MEMORY.format(available=12000000, swap_free=8000000),
        "proc/self/cgroup": GROUPS,
        "sys/fs/cgroup/cpu.max": "max 100000\n",
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


def test_high_load(machine: Path) -> None:
    assert is_fine(fitness.load(machine, 2), "0.04 on 2 cores")
    plant(machine, {"proc/loadavg": "1.85 1.00 0.50 3/300 4000\n"})
    assert turned(fitness.load(machine, 2), "1.85 on 2 cores", "load average")
    assert is_fine(fitness.load(machine, 16), "1.85 on 16 cores")


def test_the_busiest_process_is_named() -> None:
    before = {7: ("shell", 1.0), 8: ("compiler", 5.0), 9: ("idle", 2.0)}
    after = {7: ("shell", 1.1), 8: ("compiler", 6.5), 9: ("idle", 2.0), 10: ("ne\x1bw", 0.2)}
    finding = fitness.other_processes(before, after, 2.0)
    assert turned(finding, "0.90 cores in use, most by compiler (process 8): 0.75", "end compiler (process 8)")
    assert is_fine(fitness.other_processes(before, before, 2.0), "0.00 cores in use")
    assert "ne?w (process 10)" in fitness.other_processes({}, {10: after[10]}, 1.0).found
    # Process 8 ended and its number went to one that has used little.
    assert is_fine(fitness.other_processes(before, {8: ("new", 0.1)}, 2.0), "0.05 cores")


def test_a_process_that_spins_is_seen_on_the_real_machine() -> None:
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before, start = fitness.cpu_seconds(), time.perf_counter()
        time.sleep(1)
        after, seconds = fitness.cpu_seconds(), time.perf_counter() - start
    finally:
        spinner.kill()
        spinner.wait()
    pid = spinner.pid
    assert os.getpid() not in before
    mine = fitness.other_processes({pid: before[pid]}, {pid: after[pid]}, seconds)
    assert turned(mine, f"(process {pid})", f"(process {pid})")


def test_uneven_work() -> None:
    assert is_fine(fitness.noise([1e-3] * 95 + [5e-3] * 5), "1.00 times")
    advice = "something else"
    assert turned(fitness.noise([1e-3] * 80 + [5e-3] * 20), "5.00 times as long", advice)
    assert turned(fitness.noise([1e-3] * 20 + [5e-3] * 80), "1.0 to 5.0 ms, 5.0 typically", advice)


def test_the_self_test_is_short() -> None:
    times = fitness.self_test()
    assert 10 <= len(times) <= 200
    assert min(times) > 0


def test_stolen_time(machine: Path) -> None:
    before = fitness.ticks(machine)
    plant(machine, {"proc/stat": "cpu  180 0 100 9910 0 0 0 10 0 0\n"})
    assert turned(fitness.steal(before, fitness.ticks(machine)), "5.0 %", "virtual machines")
    plant(machine, {"proc/stat": "cpu  180 0 100 9920 0 0 0 0 0 0\n"})
    assert is_fine(fitness.steal(before, fitness.ticks(machine)), "0.0 %")


def test_a_governor_that_changes_the_clock(machine: Path) -> None:
    assert is_fine(fitness.governor(machine, {0, 1, 2, 3}), "performance")
    plant(machine, {f"{CPU}/cpu2/cpufreq/scaling_governor": "powersave\n"})
    finding = fitness.governor(machine, {0, 1, 2, 3})
    assert turned(finding, "performance, powersave", "cpupower frequency-set -g performance")
    assert is_fine(fitness.governor(machine, {0, 1}), "performance")


@pytest.mark.parametrize(
    ("path", "on", "off", "advice"),
    [
        ("cpufreq/boost", "1", "0", "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"),
        ("intel_pstate/no_turbo", "0", "1", "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"),
    ],
)
def test_boost_is_named_and_no_objection(tmp_path: Path, path: str, on: str, off: str, advice: str) -> None:
    plant(tmp_path, {f"{CPU}/{path}": on})
    finding = fitness.boost(tmp_path)
    assert finding.ok
    assert finding.found.startswith("on")
    assert finding.advice.endswith(advice)
    plant(tmp_path, {f"{CPU}/{path}": off})
    assert is_fine(fitness.boost(tmp_path), "off")


def test_heat_that_slows_the_processor_now(machine: Path) -> None:
    before = fitness.throttles(machine)
    assert before == 12
    assert is_fine(fitness.throttling(before, fitness.throttles(machine)), "not now, 12 times since the start")
    plant(machine, {f"{CPU}/cpu1/thermal_throttle/package_throttle_count": "4\n"})
    assert turned(fitness.throttling(before, fitness.throttles(machine)), "4 times within a second", "cool down")


def test_half_a_core_is_shared_with_others(machine: Path) -> None:
    assert is_fine(fitness.cores(machine, {0, 1, 2, 3}), "4 logical on 2 physical")
    assert is_fine(fitness.cores(machine, {0, 2}), "2 logical on 1 physical")
    finding = fitness.cores(machine, {0, 1, 2})
    assert turned(finding, "3 logical on 2 physical; shared with others: 1 with 3", "taskset --cpu-list 0,1,2,3")


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/box/inner/cpu.max": "150000 100000\n"},
        {"sys/fs/cgroup/box/cpu.max": "150000 100000\n", "sys/fs/cgroup/box/inner/cpu.max": "max 100000\n"},
        {"sys/fs/cgroup/cpu.max": "150000 100000\n"},  # a container, whose own group is the top of the mount
        {"proc/self/cgroup": "0::/../../elsewhere\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
        {
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "75000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "50000\n",
        },
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
    ],
)
def test_a_quota_below_the_cores_in_view(machine: Path, files: dict[str, str]) -> None:
    assert is_fine(fitness.quota(machine, 2), "none")
    plant(machine, files)
    assert turned(fitness.quota(machine, 2), "1.5 of 2 cores", "raise it to 2")
    assert is_fine(fitness.quota(machine, 1), "1.5 of 1 core")


def test_no_quota_in_version_1_is_minus_one(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/cpu/cpu.cfs_"
    plant(tmp_path, {"proc/self/cgroup": "1:cpu:/\n", f"{top}quota_us": "-1\n", f"{top}period_us": "100000\n"})
    assert is_fine(fitness.quota(tmp_path, 2), "none")


def test_memory_and_swap(machine: Path) -> None:
    assert is_fine(fitness.memory(machine), "11.4 GiB available")
    assert is_fine(fitness.swap(machine), "not in use")
    plant(machine, {"proc/meminfo": MEMORY.format(available=1000000, swap_free=5000000)})
    assert turned(fitness.memory(machine), "1.0 GiB available", "close programs")
    assert turned(fitness.swap(machine), "2.9 GiB in use", "swapoff")


def test_what_a_system_does_not_tell_is_named_and_no_objection(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in check(tmp_path)}
    real = {"other processes", "noise"}  # measured, not read
    assert {name for name in found if NOT_KNOWN not in found[name].found} == real
    assert all(found[name].ok for name in found.keys() - real)


def test_files_that_hold_something_else_are_not_known(machine: Path) -> None:
    plant(
        machine,
        {
            "proc/loadavg": "\n",
            "proc/stat": "",
            "proc/meminfo": "MemAvailable: many kB\n",
            "proc/self/cgroup": "nothing\n",
            f"{CPU}/cpufreq/boost": "maybe",
            f"{CPU}/cpu0/topology/thread_siblings_list": "all",
            f"{CPU}/cpu0/cpufreq/scaling_governor": "",
        },
    )
    found = [fitness.load(machine, 2), fitness.steal(fitness.ticks(machine), None), fitness.memory(machine)]
    found += [fitness.swap(machine), fitness.quota(machine, 2), fitness.boost(machine), fitness.cores(machine, {0})]
    found.append(fitness.governor(machine, {0}))
    assert all(is_fine(finding, NOT_KNOWN) for finding in found)


def test_a_machine_is_fit_when_nothing_speaks_against_it(machine: Path) -> None:
    findings = [fitness.load(machine, 2), fitness.memory(machine)]
    assert fit(findings)
    assert not fit([*findings, Finding("swap", False, "2 GiB in use", "close programs")])


def test_the_real_machine_is_judged_in_about_a_second() -> None:
    start = time.perf_counter()
    findings = check()
    assert time.perf_counter() - start < 5
    assert len({finding.name for finding in findings}) == len(findings) == 11
    assert all(finding.ok or finding.advice for finding in findings)
