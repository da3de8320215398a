"""The same command begins a run or goes on with it,
and what cannot be written is refused before it is computed."""

import errno
from pathlib import Path

from backends.commands import training
from common.run import RunDirectory
from tests.support.program import answer, refusal, rosetta

TRAIN = ["train", "--backend", "numpy", "--num-samples", 100, "--latent-dim", 8, "--threads", 1]
TRAIN += ["--resume-or-begin"]


def test_resume_or_begin_begins_and_resumes_until_the_end(tmp_path: Path) -> None:
    command = [*TRAIN, "--out", tmp_path / "run", "--epochs"]
    assert answer(*command, 1)["epochs"] == 1
    assert answer(*command, 2)["epochs"] == 2
    status, printed, _ = rosetta(*command, 2)
    assert (status, printed) == (
        0,
        f"{tmp_path / 'run'} is whole. See it with: rosetta evaluate {tmp_path / 'run'}\n",
    )
    assert (
        answer(*TRAIN, "--out", tmp_path / "other", "--epochs", 2)["loss"]
        == answer(*command, 2)["loss"]
    )
    said = refusal(2, *command, 3, "--seed", 4)
    assert (
        "was begun with --seed 0, and this command has 4; give what it was begun with, or another "
        "--out"
    ) in said
    assert len(RunDirectory.open(tmp_path / "run").history()) == 2


def test_a_run_whose_first_epoch_failed_does_not_translate(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "The run keeps epoch 0" in refusal(1, *TRAIN, "--out", out, "--learning-rate", 1e30)
    assert refusal(2, "translate", out, "It is red.") == (
        f"rosetta: {out} has 0 epochs, so its weights are random; train it first: rosetta train "
        f"--out {out} --resume --epochs TOTAL"
    )
    assert refusal(2, "evaluate", out).startswith(f"rosetta: {out} has 0 epochs")


def test_an_unwritable_run_is_refused_before_the_first_epoch(tmp_path: Path, monkeypatch) -> None:
    command = [*TRAIN, "--out", tmp_path / "run", "--epochs"]
    assert rosetta(*command, 1)[0] == 0

    def denied(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(training, "TemporaryFile", denied)
    assert f"{tmp_path / 'run'} cannot be written: Permission denied; mend that" in refusal(
        2, *command, 2
    )


def test_a_run_that_another_process_trains_is_not_called_whole(tmp_path: Path, monkeypatch) -> None:
    command = [*TRAIN, "--out", tmp_path / "run", "--epochs", 1]
    assert rosetta(*command)[0] == 0
    monkeypatch.setattr("common.run.LOCK_SECONDS", 0.1)
    with RunDirectory.open(tmp_path / "run").only_writer():
        assert "another process is training" in refusal(2, *command)
