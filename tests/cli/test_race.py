"""Scripts of strangers in a race: what is measured of those that behave,
and what becomes of those that do not."""

import os
import re
import sys
import time
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from rosetta_record import Record, take_turns
from rosetta_turns import TurnsError

from backends.process.parent import PROJECT
from benchmarks import schema
from benchmarks.measure import quiet, rounds, turns
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.proof import not_of_a_record
from benchmarks.measure.race import Race
from benchmarks.measure.scripts import Script, environment_of
from benchmarks.measure.statistics import Estimate, observations
from benchmarks.racing import script_rows
from benchmarks.report.race_results import RaceResults, misfits
from benchmarks.schema import Round, Row, Turn
from common.errors import RosettaError
from common.machine import cores
from tests.support.measurements import RACING, each_turn
from tests.support.program import answer, rosetta, wait_until

STEPS = """
import os, sys, threading, time
sys.path.insert(0, {project!r})
from rosetta_record import take_turns
begun = time.perf_counter()
def step():
    time.sleep(0.01)
"""
# A script without our half, which reads turns and answers as it likes.
RAW = """
import json, os, socket
wire = socket.socket(fileno=int(os.environ["ROSETTA_TURNS"])).makefile("rw")
def say(**message):
    print(json.dumps(message), file=wire, flush=True)
    return wire.readline()
READY = {{"python": "3", "versions": {{}}, "batch": 1, "synced": False, "record": None}}
"""


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Starts a script of this text, which is ended with the test at the latest."""
    with ExitStack() as stack:

        def started(text: str, patience: float = 20.0) -> Script:
            path = tmp_path / "side.py"
            path.write_text(text.format(project=str(PROJECT)))
            row = Row(lane="installed", python=sys.executable, name="side", command=(str(path),))
            script = Script(0, row, patience, counts=lambda step: (1, 2))
            script.start(stack)
            return script

        yield started


def turn_of(script: Script) -> Turn:
    """A turn of a script that has been started and warmed up."""
    script.wait_until_ready()
    script.warm_up(0.0)
    return script.turn("training", 0)


ANSWERS = RAW + (
    "say(ready=READY)\nwhile True: say(took={{'first': 0, 'lead': 0.0, 'steps': STEPS}})"
)
DEAF = (
    "print(json.dumps({{'ready': READY}}), file=wire, flush=True)\nimport time; time.sleep(0.5); "
    "os._exit(3)"
)
LATER = "threading.Timer(0.3, lambda: os._exit(0)).start(); take_turns(step)"
MISBEHAVING = {
    "crashes before": (
        "raise SystemExit('no such model')",
        r"status 1 before it.*; its last "
        r"words: no such model",
    ),
    "crashes in a step": (
        STEPS + "take_turns(lambda: 1 / 0)",
        r"status 1 in its turn; "
        r".*ZeroDivisionError",
    ),
    "is killed": (
        STEPS + "take_turns(lambda: os.kill(os.getpid(), 9))",
        "signal 9 in its turn, which the system",
    ),
    "never calls it": (
        STEPS,
        r"status 0 before its first turn, .*; end the script with "
        r"take_turns\(step\)",
    ),
    "exits early": (STEPS + LATER, "ended with status 0 (in|while it waited for) its turn"),
    "ends without reading its turn": (
        RAW + DEAF,
        "ended with status 3 (in|while it waited for) its turn",
    ),
    "calls it twice": (
        STEPS + "take_turns(lambda: take_turns(step))",
        "in its turn; .*was called before; expected",
    ),
    "hangs": (
        STEPS + "take_turns(lambda: time.sleep(60))",
        "did not answer for 1 s in its turn and was ended",
    ),
    "hangs before": (
        STEPS + "print('loading', flush=True); time.sleep(60)",
        "did not answer for 1 s before its first turn and was ended; .*; its last words: loading",
    ),
    "two processes": (
        STEPS + "os.fork(); take_turns(step)",
        "another message than .*several processes",
    ),
    "sends no JSON": (
        RAW + "print('step 1', file=wire, flush=True); wire.read()",
        "what take_turns does not send",
    ),
    "sends other types": (
        RAW + "say(ready=READY | {{'batch': 'many'}})",
        "what take_turns does not send: .*`int`",
    ),
    "sends no end": (RAW + "wire.write('1' * 2000000)", "what take_turns does not send: "),
    "is too quick": (
        ANSWERS.replace("STEPS", "[1e9]"),
        "sent 1 time, 1e.09 s in all; expected 1, and the turn",
    ),
    "counts otherwise": (ANSWERS.replace("STEPS", "[1e-9] * 9"), "sent 9 times, .*; expected 1"),
}


@pytest.mark.parametrize("how", MISBEHAVING)
def test_a_script_that_misbehaves_is_ended_with_one_sentence(how: str, start: Any) -> None:
    text, message = MISBEHAVING[how]
    script = start(text, 1.0 if "hangs" in how else 20.0)

    def three_turns() -> None:
        turn_of(script)
        if how == "exits early":
            wait_until(lambda: script.process.status is not None)
        script.turn("training", 0)

    with pytest.raises(RosettaError, match=message) as caught:
        three_turns()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("side ")


def test_a_script_keeps_its_streams_and_its_children_are_ended(start: Any) -> None:
    """A process that it forked computes on, has left its group and holds its socket;
    another has no environment."""
    script = start(
        STEPS
        + """
