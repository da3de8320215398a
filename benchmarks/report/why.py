"""What a step's time is spent on: its operations by formula, its parts, and why one row is slower than another."""

from collections.abc import Mapping

from benchmarks.measure.in_child import Profile
from benchmarks.measure.recording import Sizes
from common.interface import BackendFacts
from common.text import listed

BETWEEN = ("data", "Python")  # the parts of a step in which none of its kernels runs
WORTH = 0.1  # a part of a step is named if it makes up at least this share of the difference between two rows
# The names of the parts of a step (see common.profiling.Part) in tables, and after "22 ms more in".
PARTS = {
    "LSTM": "its LSTM kernels",
    "products": "matrix products",
    "gates": "gates and other operators",
    "optimizer": "the optimizer",
    "data": "making the tensors",
    "Python": "Python and the framework's own bookkeeping",
    "other": "other kernels",
}


def step_parts(profile: Profile, step_seconds: float, makes_tensors: bool) -> dict[str, float]:
    """The seconds that each part of a step takes, in the order of PARTS; their sum is `step_seconds`.

    A profiler slows down what it watches, so only shares are taken from it:

    - All kernels together have the share of the time in which at least one kernel was running. It is divided between
      them in proportion to their own times, since some of them run at the same time.
    - The rest of the step is Python and waiting. What making the tensors takes, which is measured by itself, is
      subtracted from it. Where `makes_tensors` is False, the row makes its tensors before its steps, and nothing is
      subtracted.
    """
    together = sum(kernel.seconds for kernel in profile.kernels) or 1.0
    busy = min(1.0, profile.busy_seconds / profile.seconds)
    shares: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for kernel in profile.kernels:
        shares[kernel.part] += busy * kernel.seconds / together
    between = 1.0 - sum(share for part, share in shares.items() if part not in BETWEEN)
    if makes_tensors:
        shares["data"] = min(profile.data_seconds / profile.steps / step_seconds, between)
    shares["Python"] = between - shares["data"]
    return {part: share * step_seconds for part, share in shares.items()}


def why_slower(slower: str, faster: str, parts: Mapping[str, float], others: Mapping[str, float]) -> str:
    """A sentence that names the parts of a step in which the slower row spends more time than the faster one.

    `parts` are the seconds of the slower row's step by part, `others` those of the faster row's step. The sentence is
    empty where one of the two has no profile, or where no part explains the difference.
    """
    if not parts or not others:
        return ""
    words, own, theirs = dict(PARTS), dict(parts), dict(others)
    if bool(own["LSTM"]) != bool(theirs["LSTM"]):
        # One row has fused LSTM kernels, the other a loop of products and gates: only their sums can be compared.
        fused = faster if theirs["LSTM"] else slower
        for row in (own, theirs):
            row["LSTM"] += row.pop("products") + row.pop("gates")
        words["LSTM"] = f"the model's operators (of the two, {fused} alone has a fused LSTM)"
    differences = sorted(((own[part] - theirs[part], words[part]) for part in own), reverse=True)
    total = sum(seconds for seconds, _ in differences)
    more = [f"{_ms(seconds)} more in {part}" for seconds, part in differences if seconds > WORTH * total]
    less = [f"{_ms(-seconds)} less in {part}" for seconds, part in differences if -seconds > WORTH * total]
    if total <= 0 or not more:
        return ""
    return f"{slower}'s step is {_ms(total)} longer than {faster}'s: {listed([*more, *less])}."


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.1f} ms"


def multiplies_one_hot(facts: BackendFacts) -> bool:
    """Whether a backend multiplies its one-hot inputs by the kernels. If not, it looks rows of the kernels up."""
    return bool(facts.settings.get("one_hot_products", True))


def step_flop(sizes: Sizes, batch_size: int, latent_dim: int, one_hot: bool = True) -> int:
    """Floating-point operations of a training step: the forward pass, and the gradients of weights and hidden states.

    Only matrix products are counted: two operations, a multiplication and an addition, for each pair of numbers that
    are multiplied. Gates, softmax and optimizer are left out: they are some per cent of the operations.

    - The gradient of a weight, and that of a state, takes as many operations as the forward product of both.
    - `one_hot` says whether one-hot inputs are multiplied by the kernels like any other matrix. If not, rows of the
      kernels are looked up, which costs no operation. The gradient of the inputs is not needed.
    """
    gates, steps = 4 * latent_dim, sizes.max_encoder_seq_length + sizes.max_decoder_seq_length
    inputs = sizes.max_encoder_seq_length * sizes.num_encoder_tokens * gates
    inputs += sizes.max_decoder_seq_length * sizes.num_decoder_tokens * gates
    states = steps * latent_dim * gates + sizes.max_decoder_seq_length * latent_dim * sizes.num_decoder_tokens
    return 2 * batch_size * (2 * inputs * one_hot + 3 * states)
