"""Raw measurements on disk: a file of JSON lines that only grows. Everything else is derived from it.

The first line is of kind `plan`; then come, in any order and each once, lines of kind

    certificate  a backend's parity, as `benchmarks.parity` states it
    data         what a corpus of one size costs to encode and to make an epoch's tensors of
    sweep        what a backend measured at one size of one axis; see `benchmarks.scenarios.point`
    products     what NumPy's matrix product reaches on this machine
    round        what every cell measured in one round; see `benchmarks.scenarios` for a cell's fields
    quality      one training of a backend, scored after each epoch; the first one's last weights are what all decode
                 with, and its `longest` is the place of the source that they put out most for

recording.schema.json says what a line of each kind holds. A line is written whole and synced; of a benchmark that
was killed, at most the last one is torn, and is cut off when it goes on.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.plan import Cell, Plan
from common.errors import CannotBeginError, RosettaError
from common.files import write_atomically
from common.machine import describe_machine

FORMAT = "rosetta-bench"
VERSION = 2
WEIGHTS = ".safetensors"
# Kinds of lines, each with the name of its schema in recording.schema.json.
KINDS = {
    "plan": "plan",
    "certificate": "certificate",
    "products": "products_line",
    "round": "round",
    "quality": "quality",
    "data": "data",
    "sweep": "sweep",
}

Record = Mapping[str, Any]


@dataclass
class Recording:
    """An opened recording. `read` raises CannotBeginError where there is none, RosettaError where it is damaged."""

    path: Path
    plan: Plan
    corpus: dict[str, Any]  # `sha256`; `sizes` of the tensors; `shown`: sentences, each a source and its references
    machine: dict[str, Any]
    started: str
    fitness: list[dict[str, Any]]  # findings of `benchmarks.fitness` when it was begun
    records: list[Record] = field(default_factory=list)

    @property
    def weights_path(self) -> Path:
        """Beside the recording: the weights that every cell decodes with."""
        return self.path.with_suffix(WEIGHTS)

    @classmethod
    def create(
        cls, path: Path, plan: Plan, corpus: dict[str, Any], fitness: Sequence[dict[str, Any]] = ()
    ) -> "Recording":
        """Raises CannotBeginError where something is there already."""
        if not path.name:
            raise CannotBeginError(f"{path} is a folder; give --out the name of a file, such as mine.jsonl")
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        recording = cls(path, plan, corpus, describe_machine(), now, list(fitness))
        first = {"kind": "plan", "format": FORMAT, "version": VERSION, "plan": plan.as_json()}
        first |= {"corpus": corpus, "machine": recording.machine, "started": recording.started}
        first["fitness"] = recording.fitness
        if path.suffix == WEIGHTS:
            raise CannotBeginError(f"{path} would be the name of its weights; choose another --out, such as x.jsonl")
        for there in (path, recording.weights_path):
            if there.exists():
                raise CannotBeginError(f"{there} exists already; choose another --out, or go on with --resume")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(first, ensure_ascii=False) + "\n")
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
        found = (first.get("format"), first.get("version")) if isinstance(first, dict) else ("something else", "")
        if found != (FORMAT, VERSION):
            raise RosettaError(f"{path} is {found[0]} version {found[1]}, expected {FORMAT} version {VERSION}")
        _check(path, [first, *records])
        try:
            plan = Plan.from_json(first["plan"])
        except (KeyError, TypeError, AttributeError) as error:
            raise RosettaError(f"{path} is damaged: its plan is not one of `rosetta bench` ({error})") from error
        recording = cls(path, plan, first["corpus"], first["machine"], first["started"], first["fitness"], records)
        recording._check_rounds()
        return recording

    def _check_rounds(self) -> None:
        """Each round once, each of all cells."""
        numbers = set()
        for record in self.of_kind("round"):
            cells = {Cell.of(cell) for cell in record["cells"]}
            if record["round"] in numbers or cells != set(self.plan.cells):
                raise RosettaError(f"{self.path} is damaged: round {record['round']} is there twice or not whole")
            numbers.add(record["round"])

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
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)

    def of_kind(self, kind: str) -> list[Record]:
        return [record for record in self.records if record["kind"] == kind]


def _check(path: Path, lines: Sequence[Any]) -> None:
    """Hold every line to the schema of its kind."""
    from jsonschema import Draft202012Validator

    schema = json.loads((files("benchmarks") / "recording.schema.json").read_text(encoding="utf-8"))
    schemas = {kind: {"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]} for kind, name in KINDS.items()}
    validators = {kind: Draft202012Validator(found) for kind, found in schemas.items()}
    for number, line in enumerate(lines, 1):
        kind = line.get("kind") if isinstance(line, dict) else None
        if kind not in KINDS or (kind == "plan") != (number == 1):
            raise RosettaError(f"{path}, line {number}: found the kind {kind!r}, expected one of {', '.join(KINDS)}")
        if error := next(validators[kind].iter_errors(line), None):
            raise RosettaError(f"{path}, line {number}, {error.json_path}: {error.message[:200]}")
