"""What a step's time is spent on: its operations by formula, its parts, and why one row is slower than another."""

from collections.abc import Mapping

from backends.process.environment import GROUPS, matched_settings, variables_of
from benchmarks.measure.in_child import Profile
from benchmarks.measure.recording import Sizes
from common.interface import BackendFacts
from common.text import listed, quoted

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


def step_parts(profile: Profile | None, step_seconds: float, makes_tensors: bool) -> dict[str, float]:
    """The seconds that each part of a step takes, in the order of PARTS; their sum is `step_seconds`.

    The result is empty where there is no profile. A profiler slows down what it watches, so only shares are taken
    from it:

    - All kernels together have the share of the time in which at least one kernel was running. It is divided between
      them in proportion to their own times, since some of them run at the same time.
    - The rest of the step is Python and waiting. What making the tensors takes, which is measured by itself, is
      subtracted from it. Where `makes_tensors` is False, the row makes its tensors before its steps, and nothing is
      subtracted.
    """
    if profile is None:
        return {}
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


def advice_for(backend: str, slower: float, threads: int, own_threads: int, processor: str) -> str:
    """For a row as installed that is slower: which of the matched settings it lacks, and how to set them by hand.

    `slower` is how many times as long its step takes as with all of them. `threads` is the number that the matched
    row had, and `own_threads` that of the row as installed; `processor` is the name of the machine's. "" where the
    backend has none of these settings.
    """
    own = variables_of(backend)
    lacked, typed = [], []
    for group, values in matched_settings(threads, amd="AMD" in processor).items():
        settings = [quoted(f"{name}={value}") for name, value in values.items() if name in own]
        if settings and (group != "threads" or own_threads != threads):
            lacked.append(GROUPS[group])
            typed += settings
    if not lacked:
        return ""
    return (
        f"A step of {backend} as installed takes {slower:.2f} times as long as with matched settings, which decide "
        f"{listed(lacked)}. To set them, type before the command: {' '.join(typed)}"
    )


def multiplies_one_hot(facts: BackendFacts) -> bool:
    """Whether a backend multiplies its one-hot inputs by the kernels. If not, it looks rows of the kernels up."""
    return bool(facts.settings.get("one_hot_products", True))


def forward_flop(sizes: Sizes, batch_size: int, latent_dim: int, one_hot: bool = True) -> int:
    """Floating-point operations of the forward pass over one batch.

    Only matrix products are counted: two operations, a multiplication and an addition, for each pair of numbers that
    are multiplied. Gates, softmax and optimizer are left out: they are some per cent of the operations.
    `one_hot` says whether one-hot inputs are multiplied by the kernels like any other matrix. If not, rows of the
    kernels are looked up, which costs no operation.
    """
    s, gates = sizes, 4 * latent_dim
    encoder = s.max_encoder_seq_length * (s.num_encoder_tokens * one_hot + latent_dim) * gates
    decoder = s.max_decoder_seq_length * (s.num_decoder_tokens * one_hot + latent_dim) * gates
    dense = s.max_decoder_seq_length * latent_dim * s.num_decoder_tokens
    return 2 * batch_size * (encoder + decoder + dense)


def step_flop(sizes: Sizes, batch_size: int, latent_dim: int, one_hot: bool = True) -> int:
    """Floating-point operations of a training step: the forward pass, and the gradients of weights and hidden states.

    The gradient of a weight takes as many operations as the forward product with it. The gradient of the inputs is
    not counted, since nothing needs it.
    """
    # The products with states and in the dense layer, which are those of a forward pass without one-hot inputs.
    return 2 * forward_flop(sizes, batch_size, latent_dim, one_hot) + forward_flop(
        sizes, batch_size, latent_dim, False
    )
