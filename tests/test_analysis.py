"""What is said of a recording: medians, ratios, verdicts, gates, and what is not ranked."""

import json
from math import inf
from statistics import fmean

import numpy as np
import pytest

from benchmarks.analysis import analyse
from benchmarks.figures import blocks
from benchmarks.plan import BASELINE
from benchmarks.recording import Recording
from benchmarks.report.render import render_markdown
from benchmarks.results import Quality, seconds_to_target
from benchmarks.scenarios import AT_LEAST
from benchmarks.tables import apart_tables, comparison_table
from tests import recordings
from tests.recordings import SECONDS, changed, each_cell, recording


def test_rows_come_fastest_first_with_the_ratio_that_was_planted(tmp_path) -> None:
    results = analyse(recording(tmp_path / "a.jsonl"))
    matched = [row for row in results.rows if row.lane == "matched"]
    assert [row.name for row in matched] == ["torch", "paddle", "keras", "keras:example"]
    for row in matched[:-1]:
        assert row.ratio.word == "faster"
        assert row.ratio.ratio.value == pytest.approx(SECONDS["keras:example"] / SECONDS[row.name], rel=0.01)
        assert row.ratio.ratio.low < row.ratio.ratio.value < row.ratio.ratio.high
    assert matched[-1].ratio is None
    assert matched[0].train_seconds_per_epoch == pytest.approx(0.06 * 10, rel=0.01)
    assert results.headline.startswith("torch trains fastest")
    assert results.floor < 0.03
    assert not results.warnings


def test_one_backend_against_itself_is_hardly_ever_faster_or_slower(tmp_path) -> None:
    """Of rows that ran against themselves none; as installed they did not, and 1 in 20 may be wrong."""
    same = dict.fromkeys(SECONDS, 0.1)
    found = [analyse(recording(tmp_path / f"{seed}.jsonl", same, noise=0.01, seed=seed)) for seed in range(10)]
    words: dict[str, list[str]] = {}
    for row in (row for results in found for row in results.rows if row.ratio):
        words.setdefault(row.lane, []).append(row.ratio.word)
    assert set(words["matched"]) <= {"same", "inconclusive"}
    wrong = [word for word in words["default"] if word in ("faster", "slower")]
    assert len(wrong) <= len(words["default"]) / 20


