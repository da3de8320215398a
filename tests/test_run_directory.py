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
from common.run_directory import STATE_FILES, Progress, RunDirectory
from common.weights import ModelState, initial_state, to_bytes
from tests.attack.limits import one_line
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


def test_nothing_is_overwritten_nor_made_where_no_run_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in {"run": create, "file": Path.touch, "empty": Path.mkdir}.items():
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
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CannotBeginError, match="is not a run"):
            RunDirectory.open(path)
    dangling = tmp_path / "link"
    dangling.symlink_to("nowhere")
    for use in (create, RunDirectory.open):
        with pytest.raises(CannotBeginError, match="link is a link to nowhere, where there is nothing; remove"):
            use(dangling)
    assert "is a link to nowhere" in refusal(2, "translate", dangling, "Go on.")
    monkeypatch.setitem(run_directory.LARGEST_TEXTS, "pairs.tsv", 20)
    with pytest.raises(CannotBeginError, match="a run keeps 20 at most; give a smaller --num-samples"):
        create(tmp_path / "new")
    assert not (tmp_path / "new").exists()


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


def test_a_best_state_that_is_not_there_yet_is_the_last_one_and_reading_writes_nothing(run: RunDirectory) -> None:
    """As a crash leaves it; what goes on after one is tried at each of its points by tests/attack/exits.py."""
    old = (run.path / "best.safetensors").read_bytes()
    write(run, [*VAL_LOSSES, 0.5], done=3)
    (run.path / "best.safetensors").write_bytes(old)
    before = contents(run.path)
    assert_state(RunDirectory.open(run.path), "best", 4)
    assert contents(run.path) == before


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


# One writer


def test_a_second_writer_is_refused_and_what_a_killed_one_left_is_removed(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("state.safetensors", "trouble.json"):
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
    with new_folder(path) as living:
        assert os.listdir(tmp_path) == [living.name]
        with new_folder(path):
            assert living.exists()
        assert sorted(os.listdir(tmp_path)) == sorted([living.name, "[run]"])
        path.rmdir()
    assert os.listdir(tmp_path) == ["[run]"]


def test_a_folder_that_was_made_in_the_meantime_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(CannotBeginError, match="run cannot be made: another process has"), new_folder(path):
        create(path)
    assert os.listdir(tmp_path) == ["run"]
    assert sorted(os.listdir(path)) == NEW_FILES


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


def test_lines_of_an_old_history_that_are_not_needed_may_be_anything(run: RunDirectory) -> None:
    """Two processes could train one run, and a line could be written whose epoch was not."""
    path = as_version_1(run).path / "history.jsonl"
    lines = [*path.read_bytes().splitlines(keepends=True), b'{"epoch": 4, "lo']
    for order in ([0, 1, 2, 2], [0, 1, 1, 2, 2, 0], [0, 2, 1], [0, 1, 2, 3]):
        path.write_bytes(b"".join(lines[i] for i in order))
        assert [epoch.val_loss for epoch in run.history()] == VAL_LOSSES


# Damaged: for each file what is done to it, and how it is refused. Damage at random: tests/attack/damaged_files.py

Change = Callable[[bytes], bytes]


def edited(change: Callable[[Any], object]) -> Change:
    """Change the value in a file of JSON."""

    def edit(content: bytes) -> bytes:
        change(value := json.loads(content))
        return json.dumps(value).encode()

    return edit


def setting(place: str, value: object) -> Change:
    *part, name = place.split()
    return edited(lambda config: (config[part[0]] if part else config).update({name: value}))


def characters(change: Callable[[list[Any]], object]) -> Change:
    return edited(lambda vocabulary: change(vocabulary["encoder"]))


def state(change: Callable[[ModelState], object] = str, **metadata: object) -> Change:
    """Change the state, and what is beside it, in a file with a checksum that fits."""

    def edit(content: bytes) -> bytes:
        found, beside = weights.from_bytes(content)
        change(found)
        return to_bytes(found, beside | metadata)

    return edit


def epochs(change: Callable[[list[Any]], object]) -> Change:
    """Change the history in the metadata of a state, or in the file of version 1."""

    def edit(content: bytes) -> bytes:
        if not content.startswith(b"{"):
            found, metadata = weights.from_bytes(content)
            change(metadata["history"])
            return to_bytes(found, metadata)
        change(lines := [json.loads(line) for line in content.splitlines()])
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    return edit


ANY: dict[str, Change] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "last byte gone": lambda content: content.rstrip()[:-1],
    "garbage": lambda content: b"\xff\xfe\x00garbage\x80\n" * 9,
    "a list": lambda content: b"[]\n",
    "null": lambda content: b"null\n",
    "nested without end": lambda content: b"[" * 100_000 + b"\n",
}
WRONG_SETTINGS: dict[str, list[object]] = {  # the place of a setting, and values that it may not have
    "model_config latent_dim": [4, "3"],
    "model_config dtype": ["banana", None],
    "model_config start_token": [2, -1],
    "model_config surplus": [1],
    "train_config learning_rate": ["fast", -1, float("nan"), float("inf"), 10**400],
    "train_config batches": ["sorted"],
    "data_config validation_split": [float("nan"), -0.1],
    "data_config num_samples": [0],
    "digests": [{"pairs.tsv": "ab"}, {}, 3],
    "backend": [7],
    "train_config": [None, [1]],
    "max_encoder_seq_length": [0, 1 << 40, "3", "\ud800"],
    "path": ["/"],
}
SETTINGS = [setting(place, value) for place, values in WRONG_SETTINGS.items() for value in values]
MISSING = [edited(lambda config, part=part: config.pop(part)) for part in ("model_config", "sha256", "version")]
EPOCHS: list[Change] = [
    epochs(lambda lines: lines.pop(0)),
    epochs(lambda lines: lines.__setitem__(2, lines[1])),
    epochs(lambda lines: lines[0].update(val_loss=float("nan"))),
    epochs(lambda lines: lines[0].update(loss=float("inf"))),
    epochs(lambda lines: lines[0].update(accuracy="high")),
    epochs(lambda lines: lines[0].update(epoch=True)),
]
BAD_PAIRS = ["Go.\n", "Go.\tVa !\tmore\n", "Go.\tVa !\n\n", "\tVa !\n", "Go.\tVa !", "", f"Go.\t{'a' * 1001}\n"]
BAD_PAIRS += ["Go.\tVa !\n" * 4, "Go.\tVa \udcff\n"]  # more than the run was begun with; not UTF-8
READ = [name for name in FILES if name != "machine.json"]
# File, expected words, and changes each of which is refused so. The second table is of runs without digests.
DAMAGED: list[tuple[str, str, list[Change]]] = [
    *((name, name, list(ANY.values())) for name in READ),
    ("config.json", "", SETTINGS + MISSING),
    ("config.json", "expected rosetta-run version 1 or 2", [setting("version", 3), setting("format", "x")]),
    ("pairs.tsv", "has changed since the run was begun", [lambda content: content.replace(b"Va !", b"Vb !")]),
    ("vocabulary.json", "has changed since the run was begun", [lambda content: content.replace(b'"V"', b'"W"')]),
    ("state.safetensors", "state.safetensors", EPOCHS),
    ("state.safetensors", "", [state(step=-1), state(step="3"), state(history=3), state(surplus=1)]),
    ("best.safetensors", "best.safetensors", [state(step="3"), state(history=[])]),
    ("best.safetensors", "checksum is another", [lambda content: content[:-1] + bytes([content[-1] ^ 1])]),
    (
        "state.safetensors",
        "RMSprop slot dense/bias holds negative numbers",
        [state(lambda found: found.mean_squares["dense/bias"].__setitem__(1, -1e-3))],
    ),
    ("state.safetensors", "dense/bias", [state(lambda found: found.mean_squares.pop("dense/bias"))]),
    (
        "state.safetensors",
        "encoder/kernel",
        [state(lambda found: found.weights.update(initial_state(replace(MODEL, latent_dim=4), 0).weights))],
    ),
]
DAMAGED_OLD: list[tuple[str, str, list[Change]]] = [
    ("history.jsonl", "that can be read", EPOCHS),
    (
        "pairs.tsv",
        "expected at most 3 lines of source, tab, target",
        [lambda content, text=text: text.encode(errors="surrogateescape") for text in BAD_PAIRS],
    ),
    (
        "vocabulary.json",
        "does not hold the",
        [
            edited(lambda vocabulary: vocabulary.update(encoder=None)),
            edited(lambda vocabulary: vocabulary.update(encoder="".join(VOCABULARIES[0].characters))),
            edited(lambda vocabulary: vocabulary.update(version=2)),
            characters(list.pop),
            characters(lambda found: found.__setitem__(0, found[1])),
            characters(lambda found: found.__setitem__(0, "ab")),
            characters(lambda found: found.__setitem__(0, 7)),
            characters(lambda found: found.__setitem__(found.index(" "), "x")),
        ],
    ),
]


