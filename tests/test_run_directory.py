"""A run on disk: whole or not there, read whatever a crash left, and one clear error when damaged."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import common.files
from common import run_directory, weights
from common.errors import CannotBeginError, RosettaError, in_words
from common.files import new_folder, write_atomically
from common.run_directory import STATE_FILES, Progress, RunDirectory
from common.weights import ModelState, initial_state, to_bytes
from tests.program import refusal
from tests.small_run import (
    CONFIGS,
    FILES,
    MODEL,
    NEW_FILES,
    PAIRS,
    VOCABULARIES,
    as_version_1,
    assert_state,
    contents,
    create,
    epoch_of,
    progress_of,
    same_training,
    state_of,
    write,
)

pytestmark = pytest.mark.usefixtures("known_machine")
VAL_LOSSES = [3.0, 1.0, 2.0]  # of the run below
FULL = OSError(28, "No space left on device")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Three epochs, the second of them the best."""
    run = create(tmp_path / "run")
    write(run, VAL_LOSSES)
    return run


# Whole


def test_what_is_created_is_opened_again_wherever_it_is_moved(tmp_path: Path) -> None:
    created = create(tmp_path / "deep" / "run")
    assert sorted(os.listdir(created.path)) == NEW_FILES
    assert os.listdir(tmp_path / "deep") == ["run"]
    shutil.move(created.path, tmp_path / "moved")
    opened = RunDirectory.open(str(tmp_path / "moved"))
    assert replace(opened, path=created.path) == created
    assert (opened.model_config, opened.train_config, opened.data_config) == CONFIGS
    assert (opened.backend, opened.sha256) == ("torch:compile", "ab" * 32)
    assert opened.pairs() == PAIRS
    assert (opened.max_encoder_seq_length, opened.max_decoder_seq_length) == (len("Go."), len("\tBouge\u2028!\n"))
    assert [v.characters for v in opened.vocabularies()] == [v.characters for v in VOCABULARIES]
    assert opened.history() == ()
    assert_state(opened, "last", 0)
    assert_state(opened, "best", 0)


def test_a_state_is_read_in_another_precision(tmp_path: Path) -> None:
    run = create(tmp_path / "run", "float64")
    for dtype, expected in [(None, "float64"), ("float32", "float32"), ("float64", "float64")]:
        state, _ = run.read_state("last", dtype)
        assert {a.dtype for a in [*state.weights.values(), *state.mean_squares.values()]} == {np.dtype(expected)}


@pytest.mark.parametrize("kind", ["run", "file", "empty folder"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    make = {"run": create, "file": Path.touch, "empty folder": Path.mkdir}[kind]
    make(path)
    before = contents(tmp_path)
    with pytest.raises(CannotBeginError, match="exists already"):
        create(path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["disk", "Ctrl-C"])
def test_a_creation_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "run"
    for step in range(len(NEW_FILES)):
        written: list[Path] = []

        def fail(path: Path, content: bytes, step: int = step, written: list[Path] = written) -> None:
            written.append(path)
            if len(written) > step:
                raise error
            write_atomically(path, content)

        monkeypatch.setattr(run_directory, "write_atomically", fail)
        monkeypatch.setattr(common.files, "write_atomically", fail)
        with pytest.raises((RosettaError, KeyboardInterrupt)) as caught:
            create(path)
        expected = f"{path} cannot be written: the disk is full; nothing is left of it" if error is FULL else ""
        assert str(caught.value) == expected
        assert list(tmp_path.iterdir()) == []
        monkeypatch.undo()


def test_where_no_run_can_be_none_is_made_or_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotBeginError, match="cannot be written"):
        create(tmp_path / "file" / "deeper" / "run")
    for length in (230, 260):
        with pytest.raises(CannotBeginError, match="cannot be written: the name is too long; choose one of"):
            create(tmp_path / ("n" * length))
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CannotBeginError, match="is not a run"):
            RunDirectory.open(path)
    dangling = tmp_path / "link"
    dangling.symlink_to("nowhere")
    for use in (create, RunDirectory.open):
        with pytest.raises(CannotBeginError, match="link is a link to nowhere, where there is nothing; remove"):
            use(dangling)
    assert "is a link to nowhere" in refusal(2, "translate", dangling, "Go on.")