def test_no_speed_without_equality(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl", certified=False)
    assert not any(row.ranked for row in analyse(made).rows)
    made.records += [recordings.certificate("paddle"), recordings.certificate("keras", passed=False)]
    made.records += [recordings.certificate("keras", lane="default")]
    made.records += [recordings.certificate("torch", version="0.9")]
    rows = analyse(made).rows
    assert [row.label for row in rows if row.ranked] == ["paddle", "keras, as installed"]
    assert rows[0].label == "paddle", "what is not ranked comes after the others, however fast"
    reasons = {row.label: row.why_not for row in rows if not row.ranked}
    assert "broken" in reasons["keras"]
    assert "this version" in reasons["torch"]


def test_the_keys_of_the_first_version_are_kept(tmp_path) -> None:
    results = analyse(recording(tmp_path / "a.jsonl")).as_json()
    assert results.keys() >= {
        "format",
        "version",
        "machine",
        "sha256",
        "data",
        "settings",
        "num_epochs",
        "rows",
        "decoded",
    }
    assert results["rows"][0].keys() >= {
        "backend",
        "variant",
        "version",
        "threads",
        "train_seconds_per_epoch",
        "train_samples_per_second",
        "loss",
        "val_loss",
        "val_accuracy",
        "val_accuracy_real",
        "decode_sentences",
        "decode_sentences_per_second",
        "facts",
        "certificate",
        "epochs",
    }
    trained = next(row for row in results["rows"] if row["lane"] == "matched")
    assert trained["epochs"][0].keys() >= {"seconds", "samples", "loss", "val_loss", "val_accuracy"}
    assert results["decoded"][0].keys() == {"source", "references", "translations"}
    json.dumps(results, allow_nan=False)


def test_masked_and_bucketed_rows_are_apart_and_compared_by_pairs(tmp_path) -> None:
    results = analyse(recording(tmp_path / "a.jsonl"))
    assert not any(row.batches == "bucketed" for row in results.rows)
    assert [row.label for row in results.bucketed] == [
        f"{name}, masked and bucketed" for name in ("torch", "paddle", "keras")
    ]
    for row in results.bucketed:
        assert row.ranked
        seconds_a_batch = SECONDS[row.name] / 2 * 20 / 19.5
        assert row.train_samples_per_second == pytest.approx(64 / seconds_a_batch, rel=0.01)
        assert row.ratio.word == "faster"
        assert row.ratio.ratio.value == pytest.approx(SECONDS["keras:example"] / seconds_a_batch, rel=0.01)
        assert row.bucketing.ratio.value == pytest.approx(2 * 19.5 / 20, rel=0.02)
        for name in ("decode_ratio", "longest_ratio", "decode_character", "decode_sentences_per_second", "roofline"):
            assert getattr(row, name) is None, name
        assert row.latency == {}
    assert results.headline.startswith("torch trains fastest")
    neighbours = [(pair["first"], pair["second"]) for pair in results.pairs]
    assert ("torch, masked and bucketed", "paddle, masked and bucketed") in neighbours
    assert not any(("bucketed" in first) != ("bucketed" in second) for first, second in neighbours)


def test_a_bucketed_epoch_takes_what_its_pairs_do_and_a_shuffled_one_whole_batches(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl")
    made.corpus["sizes"]["training_rows"] = 600
    results = analyse(made)
    epochs = {row.batches: row.steps_an_epoch for row in results.all_rows if row.name == "torch"}
    assert epochs == {"shuffled": 10, "bucketed": 600 / 64}


def test_a_backend_that_this_version_lacks_has_its_row(tmp_path) -> None:
    path = recording(tmp_path / "a.jsonl").path
    theirs = tmp_path / "theirs.jsonl"
    theirs.write_text(path.read_text(encoding="utf-8").replace('"paddle"', '"jax"'), encoding="utf-8")
    results = analyse(Recording.read(theirs))
    assert {row.name for row in results.rows} == {"torch", "jax", "keras", "keras:example"}
    assert "| jax |" in render_markdown(results)


def test_reduced_precision_is_apart_however_fast(tmp_path) -> None:
    results = analyse(recording(tmp_path / "a.jsonl", SECONDS | {"torch:bfloat16": 0.04}))
    assert not any(row.name == "torch:bfloat16" for row in results.full_rows)
    assert {row.label for row in results.reduced} == {
        "torch:bfloat16",
        "torch:bfloat16, as installed",
        "torch:bfloat16, masked and bucketed",
    }
    row = next(row for row in results.reduced if row.label == "torch:bfloat16")
    assert row.ratio.ratio.value == pytest.approx(SECONDS["keras:example"] / 0.04, rel=0.01)
    assert row.reducing.ratio.value == pytest.approx(SECONDS["torch"] / 0.04, rel=0.01)
    assert row.quality
    assert row.roofline is None
    assert results.headline.startswith("torch trains fastest")
    assert all(row.reducing is None for row in results.full_rows)
    said = [label for pair in results.pairs for label in (pair["first"], pair["second"])]
    said += [label for o in results.overtakings for label in (o.slow_starter, o.overtakes)]
    assert not any("bfloat16" in label for label in said)


def test_the_noise_of_reduced_precision_is_its_own(tmp_path) -> None:
    def noisy(cell) -> None:
        if cell["backend"] == "torch:bfloat16" and cell["control"]:
            cell["training"]["step_seconds"] = [1.5 * seconds for seconds in cell["training"]["step_seconds"]]

    made = recording(tmp_path / "a.jsonl", SECONDS | {"torch:bfloat16": 0.04})
    results = analyse(changed(made, "round", each_cell(noisy)))
    (row,) = (row for row in results.reduced if row.label == "torch:bfloat16")
    assert row.floor > 0.3
    assert results.floor == max(row.floor for row in results.rows if row.floor) < 0.1


def test_tables_and_report_hold_reduced_precision_apart(tmp_path) -> None:
    results = analyse(recording(tmp_path / "a.jsonl", SECONDS | {"torch:bfloat16": 0.04}))
    first, *apart = [comparison_table(results), *apart_tables(results)]
    assert ["bfloat16" in "".join(first.columns[0].cells), [table.title for table in apart]] == [
        False,
        ["Masked and bucketed", "Reduced precision"],
    ]
    assert "torch:bfloat16" in "".join(apart[1].columns[0].cells)
    sections = render_markdown(results).split("\n## ")
    holding = [section.splitlines()[0] for section in sections if "| torch:bfloat16 |" in section]
    assert holding == ["Verdicts", "Reduced precision", "Settings and evidence"]
    _, against_itself = next(one for one in sections if one.startswith("Verdicts")).split("against itself**")
    assert "| torch:bfloat16 |" in against_itself, "of verdicts, its noise floor alone"


def test_a_masked_and_bucketed_row_needs_a_certificate_of_its_own(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl")
    made.records = [r for r in made.records if (r["kind"], r.get("batches")) != ("certificate", "bucketed")]
    results = analyse(made)
    assert all(row.ranked for row in results.rows)
    assert not any(row.ranked for row in results.bucketed)


def test_the_sentence_with_the_longest_output_is_compared_with_the_baselines(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl")
    row = analyse(made).rows[0]
    assert row.longest_output == 40
    assert row.longest_character.value == pytest.approx(SECONDS["torch"] / 40, rel=0.01)
    assert row.longest_ratio.ratio.value == pytest.approx(SECONDS["keras:example"] / SECONDS["torch"], rel=0.01)
    early = analyse(changed(made, "round", each_cell(lambda cell: cell.pop("longest")))).rows[0]
    assert (early.longest_output, early.longest_character, early.longest_ratio) == (None, None, None)


def test_the_wait_for_data_is_a_share_of_the_steps(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl")
    assert analyse(made).rows[0].data_share == pytest.approx(0.002)
    early = changed(made, "round", each_cell(lambda cell: cell["training"].pop("data_seconds")))
    assert analyse(early).rows[0].data_share is None


def test_the_command_says_what_is_not_the_default(tmp_path) -> None:
    said = analyse(recording(tmp_path / "a.jsonl")).command
    assert said.split(" \\\n    ") == [
        "rosetta bench",
        "--preset standard",
        "--backends keras:example,keras,paddle,torch",
        "--steps 20",
        "--epochs 3",
        "--threads 2",
    ]


def test_one_round_gives_medians_and_no_verdict(tmp_path) -> None:
    results = analyse(recording(tmp_path / "a.jsonl", rounds=1))
    row = results.rows[0]
    assert row.train_seconds_per_epoch == pytest.approx(0.6, rel=0.05)
    assert row.step is None
    assert row.ratio.word == "none"
    assert "2 are needed" in row.ratio.text


def test_without_the_baseline_there_is_no_ratio_and_that_is_said(tmp_path) -> None:
    results = analyse(recording(tmp_path / "a.jsonl", {"torch": 0.06, "keras": 0.09}))
    assert all(row.ratio is None for row in results.rows)
    assert any("keras:example was not measured" in warning for warning in results.warnings)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda cell: cell.update(others=0.5), "other work"),
        (lambda cell: cell.update(parent=0.02), "waiting"),
        (lambda cell: cell["facts"].update(threads=1), "1 threads where 2"),
        (lambda cell: cell["training"].update(loop_seconds=1.02 * sum(cell["training"]["step_seconds"])), "1 %"),
        (lambda cell: cell["training"].update(losses=[2.0, 2.5, 3.0, 3.5]), "loss did not fall"),
    ],
)
def test_a_gate_that_fails_is_said_with_advice(tmp_path, change, expected) -> None:
    made = changed(recording(tmp_path / "a.jsonl"), "round", each_cell(change))
    warnings = analyse(made).warnings
    assert any(expected in warning and "7 of 7 rounds" in warning for warning in warnings), warnings


def test_the_fastest_is_told_from_all_others_and_not_from_the_next_one_alone(tmp_path) -> None:
    def noisy(cell) -> None:
        if cell["backend"] == "keras" and cell["control"]:
            cell["training"]["step_seconds"] = [2 * seconds for seconds in cell["training"]["step_seconds"]]

    results = analyse(changed(recording(tmp_path / "a.jsonl"), "round", each_cell(noisy)))
    assert [row.name for row in results.rows if row.lane == "matched"] == ["torch", "paddle", "keras", BASELINE]
    assert results.headline.startswith("torch trains fastest by the medians, not surely faster than keras, at")


def test_what_trainings_come_to_is_the_median_over_the_seeds(tmp_path) -> None:
    def by_seed(record) -> None:
        record["epochs"][-1] |= {"val_loss": 1.0 + record["seed"] ** 2, "chrf": 30.0 + record["seed"] ** 2}

    results = analyse(changed(recording(tmp_path / "a.jsonl"), "quality", by_seed))
    assert {row.val_loss for row in results.rows if row.lane == "matched"} == {2.0}
    assert any("31.0" in cells for cells in (list(column.cells) for column in comparison_table(results).columns))


def test_another_kernel_in_one_lane_is_said(tmp_path) -> None:
    def fall_back(cell) -> None:
        if (cell["backend"], cell["lane"]) == ("torch", "default"):
            cell["kernels"] = [{"name": "addmm", "calls": 6, "seconds": 0.1, "part": "products"}]

    warnings = analyse(changed(recording(tmp_path / "a.jsonl"), "round", each_cell(fall_back))).warnings
    assert warnings == [
        "torch, as installed: most of its time goes to addmm, in the matched lane to mkldnn_rnn_layer"
    ]


def test_the_parts_of_a_step_sum_to_it(tmp_path) -> None:
    results = analyse(recording(tmp_path / "a.jsonl"))
    for row in results.rows:
        step = row.train_seconds_per_epoch / row.steps_an_epoch
        # Three quarters in kernels, two to one; a five-hundredth in the tensors, which the baseline makes before.
        data = 0.0 if row.name == BASELINE else 0.002
        expected = {"LSTM": 0.5, "products": 0.25, "data": data, "Python": 0.25 - data}
        shares = {part: seconds / step for part, seconds in row.time_parts.items() if seconds}
        assert shares == pytest.approx({part: share for part, share in expected.items() if share})
        assert sum(row.time_parts.values()) == pytest.approx(step)


def test_kernels_side_by_side_leave_no_part_below_zero(tmp_path) -> None:
    def overlap(cell) -> None:
        cell["profiled"] |= {"busy_seconds": 0.3, "seconds": 0.2}  # busy on two clocks, or on a device as well

    row = analyse(changed(recording(tmp_path / "a.jsonl"), "round", each_cell(overlap))).rows[0]
    assert min(row.time_parts.values()) >= 0
    assert sum(row.time_parts.values()) == pytest.approx(row.train_seconds_per_epoch / row.steps_an_epoch)


def test_an_early_recording_has_no_parts(tmp_path) -> None:
    def early(cell) -> None:
        del cell["profiled"]
        for kernel in cell["kernels"]:
            del kernel["part"]

    results = analyse(changed(recording(tmp_path / "a.jsonl"), "round", each_cell(early)))
    assert all(row.kernels and row.time_parts == {} for row in results.rows)


def test_a_loss_that_is_not_finite_is_not_ranked(tmp_path) -> None:
    made = changed(
        recording(tmp_path / "a.jsonl"), "round", each_cell(lambda cell: cell["training"].update(losses=[np.nan] * 4))
    )
    assert not any(row.ranked for row in analyse(made).rows)


def test_blocks_last_long_enough_and_lose_no_time() -> None:
    rng = np.random.default_rng(0)
    for steps in ([0.3], [0.01], rng.uniform(0.001, 0.2, 57).tolist(), [0.06] * 5):
        made = blocks(steps)
        mean = fmean(steps)
        assert min(made) > 0
        assert made.min() <= mean <= made.max() or made == pytest.approx(mean)
        assert len(made) <= max(1, sum(steps) / AT_LEAST)
    assert blocks([0.06] * 4 + [0.03]) == pytest.approx([0.06, 0.05]), "the rest is with the last one"


def test_a_run_that_never_arrives_counts_as_such(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl")
    slow = changed(
        made,
        "quality",
        lambda r: (
            r.update(recordings.quality("torch", r["seed"], (1.0, 2.0, 3.0), r["batches"]))
            if r["backend"] == "torch"
            else None
        ),
    )
    results = analyse(slow)
    assert results.target_chrf == 30.0, "what the baseline reaches"
    times = {row.label: [q.seconds_to_target for q in row.quality] for row in results.rows}
    assert times["torch"] == [None] * 3
    assert times["keras"] == [6.0] * 3
    assert {row.label: row.target_ratio for row in results.all_rows if row.lane == "matched"} == {
        "torch": None,
        "keras": 1.0,
        "paddle": 1.0,
        "keras:example": 1.0,
        "torch, masked and bucketed": None,
        "keras, masked and bucketed": 1.5,
        "paddle, masked and bucketed": 1.5,
    }
    said = render_markdown(results)
    assert "(epochs: 3; masked and bucketed: 4)" in said
    assert "| epoch 3 | epoch 4 |" in said


@pytest.mark.parametrize(("arrived", "expected"), [([2.0, 4.0, None], 4.0), ([2.0, None, None], inf), ([2.0], 2.0)])
def test_trainings_that_never_arrive_count_as_the_longest(arrived, expected) -> None:
    assert seconds_to_target([Quality(seed, [], seconds) for seed, seconds in enumerate(arrived)]) == expected


def test_the_cost_of_what_is_installed_is_told(tmp_path) -> None:
    made = changed(
        recording(tmp_path / "a.jsonl"),
        "round",
        each_cell(
            lambda cell: (
                cell["training"].update(step_seconds=[3 * s for s in cell["training"]["step_seconds"]])
                if (cell["backend"], cell["lane"]) == ("paddle", "default")
                else None
            )
        ),
    )
    costs = {row.name: row.default_cost for row in analyse(made).rows if row.lane == "default"}
    assert costs["paddle"].ratio.value == pytest.approx(1 / 3, rel=0.02)
    assert costs["torch"].word in ("same", "inconclusive")
