"""Explain why a backend failed on a rung: the tensor, time step, gate, row and unit, and both values."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np

from benchmarks.parity.checks import CAUSES, Check
from benchmarks.parity.ladder import Climber
from common.tensors import Batch

GATES = ("input", "forget", "candidate", "output")  # in the order of their blocks of columns in a kernel
SEPARATE = 3.0  # the worst gate is named if its error is this many times the second worst gate's


def explain(climber: Climber, failed: Sequence[Check]) -> str:
    """A few lines on the rung that failed; `failed` are its checks that did not pass, in order."""
    worst = max(failed, key=lambda check: check.error)
    # States come before the probabilities that follow from them, so the first failure is nearest to the cause.
    shown = failed[0] if failed[0].rung == "forward" else worst
    lines = [f"{shown.climber} breaks at {shown.rung}: {CAUSES[shown.rung]}"]
    lines.append(
        f"{shown.tensor}: error {shown.error:.1e}, tolerance {shown.tolerance:.1e}; {_place(climber, shown)}"
    )
    if shown.rung == "weights":
        lines += _rearrangement(climber, shown)
    if shown.rung in ("forward", "loss", "gradients"):
        batch, steps = _shortest_prefix(climber, shown.rung)
        lines += [steps, _gate(climber, batch)]
    return "\n  ".join(lines)


def _place(climber: Climber, check: Check) -> str:
    if not check.where:
        return check.note
    return f"{place_of(check.tensor, check.where, climber.course.model.latent_dim)}: {check.note}"


def place_of(tensor: str, where: tuple[int, ...], latent_dim: int) -> str:
    """Describe an index of a tensor, such as "row 3, forget gate, unit 5" or "row 3, time step 2, character 7"."""
    name = tensor.removeprefix("rmsprop/")
    if name.startswith(("encoder/", "decoder/")):
        *row, column = where
        gate, unit = GATES[column // latent_dim], column % latent_dim
        return "".join(f"row {r}, " for r in row) + f"{gate} gate, unit {unit}"
    if name in ("state_h", "state_c"):
        return f"row {where[0]}, unit {where[1]}"
    if name == "probabilities":
        return f"row {where[0]}, time step {where[1]}, character {where[2]}"
    if name.startswith(("evaluate ", "train ")):
        return f"batch {where[0] + 1}"
    if name == "dense/kernel":
        return f"unit {where[0]}, character {where[1]}"
    return f"index {', '.join(map(str, where))}"


def _rearrangement(climber: Climber, check: Check) -> list[str]:
    """Describe how the weights that came out of the backend differ: transposed, or in how many rows."""
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
    """The fewest time steps with which the rung still fails, as a batch and in words.

    First the decoder's steps are shortened as far as possible, then the encoder's.
    """
    whole = climber.course.batch
    t_enc, t_dec = whole.encoder_ids.shape[1], whole.decoder_input_ids.shape[1]
    d = next((d for d in range(1, t_dec) if _breaks(climber, rung, _prefix(whole, t_enc, d))), t_dec)
    e = next((e for e in range(1, t_enc) if _breaks(climber, rung, _prefix(whole, e, d))), t_enc)
    return _prefix(whole, e, d), f"time step: first seen with {e} of {t_enc} encoder and {d} of {t_dec} decoder steps"


def _prefix(batch: Batch, encoder_steps: int, decoder_steps: int) -> Batch:
    """The batch with only its first time steps."""
    return replace(
        batch,
        encoder_ids=batch.encoder_ids[:, :encoder_steps],
        encoder_lengths=np.minimum(batch.encoder_lengths, encoder_steps),
        decoder_ids=batch.decoder_ids[:, : decoder_steps + 1],
        decoder_lengths=np.minimum(batch.decoder_lengths, decoder_steps + 1),
    )


def _breaks(climber: Climber, rung: str, batch: Batch) -> bool:
    """Whether the climber fails on this rung with this batch."""
    shorter = Climber(climber.course.with_batch(batch), climber.process, climber.dtype)
    if rung == "gradients":
        shorter.rung("loss")  # which asks for the gradients, too
    return not all(check.passed for check in shorter.rung(rung))


def _gate(climber: Climber, batch: Batch) -> str:
    """Name the gate whose columns have the largest gradient error, if that is clearly larger than the next."""
    course = climber.course
    got, expected = (a.gradients(course.probe, batch).by_name for a in (climber.answers, course.referee))
    errors = np.zeros((2, len(GATES)))
    for row, lstm in enumerate(("encoder", "decoder")):
        for name in (f"{lstm}/kernel", f"{lstm}/recurrent_kernel", f"{lstm}/bias"):
            largest = np.abs(expected[name]).max() or 1.0  # all zero for a recurrent kernel if there is a single step
            difference = np.abs(got[name] - expected[name]) / largest
            by_gate = difference.reshape(-1, len(GATES), course.model.latent_dim).max((0, 2))
            errors[row] = np.maximum(errors[row], np.nan_to_num(by_gate, nan=inf, posinf=inf))
    row = int(errors.max(1).argmax())
    worst, second = np.argsort(errors[row])[[-1, -2]]
    if errors[row, worst] > SEPARATE * errors[row, second]:
        return f"gate: the {GATES[worst]} gate of the {('encoder', 'decoder')[row]}"
    return "gate: not separable"
