"""A run on disk: whole or not there, read whatever a crash left,
and one clear error when damaged."""

import inspect
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from common import weights
from common.errors import CannotBeginError, RosettaError
from common.files import make_folder, new_folder, write_atomically
from common.run import LOCK, STATE, RunDirectory
from common.weights import Progress, initial_state
from tests.support.program import one_line
from tests.support.small_run import (
    CONFIGS,
    FILES,
    MODEL,
    PAIRS,
    VOCABULARIES,
    assert_same,
    assert_state,
    contents,
    create,
    epoch_of,
    state_of,
    three_epochs,
    to_bytes,
    write,
)

VAL_LOSSES = [3.0, 1.0, 2.0]  # of the run below


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Three epochs, the second of them the best."""
    three_epochs(tmp_path / "run")
    return RunDirectory.open(tmp_path / "run")


# Whole


def test_what_is_created_is_opened_again_wherever_it_is_moved(tmp_path: Path) -> None:
    created = create(tmp_path / "deep" / "run", "float64")
    assert os.listdir(tmp_path / "deep") == ["run"]
    shutil.move(created.path, tmp_path / "moved")
    opened = RunDirectory.open(str(tmp_path / "moved"))
    assert sorted(os.listdir(opened.path)) == FILES
    assert replace(opened, path=created.path) == created
    configs = opened.model_config, opened.train_config, opened.data_config
    assert configs == (replace(MODEL, dtype="float64"), *CONFIGS[1:])
    assert (opened.backend, opened.sha256, opened.pairs()) == ("keras:example", "ab" * 32, PAIRS)
    assert (opened.max_encoder_seq_length, opened.max_decoder_seq_length) == (
        len("Go."),
        len("\tBouge\u2028!\n"),
    )
    assert [v.characters for v in opened.vocabularies] == [v.characters for v in VOCABULARIES]
    for dtype, expected in [(None, "float64"), ("float32", "float32")]:
        state, progress = opened.read_state("best", dtype)
        assert {array.dtype for array in state.arrays().values()} == {np.dtype(expected)}
        assert progress == Progress(0, ())


def test_a_folder_is_made_however_deep(tmp_path: Path) -> None:
    deep, limit = tmp_path.joinpath(*["d"] * 300), sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 200)
    try:
        make_folder(deep)
    finally:
        sys.setrecursionlimit(limit)
    assert deep.is_dir()


def test_what_is_written_by_a_link_to_a_folder_is_there(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link" / "page.html", "text")
    with new_folder(tmp_path / "link" / "run") as folder:
        (folder / "file").touch()
    make_folder(tmp_path / "link" / "results")
    assert sorted(os.listdir(tmp_path / "real")) == ["page.html", "results", "run"]


def test_nothing_is_overwritten_nor_made_where_no_run_can_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for name, make in {
        "run": create,
        "file": Path.touch,
        "empty": Path.mkdir,
        "link": Path.is_symlink,
    }.items():
        make(tmp_path / name)
        before = contents(tmp_path)
        with pytest.raises(CannotBeginError, match="exists already"):
            create(tmp_path / name)
        assert contents(tmp_path) == before
    with pytest.raises(CannotBeginError, match="cannot be written"):
        create(tmp_path / "file" / "deeper" / "run")
    for length in (230, 260):
        with pytest.raises(
            CannotBeginError, match="cannot be written: the name is too long; choose one of"
        ):
            create(tmp_path / ("n" * length))
    for path in (tmp_path, tmp_path / "missing", tmp_path / "link"):
        with pytest.raises(CannotBeginError, match="is not a run"):
            RunDirectory.open(path)


def test_what_others_may_read_is_the_users_to_say(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with new_folder(tmp_path / "folder") as folder:
            write_atomically(folder / "file", "text")
    finally:
        os.umask(before)
    modes = [
        path.stat().st_mode & 0o777 for path in (tmp_path / "folder", tmp_path / "folder" / "file")
    ]
    assert modes == [0o750, 0o640]


# Epochs


def test_the_best_weights_have_the_lowest_validation_loss(run: RunDirectory) -> None:
    assert run.history() == tuple(epoch_of(*numbered) for numbered in enumerate(VAL_LOSSES, 1))
    assert_state(run, "last", 3)
    assert_state(run, "best", 2)
    assert not any(slot.any() for slot in run.read_state("best")[0].mean_squares.values())
    write(run, [*VAL_LOSSES, 0.5])
    assert_state(run, "best", 4)
    assert sorted(os.listdir(run.path)) == FILES


def test_a_state_that_diverged_or_is_unreadable_is_not_written(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, checkpoint, state = contents(run.path), run.read(), state_of(4)
    state.weights["dense/bias"][0] = np.nan
    with pytest.raises(RosettaError, match="diverged"):
        run.write(checkpoint.after(state, 10, epoch_of(4, 0.1)))
    monkeypatch.setattr(weights, "LARGEST_METADATA", 300)
    with pytest.raises(RosettaError, match="cannot keep epoch 4: its history is too long"):
        run.write(checkpoint.after(state_of(4), 10, epoch_of(4, 0.1)))
    assert contents(run.path) == before


@pytest.mark.parametrize(("which", "epoch"), [("last", 3), ("best", 2)])
def test_weights_alone_are_a_run_whose_slots_are_zeros(
    run: RunDirectory, tmp_path: Path, which: str, epoch: int
) -> None:
    run.write_weights(which, tmp_path / "weights")
    alone = RunDirectory.open(tmp_path / "weights")
    assert replace(alone, path=run.path) == run
    assert sorted(os.listdir(alone.path)) == FILES
    state, progress = alone.read_state("last")
    expected, expected_progress = run.read_state(which)
    assert progress == expected_progress
    assert_same(state.weights, expected.weights)
    assert not any(slot.any() for slot in state.mean_squares.values())
    assert (alone.pairs(), alone.history()) == (run.pairs(), run.history()[:epoch])
    if which == "last":
        with pytest.raises(RosettaError, match="has no weights of its best epoch, 2"):
            alone.read_state("best")
    with pytest.raises(CannotBeginError, match="exists already"):
        run.write_weights(which, tmp_path / "weights")
    (run.path / "pairs.tsv").write_bytes(b"Go.\tNon.\n")
    with pytest.raises(RosettaError, match=r"pairs\.tsv is damaged"):
        run.write_weights(which, tmp_path / "another")
    assert not (tmp_path / "another").exists()


# One writer


def test_a_second_writer_is_refused(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.run.LOCK_SECONDS", 0.1)
    with (
        run.only_writer(),
        pytest.raises(
            CannotBeginError, match=f"another process is training {run.path}; wait for its end"
        ),
        RunDirectory.open(run.path).only_writer(),
    ):
        pass
    assert sorted(os.listdir(run.path)) == sorted([LOCK, *FILES])


def test_of_two_that_make_a_run_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "[run]"
    with (
        pytest.raises(CannotBeginError, match="cannot be made: another process has"),
        new_folder(path),
    ):
        create(path)
    assert os.listdir(tmp_path) == ["[run]"]
    assert sorted(os.listdir(path)) == FILES


def test_a_run_that_names_no_model_is_an_lstm(run: RunDirectory) -> None:
    config = json.loads((run.path / "config.json").read_bytes())
    assert config["model_config"].pop("model") == "lstm"
    del config["model_config"]["max_length"]
    (run.path / "config.json").write_text(json.dumps(config))
    assert RunDirectory.open(run.path) == run


# Damaged: for each file what is done to it. Damage at random: tests/nightly/test_damaged_files.py

READ = [name for name in FILES if name != "machine.json"]
ANY: list[Callable[[bytes], bytes]] = [
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: b"\xff\xfe\x00garbage\x80\n" * 9,
    lambda content: b"null\n",
    lambda content: b"[" * 100_000 + b"\n",
]
WRONG: dict[str, dict[str, list[Any]]] = {  # the place of a value in a file, and what it may not be
    "config.json": {
        "format": ["x"],
        "version": [4],
        "model_config latent_dim": [4, "3"],
        "model_config surplus": [1],
        "model_config model": ["gru", None],
        "train_config learning_rate": ["fast", -1, float("nan"), 10**400],
        "digests": [{"pairs.tsv": "ab"}, 3],
        "max_encoder_seq_length": [0, 1 << 40, "\ud800"],
        "path": ["/"],
    },
    "vocabulary.json": {
        "encoder": [None, [" ", "."], list("  .Go"), ["ab", *" .G"], list(".Gox\r犬")]
    },
    STATE: {
        "step": [-1, "3"],
        "history": [3, [{}]],
        "history 0 val_loss": [float("nan")],
        "history 0 epoch": [True, 2],
        "surplus": [1],
    },
}
BAD_PAIRS = ["Go.\n", "Go.\tVa !\tmore\n", "\tVa !\n", "", f"Go.\t{'a' * 1001}\n"]
BAD_PAIRS += ["Go.\tVa !\n" * 4, "Go.\tVa \udcff\n"]  # more than the run was begun with; not UTF-8


def with_value(content: bytes, place: str, value: object) -> bytes:
    """A file of JSON, or a state with its metadata and a checksum that fits,
    in which a value is another one."""
    arrays, whole = (
        ({}, json.loads(content)) if content.startswith(b"{") else weights.from_bytes(content)
    )
    *parts, last = place.split()
    within = whole
    for part in parts:
        within = within[int(part) if part.isdecimal() else part]
    within[last] = value
    return to_bytes(arrays, whole) if arrays else json.dumps(whole).encode()


def refusal_of(run: RunDirectory, name: str, content: bytes) -> str:
    """The line with which a run is refused while a file has another content."""
    before = (run.path / name).read_bytes()
    (run.path / name).write_bytes(content)
    line = refused(run.path)
    (run.path / name).write_bytes(before)
    return line


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
    run.pairs(), run.vocabularies, run.read_state("last"), run.read_state("best")


def test_a_changed_bit_is_found(run: RunDirectory) -> None:
    for name in ("pairs.tsv", "vocabulary.json", STATE):
        content = (run.path / name).read_bytes()
        for at in (-9, len(content) * 3 // 4):  # of a state in the last array, and in another one
            flipped = bytearray(content)
            flipped[at] ^= 1
            assert f"{run.path / name} is damaged: it has changed" in refusal_of(
                run, name, bytes(flipped)
            )


@patch("hashlib.sha256", lambda *of: sha256())  # as somebody would see to who wants to deceive
@patch("hashlib.file_digest", lambda *of: sha256())
def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    three_epochs(tmp_path / "run")
    run, files = RunDirectory.open(tmp_path / "run"), contents(tmp_path / "run")
    for name in READ:
        for change in ANY:
            assert f"{name} is damaged: " in refusal_of(run, name, change(files[name]))
        for place, values in WRONG.get(name, {}).items():
            for value in values:
                line = refusal_of(run, name, with_value(files[name], place, value))
                assert " is damaged: " in line or name == STATE, (place, value)
        (run.path / name).rename(run.path / "elsewhere")
        assert (
            "is not a run" in refused(run.path)
            if name == "config.json"
            else name in refused(run.path)
        )
        (run.path / "elsewhere").rename(run.path / name)
    for text in BAD_PAIRS:
        assert "pairs.tsv is damaged" in refusal_of(
            run, "pairs.tsv", text.encode(errors="surrogateescape")
        )
    larger = initial_state(replace(MODEL, latent_dim=4), 0).arrays()
    arrays, beside = weights.from_bytes(files[STATE])
    for name, expected in {
        "rmsprop/dense/bias": "RMSprop slot dense/bias",
        "best/dense/bias": "best weight",
    }.items():
        wrong = arrays | {name: np.full_like(arrays[name], -np.inf)}
        assert expected in refusal_of(run, STATE, to_bytes(wrong, beside))
    assert "encoder/kernel" in refusal_of(run, STATE, to_bytes(larger, beside))
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
        reason = "it holds more than" if kind == "sparse" else "it is not a file"
        assert f"{path} cannot be read: {reason}" in refused(run.path)
        path.rmdir() if kind == "folder" else path.unlink()
        (run.path / "elsewhere").rename(path)
