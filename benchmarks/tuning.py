"""Measure the effects of settings: `python -m benchmarks.tuning` writes a table
for `rosetta bench --tuned FILE`.

A backend's row as installed takes turns with a row for each knob that its framework has, in rounds
of new processes as in any bench. So each ratio is of steps with one knob and with nothing set.
"""

from collections.abc import Iterable
from functools import partial
from math import ceil

import msgspec
import typer

from backends import commands as options
from backends import engine_of, frameworks, having, require_model
from backends.process.tuned import Effect, Knob, Tuning, settings_by_knob
from benchmarks.commands import Backends, Budget, measurement_path, progress, warn_of_shell
from benchmarks.measure.bench import opened_benchmark
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.quiet import only_benchmark
from benchmarks.measure.statistics import Estimate
from benchmarks.report.bench_results import BenchResults, BenchRow
from benchmarks.schema import BUDGET, Plan, Row, Training
from common import terminal
from common.errors import RosettaError
from common.files import write_atomically
from common.machine import cores, describe_machine, processor_of
from common.settings import DataConfig, ModelConfig, TrainConfig
from common.text import quoted

TUNING_WITHIN = 0.02  # half-width that intervals must reach, as a share


def main(
    backends: Backends = None, model: options.ModelOption = ModelConfig.model, budget: Budget = None
) -> None:
    """Measure each framework within the budget, and write the table so far after each."""
    warn_of_shell()
    machine, effects = describe_machine(), list[Effect]()
    path = measurement_path("tuning", None).with_suffix(".json")
    names = options.installed_backends(backends) if backends else having(frameworks(), model)
    for name in names:
        require_model(name, model)
    for framework, backend in {engine_of(name): name for name in reversed(names)}.items():
        knobs = settings_by_knob(framework, cores())
        rows = (
            Row(backend, "installed"),
            *(Row(backend, name=knob, variables=knobs[knob]) for knob in knobs),
        )
        training = Training(
            DataConfig(split="grouped"),
            TrainConfig(),
            ModelConfig.latent_dim,
            "cpu",
            None,
            model=model,
        )
        own = path.with_name(f"{path.stem}-{framework}.jsonl")
        with only_benchmark(terminal.warn), progress() as (status, note):
            plan = Plan(rows, TUNING_WITHIN, budget or BUDGET, budget is not None, training)
            opened_benchmark(own, plan, decodes=False).run(status, note)
        effects += effects_of(Measurement.read(own), knobs)
        versions = machine["versions"]
        tuning = Tuning(processor_of(machine), machine["cores"], tuple(effects), versions, model)
        if effects:
            write_atomically(path, msgspec.json.format(msgspec.json.encode(tuning)))
    if not effects:
        raise RosettaError("no setting was measured, so there is no table")
    terminal.say(f"{quoted(path)} is written. To use it: rosetta bench --tuned {quoted(path)}")


def effects_of(measurement: Measurement, knobs: Iterable[Knob]) -> list[Effect]:
    """The effects of knobs, which the later rows have in this order,
    on the first row, which sets nothing.

    A knob without an interval is left out.
    """
    results, effects = BenchResults(measurement), []
    plain, *rows = (results.by_label.get(row.label) for row in measurement.plan.rows)
    for knob, row in zip(knobs, rows, strict=True):
        ratio = results.ratio(row, plain)
        if ratio and row and plain:
            if knob == "xla":
                ratio = ratio_of_epochs(ratio, row, plain, results.text.training_rows)
            day, framework = measurement.head.started.date(), engine_of(row.row.backend)
            effects.append(Effect(framework, knob, ratio.value, ratio.low, ratio.high, day))
    return effects


def ratio_of_epochs(steps: Estimate, changed: BenchRow, plain: BenchRow, rows: int) -> Estimate:
    """The ratio of epochs, from that of steps.
    An epoch compiles at the first step of each shape of a batch."""
    assert plain.step
    shapes = 1 + (rows % plain.items > 0)
    warm, step = ceil(rows / plain.items) - shapes, plain.step.value
    epoch = warm * step + shapes * plain.first_step
    return Estimate(
        *(
            epoch / (warm * step / r + shapes * changed.first_step)
            for r in (steps.value, steps.low, steps.high)
        )
    )


if __name__ == "__main__":
    terminal.run_to_the_end(partial(typer.run, main))
