"""A run on disk: whole or not there, mended after a crash, and one clear error when damaged."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import common.files
from common import run_directory
from common.errors import CannotBeginError, RosettaError, in_words
from common.files import new_folder, write_atomically
from common.run_directory import STATE_FILES, Epoch, RunDirectory
from common.weights import SLOT_PREFIX, ModelState, initial_state, to_bytes
from tests.program import refusal
from tests.small_run import (
    CONFIGS,
    FILES,
    MODEL,
    PAIRS,
    VOCABULARIES,
    assert_state,
    contents,
    create,
    epoch_of,
    state_of,
    write,
)

pytestmark = pytest.mark.usefixtures("known_machine")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Three epochs, the second of them the best."""
    run = create(tmp_path / "run")
    write(run, [3.0, 1.0, 2.0])
    return run


# Whole


def test_what_is_created_is_opened_again(tmp_path: Path) -> None:
    created = create(tmp_path / "deep" / "run")
    opened = RunDirectory.open(str(tmp_path / "deep" / "run"))
    assert opened == created
    assert (opened.model_config, opened.train_config, opened.data_config) == CONFIGS
    assert (opened.backend, opened.sha256) == ("torch:compile", "ab" * 32)
    assert opened.pairs() == PAIRS
    assert [v.characters for v in opened.vocabularies()] == [v.characters for v in VOCABULARIES]
    assert opened.history() == []
    assert_state(opened, "last", 0)
    assert_state(opened, "best", 0)
    assert sorted(os.listdir(opened.path)) == FILES
    assert os.listdir(tmp_path / "deep") == ["run"]


def test_a_state_is_read_in_another_precision(tmp_path: Path) -> None:
    run = create(tmp_path / "run", "float64")
    for dtype, expected in [(None, "float64"), ("float32", "float32"), ("float64", "float64")]:
        state, _ = run.read_state("last", dtype)
        assert {a.dtype for a in [*state.weights.values(), *state.mean_squares.values()]} == {np.dtype(expected)}


@pytest.mark.parametrize("kind", ["run", "file", "empty folder"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    if kind == "run":
        write(create(path), [1.0])
    elif kind == "file":
        path.write_text("mine", encoding="utf-8")
    else:
        path.mkdir()
    before = contents(tmp_path)
    with pytest.raises(CannotBeginError, match="exists already"):
        create(path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "Ctrl-C"]
)
def test_a_creation_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException
) -> None:
    written: list[Path] = []

    def fail(path: Path, content: bytes | str) -> None:
        written.append(path)
        if len(written) == step:
            raise error
        write_atomically(path, content)

    monkeypatch.setattr(run_directory, "write_atomically", fail)
    monkeypatch.setattr(common.files, "write_atomically", fail)
    with pytest.raises((RosettaError, KeyboardInterrupt)) as caught:
        create(tmp_path / "run")
    said = f"{tmp_path / 'run'} cannot be written: the disk is full; nothing is left of it"
    assert str(caught.value) == (said if isinstance(error, OSError) else "")
    assert len(written) == step
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CannotBeginError, match="cannot be written"):
        create(tmp_path / "file" / "deeper" / "run")


def test_where_no_run_is_none_is_opened(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CannotBeginError, match="is not a run"):
            RunDirectory.open(path)


# Epochs


def test_the_best_state_is_that_of_the_lowest_validation_loss(run: RunDirectory) -> None:
    assert run.history() == [epoch_of(1, 3.0), epoch_of(2, 1.0), epoch_of(3, 2.0)]
    assert_state(run, "last", 3)
    assert_state(run, "best", 2)
    run.write_epoch(state_of(4), epoch_of(4, 0.5), step=40)
    assert_state(run, "best", 4)
    assert sorted(os.listdir(run.path)) == FILES


def test_a_state_that_diverged_is_not_written(run: RunDirectory) -> None:
    before, state = contents(run.path), state_of(4)
    state.weights["dense/bias"][0] = np.nan
    with pytest.raises(RosettaError, match="diverged"):
        run.write_epoch(state, epoch_of(4, 0.1), step=40)
    assert contents(run.path) == before