print("ready", {{"took": 1}}, flush=True)
assert sys.stdin.read() == "" and sys.argv[1:] == [] and "ROSETTA_TURNS" not in os.environ
os.system("python3 -c 'import os; os.fstat(3)' 2>/dev/null")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: pass
    if os.fork() == 0:
        os.execve(sys.executable, ["python", "-c", "import time; time.sleep(60)"], {{}})
    os._exit(0)
os.wait()
take_turns(step, batch=5)
"""
    )
    assert [seconds > 0.009 for seconds in turn_of(script).steps] == [True, True]
    assert script.ready.batch == 5

    family = [psutil.Process(pid) for pid in script.pids]
    assert len(family) == 3
    script.process.close()
    # A process that was killed may still be seen for a moment.
    wait_until(
        lambda: all(
            not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            for process in family
        )
    )


def test_a_script_that_ends_after_its_warm_up_has_no_threads(start: Any, monkeypatch: Any) -> None:
    script = start(STEPS + "take_turns(step)")
    script.wait_until_ready()
    took = Script._took

    def took_and_ended(*counts: Any) -> Any:
        answer = took(*counts)
        if counts[1]:  # not the cold step
            script.process.close()
        return answer

    monkeypatch.setattr(Script, "_took", took_and_ended)
    started = script.warm_up(0.0)
    assert (started.threads, started.warm_up.peak) == (0, 1)


def test_threads_that_spin_and_steps_that_grow_are_told(start: Any) -> None:
    spin = "threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()\n"
    script = start(STEPS + spin + "take_turns(step)")
    turn_of(script)
    time.sleep(0.3)
    turn = script.turn("training", 0)
    assert turn.idle > 0.1, "of a core, where others use the machine, too"
    idle, growing = misfits("side", [msgspec.structs.replace(turn, idle=0.9)], 1.4)
    assert re.match(r"side used \d.\d cores while it was not its turn", idle)
    assert "takes 1.4 times as long at the end of a round" in growing
    assert [*misfits("side", [msgspec.structs.replace(turn, idle=0.0)], 1.0)] == []


RECORDED = (
    STEPS
    + """
import numpy as np
from rosetta_record import Record
kernel, inputs = np.arange(6.0).reshape(2, 3), np.array([[1.0, 2.0]])
record = Record({folder!r})
record.inputs(x=inputs)
note = str({factor}) * 1000  # longer than a sentence of a measurement
y = inputs @ kernel * {factor}
record.layer("output", "Linear", {{"weight": kernel}}, {{"activation": note}}, y)
record.forward(y=y)
def step(number):
    assert number < 100_000, "steps are counted from 0 in each process"
    time.sleep({seconds})
