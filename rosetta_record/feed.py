"""Reads what `rosetta diff` wrote for a replay."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Mapping

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from . import RecordError

FEED = "rosetta-feed"  # the format of what a replay is fed


class Feed:
    """Outputs of another record's layers in the layouts of this model, as `rosetta diff` wrote them into a folder."""

    def __init__(self, folder: Path) -> None:
        try:
            self._file: Any = safe_open(folder / "feed.safetensors", "np")
            facts = self._file.metadata() or {}  # type: ignore[no-untyped-call]
            if facts.get("format") != FEED:
                raise ValueError(f"its format is {facts.get('format')!r}")
        except (OSError, ValueError, SafetensorError) as error:
            raise RecordError(
                f"{folder} holds no feed: {error!r}; rosetta diff LEFT RIGHT --feed writes one"
            ) from error
        self.of = facts.get("of")  # tells the record whose numbers these are
        self._model = facts.get("for")  # tells the model that is fed
        self._folder = folder
        self._names: dict[str, list[str]] = {}  # of the arrays of a call
        for name in [*self._file.keys()]:  # type: ignore[no-untyped-call]
            self._names.setdefault(name.rpartition("|")[0], []).append(name)

    def check(self, weights: Mapping[str, Any]) -> None:
        """Raise RecordError where the feed was written for another model than that with these weights."""
        shapes = {name: list(weight.shape) for name, weight in sorted(weights.items())}
        model = hashlib.blake2b(json.dumps(shapes, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
        if model != self._model:
            raise RecordError(
                f"the feed in {self._folder} is of another model: the names or shapes of its weights are others; "
                "write it anew with rosetta diff LEFT RIGHT --feed"
            )

    def arrays(self, of: str) -> dict[str, NDArray[Any]]:
        """Outputs of "outputs NUMBER LAYER" by their numbers, or "gradients" by their weights."""
        return {name.rpartition("|")[2]: self._file.get_tensor(name) for name in self._names.get(of, [])}
