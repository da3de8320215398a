"""Measure the effects of settings: `python -m benchmarks.tuning BACKEND` prints lines for the table EFFECTS.

The backend's row as installed takes turns with a row for each group of settings that its framework has, in rounds of
new processes as in any bench. So each ratio is of steps with one group and with nothing set.
"""

from datetime import datetime
from functools import partial
from pathlib import Path

import typer

from backends import engine_of, find
from backends.process.tuned import settings_of
from benchmarks.commands import progress, warn_of_shell
from benchmarks.measure.bench import opened_benchmark
from benchmarks.measure.machine import only_benchmark
from benchmarks.measure.plan import BUDGET, Plan, Row, Training
from benchmarks.measure.recording import Recording
from benchmarks.measure.statistics import observations
from common import terminal
from common.machine import cores
from common.settings import DataConfig, ModelConfig, TrainConfig

WITHIN = 0.02  # half-width that intervals must reach, as a share


def main(backend: str) -> None:
    """Measure a backend for up to BUDGET seconds, and print a line for each group of settings."""
    find(backend)
    warn_of_shell()
    framework = engine_of(backend)
    groups = settings_of(framework, cores())
    of_groups = [Row(backend, name=f"{backend}, {group}", variables=groups[group]) for group in groups]
    data = DataConfig(split="grouped")
    training = Training(data, TrainConfig(), ModelConfig.latent_dim, "cpu", None)
    plan = Plan((Row(backend, "installed"), *of_groups), WITHIN, BUDGET, training=training)
    path = Path("results") / f"tuning-{backend}-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
    with only_benchmark(terminal.warn), progress() as (status, note):
        opened_benchmark(path, plan, decodes=False).run(status, note)
    known = observations(Recording.read(path))
    for row, group in enumerate(groups, 1):
        ratio = known.ratio(row, 0)
        values = "no interval" if ratio is None else f"{ratio.value:.3f}, {ratio.low:.3f}, {ratio.high:.3f}"
        terminal.say(f'Effect("{framework}", "{group}", {values}, "{datetime.now():%Y-%m-%d}", ...)')


if __name__ == "__main__":
    terminal.run_to_the_end(partial(typer.run, main))
