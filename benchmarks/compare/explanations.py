"""Explain why a backend failed on a rung: the tensor, time step, gate, row and unit, and both values."""

from dataclasses import replace
from math import inf

import numpy as np

from benchmarks.compare.climber import Climber
from benchmarks.compare.comparer import GATES, Check, explained, nearest, place
from common.tensors import Batch

BREAKS = {
    "tensors": "its process does not make the same tensors of the same ids",
    "weights": "weights are changed on their way in or out",
}
LSTM = GATES["lstm"]  # in the order of their blocks of columns in a kernel
SEPARATE = 3.0  # the worst gate is named if its error is this many times the second worst gate's


def explain(climber: Climber) -> str:
    """A few lines on the rung that failed."""
    failed = [check for check in climber.checks if not check.passed]
    shown = failed[nearest(failed)]
    checks = sum(check.rung == shown.rung for check in climber.checks)
    at = place_of(shown.tensor, shown.where, climber.course.model.latent_dim)
    lines = explained(shown.climber, shown, at, len(failed), checks, BREAKS.get(shown.rung, ""))
    if shown.rung == "weights":
        lines += _rearrangement(climber, shown)
    if shown.rung in ("forward", "loss", "gradients"):
        batch, steps = _shortest_prefix(climber, shown.rung)
        lines += [steps, _gate(climber, batch)]
    return "\n  ".join(lines)


def place_of(tensor: str, where: tuple[int, ...], latent_dim: int) -> str:
    """Describe an index of a tensor, such as "row 3, forget gate, unit 5" or "row 3, time step 2, character 7"."""
    name = tensor.removeprefix("rmsprop/")
    if name.startswith(("encoder/", "decoder/")):
        axes: tuple[str, ...] = ("lstm gate",) if name.endswith("/bias") else ("row", "lstm gate")
    elif name.startswith(("evaluate ", "train ")):
        axes = ("batch",)
    else:
        axes = {
            "state_h": ("row", "unit"),
            "state_c": ("row", "unit"),
            "probabilities": ("row", "time step", "character"),
            "dense/kernel": ("unit", "character"),
        }.get(name, ())
    return place(where, axes, latent_dim)


def _rearrangement(climber: Climber, check: Check) -> list[str]:
    """Describe how the weights that came out of the backend differ: transposed, or in how many rows."""
    came_out, went_in = (side["weights"][check.tensor] for side in (climber.right, climber.left))
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
    question = climber.right.questions[rung if rung in climber.right.questions else "gradients"]
    whole = question.corpus.take(question.rows)
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
    right, left = climber.right.of_batch(batch), climber.left.of_batch(batch)
    return not all(check.passed for check in Climber(climber.course, right, left).rung(rung))


def _gate(climber: Climber, batch: Batch) -> str:
    """Name the gate whose columns have the largest gradient error, if that is clearly larger than the next."""
    got, expected = (side.of_batch(batch)["gradients"] for side in (climber.right, climber.left))
    errors = np.zeros((2, len(LSTM)))
    for row, lstm in enumerate(("encoder", "decoder")):
        for name in (f"{lstm}/kernel", f"{lstm}/recurrent_kernel", f"{lstm}/bias"):
            largest = np.abs(expected[name]).max() or 1.0  # all zero for a recurrent kernel if there is a single step
            difference = np.abs(got[name] - expected[name]) / largest
            by_gate = difference.reshape(-1, len(LSTM), climber.course.model.latent_dim).max((0, 2))
            errors[row] = np.maximum(errors[row], np.nan_to_num(by_gate, nan=inf, posinf=inf))
    row = int(errors.max(1).argmax())
    worst, second = np.argsort(errors[row])[[-1, -2]]
    if errors[row, worst] > SEPARATE * errors[row, second]:
        return f"gate: the {LSTM[worst]} gate of the {('encoder', 'decoder')[row]}"
    return "gate: not separable"
