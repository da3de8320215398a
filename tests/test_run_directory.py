"""A run on disk: whole or not there, mended after a crash, and one clear error when damaged."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import common.files
from common import run_directory
from common.config import DataConfig, ModelConfig, TrainConfig
from common.errors import CannotBeginError, RosettaError
from common.files import new_folder, write_atomically
from common.run_directory import Epoch, Place, RunDirectory
from common.vocabulary import CharVocabulary
from common.weights import ModelState, initial_state, to_bytes

PAIRS = [("Go.", "Va !"), ("Go.", "Bouge\u2028!"), ("犬 \r", "é")]
VOCABULARIES = CharVocabulary.of(s for s, _ in PAIRS), CharVocabulary.of(f"\t{t}\n" for _, t in PAIRS)
MODEL = ModelConfig(len(VOCABULARIES[0]), len(VOCABULARIES[1]), 0, 1, latent_dim=3)
CONFIGS = MODEL, TrainConfig(batch_size=2, seed=9), DataConfig("fra-eng", 3, 0.4, "grouped", True)
FILES = ["config.json", "vocabulary.json", "pairs.tsv", "machine.json", "state.safetensors", "best.safetensors"]
FILES = sorted([*FILES, "history.jsonl"])


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking the processor takes a second."""
    monkeypatch.setattr(run_directory, "describe_machine", lambda: {"processor": "known"})


def state_of(epoch: int) -> ModelState:
    state = initial_state(MODEL, epoch)
    return ModelState(state.weights, {name: np.abs(w) + epoch for name, w in state.weights.items()})


def create(path: Path, dtype: str = "float32") -> RunDirectory:
    configs = replace(MODEL, dtype=dtype), *CONFIGS[1:]
    state = initial_state(configs[0], 0)
    return RunDirectory.create(path, "torch:compile", configs, "ab" * 32, PAIRS, VOCABULARIES, state)


def epoch_of(number: int, val_loss: float) -> Epoch:
    return Epoch(number, 1 / number, val_loss, 0.5, 0.25, 0.125, 1.5)


def write(run: RunDirectory, val_losses: list[float]) -> None:
    for number, val_loss in enumerate(val_losses, 1):
        run.write_epoch(state_of(number), epoch_of(number, val_loss), step=10 * number)


def assert_state(run: RunDirectory, which: str, epoch: int) -> None:
    """That `which` is the state written after `epoch`, to the bit."""
    state, place = run.read_state(which)
    expected = state_of(epoch) if epoch else initial_state(MODEL, 0)
    assert place == Place(epoch, 10 * epoch, seed=9)
    assert to_bytes(state, {}) == to_bytes(expected, {})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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
    with pytest.raises(type(error)):
        create(tmp_path / "run")
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


@pytest.mark.parametrize("surplus", ["line", "half a line", "garbage"])
def test_a_crash_before_the_state_is_cut_back(run: RunDirectory, surplus: str) -> None:
    before = contents(run.path)
    line = before["history.jsonl"].splitlines(keepends=True)[2].replace(b'"epoch": 3', b'"epoch": 4')
    with (run.path / "history.jsonl").open("ab") as log:
        log.write({"line": line, "half a line": line[:20], "garbage": b"\0" * 30}[surplus])
    assert len(run.history()) == 3
    assert run.begin()[1] == Place(3, 30, 9)
    assert contents(run.path) == before


def test_a_crash_between_the_state_and_the_best_is_mended(run: RunDirectory) -> None:
    stale = (run.path / "best.safetensors").read_bytes()
    run.write_epoch(state_of(4), epoch_of(4, 0.5), step=40)
    whole = contents(run.path)
    (run.path / "best.safetensors").write_bytes(stale)
    state, place = run.begin()
    assert (to_bytes(state, {}), place.epoch) == (to_bytes(state_of(4), {}), 4)
    assert contents(run.path) == whole


