"""Why a backend broke on a rung: tensor, time step, gate, row, unit, and both values."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.parity.ladder import Check, Climber
from common.tensors import Batch

GATES = ("input", "forget", "candidate", "output")  # the blocks of columns, in this order
SEPARATE = 3.0  # times the second worst gate's error that the worst one's must be, to be named

# What a rung that breaks first says of the cause, the rungs below it having held.
CAUSES = {
    "tensors": "its process does not make the same tensors of the same ids",
    "weights": "weights are changed on their way in or out",
    "forward": "the same weights and tensors give other states or probabilities",
    "loss": "the probabilities agree and the loss of them does not: look at targets, their padding, the mean",
    "gradients": "the loss agrees and its derivatives do not",
    "step": "the gradients agree and the optimizer's step does not: look at its constants, at where epsilon "
    "stands, at what is in its list",
    "trajectory": "one step agrees and a row of steps does not: look at the order of batches, at what is kept "
    "between steps",
    "strings": "the probabilities agree and the decoded text does not: look at the decoding loop",
}


def explain(climber: Climber, failed: Sequence[Check]) -> str:
    """A few lines on the rung that broke; `failed` are its checks that did not pass, in order."""
    worst = max(failed, key=lambda check: check.error)
    first = failed[0] if failed[0].rung == "forward" else worst  # states lead to probabilities
    lines = [f"{first.climber} breaks at {first.rung}: {CAUSES[first.rung]}"]
    lines.append(
        f"{first.tensor}: error {first.error:.1e}, tolerance {first.tolerance:.1e}; {_place(climber, first)}"
    )
    if first.rung == "weights":
        lines += _rearrangement(climber, first)
    if first.rung in ("forward", "loss", "gradients"):
        batch, steps = _shortest_prefix(climber, first.rung)
        lines += [steps, _gate(climber, batch)]
    return "\n  ".join(lines)


def _place(climber: Climber, check: Check) -> str:
    if not check.where:
        return check.note
    return f"{place_of(check.tensor, check.where, climber.course.model.latent_dim)}: {check.note}"


def place_of(tensor: str, where: tuple[int, ...], latent_dim: int) -> str:
    """An index in words: row, gate and unit of a weight; row, time step and character of a probability."""
    name = tensor.removeprefix("rmsprop/")
    if name.startswith(("encoder/", "decoder/")):
        *row, column = where
        gate, unit = GATES[column // latent_dim], column % latent_dim
        return "".join(f"row {r}, " for r in row) + f"{gate} gate, unit {unit}"
    if name in ("state_h", "state_c"):
        return f"row {where[0]}, unit {where[1]}"
    if name == "probabilities":
        return f"row {where[0]}, time step {where[1]}, character {where[2]}"
    if name == "dense/kernel":
        return f"unit {where[0]}, character {where[1]}"
    return f"index {', '.join(map(str, where))}"


def _rearrangement(climber: Climber, check: Check) -> list[str]:
    """Whether what came out of the backend is what went in, in another order."""
    name = check.tensor.removeprefix("rmsprop/")
    kind = "mean_squares" if name != check.tensor else "weights"
    came_out, went_in = (getattr(s, kind)[name] for s in (climber.came_out, climber.went_in))
    if came_out.shape != went_in.shape:
        return []
    if went_in.ndim == 2 and went_in.shape[0] == went_in.shape[1] and np.array_equal(came_out, went_in.T):
        return ["it came out transposed"]
    rows = np.unique(np.argwhere(came_out != went_in)[:, 0])
    return [f"{len(rows)} of {len(went_in)} rows differ" + (f": row {rows[0]}" if len(rows) == 1 else "")]


def _shortest_prefix(climber: Climber, rung: str) -> tuple[Batch, str]:
    """The shortest batch on which the rung still breaks, found by running ever longer prefixes."""
    whole = climber.course.batch
    encoder_steps, decoder_steps = whole.encoder_ids.shape[1], whole.decoder_input_ids.shape[1]
    d = next((d for d in range(1, decoder_steps) if _breaks(climber, rung, _prefix(whole, encoder_steps, d))), None)
    d = d or decoder_steps
    e = next((e for e in range(1, encoder_steps) if _breaks(climber, rung, _prefix(whole, e, d))), encoder_steps)
    said = f"time step: first seen with {e} of {encoder_steps} encoder and {d} of {decoder_steps} decoder steps"
    return _prefix(whole, e, d), said


def _prefix(batch: Batch, encoder_steps: int, decoder_steps: int) -> Batch:
    return replace(
        batch,
        encoder_ids=batch.encoder_ids[:, :encoder_steps],
        encoder_lengths=np.minimum(batch.encoder_lengths, encoder_steps),
        decoder_ids=batch.decoder_ids[:, : decoder_steps + 1],
        decoder_lengths=np.minimum(batch.decoder_lengths, decoder_steps + 1),
    )


def _breaks(climber: Climber, rung: str, batch: Batch) -> bool:
    course = climber.course
    if rung == "forward":
        got, expected = (vars(a.forward(course.probe, batch)) for a in (climber.answers, course.referee))
        return any(not _near(got[name], expected[name], climber.forward_tolerance(name)) for name in expected)
    own, wanted = (a.gradients(course.probe, batch) for a in (climber.answers, course.referee))
    tolerance = climber.tolerances[rung]
    if rung == "loss":
        return not _near(np.array(own.loss), np.array(wanted.loss), tolerance * wanted.loss)
    return any(
        not _near(own.by_name[name], gradient, tolerance * np.abs(gradient).max())
        for name, gradient in wanted.by_name.items()
    )


def _near(got: NDArray[Any], expected: NDArray[Any], tolerance: float) -> bool:
    """Not so where anything is not finite."""
    return bool(got.shape == expected.shape and np.all(np.abs(got - expected) <= tolerance))


def _gate(climber: Climber, batch: Batch) -> str:
    """The gate whose block of columns holds the worst gradient, where one stands out."""
    course = climber.course
    got, expected = (a.gradients(course.probe, batch).by_name for a in (climber.answers, course.referee))
    errors = np.zeros((2, len(GATES)))
    for row, lstm in enumerate(("encoder", "decoder")):
        for name in (f"{lstm}/kernel", f"{lstm}/recurrent_kernel", f"{lstm}/bias"):
            largest = np.abs(expected[name]).max() or 1.0  # zero: a recurrent kernel of a single step
            difference = np.abs(got[name] - expected[name]) / largest
            by_gate = difference.reshape(-1, len(GATES), course.model.latent_dim).max((0, 2))
            errors[row] = np.maximum(errors[row], np.nan_to_num(by_gate, nan=inf, posinf=inf))
    row = int(errors.max(1).argmax())
    worst, second = np.argsort(errors[row])[[-1, -2]]
    if errors[row, worst] > SEPARATE * errors[row, second]:
        return f"gate: the {GATES[worst]} gate of the {('encoder', 'decoder')[row]}"
    return "gate: not separable"