take_turns(step, batch=np.int64({batch}), after=record)
"""
)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (
            "None",
            "after is of builtins.NoneType; expected a Record or its folder: .* its methods "
            "return nothing",
        ),
        ("'nowhere'", "after is nowhere, in which there is no record: "),
        (
            "Record('empty')",
            "the record in .*empty has no outputs; call record.training or record.forward before",
        ),
    ],
)
def test_a_record_that_says_nothing_is_refused_before_any_step(
    tmp_path: Path, monkeypatch, after, message
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TurnsError, match=message):
        take_turns(lambda: pytest.fail("a step was done"), after=eval(after, {"Record": Record}))


def test_take_turns_refuses_a_wrong_step_or_batch() -> None:
    with pytest.raises(
        TurnsError,
        match=r"step is of builtins.NoneType; expected a function: "
        r"take_turns\(step\)",
    ):
        take_turns(None)  # type: ignore[arg-type]
    with pytest.raises(
        TurnsError,
        match=r"batch is 2\.5; expected a whole number, the items in a "
        r"step",
    ):
        take_turns(lambda: pytest.fail("a step was done"), batch=2.5)  # type: ignore[arg-type]


def side(path: Path, seconds: float, factor: float = 1.0, batch: int = 1) -> Path:
    """A script that records a small model and whose step sleeps for so many seconds."""
    folder = str(path.with_name("record"))  # the same for all
    path.write_text(
        RECORDED.format(
            project=str(PROJECT), folder=folder, factor=factor, seconds=seconds, batch=batch
        )
    )
    return path


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races of three rounds with short turns, which mind no other program."""
    monkeypatch.setattr(Race, "timed_seconds", 0.04)
    for name, value in {"LEAD_SECONDS": 0.02, "CAREFUL_ROUNDS": 3, "ENOUGH_ROUNDS": 3}.items():
        monkeypatch.setattr(rounds, name, value)
    monkeypatch.setattr(quiet, "MOST_WAIT", quiet.WINDOW)
    for place in (schema, turns):
        monkeypatch.setattr(place, "MOST_OTHERS", inf)
    monkeypatch.setattr(quiet, "wait_until_fit", lambda note, longest: True)


def test_two_scripts_are_seen_to_compute_the_same_and_then_raced(
    tmp_path: Path, short: None
) -> None:
    """Times are those of an item: a step of twice as many that takes as long is twice as fast."""
    slow, quick = side(tmp_path / "slow.py", 0.02), side(tmp_path / "quick.py", 0.02, batch=16)
    out, page = tmp_path / "r.jsonl", tmp_path / "page.html"
    race = answer("race", quick, slow, "--out", out, "--within", "50%", "--env", "slow:MINE=1")
    headline = race["headline"]
    assert "sentences" not in race, "which are a bench's"
    assert all(verdict in headline for verdict in race["verdicts"])
    assert re.fullmatch(
        r"quick is .* times as fast as slow .*; its record computes .* "
        r"\(forward\)\.",
        headline,
    )
    assert race["rows"][1]["ratio"]["value"] == pytest.approx(16, rel=0.3)
    assert [row["items"] for row in race["rows"]] == [16, 1]
    assert race["rows"][0]["start"] > race["rows"][0]["first_step"] > 0.02
    assert race["rounds"] == 3
    assert Measurement.read(out).head.plan.rows[1].variables["MINE"] == "1"
    assert rosetta("report", out, "-o", page)[0] == 0
    assert "computes the same (forward)" in page.read_text()
    assert rosetta("report", out, out)[0] == 1, "races do not stand side by side"


def test_a_surely_slower_script_ends_with_status_1(tmp_path: Path, short: None) -> None:
    old, new = side(tmp_path / "old.py", 0.01), side(tmp_path / "new.py", 0.03, factor=1.5)
    options = "--fail-slower", "5%", "--within", "50%", "--out", tmp_path / "r.jsonl"
    status, shown, errors = rosetta("race", f"new={new}", f"old={old}", *options)
    assert (status, "not the same model: parts at forward" in " ".join(shown.split())) == (1, True)
    assert re.search(
        r"rosetta: slower by more than 5%: new takes [\d.]+ times as long as old \(", errors
    )


