"""A run on disk: whole or not there, read whatever a crash left, and one clear error when damaged."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import run_directory, weights
from common.errors import CannotBeginError, RosettaError
from common.files import UNFINISHED, new_folder, write_atomically
from common.run_directory import Progress, RunDirectory
from common.weights import ModelState, initial_state, to_bytes
from tests.attack.damaged_files import SAME_DIGEST, run_of
from tests.attack.limits import one_line
from tests.program import refusal
from tests.small_run import (
    CONFIGS,
    FILES,
    MODEL,
    NEW_FILES,
    PAIRS,
    VOCABULARIES,
    assert_state,
    contents,
    create,
    epoch_of,
    progress_of,
    state_of,
    write,
)

pytestmark = pytest.mark.usefixtures("known_machine")
VAL_LOSSES = [3.0, 1.0, 2.0]  # of the run below


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Three epochs, the second of them the best."""
    run_of(tmp_path / "run")
    return RunDirectory.open(tmp_path / "run")


# Whole


def test_what_is_created_is_opened_again_wherever_it_is_moved(tmp_path: Path) -> None:
    created = create(tmp_path / "deep" / "run", "float64")
    assert os.listdir(tmp_path / "deep") == ["run"]
    shutil.move(created.path, tmp_path / "moved")
    opened = RunDirectory.open(str(tmp_path / "moved"))
    assert sorted(os.listdir(opened.path)) == NEW_FILES
    assert replace(opened, path=created.path) == created
    assert (opened.model_config, opened.train_config, opened.data_config) == (
        replace(MODEL, dtype="float64"),
        *CONFIGS[1:],
    )
    assert (opened.backend, opened.sha256) == ("torch:compile", "ab" * 32)
    assert opened.pairs() == PAIRS
    assert (opened.max_encoder_seq_length, opened.max_decoder_seq_length) == (len("Go."), len("\tBouge\u2028!\n"))
    assert [v.characters for v in opened.vocabularies()] == [v.characters for v in VOCABULARIES]
    for dtype, expected in [(None, "float64"), ("float32", "float32")]:
        state, progress = opened.read_state("best", dtype)
        assert {a.dtype for a in [*state.weights.values(), *state.mean_squares.values()]} == {np.dtype(expected)}
        assert progress == Progress(0, ())


def test_nothing_is_overwritten_nor_made_where_no_run_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for name, make in {"run": create, "file": Path.touch, "empty": Path.mkdir, "link": Path.is_symlink}.items():
        make(tmp_path / name)
        before = contents(tmp_path)
        with pytest.raises(CannotBeginError, match="exists already"):
            create(tmp_path / name)
        assert contents(tmp_path) == before
    with pytest.raises(CannotBeginError, match="cannot be written"):
        create(tmp_path / "file" / "deeper" / "run")
    for length in (230, 260):
        with pytest.raises(CannotBeginError, match="cannot be written: the name is too long; choose one of"):
            create(tmp_path / ("n" * length))
    for path in (tmp_path, tmp_path / "missing", tmp_path / "link"):
        with pytest.raises(CannotBeginError, match="is not a run"):
            RunDirectory.open(path)
    monkeypatch.setitem(run_directory.LARGEST_TEXTS, "pairs.tsv", 20)
    with pytest.raises(CannotBeginError, match="a run keeps 20 at most; give a smaller --num-samples"):
        create(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_others_may_read_is_the_users_to_say(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with new_folder(tmp_path / "folder") as folder:
            write_atomically(folder / "file", "text")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "folder", tmp_path / "folder" / "file")]
    assert modes == [0o750, 0o640]


# Epochs


def test_the_best_state_is_that_of_the_lowest_validation_loss(run: RunDirectory) -> None:
    assert run.history() == tuple(epoch_of(*numbered) for numbered in enumerate(VAL_LOSSES, 1))
    assert_state(run, "last", 3)
    assert_state(run, "best", 2)
    write(run, [*VAL_LOSSES, 0.5], done=3)
    assert_state(run, "best", 4)
    assert sorted(os.listdir(run.path)) == FILES