def read_all(path: Path) -> None:
    run = RunDirectory.open(path)
    run.pairs()
    run.vocabularies()
    run.read_state("last")
    run.read_state("best")


def refused(path: Path) -> str:
    """The one line with which a run is refused, which names it."""
    with pytest.raises(RosettaError) as caught:
        read_all(path)
    message = one_line(caught.value)
    assert str(path) in message
    return message


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_damage_is_one_clear_error(run: RunDirectory, old: bool) -> None:
    if old:
        run = as_version_1(run, digests=False)
    for name, expected, changes in DAMAGED_OLD if old else DAMAGED:
        path = run.path / name
        whole = path.read_bytes()
        for number, change in enumerate(changes):
            path.write_bytes(change(whole))
            assert expected in refused(run.path), (name, number)
        path.write_bytes(whole)
    for name in READ if not old else ["history.jsonl"]:
        (run.path / name).rename(run.path / "elsewhere")
        if name != "config.json":
            assert name in refused(run.path)
        (run.path / "elsewhere").rename(run.path / name)
    assert_state(run, "best", 2)


@pytest.mark.parametrize("kind", ["sparse", "device", "pipe", "folder"])
def test_a_file_without_end_is_refused_before_it_is_read(run: RunDirectory, kind: str) -> None:
    run = as_version_1(run, digests=False)
    for name in [*READ, "history.jsonl"]:
        path = run.path / name
        path.rename(run.path / "elsewhere")
        if kind == "sparse":
            with path.open("wb") as file:
                file.truncate(1 << 40)  # takes no place on the disk
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
        message = refused(run.path)
        assert name in message
        assert ("holds more than" if kind == "sparse" else "it is not a file") in message
        if kind == "folder":
            path.rmdir()
        (run.path / "elsewhere").replace(path)


def test_a_best_state_of_another_epoch_than_the_history_says_is_one_clear_error(run: RunDirectory) -> None:
    shutil.copy(run.path / "state.safetensors", run.path / "best.safetensors")
    assert "is of epoch 3, and the history's lowest validation loss is that of epoch 2" in refused(run.path)


def test_a_learning_rate_that_float32_does_not_have_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for rate in ("inf", "1e39"):
        message = refusal(2, "train", "--backend", "numpy", "--out", tmp_path / "run", "--learning-rate", rate)
        assert "learning_rate is inf, expected 0 to 3.4028234663852886e+38" in message
    assert list(tmp_path.iterdir()) == []