@pytest.mark.parametrize("crash_at", ["state.safetensors", "best.safetensors"])
def test_an_epoch_that_crashed_anywhere_is_trained_again_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    crashed, whole = create(tmp_path / "crashed"), create(tmp_path / "whole")
    write(whole, [3.0, 2.0, 1.0])
    write(crashed, [3.0])

    def crash(path: Path, content: bytes | str) -> None:
        if path.name == crash_at:
            raise KeyboardInterrupt
        write_atomically(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(run_directory, "write_atomically", crash)
        with pytest.raises(KeyboardInterrupt):
            crashed.write_epoch(state_of(2), epoch_of(2, 2.0), step=20)
    for number in range(crashed.begin()[1].epoch + 1, 4):
        crashed.write_epoch(state_of(number), epoch_of(number, 4.0 - number), step=10 * number)
    assert contents(crashed.path) == contents(whole.path)


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


def test_some_of_the_slots_are_as_good_as_damaged(run: RunDirectory) -> None:
    state, _ = run.read_state("last")
    del state.mean_squares["dense/bias"]
    (run.path / "state.safetensors").write_bytes(to_bytes(state, {"epoch": 3, "step": 30, "seed": 9}))
    assert "dense/bias" in assert_refused(run.path, "state.safetensors")


# Damaged


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


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("model", "latent_dim", 4),
        ("model", "latent_dim", "3"),
        ("model", "num_encoder_tokens", 5),
        ("model", "dtype", "banana"),
        ("model", "dtype", None),
        ("model", "surplus", 1),
        ("train", "learning_rate", "fast"),
        ("train", "seed", 1.5),
        ("data", "split", 3),
        (None, "backend", 7),
        (None, "sha256", None),
        (None, "model", [1]),
        (None, "train", None),
    ],
)
def test_a_config_that_does_not_fit_is_one_clear_error(
    run: RunDirectory, part: str | None, name: str, value: object
) -> None:
    path = run.path / "config.json"
    config = json.loads(path.read_bytes())
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


@pytest.mark.parametrize(("name", "value"), [("version", 2), ("version", None), ("format", "other")])
def test_another_format_or_version_is_refused_by_name(run: RunDirectory, name: str, value: object) -> None:
    path = run.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {name: value}), encoding="utf-8")
    assert "expected rosetta-run version 1" in assert_refused(run.path, "config.json")


ENCODER = list(VOCABULARIES[0].characters)


@pytest.mark.parametrize(
    "encoder",
    [
        None,
        ENCODER[:-1],
        [*ENCODER[:-1], ENCODER[0]],
        [*ENCODER[:-1], "ab"],
        [*ENCODER[:-1], 7],
        [c.replace(" ", "x") for c in ENCODER],
        "".join(ENCODER),
    ],
    ids=["missing", "one less", "one twice", "two characters", "a number", "no space", "a text"],
)
def test_a_vocabulary_that_does_not_fit_is_one_clear_error(run: RunDirectory, encoder: object) -> None:
    path = run.path / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"encoder": encoder}), encoding="utf-8")
    assert_refused(run.path, "vocabulary.json")


def test_a_vocabulary_of_another_version_is_refused(run: RunDirectory) -> None:
    path = run.path / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"version": 2}), encoding="utf-8")
    assert_refused(run.path, "vocabulary.json")


@pytest.mark.parametrize("text", ["Go.\n", "Go.\tVa !\tmore\n", "Go.\tVa !\n\n", "\tVa !\n", "Go.\tVa !"])
def test_pairs_that_are_none_are_one_clear_error(run: RunDirectory, text: str) -> None:
    (run.path / "pairs.tsv").write_text(text, encoding="utf-8")
    assert_refused(run.path, "pairs.tsv")


@pytest.mark.parametrize("order", [[0, 2, 1], [0, 1], [0, 0, 1], [1, 2]])
def test_a_history_with_lines_missing_or_moved_is_one_clear_error(run: RunDirectory, order: list[int]) -> None:
    path = run.path / "history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[i] for i in order))
    assert_refused(run.path, "history.jsonl")


@pytest.mark.parametrize("which", ["state.safetensors", "best.safetensors"])
@pytest.mark.parametrize(
    "metadata", [{}, [], None, {"epoch": "3", "step": 1, "seed": 9}, {"epoch": 3, "step": 1}], ids=str
)
def test_a_state_without_its_place_is_one_clear_error(run: RunDirectory, which: str, metadata: object) -> None:
    (run.path / which).write_bytes(to_bytes(state_of(3), metadata))  # type: ignore[arg-type]
    assert_refused(run.path, which)


def test_a_state_of_another_model_is_one_clear_error(run: RunDirectory) -> None:
    other = initial_state(replace(MODEL, latent_dim=4), 0)
    (run.path / "state.safetensors").write_bytes(to_bytes(other, {"epoch": 3, "step": 30, "seed": 9}))
    assert_refused(run.path, "state.safetensors")


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
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, b"new")
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
