"""The progress bar of a training."""

import io
import math
import re

import numpy as np
import pytest
from rich.console import Console

from backends import interface
from backends.commands import progress
from backends.interface import timed_steps
from common import terminal
from common.tensors import Batches
from tests.conftest import batch_of

FIGURES = [100, 100.0, 0.123456, 1.234567, 0.987654, 0.876543, 0.765432]
EPOCH = dict(zip(progress.EPOCH_COLUMNS, FIGURES, strict=True))


class Clock:
    """Seconds that pass only when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1 / 16, [4, 8, 12]), (1.0, [*range(1, 14)]), (1 / 128, [])], ids=str
)
def test_a_step_is_reported_when_a_fifth_of_a_second_has_passed(
    monkeypatch, seconds, expected
) -> None:
    clock, reported = Clock(), list[int]()
    monkeypatch.setattr(interface, "perf_counter", clock)
    batches = Batches(batch_of(13, "float32"), np.arange(13), 1)

    class Late:
        """A loss that can be read when the step is done, as JAX's."""

        def __float__(self) -> float:
            clock.now += seconds
            return 0.5

    def step(batch: object) -> tuple[Late, list[float]]:
        return Late(), [1.0, 0.0, 0.0]

    metrics = timed_steps(step, batches, np.array, lambda number, loss: reported.append(number))
    assert reported == expected
    assert metrics.step_seconds == pytest.approx([seconds] * 13)


def test_the_bar_is_over_all_epochs_with_the_time_left(monkeypatch) -> None:
    clock, screen = Clock(), io.StringIO()
    monkeypatch.setattr(
        terminal, "err", Console(file=screen, width=80, force_terminal=True, get_time=clock)
    )
    with progress.training_progress("keras:example", epochs=100) as on_event:
        clock.now += 1
        on_event({"warning": "this is slow"})
        assert "starting keras:example" in screen.getvalue()
        for epoch in (41, 42):  # a run that is continued
            for step in (0, 50, 100):
                on_event(
                    {"epoch": epoch, "step": step, "steps": 125, "loss": 0.5 if step else math.nan}
                )
                clock.now += 2
            on_event({"epoch_done": EPOCH | {"epoch": epoch}})
    shown = screen.getvalue()
    assert "keras:example  epoch 42 of 100  loss 0.5000" in shown
    # 225 steps took 10 seconds, so the 7,275 steps that are left take 323.3.
    assert "0:05:24 left" in re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert shown.count("val_accuracy_real") == 1, "one header"
    names, line = progress.EPOCH_HEADER, progress.epoch_line(EPOCH)
    assert len(line) == len(names) <= 80
    assert [float(figure) for figure in line.split()] == pytest.approx(FIGURES, abs=1e-4)


def test_no_text_of_others_writes_over_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it where no bar is drawn; see tests/cli/test_commands.py."""
    hostile, screen = "a\x1b[2Jb\x9b2Jc\u202ed\udce9", io.StringIO()
    monkeypatch.setattr(
        terminal, "err", Console(file=screen, width=200, force_terminal=True, color_system=None)
    )
    terminal.warn(hostile)
    with progress.training_progress(hostile, 1) as on_event:
        on_event({"warning": hostile})
        on_event({"epoch": 1, "step": 1, "steps": 2, "loss": 0.5})
    shown = screen.getvalue()
    assert shown.count("a?[2Jb?2Jc?d?") >= 3
    assert not set("\x9b\u202e\udce9") & set(shown)
    assert "\x1b[2J" not in shown
