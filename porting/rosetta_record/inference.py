"""Forward passes of a model, or of one that was exported, which are recorded."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from . import RecordError
from .training import Training
from .values import arrays_in, is_array, joined

if TYPE_CHECKING:
    from .record import Record


class Inference(Training):
    """Forward passes of a record's model on several batches."""

    def __init__(self, record: Record, model: Any, batches: list[Any], outputs: Sequence[str]) -> None:
        """Raises RecordError for the path of an exported model that cannot be loaded."""
        self.exported = isinstance(model, (str, os.PathLike))
        if self.exported and record._feed:
            raise RecordError("a feed goes into the layers of a framework; record an exported model without")
        batches = [(batch,) if is_array(batch) else batch for batch in batches]
        super().__init__(record, model, batches, lambda model, batch: self._given(batch), None, 0)
        self.model = import_module(".onnx", __package__).Graph(model) if self.exported else model
        self.outputs = outputs

    @property
    def is_repeatable(self) -> bool:
        return not self.exported

    def _train(self) -> None:
        self._compute(self.record)

    def _repeat(self, record: Record) -> None:
        record.model(self.model)
        self._compute(record)

    def _given(self, batch: Any) -> Any:
        return self.model(**batch) if isinstance(batch, Mapping) else self.model(*batch)

    def _step_of_feed(self, computed: Any) -> None:
        """Do nothing: there is no step."""

    def _compute(self, record: Record) -> None:
        """Compute each batch, and record what the model gives, by its names or by its place."""
        given: dict[str, Any] = {}
        for number, batch in enumerate(self.batches):
            record._watched = True
            arrays = arrays_in(self._given(batch))
            names = [*self.outputs, *(f"output{place}" for place in range(len(self.outputs), len(arrays)))]
            given.update(zip([joined(f"batch{number}" if number else "", name) for name in names], arrays.values()))
        record.forward(**given)
