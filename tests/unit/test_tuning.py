"""The table of settings that was measured on another machine: written,
read, followed, recorded and reported."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backends.process.tuned import BUILT_IN, KEEP_MEMORY, Effect, Tuning, read_tuning
from benchmarks import tuning
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.plan import rows_of
from benchmarks.measure.statistics import Estimate
from benchmarks.report.bench_results import BenchResults
from benchmarks.report.page import report_of_bench
from benchmarks.report.repeated import are_repeated
from benchmarks.schema import BUDGET, Plan, Row
from common.errors import RosettaError
from tests.support.measurements import measurement, plan_of, slowed, written
from tests.support.program import refusal
from tests.unit.test_plan import planned

DAY = date(2027, 2, 3)
TABLE = Tuning(
    "A Processor",
    4,
    (
        Effect("torch", "memory", 1.1, 0.9, 1.3, DAY),
        Effect("tensorflow", "memory", 1.2, 1.1, 1.3, DAY),
    ),
    {"torch": "2.0"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "table.json"
    path.write_bytes(msgspec.json.encode(TABLE))
    return path


def tuned_by(table: Tuning) -> Measurement:
    """A measurement of torch and keras whose tuned lane follows the table."""
    plan = plan_of(["torch", "keras"])
    return measurement(replaced(plan, table))


def replaced(plan: Plan, table: Tuning) -> Plan:
    assert plan.training
    training = msgspec.structs.replace(plan.training, tuning=table)
    return msgspec.structs.replace(plan, training=training)


def test_a_table_turns_settings_on_and_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.process.tuned.has_quota", lambda: False)

    def lanes(table: Tuning) -> list[tuple[str, str, dict[str, str]]]:
        return [
            (row.backend, row.lane, row.variables)
            for row in rows_of(["torch", "keras"], tuning=table)
        ]

    built_in = [("torch", "tuned", KEEP_MEMORY), ("keras", "both", {}), ("torch", "installed", {})]
    assert lanes(BUILT_IN["lstm"]) == built_in
    assert lanes(TABLE) == [
        ("torch", "both", {}),
        ("keras", "tuned", KEEP_MEMORY),
        ("keras", "installed", {}),
    ]


def test_a_bench_records_its_table_and_how_to_take_it_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(monkeypatch, "bench", "--backends", "numpy", "--tuned", str(path))
    assert plan.training
    assert (plan.training.tuning, plan.training.tuned) == (TABLE, str(path))
    assert f"--tuned {path}" in plan.command
    again = planned(monkeypatch, "bench", "--backends", "numpy")
    assert again.training
    assert again.training.tuning == BUILT_IN["lstm"]


BAD = {
    "no JSON": ("Go.\tVa !", "is no table of settings: JSON is malformed"),
    "nothing": ("", "is no table of settings: Input data was truncated"),
    "another object": ("{}", "missing required field `processor`"),
    "deep": ('{"processor": ' + "[" * 100_000, "is no table of settings"),
    "large": (" " * (1 << 25), "cannot be read: it holds more than"),
}
# A field of the table or of its first effect, its value there, and a part of the message.
WRONG: list[tuple[str, object, str]] = [
    ("cores", 0, "Expected `int` >= 1"),
    ("effects", [], "Expected `array` of length >= 1"),
    ("variables", {}, "unknown field `variables`"),
    ("group", "\x1b[2J", "Invalid enum value '\\x1b[2J'"),
    ("low", 1.2, "the ratio 1.1 is outside its interval, 1.2 to 1.3"),
    ("ratio", "fast", "Expected `float`, got `str`"),
    ("date", "yesterday", "Invalid RFC3339 encoded date"),
]


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_table_is_refused_in_a_line(path: Path, content: str, said: str) -> None:
    path.write_text(content, encoding="utf-8")
    line = refusal(2, "bench", "--tuned", path)
    assert said in line
    assert "`python -m benchmarks.tuning` writes one" in line


@pytest.mark.parametrize(("name", "value", "said"), WRONG, ids=[name for name, _, _ in WRONG])
def test_a_table_with_a_wrong_value_is_refused_in_a_line(
    path: Path, name: str, value: object, said: str
) -> None:
    table: dict[str, Any] = json.loads(path.read_bytes())
    (table["effects"][0] if name in table["effects"][0] else table)[name] = value
    path.write_text(json.dumps(table), encoding="utf-8")
    assert said in refusal(2, "bench", "--tuned", path)


@pytest.mark.parametrize("name", ["none.json", "."])
def test_a_path_without_a_file_is_refused(path: Path, name: str) -> None:
    assert "cannot be read" in refusal(2, "bench", "--tuned", path.parent / name)


def test_a_report_tells_where_its_table_was_measured(tmp_path: Path) -> None:
    bench = written(tuned_by(TABLE), tmp_path / "a.jsonl")
    report, origin = report_of_bench(bench), "A Processor, 4 cores, with lstm, on 2027-02-03"
    assert f"They were measured on {origin}." in report.page
    assert report.content["notes"] == [
        f"the settings of the tuned lane were measured on {origin}, and not on this processor"
    ]
    here = msgspec.structs.replace(TABLE, processor="AMD EPYC with AVX-512")
    assert not BenchResults(tuned_by(here)).notes
    (note,) = BenchResults(tuned_by(msgspec.structs.replace(here, model="attention"))).notes
    assert note.endswith(", with attention, on 2027-02-03, and not with this model")


def test_measurements_with_other_tables_are_not_repeated() -> None:
    first, second = tuned_by(TABLE), tuned_by(TABLE)
    assert are_repeated([first, second])
    assert not are_repeated([first, tuned_by(BUILT_IN["lstm"])])


def test_a_measurement_without_a_table_has_the_built_in_one(tmp_path: Path) -> None:
    path = written(tuned_by(TABLE), tmp_path / "a.jsonl").path
    head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    older = json.loads(head)
    del older["plan"]["training"]["tuning"], older["plan"]["training"]["tuned"]
    path.write_text("".join([json.dumps(older) + "\n", *lines]), encoding="utf-8")
    training = Measurement.read(path).plan.training
    assert training
    assert (training.tuning, training.tuned) == (BUILT_IN["lstm"], "")


def measured(backend: str, **slower: float) -> Measurement:
    """A measurement of a backend with nothing set, and with each knob,
    whose steps take so many times as long."""
    rows = (Row(backend, "installed"), *(Row(backend, name=knob) for knob in slower))
    plan = Plan(rows, tuning.TUNING_WITHIN, BUDGET, training=plan_of([backend]).training)
    made = measurement(plan)
    for knob, factor in slower.items():
        made = slowed(made, factor, knob)
    return made


def test_effects_are_ratios_to_the_row_with_nothing_set() -> None:
    memory, threads = tuning.effects_of(
        measured("torch", memory=0.5, threads=1.0), ("memory", "threads")
    )
    assert (memory.framework, memory.knob, memory.date) == ("torch", "memory", date(2026, 7, 1))
    assert memory.ratio == pytest.approx(2.0, rel=0.02)
    assert (memory.helps, threads.helps) == (True, False)


@pytest.mark.parametrize(("rows", "ratio"), [(640, 1000 / 650), (630, 1000 / 800)])
def test_compiling_counts_for_each_shape_of_a_batch(rows: int, ratio: float) -> None:
    """Ten steps of 0.1 s, or of 0.05 s but for the first of each shape, which takes 0.2 s."""
    bench = measured("keras", xla=1.0)
    changed, plain = (
        BenchResults(bench).by_label[label] for label in ("xla", "keras, as installed")
    )
    plain.step, plain.first_step, changed.first_step = Estimate(0.1, 0.1, 0.1), 0.1, 0.2
    assert tuning.ratio_of_epochs(
        Estimate(2.0, 2.0, 2.0), changed, plain, rows
    ).value == pytest.approx(ratio)


def test_the_tool_writes_a_table_that_a_bench_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(path: Path, plan: Plan, decodes: bool) -> Any:
        made = measurement(plan)
        for row in plan.rows[1:]:
            made = slowed(made, 0.5 if row.name == "memory" else 1.2, row.name)
        written(made, path)
        return type("Benchmark", (), {"run": lambda *_: None})()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "opened_benchmark", opened)
    tuning.main("torch,keras,keras:example")
    (path,) = Path("results").glob("*.json")
    table = read_tuning(path)
    assert table.cores >= 1
    assert "numpy" in table.versions
    helpful = {(effect.framework, effect.knob) for effect in table.effects if effect.helps}
    assert helpful == {("torch", "memory"), ("tensorflow", "memory")}


def test_a_table_of_nothing_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(path: Path, plan: Plan, decodes: bool) -> Any:
        written(measurement(plan, rounds=0), path)
        return type("Benchmark", (), {"run": lambda *_: None})()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "opened_benchmark", opened)
    with pytest.raises(RosettaError, match="no setting was measured"):
        tuning.main("torch")
    assert not list(Path("results").glob("*.json"))
