"""Forward passes of a model, or of one that was exported, which are recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from .values import arrays_in, joined

if TYPE_CHECKING:
    from .record import Record


@dataclass(frozen=True)
class Inference:
    """Forward passes on several batches, each the arguments of the model, as a sequence or by name."""

    model: Any
    batches: list[Any]
    outputs: Sequence[str]  # names of what the model gives
    repeats: bool

    def again(self) -> Inference:
        return replace(self, repeats=False)

    def compute(self) -> Any:
        return self._computed(self.batches[0])

    def record(self, record: Record) -> None:
        """Compute each batch, and record what the model gives, by its names or by its place."""
        given: dict[str, Any] = {}
        for number, batch in enumerate(self.batches):
            record.run.watched = True
            arrays = arrays_in(self._computed(batch))
            names = [*self.outputs, *(f"output{place}" for place in range(len(self.outputs), len(arrays)))]
            given.update(zip([joined(f"batch{number}" if number else "", name) for name in names], arrays.values()))
        record.forward(**given)

    def record_fed(self, replay: Record, computed: Any) -> None:
        """Do nothing: a replay has neither outputs of the model nor a step."""

    def _computed(self, batch: Any) -> Any:
        return self.model(**batch) if isinstance(batch, Mapping) else self.model(*batch)
