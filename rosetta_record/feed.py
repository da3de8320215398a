"""Reads what `rosetta diff` wrote for a replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from . import RecordError

FEED = "rosetta-feed"  # the format of what a replay is fed


class Feed:
    """What the layers of another record were given and gave, in the layouts of this model, as `rosetta diff` wrote it
    into a folder."""

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
        self.of = facts.get("of")  # what tells the record whose numbers these are
        self._names: dict[str, list[str]] = {}  # of the arrays of a call
        for name in [*self._file.keys()]:  # type: ignore[no-untyped-call]
            self._names.setdefault(name.rpartition("|")[0], []).append(name)

    def arrays(self, kind: str, layer: str = "", number: int = 0) -> dict[str, NDArray[Any]]:
        """Inputs of a call of a layer by the names of arguments, its outputs by their numbers, or gradients by their
        weights."""
        names = self._names.get(f"{kind} {number} {layer}", [])
        return {name.rpartition("|")[2]: self._file.get_tensor(name) for name in names}