def test_a_best_state_of_another_epoch_than_the_history_says_is_one_clear_error(run: RunDirectory) -> None:
    shutil.copy(run.path / "state.safetensors", run.path / "best.safetensors")
    before = contents(run.path)
    said = assert_refused(run.path, "best.safetensors")
    assert "is of epoch 3, and the history's lowest validation loss is that of epoch 2" in said
    assert contents(run.path) == before


def test_the_best_state_is_found_although_another_process_writes_epochs(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process ends an epoch between the reading of the history and that of the best state."""
    read_history, read = RunDirectory._history, []

    def read_too_early(self: RunDirectory, last: int) -> list[Epoch]:
        history = read_history(self, last)
        if not read:
            read.append(last)
            monkeypatch.setattr(RunDirectory, "_history", read_history)
            run.write_epoch(state_of(4), epoch_of(4, 0.5), step=40)
            run.write_epoch(state_of(5), epoch_of(5, 0.6), step=50)
        return history

    monkeypatch.setattr(RunDirectory, "_history", read_too_early)
    assert_state(run, "best", 4)
    assert read == [3]


@pytest.mark.parametrize("order", [[0, 1, 2, 2], [0, 1, 1, 2, 2, 0], [0, 2, 1], [1, 2, 0, 1]], ids=str)
def test_a_history_that_two_processes_wrote_is_mended(run: RunDirectory, order: list[int]) -> None:
    path = run.path / "history.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[i] for i in order))
    assert run.history() == [epoch_of(1, 3.0), epoch_of(2, 1.0), epoch_of(3, 2.0)]
    run.begin()
    assert path.read_bytes() == whole


# Weights alone


@pytest.mark.parametrize(("which", "epoch"), [("last", 3), ("best", 2)])
def test_weights_alone_are_a_run_whose_slots_are_zeros(
    run: RunDirectory, tmp_path: Path, which: str, epoch: int
) -> None:
    run.write_weights(which, tmp_path / "weights")
    alone = RunDirectory.open(tmp_path / "weights")
    assert replace(alone, path=run.path) == run
    assert sorted(os.listdir(alone.path)) == [name for name in FILES if name != "best.safetensors"]
    state, place = alone.read_state("last")
    expected, expected_place = run.read_state(which)
    assert place == expected_place
    assert to_bytes(ModelState(state.weights, {}), {}) == to_bytes(ModelState(expected.weights, {}), {})
    assert not any(slot.any() for slot in state.mean_squares.values())
    assert (alone.pairs(), alone.history()) == (run.pairs(), run.history()[:epoch])
    with pytest.raises(RosettaError, match="has the last state only"):
        alone.read_state("best")
    with pytest.raises(CannotBeginError, match="exists already"):
        run.write_weights(which, tmp_path / "weights")


# Damaged


def without_digests(run: RunDirectory) -> RunDirectory:
    """The same run as it was before there were digests, which would be the first to tell of a damage."""
    config = json.loads((run.path / "config.json").read_bytes())
    del config["digests"]
    (run.path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return RunDirectory.open(run.path)


def read_all(path: Path) -> None:
    run = RunDirectory.open(path)
    run.pairs()
    run.vocabularies()
    run.read_state("last")
    run.read_state("best")
    run.history()


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


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_is_one_clear_error(run: RunDirectory, name: str, damage: Callable[[bytes], bytes]) -> None:
    read_all(run.path)
    path = run.path / name
    path.write_bytes(damage(path.read_bytes()))
    assert_refused(run.path, name)


@pytest.mark.parametrize("name", READ)
def test_a_missing_file_and_a_folder_in_its_place_are_one_clear_error(run: RunDirectory, name: str) -> None:
    (run.path / name).unlink()
    if name != "config.json":
        assert_refused(run.path, name)
    (run.path / name).mkdir()
    assert_refused(run.path, name)


WRONG_VALUES: dict[str, dict[str, list[object]]] = {
    "model": {
        "latent_dim": [4, "3"],
        "num_encoder_tokens": [5],
        "dtype": ["banana", None],
        "padding": ["nonsense"],
        "start_token": [2, -1],
        "stop_token": [10**9],
        "surplus": [1],
    },
    "train": {
        "learning_rate": ["fast", -1, float("nan"), float("inf"), 10**400],
        "rho": [1.5],
        "epsilon": [-1e-7],
        "batch_size": [0],
        "batches": ["sorted"],
        "seed": [1.5, -1],
    },
    "data": {"num_samples": [0], "validation_split": [float("nan"), -0.1], "split": [3, "middle"]},
    "": {"digests": [{"pairs.tsv": "ab"}, 3], "backend": [7], "sha256": [None], "model": [[1]], "train": [None]},
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


def test_a_run_from_before_batches_were_a_setting_was_trained_on_shuffled_ones(run: RunDirectory) -> None:
    path = run.path / "config.json"
    config = json.loads(path.read_bytes())
    assert config["train"].pop("batches") == "shuffled"
    path.write_text(json.dumps(config), encoding="utf-8")
    assert RunDirectory.open(run.path) == run
    del config["train"]["seed"]
    path.write_text(json.dumps(config), encoding="utf-8")
    assert_refused(run.path, "expected the fields")


@pytest.mark.parametrize(
    ("name", "value"),
    [("val_loss", float("nan")), ("loss", float("inf")), ("accuracy", "high"), ("epoch", True)],
)
def test_a_history_with_a_figure_that_cannot_be_is_one_clear_error(
    run: RunDirectory, name: str, value: object
) -> None:
    path = run.path / "history.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines[0][name] = value
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert "epoch 1 has no line that can be read" in assert_refused(run.path, "history.jsonl")


@pytest.mark.parametrize("rate", ["inf", "1e39"])
def test_a_learning_rate_that_float32_does_not_have_is_refused_before_anything_is_written(
    tmp_path: Path, rate: str
) -> None:
    said = refusal(2, "train", "--backend", "numpy", "--out", tmp_path / "run", "--learning-rate", rate)
    assert "learning_rate is inf, expected 0 to 3.4028234663852886e+38" in said
    assert list(tmp_path.iterdir()) == []


# Changed


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


def test_a_run_from_before_there_were_digests_is_read_and_gets_them_when_it_is_converted(
    run: RunDirectory, tmp_path: Path
) -> None:
    expected = run.read_state("last")[0]
    for which, name in STATE_FILES.items():
        state, place = run.read_state(which)
        slots = {SLOT_PREFIX + weight: slot for weight, slot in state.mean_squares.items()}
        (run.path / name).write_bytes(save(state.weights | slots, {"rosetta": json.dumps(asdict(place))}))
    old = without_digests(run)
    read_all(run.path)
    assert to_bytes(old.read_state("last")[0], {}) == to_bytes(expected, {})
    old.write_weights("last", tmp_path / "weights")
    assert replace(RunDirectory.open(tmp_path / "weights"), path=run.path) == run


@pytest.mark.parametrize(("name", "value"), [("version", 2), ("version", None), ("format", "other")])
def test_another_format_or_version_is_refused_by_name(run: RunDirectory, name: str, value: object) -> None:
    path = run.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {name: value}), encoding="utf-8")
    assert "expected rosetta-run version 1" in assert_refused(run.path, "config.json")


ENCODER = list(VOCABULARIES[0].characters)


WRONG_ENCODERS = {
    "missing": None,
    "one less": ENCODER[:-1],
    "one twice": [*ENCODER[:-1], ENCODER[0]],
    "two characters": [*ENCODER[:-1], "ab"],
    "a number": [*ENCODER[:-1], 7],
    "no space": [c.replace(" ", "x") for c in ENCODER],
    "a text": "".join(ENCODER),
}
WRONG_VOCABULARIES = {name: {"encoder": encoder} for name, encoder in WRONG_ENCODERS.items()} | {
    "new": {"version": 2}
}


@pytest.mark.parametrize("wrong", WRONG_VOCABULARIES.values(), ids=WRONG_VOCABULARIES)
def test_a_vocabulary_that_does_not_fit_is_one_clear_error(run: RunDirectory, wrong: dict[str, object]) -> None:
    path = without_digests(run).path / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | wrong), encoding="utf-8")
    assert "does not hold the" in assert_refused(run.path, "vocabulary.json")


BAD_PAIRS = ["Go.\n", "Go.\tVa !\tmore\n", "Go.\tVa !\n\n", "\tVa !\n", "Go.\tVa !", "", f"Go.\t{'a' * 1001}\n"]
BAD_PAIRS.append("Go.\tVa !\n" * 4)  # and the run was begun with at most three


@pytest.mark.parametrize("text", BAD_PAIRS, ids=range(len(BAD_PAIRS)))
def test_pairs_that_are_none_are_one_clear_error(run: RunDirectory, text: str) -> None:
    (without_digests(run).path / "pairs.tsv").write_text(text, encoding="utf-8")
    assert "expected at most 3 lines of source, tab, target" in assert_refused(run.path, "pairs.tsv")


@pytest.mark.parametrize("kind", ["sparse", "device", "pipe", "folder"])
@pytest.mark.parametrize("name", sorted(set(FILES) - {"machine.json"}))
def test_a_file_without_end_is_refused_before_it_is_read(run: RunDirectory, name: str, kind: str) -> None:
    path = without_digests(run).path / name
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


def test_a_run_of_more_pairs_than_are_read_again_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run_directory.LARGEST_TEXTS, "pairs.tsv", 20)
    with pytest.raises(CannotBeginError, match="a run keeps 20 at most; give a smaller --num-samples"):
        create(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", [[0, 1], [0, 0, 1], [1, 2], []], ids=str)
def test_a_history_with_lines_missing_is_one_clear_error(run: RunDirectory, order: list[int]) -> None:
    path = run.path / "history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[i] for i in order))
    assert_refused(run.path, "history.jsonl")


@pytest.mark.parametrize("which", ["state.safetensors", "best.safetensors"])
@pytest.mark.parametrize(
    "metadata",
    [
        {},
        [],
        None,
        {"epoch": "3", "step": 1, "seed": 9},
        {"epoch": 3, "step": 1},
        {"epoch": 3, "step": -1, "seed": 9},
    ],
    ids=str,
)
def test_a_state_without_its_place_is_one_clear_error(run: RunDirectory, which: str, metadata: object) -> None:
    (run.path / which).write_bytes(save(state_of(3).weights, {"rosetta": json.dumps(metadata)}))
    assert_refused(run.path, which)


def negative(state: ModelState) -> None:
    state.mean_squares["dense/bias"][1] = -1e-3


WRONG_STATES: dict[str, Callable[[ModelState], object]] = {
    "RMSprop slot dense/bias holds negative numbers": negative,
    "dense/bias": lambda state: state.mean_squares.pop("dense/bias"),
    "encoder/kernel": lambda state: state.weights.update(initial_state(replace(MODEL, latent_dim=4), 0).weights),
}


@pytest.mark.parametrize(("told", "change"), WRONG_STATES.items(), ids=["negative", "some slots", "another model"])
def test_a_state_that_does_not_fit_is_one_clear_error(
    run: RunDirectory, told: str, change: Callable[[ModelState], object]
) -> None:
    state, _ = run.read_state("last")
    change(state)
    (run.path / "state.safetensors").write_bytes(to_bytes(state, {"epoch": 3, "step": 30, "seed": 9}))
    assert told in assert_refused(run.path, "state.safetensors")


def test_a_run_may_be_moved(run: RunDirectory, tmp_path: Path) -> None:
    shutil.move(run.path, tmp_path / "moved")
    assert_state(RunDirectory.open(tmp_path / "moved"), "best", 2)


# Files


@pytest.mark.parametrize("failing", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, exists: bool
) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(common.files.os, failing, fail)
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomically(path, b"new")
        assert in_words(caught.value) == f"{path}: the disk is full"
    assert contents(tmp_path) == ({"file": b"old"} if exists else {})
    write_atomically(path, "é")
    assert contents(tmp_path) == {"file": "é".encode()}
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_others_may_read_is_the_users_to_say(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", "text")
        with new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "file", tmp_path / "folder")} == {
        "file": 0o600,
        "folder": 0o700,
    }