def test_a_state_that_diverged_or_could_not_be_read_again_is_not_written(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, state = contents(run.path), state_of(4)
    state.weights["dense/bias"][0] = np.nan
    with pytest.raises(RosettaError, match="diverged"):
        run.write_epoch(state, progress_of([*VAL_LOSSES, 0.1]))
    monkeypatch.setattr(weights, "LARGEST_METADATA", 3000)
    with pytest.raises(RosettaError, match="cannot keep epoch 30: its history is too long"):
        run.write_epoch(state_of(30), progress_of([1.0] * 30))
    assert contents(run.path) == before


def test_the_best_state_is_found_although_epochs_are_written_meanwhile(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process ends two epochs between the reading of the last state and that of the best one. What a crash
    leaves is tried at each of its points by tests/attack/exits.py."""
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


# One writer


def test_a_second_writer_is_refused_and_what_a_killed_one_left_is_removed(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("state.safetensors", "config.json"):
        (run.path / f".{name}.abcdefgh{UNFINISHED}").write_bytes(b"half")
    before = contents(run.path)
    monkeypatch.setattr(run_directory, "LOCK_SECONDS", 0.1)
    with run.only_writer():
        with pytest.raises(CannotBeginError) as caught, RunDirectory.open(run.path).only_writer():
            pass
        expected = f"another process is training {run.path}; wait for its end, or train a copy of the folder"
        assert str(caught.value) == expected
        assert contents(run.path) == before
        assert run.begin()[1].epoch == 3
    assert sorted(os.listdir(run.path)) == FILES


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "[run]"
    (killed := tmp_path / f".[run].0123456789abcdef{UNFINISHED}").mkdir()
    (killed / "config.json").write_text("half")
    with pytest.raises(CannotBeginError, match="cannot be made: another process has"), new_folder(path):  # noqa: PT012
        (living,) = path.parent.iterdir()
        assert living != killed
        create(path)
        assert living.exists()
    assert os.listdir(tmp_path) == ["[run]"]
    assert sorted(os.listdir(path)) == NEW_FILES


# Damaged: for each file what is done to it, and how it is refused. Damage at random: tests/attack/damaged_files.py

READ = [name for name in FILES if name != "machine.json"]
ANY: list[Callable[[bytes], bytes]] = [
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: content.rstrip()[:-1],
    lambda content: b"\xff\xfe\x00garbage\x80\n" * 9,
    lambda content: b"null\n",
    lambda content: b"[" * 100_000 + b"\n",
]
WRONG: dict[str, dict[str, list[Any]]] = {  # the place of a value in a file, and what it may not be
    "config.json": {
        "format": ["x"],
        "version": [3],
        "sha256": [None],
        "model_config latent_dim": [4, "3"],
        "model_config dtype": ["banana", None],
        "model_config start_token": [2, -1],
        "model_config surplus": [1],
        "train_config learning_rate": ["fast", -1, float("nan"), float("inf"), 10**400],
        "train_config batches": ["sorted"],
        "data_config num_samples": [0],
        "digests": [{"pairs.tsv": "ab"}, {}, 3],
        "train_config": [None, [1]],
        "max_encoder_seq_length": [0, 1 << 40, "3", "\ud800"],
        "path": ["/"],
    },
    "vocabulary.json": {
        "version": [2],
        "encoder": [None, " .Gor犬", [" ", "."], list("  .Go"), ["ab", *" .G"], [7, *" .G"], list(".Gox\r犬")],
    },
    "state.safetensors": {
        "step": [-1, "3"],
        "history": [3, [{}]],
        "history 0 val_loss": [float("nan")],
        "history 0 accuracy": ["high"],
        "history 0 epoch": [True, 2],
        "surplus": [1],
    },
    "best.safetensors": {"step": ["3"], "history": [[]]},
}
BAD_PAIRS = ["Go.\n", "Go.\tVa !\tmore\n", "Go.\tVa !\n\n", "\tVa !\n", "Go.\tVa !", "", f"Go.\t{'a' * 1001}\n"]
BAD_PAIRS += ["Go.\tVa !\n" * 4, "Go.\tVa \udcff\n"]  # more than the run was begun with; not UTF-8


def with_value(content: bytes, place: str, value: object) -> bytes:
    """A file of JSON, or a state with its metadata and a checksum that fits, in which a value is another one."""
    state, whole = (None, json.loads(content)) if content.startswith(b"{") else weights.from_bytes(content)
    *parts, last = place.split()
    within = whole
    for part in parts:
        within = within[int(part) if part.isdecimal() else part]
    within[last] = value
    return to_bytes(state, whole) if state else json.dumps(whole).encode()


def refused(path: Path) -> str:
    """The one line with which a run is refused, which names it."""
    with pytest.raises(RosettaError) as caught:
        whole(path)
    message = one_line(caught.value)
    assert str(path) in message
    return message


def whole(path: Path) -> None:
    """Read all of a run."""
    run = RunDirectory.open(path)
    run.pairs(), run.vocabularies(), run.read_state("last"), run.read_state("best")


def refusal_of(run: RunDirectory, name: str, content: bytes) -> str:
    """The line with which a run is refused while a file has another content."""
    before = (run.path / name).read_bytes()
    (run.path / name).write_bytes(content)
    line = refused(run.path)
    (run.path / name).write_bytes(before)
    return line


def test_a_text_that_has_changed_is_told_by_its_digest(run: RunDirectory) -> None:
    for name in ("pairs.tsv", "vocabulary.json"):
        changed = (run.path / name).read_bytes() + b" "
        assert "has changed since the run was begun" in refusal_of(run, name, changed)


@SAME_DIGEST  # as somebody would see to who wants to deceive
def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    run_of(tmp_path / "run")
    run, files = RunDirectory.open(tmp_path / "run"), contents(tmp_path / "run")
    for name in READ:
        for change in ANY:
            assert name in refusal_of(run, name, change(files[name]))
        for place, values in WRONG.get(name, {}).items():
            for value in values:
                line = refusal_of(run, name, with_value(files[name], place, value))
                assert name in line or name == "config.json", (place, value)  # another file may not fit to it
        (run.path / name).rename(run.path / "elsewhere")
        assert "is not a run" in refused(run.path) if name == "config.json" else name in refused(run.path)
        (run.path / "elsewhere").rename(run.path / name)
    for text in BAD_PAIRS:
        assert "pairs.tsv is damaged" in refusal_of(run, "pairs.tsv", text.encode(errors="surrogateescape"))
    best, (state, beside) = files["best.safetensors"], weights.from_bytes(files["state.safetensors"])
    flipped = best[:-1] + bytes([best[-1] ^ 1])
    larger = initial_state(replace(MODEL, latent_dim=4), 0)
    state.mean_squares["dense/bias"][1] = -1e-3
    of_epoch_3 = "is of epoch 3, and the history's lowest validation loss is that of epoch 2"
    assert of_epoch_3 in refusal_of(run, "best.safetensors", files["state.safetensors"])
    assert "checksum is another" in refusal_of(run, "best.safetensors", flipped)
    assert "encoder/kernel" in refusal_of(run, "state.safetensors", to_bytes(larger, beside))
    negative = refusal_of(run, "state.safetensors", to_bytes(state, beside))
    assert "RMSprop slot dense/bias holds negative numbers" in negative
    whole(run.path)


@pytest.mark.parametrize("kind", ["sparse", "device", "pipe", "folder"])
def test_a_file_without_end_is_refused_before_it_is_read(run: RunDirectory, kind: str) -> None:
    for name in READ:
        path = run.path / name
        path.rename(run.path / "elsewhere")
        if kind == "sparse":
            path.touch()
            os.truncate(path, 1 << 40)  # takes no place on the disk
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            (os.mkfifo if kind == "pipe" else os.mkdir)(path)
        message = refused(run.path)
        assert name in message
        assert ("holds more than" if kind == "sparse" else "it is not a file") in message
        path.rmdir() if kind == "folder" else path.unlink()
        (run.path / "elsewhere").rename(path)


def test_a_learning_rate_that_float32_does_not_have_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for rate in ("inf", "1e39"):
        message = refusal(2, "train", "--backend", "numpy", "--out", tmp_path / "run", "--learning-rate", rate)
        assert "learning_rate is inf, expected 0 to 3.4028234663852886e+38" in message
    assert list(tmp_path.iterdir()) == []
