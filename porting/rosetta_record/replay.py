"""The replay: each layer of a model computes after what the layers of another record gave."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from . import RecordError
from .framework import Framework, States, put_back
from .values import array_of, arrays_in, replace_arrays

if TYPE_CHECKING:
    from .run import Run

FEED = "rosetta-feed"  # the format of a feed


def model_of(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return what tells a model from another one:
    a digest of the names and shapes of its weights."""
    listed = {name: list(shape) for name, shape in sorted(shapes.items())}
    return hashlib.blake2b(
        json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


class Feed:
    """Outputs of another record's layers in the layouts of this model,
    as `rosetta-diff` wrote them into a folder."""

    def __init__(self, folder: Path) -> None:
        try:
            self._file: Any = safe_open(folder / "feed.safetensors", "np")
            facts = self._file.metadata() or {}  # type: ignore[no-untyped-call]
            if facts.get("format") != FEED:
                raise ValueError(f"its format is {facts.get('format')!r}")
        except (OSError, ValueError, SafetensorError) as error:
            raise RecordError(
                f"{folder} holds no feed: {error!r}; rosetta-diff LEFT RIGHT --feed writes one"
            ) from error
        self.of = facts.get("of")  # tells the record whose numbers these are
        self._model = facts.get("for")  # tells the model that is fed
        self._folder = folder
        self._names: dict[str, list[str]] = {}  # of the arrays of a call
        for name in [*self._file.keys()]:  # type: ignore[no-untyped-call]
            self._names.setdefault(name.rpartition("|")[0], []).append(name)

    def check(self, weights: Mapping[str, Any]) -> None:
        """Raise RecordError where the feed was written for another model
        than that with these weights."""
        if model_of({name: weight.shape for name, weight in weights.items()}) != self._model:
            raise RecordError(
                f"the feed in {self._folder} is of another model: the names or shapes of its "
                "weights are others; write it anew with rosetta-diff LEFT RIGHT --feed"
            )

    def arrays(self, of: str) -> dict[str, NDArray[Any]]:
        """Return the outputs of "outputs NUMBER LAYER" by their numbers,
        or "gradients" by their weights."""
        return {
            name.rpartition("|")[2]: self._file.get_tensor(name) for name in self._names.get(of, [])
        }


def output_of_feed(run: Run, call: dict[str, Any], output: Any) -> Any:
    """Return the output of a replay's call with the feed's arrays in place of those of their shape.
    The call tells which."""
    framework = run.framework_for(run.model)
    tensors = {str(number): tensor for number, tensor in enumerate(arrays_in(output).values())}
    arrays = run.source.arrays(f"outputs {call['number']} {call['layer']}") if run.source else {}
    fits = [
        name
        for name in tensors
        if name in arrays and arrays[name].shape == tuple(tensors[name].shape)
    ]
    call["fed_outputs"] = fits
    tensors.update({name: framework.tensor(arrays[name], tensors[name]) for name in fits})
    return replace_arrays(output, iter(tensors.values()))


def replay_model(
    run: Run, compute: Callable[[], Any], then: Callable[[Any], None] = lambda computed: None
) -> None:
    """Compute into a run's replay alone, and do what comes after it.
    In the end the model is as it was before."""
    framework, weights = run.framework_for(run.model), run.weights()
    if run.replay:
        replay = run.replay.run
        statistics = [weight for weight in weights.values() if not framework.trainable(weight)]
        states = [*framework.states(run.model), *states_of(framework, statistics)]
        run.watched, replay.watched = False, True
        computed = compute()
        replay.watched = False
        then(computed)
        put_back(states)
        run.watched = True


def states_of(framework: Framework, weights: Iterable[Any]) -> States:
    """Return the values of weights."""

    def put(weight: Any, array: NDArray[Any]) -> None:
        # A backward pass refuses what was put in its place.
        if not np.array_equal(array, array_of(weight)):
            framework.put(weight, array)

    return [(functools.partial(put, weight), np.array(array_of(weight))) for weight in weights]
