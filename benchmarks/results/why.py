"""Why one row is faster than another, in a sentence made of what was measured."""

from collections.abc import Mapping, Sequence
from math import log
from shlex import quote

from backends.process.environment import GROUPS, matched_settings, variables_of
from benchmarks.measure.recording import Cause, Evidence
from common.evidence import Part

BETWEEN = ("data", "Python")  # parts of a step that lie between its kernels
WORTH = 0.1  # share of the difference that a part makes up, to be named
# What a part of a step is called in a sentence: "22 ms in ...".
IN_WORDS: Mapping[Part, str] = {
    "LSTM": "its LSTM kernels",
    "products": "matrix products",
    "gates": "gates and other operators",
    "optimizer": "the optimizer",
    "data": "making the tensors",
    "Python": "Python and the framework's own bookkeeping",
    "other": "other kernels",
}


def step_parts(evidence: Evidence | None, step_seconds: float, makes_tensors: bool) -> dict[str, float]:
    """A step's seconds by what they go to, in the order of IN_WORDS; they sum to the step. Empty without a profile.

    A profiler slows what it watches, so only shares are taken from it: kernels have the share of the time in which
    one was running, in the proportion of their own times, since some run side by side. All else is Python and
    waiting, out of which is taken what making the tensors takes by itself; where `makes_tensors` is False, a row has
    them before its steps.
    """
    if evidence is None or evidence.profile is None:
        return {}
    profile = evidence.profile
    together = sum(kernel.seconds for kernel in profile.kernels) or 1.0
    busy = min(1.0, profile.busy_seconds / profile.seconds)
    shares: dict[str, float] = dict.fromkeys(IN_WORDS, 0.0)
    for kernel in profile.kernels:
        shares[kernel.part] += busy * kernel.seconds / together
    between = 1.0 - sum(share for part, share in shares.items() if part not in BETWEEN)
    if makes_tensors:
        shares["data"] = min(profile.data_seconds / profile.steps / step_seconds, between)
    shares["Python"] = between - shares["data"]
    return {part: share * step_seconds for part, share in shares.items()}


def why_slower(slower: str, faster: str, parts: Mapping[str, float], others: Mapping[str, float]) -> str:
    """Where the time of the slower row's step goes that the faster one's does not need; empty without both profiles.

    `parts` are the slower row's seconds by part, `others` the faster one's.
    """
    if not parts or not others:
        return ""
    words = {str(part): said for part, said in IN_WORDS.items()}
    own, theirs = dict(parts), dict(others)
    if not (own["LSTM"] and theirs["LSTM"]) and (own["LSTM"] or theirs["LSTM"]):
        # One has fused LSTM kernels, the other a loop of products and gates: only their sums can be compared.
        fused = faster if theirs["LSTM"] else slower
        for side in (own, theirs):
            side["LSTM"] += side.pop("products") + side.pop("gates")
        words["LSTM"] = f"the model's operators, of which {fused} alone has a fused LSTM"
    total = sum(own.values()) - sum(theirs.values())
    differences = {words[part]: own[part] - theirs[part] for part in own}
    named = sorted((item for item in differences.items() if abs(item[1]) > WORTH * total), key=lambda i: -i[1])
    more = [f"{_ms(seconds)} more in {part}" for part, seconds in named if seconds > 0]
    less = [f"{_ms(-seconds)} less in {part}" for part, seconds in named if seconds < 0]
    if total <= 0 or not more:
        return ""
    return f"{slower}'s step is {_ms(total)} longer than {faster}'s: {_listed([*more, *less])}."


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.1f} ms"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " * (len(words) > 1) + words[-1]


def advice_for(backend: str, slower: float, causes: Sequence[Cause], threads: int) -> str:
    """For a row as installed, whose step takes `slower` times as long as matched: which of the matched settings make
    the difference, and what to type."""
    last = causes[-1]
    groups, own = matched_settings(threads), variables_of(backend)
    share = min(1.0, log(last.installed / last.given) / log(last.installed / last.matched))
    names = _listed([GROUPS[group] for group in last.groups])
    typed = [f"{name}={value}" for group in last.groups for name, value in groups[group].items() if name in own]
    found = f"{backend} as installed takes {slower:.2f} times as long a step as with all settings matched; "
    return f"{found}{share:.0%} of that is {names}. Type before the command: {' '.join(map(quote, typed))}"