def test_a_run_of_more_pairs_than_are_read_again_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run_directory.LARGEST_TEXTS, "pairs.tsv", 20)
    with pytest.raises(CannotBeginError, match="a run keeps 20 at most; give a smaller --num-samples"):
        create(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# Epochs


def test_the_best_state_is_that_of_the_lowest_validation_loss(run: RunDirectory) -> None:
    assert run.history() == tuple(epoch_of(*numbered) for numbered in enumerate(VAL_LOSSES, 1))
    assert_state(run, "last", 3)
    assert_state(run, "best", 2)
    write(run, [*VAL_LOSSES, 0.5], done=3)
    assert_state(run, "best", 4)
    assert sorted(os.listdir(run.path)) == FILES


def test_a_state_that_diverged_is_not_written(run: RunDirectory) -> None:
    before, state = contents(run.path), state_of(4)
    state.weights["dense/bias"][0] = np.nan
    with pytest.raises(RosettaError, match="diverged"):
        run.write_epoch(state, progress_of([*VAL_LOSSES, 0.1]))
    assert contents(run.path) == before


def test_a_history_that_could_not_be_read_again_is_not_written(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run.path)
    monkeypatch.setattr(weights, "LARGEST_METADATA", 3000)
    with pytest.raises(RosettaError, match="cannot keep epoch 30: its history is too long"):
        run.write_epoch(state_of(30), progress_of([1.0] * 30))
    assert contents(run.path) == before


def test_a_best_state_that_is_not_there_yet_is_the_last_one_and_reading_writes_nothing(run: RunDirectory) -> None:
    """As a crash leaves it; what goes on after one is tried at each of its points by tests/attack/exits.py."""
    old = (run.path / "best.safetensors").read_bytes()
    write(run, [*VAL_LOSSES, 0.5], done=3)
    (run.path / "best.safetensors").write_bytes(old)
    before = contents(run.path)
    assert_state(RunDirectory.open(run.path), "best", 4)
    assert contents(run.path) == before


def test_a_best_state_of_another_epoch_than_the_history_says_is_one_clear_error(run: RunDirectory) -> None:
    shutil.copy(run.path / "state.safetensors", run.path / "best.safetensors")
    expected = "is of epoch 3, and the history's lowest validation loss is that of epoch 2"
    assert expected in assert_refused(run.path, "best.safetensors")


def test_the_best_state_is_found_although_another_process_writes_epochs(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process ends two epochs between the reading of the last state and that of the best one."""
    read = RunDirectory._state

    def read_too_early(self: RunDirectory, which: str) -> Any:
        monkeypatch.undo()
        found = read(self, which)
        write(run, [*VAL_LOSSES, 0.5, 0.6], done=3)
        return found

    monkeypatch.setattr(RunDirectory, "_state", read_too_early)
    assert_state(run, "best", 4)


@pytest.mark.parametrize(("which", "epoch"), [("last", 3), ("best", 2)])
def test_weights_alone_are_a_run_whose_slots_are_zeros(
    run: RunDirectory, tmp_path: Path, which: str, epoch: int
) -> None:
    run.write_weights(which, tmp_path / "weights")
    alone = RunDirectory.open(tmp_path / "weights")
    assert replace(alone, path=run.path) == run
    assert sorted(os.listdir(alone.path)) == NEW_FILES
    state, progress = alone.read_state("last")
    expected, expected_progress = run.read_state(which)
    assert progress == expected_progress
    assert to_bytes(ModelState(state.weights, {}), {}) == to_bytes(ModelState(expected.weights, {}), {})
    assert not any(slot.any() for slot in state.mean_squares.values())
    assert (alone.pairs(), alone.history()) == (run.pairs(), run.history()[:epoch])
    if which == "last":
        with pytest.raises(RosettaError, match="has the last state only"):
            alone.read_state("best")
    with pytest.raises(CannotBeginError, match="exists already"):
        run.write_weights(which, tmp_path / "weights")


# Of version 1


@pytest.mark.parametrize("digests", [True, False], ids=["with digests", "without digests"])
def test_a_run_of_version_1_is_read_and_becomes_one_of_this_version(run: RunDirectory, digests: bool) -> None:
    expected = [run.read_state(which) for which in STATE_FILES]
    old = as_version_1(run, digests)
    before = contents(run.path)
    assert old == run
    for which, (state, progress) in zip(STATE_FILES, expected, strict=True):
        found, of_old = old.read_state(which)
        assert to_bytes(found, {}) == to_bytes(state, {})
        assert of_old == Progress(progress.step, tuple(replace(epoch, backend="") for epoch in progress.history))
    old.write_weights("last", run.path.with_name("weights"))
    assert replace(RunDirectory.open(run.path.with_name("weights")), path=run.path) == run
    assert contents(run.path) == before, "reading writes nothing"
    known = same_training(old)[:2]
    old.begin()
    assert sorted(os.listdir(run.path)) == FILES
    assert same_training(RunDirectory.open(run.path))[:2] == known
    assert json.loads((run.path / "config.json").read_bytes())["version"] == run_directory.VERSION


def test_a_run_of_version_1_goes_on_without_its_best_state(run: RunDirectory) -> None:
    path = as_version_1(run).path
    (path / "best.safetensors").write_bytes(b"damaged")
    RunDirectory.open(path).begin()
    assert [epoch.val_loss for epoch in RunDirectory.open(path).history()] == VAL_LOSSES


@pytest.mark.parametrize("order", [[0, 1, 2, 2], [0, 1, 1, 2, 2, 0], [0, 2, 1], [0, 1, 2, 3]], ids=str)
def test_lines_of_an_old_history_that_are_not_needed_may_be_anything(run: RunDirectory, order: list[int]) -> None:
    """Two processes could train one run, and a line could be written whose epoch was not."""
    path = as_version_1(run).path / "history.jsonl"
    lines = [*path.read_bytes().splitlines(keepends=True), b'{"epoch": 4, "lo']
    path.write_bytes(b"".join(lines[i] for i in order))
    assert [epoch.val_loss for epoch in run.history()] == VAL_LOSSES


WRONG_HISTORIES: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "first missing": lambda lines: lines.pop(0),
    "one twice": lambda lines: lines.__setitem__(2, lines[1]),
    "loss that is none": lambda lines: lines[0].update(val_loss=float("nan")),
    "loss without end": lambda lines: lines[0].update(loss=float("inf")),
    "text": lambda lines: lines[0].update(accuracy="high"),
    "epoch that is no number": lambda lines: lines[0].update(epoch=True),
}


@pytest.mark.parametrize("change", WRONG_HISTORIES.values(), ids=WRONG_HISTORIES)
def test_a_history_that_cannot_be_is_one_clear_error(
    run: RunDirectory, change: Callable[[list[dict[str, Any]]], object]
) -> None:
    path = run.path / "state.safetensors"
    state, metadata = weights.from_bytes(path.read_bytes())
    change(metadata["history"])
    path.write_bytes(to_bytes(state, metadata))
    assert_refused(run.path, path.name)
    lines = "".join(json.dumps(line) + "\n" for line in metadata.pop("history"))
    path.write_bytes(to_bytes(state, metadata | {"epoch": 3, "seed": 9}))  # as version 1 kept it
    (run.path / "history.jsonl").write_text(lines, encoding="utf-8")
    assert "that can be read" in assert_refused(run.path, "history.jsonl")


# Damaged


def read_all(path: Path) -> None:
    run = RunDirectory.open(path)
    run.pairs()
    run.vocabularies()
    run.read_state("last")
    run.read_state("best")


def assert_refused(path: Path, name: str) -> str:
    """That reading raises RosettaError, in one line that names the file."""
    with pytest.raises(RosettaError) as caught:
        read_all(path)
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    return message


READ = [name for name in FILES if name != "machine.json"]
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "last byte gone": lambda content: content.rstrip()[:-1],
    "garbage": lambda content: b"\xff\xfe\x00garbage\x80\n" * 9,
    "a list": lambda content: b"[]\n",
    "null": lambda content: b"null\n",
    "nested without end": lambda content: b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_is_one_clear_error(run: RunDirectory, name: str) -> None:
    read_all(run.path)
    path = run.path / name
    whole = path.read_bytes()
    for damage in DAMAGES.values():
        path.write_bytes(damage(whole))
        assert_refused(run.path, name)
    path.unlink()
    if name != "config.json":
        assert_refused(run.path, name)


@pytest.mark.parametrize("kind", ["sparse", "device", "pipe", "folder"])
@pytest.mark.parametrize("name", [*READ, "history.jsonl"])
def test_a_file_without_end_is_refused_before_it_is_read(run: RunDirectory, name: str, kind: str) -> None:
    path = as_version_1(run, digests=False).path / name
    path.unlink()
    if kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # takes no place on the disk
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    expected = "holds more than" if kind == "sparse" else "it is not a file"
    assert expected in assert_refused(run.path, name)


WRONG_VALUES: dict[str, dict[str, list[object]]] = {
    "model_config": {
        "latent_dim": [4, "3"],
        "num_encoder_tokens": [5],
        "dtype": ["banana", None],
        "padding": ["nonsense"],
        "start_token": [2, -1],
        "stop_token": [10**9],
        "surplus": [1],
    },
    "train_config": {
        "learning_rate": ["fast", -1, float("nan"), float("inf"), 10**400],
        "rho": [1.5],
        "epsilon": [-1e-7],
        "batch_size": [0],
        "batches": ["sorted"],
        "seed": [1.5, -1],
    },
    "data_config": {"num_samples": [0], "validation_split": [float("nan"), -0.1], "split": [3, "middle"]},
    "": {
        "digests": [{"pairs.tsv": "ab"}, {}, 3],
        "backend": [7],
        "sha256": [None],
        "model_config": [[1]],
        "train_config": [None],
        "max_encoder_seq_length": [0, 1 << 40, "3"],
        "path": ["/"],
    },
}


@pytest.mark.parametrize("part", WRONG_VALUES)
def test_a_config_that_does_not_fit_is_one_clear_error(run: RunDirectory, part: str) -> None:
    path = run.path / "config.json"
    whole = path.read_text(encoding="utf-8")
    for name, values in WRONG_VALUES[part].items():
        for value in values:
            config = json.loads(whole)
            (config[part] if part else config)[name] = value
            path.write_text(json.dumps(config), encoding="utf-8")
            assert_refused(run.path, str(run.path))
    config = json.loads(whole)
    del (config[part] if part else config)[next(iter(WRONG_VALUES[part]))]
    path.write_text(json.dumps(config), encoding="utf-8")
    assert_refused(run.path, "config.json")


@pytest.mark.parametrize(("name", "value"), [("version", 3), ("version", None), ("format", "other")])
def test_another_format_or_version_is_refused_by_name(run: RunDirectory, name: str, value: object) -> None:
    path = run.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {name: value}), encoding="utf-8")
    assert "expected rosetta-run version 1 or 2" in assert_refused(run.path, "config.json")


@pytest.mark.parametrize("rate", ["inf", "1e39"])
def test_a_learning_rate_that_float32_does_not_have_is_refused_before_anything_is_written(
    tmp_path: Path, rate: str
) -> None:
    said = refusal(2, "train", "--backend", "numpy", "--out", tmp_path / "run", "--learning-rate", rate)
    assert "learning_rate is inf, expected 0 to 3.4028234663852886e+38" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", ["last", "best"])
def test_a_flipped_bit_anywhere_in_a_state_is_one_clear_error(run: RunDirectory, which: str) -> None:
    path = run.path / STATE_FILES[which]
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    for bit in rng.choice(8 * len(whole), 300, replace=False):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(RosettaError, match=re.escape(path.name)):
            run.read_state(which)
    path.write_bytes(whole)
    run.read_state(which)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("pairs.tsv", "Va !", "Vb !"), ("vocabulary.json", '"V"', '"W"')],
    ids=["pairs", "characters"],
)
def test_a_file_that_was_edited_is_one_clear_error(run: RunDirectory, name: str, old: str, new: str) -> None:
    path = run.path / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert "has changed since the run was begun" in assert_refused(run.path, name)
    with pytest.raises(RosettaError, match="has changed since"):
        run.write_weights("last", run.path.with_name("weights"))


ENCODER = list(VOCABULARIES[0].characters)
WRONG_VOCABULARIES: dict[str, dict[str, object]] = {
    "missing": {"encoder": None},
    "one less": {"encoder": ENCODER[:-1]},
    "one twice": {"encoder": [*ENCODER[:-1], ENCODER[0]]},
    "two characters": {"encoder": [*ENCODER[:-1], "ab"]},
    "a number": {"encoder": [*ENCODER[:-1], 7]},
    "no space": {"encoder": [c.replace(" ", "x") for c in ENCODER]},
    "a text": {"encoder": "".join(ENCODER)},
    "new": {"version": 2},
}


@pytest.mark.parametrize("wrong", WRONG_VOCABULARIES.values(), ids=WRONG_VOCABULARIES)
def test_a_vocabulary_that_does_not_fit_is_one_clear_error(run: RunDirectory, wrong: dict[str, object]) -> None:
    path = as_version_1(run, digests=False).path / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | wrong), encoding="utf-8")
    assert "does not hold the" in assert_refused(run.path, "vocabulary.json")


BAD_PAIRS = ["Go.\n", "Go.\tVa !\tmore\n", "Go.\tVa !\n\n", "\tVa !\n", "Go.\tVa !", "", f"Go.\t{'a' * 1001}\n"]
BAD_PAIRS += ["Go.\tVa !\n" * 4, "Go.\tVa \udcff\n"]  # more than the run was begun with; not UTF-8


@pytest.mark.parametrize("text", BAD_PAIRS, ids=range(len(BAD_PAIRS)))
def test_pairs_that_are_none_are_one_clear_error(run: RunDirectory, text: str) -> None:
    path = as_version_1(run, digests=False).path / "pairs.tsv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert "expected at most 3 lines of source, tab, target" in assert_refused(run.path, "pairs.tsv")


@pytest.mark.parametrize("which", ["state.safetensors", "best.safetensors"])
def test_a_state_without_its_progress_is_one_clear_error(run: RunDirectory, which: str) -> None:
    path = run.path / which
    metadata = weights.from_bytes(path.read_bytes())[1]
    wrong: list[object] = [{}, [], None, {"step": -1}, {"step": "3"}, {"history": 3}]
    for change in wrong:
        kept = metadata | change if isinstance(change, dict) and change else change
        path.write_bytes(save(state_of(3).weights, {"rosetta": json.dumps(kept)}))
        assert_refused(run.path, which)


def negative(state: ModelState) -> None:
    state.mean_squares["dense/bias"][1] = -1e-3


WRONG_STATES: dict[str, Callable[[ModelState], object]] = {
    "RMSprop slot dense/bias holds negative numbers": negative,
    "dense/bias": lambda state: state.mean_squares.pop("dense/bias"),
    "encoder/kernel": lambda state: state.weights.update(initial_state(replace(MODEL, latent_dim=4), 0).weights),
}


@pytest.mark.parametrize(
    ("expected", "change"), WRONG_STATES.items(), ids=["negative", "some slots", "another model"]
)
def test_a_state_that_does_not_fit_is_one_clear_error(
    run: RunDirectory, expected: str, change: Callable[[ModelState], object]
) -> None:
    path = run.path / "state.safetensors"
    state, metadata = weights.from_bytes(path.read_bytes())
    change(state)
    path.write_bytes(to_bytes(state, metadata))
    assert expected in assert_refused(run.path, path.name)


# Files


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"

    def fail(*arguments: object) -> None:
        raise FULL

    for before in ({}, {"file": b"old"}):
        for content in before.values():
            path.write_bytes(content)
        with monkeypatch.context() as patch:
            patch.setattr(common.files.os, failing, fail)
            with pytest.raises(OSError, match="No space left") as caught:
                write_atomically(path, b"new")
        assert in_words(caught.value) == f"{path}: the disk is full"
        assert contents(tmp_path) == before
    write_atomically(path, "é")
    assert contents(tmp_path) == {"file": "é".encode()}


def test_what_others_may_read_is_the_users_to_say(tmp_path: Path) -> None:
    for mask, of_file, of_folder in [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)]:
        before = os.umask(mask)
        try:
            write_atomically(tmp_path / "file", "text")
            with new_folder(tmp_path / f"folder {mask}"):
                pass
        finally:
            os.umask(before)
        modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", f"folder {mask}")]
        assert modes == [of_file, of_folder]
