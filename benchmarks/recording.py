"""Raw measurements on disk: a file of JSON lines that only grows. Everything else is derived from it.

The first line is of kind `plan`; then come, in any order and each once, lines of kind

    certificate  a backend's parity, as `benchmarks.parity` states it
    products     what NumPy's matrix product reaches on this machine
    round        what every cell measured in one round; see `benchmarks.scenarios` for a cell's fields
    quality      one training of a backend, scored after each epoch

A line is written whole and synced; of a benchmark that was killed, at most the last one is torn, and is cut off when
it goes on.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.plan import Plan
from common.errors import CannotBeginError, RosettaError
from common.machine import describe_machine

FORMAT = "rosetta-bench"
VERSION = 2

Record = Mapping[str, Any]


@dataclass
class Recording:
    """An opened recording. `read` raises CannotBeginError where there is none, RosettaError where it is damaged."""

    path: Path
    plan: Plan
    corpus: dict[
        str, Any
    ]  # `sha256`; `sizes` of the tensors; the sentences `shown`, each a source and its references
    machine: dict[str, Any]
    started: str
    records: list[Record] = field(default_factory=list)

    @property
    def weights_path(self) -> Path:
        """Beside the recording: the weights that every cell decodes with."""
        return self.path.with_suffix(".safetensors")

    @classmethod
    def create(cls, path: Path, plan: Plan, corpus: dict[str, Any]) -> "Recording":
        """Raises CannotBeginError where something is there already."""
        recording = cls(path, plan, corpus, describe_machine(), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
        first = {"kind": "plan", "format": FORMAT, "version": VERSION, "plan": plan.as_json()}
        first |= {"corpus": corpus, "machine": recording.machine, "started": recording.started}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "x", encoding="utf-8") as file:
                _write(file, first)
        except FileExistsError as error:
            raise CannotBeginError(f"{path} exists already; choose another --out, or go on with --resume") from error
        except OSError as error:
            raise CannotBeginError(f"{path} cannot be written: {error.strerror}") from error
        return recording

    @classmethod
    def read(cls, path: Path) -> "Recording":
        """A recording as far as it was written; a torn last line is left out."""
        try:
            lines = path.read_bytes().split(b"\n")[:-1]
        except OSError as error:
            raise CannotBeginError(f"{path} cannot be read: {error.strerror}; `rosetta bench` makes one") from error
        try:
            first, *records = [json.loads(line) for line in lines]
        except (ValueError, RecursionError) as error:
            raise RosettaError(f"{path} is damaged, or is no recording of `rosetta bench`: {error}") from error
        kinds = {"certificate", "products", "round", "quality"}
        if not isinstance(first, dict) or not all(isinstance(r, dict) and r.get("kind") in kinds for r in records):
            raise RosettaError(f"{path} is no recording of `rosetta bench`")
        if (first.get("format"), first.get("version")) != (FORMAT, VERSION):
            found = f"{first.get('format')} version {first.get('version')}"
            raise RosettaError(f"{path} is {found}, expected {FORMAT} version {VERSION}")
        try:
            plan = Plan.from_json(first["plan"])
            return cls(path, plan, first["corpus"], first["machine"], first["started"], records)
        except (KeyError, TypeError, AttributeError) as error:
            raise RosettaError(f"{path} is damaged: its plan lacks {error}") from error

    def go_on(self) -> None:
        """Cut off what a kill left torn, so that lines can be appended again."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with open(self.path, "r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())

    def append(self, record: Record) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            _write(file, record)
        self.records.append(record)

    def of_kind(self, kind: str) -> list[Record]:
        return [record for record in self.records if record["kind"] == kind]


def _write(file: Any, record: Record) -> None:
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    file.flush()
    os.fsync(file.fileno())
