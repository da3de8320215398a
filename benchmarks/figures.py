"""What was measured of a cell, read from its records: times by round, and the plain medians."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.intervals import Rounds
from benchmarks.plan import Cell
from benchmarks.recording import Record
from benchmarks.scenarios import AT_LEAST
from common.interface import Part

Measured = Mapping[int, Record]  # a cell's records by round
Figure = Callable[[Measured], Rounds]
BETWEEN = ("data", "Python")  # parts of a step that lie between its kernels


def blocks(seconds: Sequence[float]) -> NDArray[np.float64]:
    """Mean seconds a step of blocks that last at least AT_LEAST each; a rest that is shorter joins the last one."""
    groups: list[list[float]] = [[]]
    for step in seconds:
        if sum(groups[-1]) >= AT_LEAST:
            groups.append([])
        groups[-1].append(step)
    if len(groups) > 1 and sum(groups[-1]) < AT_LEAST:
        rest = groups.pop()
        groups[-1] += rest
    return np.array([fmean(group) for group in groups])


def steps(measured: Measured) -> Rounds:
    """Seconds a training step, so that their ratio is that of seconds a pair.

    Bucketed steps differ in width, and one of them tells little: of those it is the seconds of a batch's worth of
    pairs, over the whole epoch.
    """
    return {number: _steps(record) for number, record in measured.items()}


def _steps(record: Record) -> NDArray[np.float64]:
    training = record["training"]
    if Cell.of(record).bucketed:
        return np.array([training["loop_seconds"] * training["batch_size"] / training["samples"]])
    return blocks(training["step_seconds"])


def evaluations(measured: Measured) -> Rounds:
    """Seconds a validation row in an evaluation."""
    return {n: blocks(r["evaluation"]["seconds"]) / r["evaluation"]["samples"] for n, r in measured.items()}


def batch_characters(measured: Measured) -> Rounds:
    """Seconds per character put out in batch decoding; of the baseline, which has no batch, one by one."""
    found = {}
    for number, record in measured.items():
        decoding, singles = record["decoding"], record["singles"]
        if decoding:
            found[number] = blocks(decoding["seconds"]) / decoding["characters"]
        elif singles:
            found[number] = np.array([sum(singles["seconds"]) / sum(singles["characters"])])
    return found


def sentences(measured: Measured) -> Rounds:
    """Seconds a sentence, each decoded by itself."""
    return {number: np.array(r["singles"]["seconds"]) for number, r in measured.items() if r["singles"]}


def longest_characters(measured: Measured) -> Rounds:
    """Seconds per character put out of the sentence with the longest output, alone; early recordings have none."""
    records = {number: record["longest"] for number, record in measured.items() if record.get("longest")}
    return {number: blocks(longest["seconds"]) / longest["characters"] for number, longest in records.items()}


# What recordings and lanes are compared by, each with the times that its name tells.
FIGURES: Mapping[str, Figure] = {
    "training step": steps,
    "character decoded in a batch": batch_characters,
    "character decoded alone": longest_characters,
}


def start(record: Record) -> dict[str, float]:
    """Seconds of the four parts of a start."""
    facts = record["facts"]
    own = facts["import_seconds"], facts["build_seconds"]
    return {
        "process": record["start_seconds"] - sum(own),
        "import": own[0],
        "build": own[1],
        "first_step": record["first_step_seconds"],
    }


def memory(record: Record) -> dict[str, float]:
    """Bytes resident: after the import, after building the model, and at most while it trained."""
    facts = record["facts"]
    return {
        "after_import": facts["resident_after_import"],
        "after_build": facts["resident_after_build"],
        "peak": record["memory"]["peak"],
    }


def data_share(records: Sequence[Record]) -> float | None:
    """What making the steps' tensors takes, as a share of the steps' loop: the median; early recordings have none."""
    trainings = [record["training"] for record in records if "data_seconds" in record["training"]]
    return median(t["data_seconds"] / t["loop_seconds"] for t in trainings) if trainings else None


def time_parts(records: Sequence[Record], step_seconds: float, data_share: float) -> dict[str, float]:
    """The step's seconds by what they go to, in the order of Part; they sum to the step.

    From the first profiled round; early recordings have none, and give nothing. A profiler slows what it watches, so
    that only shares are taken from it: kernels have the share of the time in which one was running, in the proportion
    of their own times, since some run side by side. All else is Python and waiting, out of which is taken what
    making the tensors was measured to take, `data_share` of a step.
    """
    record = next((record for record in records if "profiled" in record), None)
    if record is None:
        return {}
    profiled, kernels = record["profiled"], record["kernels"]
    together = sum(kernel["seconds"] for kernel in kernels) or 1.0
    busy = min(1.0, profiled["busy_seconds"] / profiled["seconds"])
    shares = dict.fromkeys(get_args(Part), 0.0)
    for kernel in kernels:
        shares[kernel["part"]] += busy * kernel["seconds"] / together
    between = 1.0 - sum(share for part, share in shares.items() if part not in BETWEEN)
    shares["data"] = min(data_share, between)
    shares["Python"] = between - shares["data"]
    return {part: share * step_seconds for part, share in shares.items()}


def sentences_per_second(records: Sequence[Record]) -> float | None:
    """The median over rounds; in one batch, or of the baseline one by one; None where nothing was decoded."""
    found: list[float] = []
    for record in records:
        decoding, singles = record["decoding"], record["singles"]
        if decoding:
            found.append(decoding["sentences"] / median(decoding["seconds"]))
        elif singles:
            found.append(len(singles["seconds"]) / sum(singles["seconds"]))
    return median(found) if found else None