def test_slower_is_by_more_than_the_limit() -> None:
    results = RaceResults(Measurement.read(RACING / "threads.jsonl"))
    results.rows[1].ratio = Estimate(0.97, 0.96, 0.98)
    assert [results.slower(limit) for limit in (0.01, 0.03, 0.05)] == [
        "slower",
        "not told apart",
        "faster",
    ]


def test_variables_of_shell_and_env_win_over_the_tuned_lane(tmp_path: Path, monkeypatch) -> None:
    """OMP_NUM_THREADS sets all numbers of threads; the installed lane sets nothing."""
    script = str(side(tmp_path / "one.py", 0.0))
    threads = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    for name in (*threads, "GLIBC_TUNABLES", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    tuned, installed = script_rows([script], [], ["one:GOMP_SPINCOUNT=7"], "tuned,installed")
    assert [(runner.label, runner.lane) for runner in (tuned, installed)] == [
        ("one, tuned", "tuned"),
        ("one, installed", "installed"),
    ]
    assert tuned.variables.items() >= {"OMP_NUM_THREADS": "3,1", "GOMP_SPINCOUNT": "7"}.items()
    assert installed.variables == {"GOMP_SPINCOUNT": "7"}
    of_tuned, of_installed = environment_of(tuned), environment_of(installed)
    assert [of_tuned[name] for name in threads] == ["3,1", "3", "3"]
    assert of_tuned["GOMP_SPINCOUNT"] == "7"
    assert "GLIBC_TUNABLES" in of_tuned
    assert of_tuned.get("NVIDIA_TF32_OVERRIDE") == os.environ.get("NVIDIA_TF32_OVERRIDE"), (
        "the code decides"
    )
    assert not {*threads[1:], "GLIBC_TUNABLES"} & of_installed.keys()
    for asked in ("", "0", "many"):
        variables = {"OMP_NUM_THREADS": asked}
        assert environment_of(msgspec.structs.replace(tuned, variables=variables))[
            "MKL_NUM_THREADS"
        ] == str(cores())


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path, short: None) -> None:
    script = side(tmp_path / "one.py", 0.01)
    options = "--python", "b=/no/python", "--out", tmp_path / "r.jsonl"
    status, _, errors = rosetta("race", script, f"b={script}", *options)
    assert (status, "/no/python cannot be started, since it is no program" in errors) == (2, True)


def test_uneven_steps_are_compared_step_by_step() -> None:
    measurement = Measurement.read(RACING / "threads.jsonl")

    def compared(apart: int, steps: list[float]) -> bool:
        """True if steps are compared one by one although the second
        script did other steps in `apart` rounds."""

        def planted(line: Round, turn: Turn) -> Turn:
            first = 10**6 if turn.row and line.number <= apart else 3
            return msgspec.structs.replace(turn, first=first, each=1, steps=steps)

        return observations(each_turn(measurement, planted)).same_steps

    few = (len(measurement.rounds()) - 1) // 2
    assert [compared(apart, [0.01, 0.1] * 2) for apart in (0, few, few + 1)] == [True, True, False]
    assert not compared(0, [0.1, 0.11])


def test_only_a_record_is_copied_from_a_scripts_folder() -> None:
    assert not_of_a_record("", ["record.json", "home", "control"]) == ["home"]


def test_a_measurement_of_a_race_is_not_trusted(tmp_path: Path) -> None:
    """Names of a stranger's are no markup, and numbers are in their ranges."""
    out, page = tmp_path / "r.jsonl", tmp_path / "page.html"
    text = (RACING / "threads.jsonl").read_text()
    out.write_text(text.replace('"name":"two"', '"name":"<b>|@x"'))
    assert rosetta("report", out, "-o", page)[0] == 0
    assert "&lt;b&gt;" in page.read_text()
    assert "<b>|" not in page.read_text()
    changes = {
        r'"batch":\d+': '"batch":0',
        '"row":1': '"row":7',
        '"two"': '"one"',
        '"first":': '"last":',
    }
    for before, after in changes.items():
        assert re.search(before, text)
        out.write_text(re.sub(before, after, text))
        with pytest.raises(RosettaError, match=r"damaged"):
            Measurement.read(out)
