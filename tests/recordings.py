"""Recordings with known answers: what `rosetta bench` would write if every step took just so long."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plan import BASELINE, Cell, Plan, Sweep, cells, sized
from benchmarks.recording import Recording
from benchmarks.roofline import Sizes, step_flop
from benchmarks.sweep import points
from common.config import DataConfig, TrainConfig

VERSION = "1.0"
SECONDS = {"keras:example": 0.10, "keras": 0.09, "paddle": 0.08, "torch": 0.06}  # a step


def recording(
    path: Path,
    seconds: dict[str, float] = SECONDS,
    rounds: int = 7,
    preset: str = "standard",
    noise: float = 0.005,
    seed: int = 0,
    certified: bool = True,
) -> Recording:
    """`seconds` a step by backend, half of them where batches are bucketed; every process is off by `noise`, and each
    of its steps by twice that."""
    size = sized(preset, rounds=rounds, steps=20, epochs=3)
    plan = Plan(
        DataConfig(split="grouped"), TrainConfig(), 256, "cpu", 2, preset, size, cells(list(seconds), [], size)
    )
    sizes = {"max_encoder_seq_length": 24, "max_decoder_seq_length": 42, "num_encoder_tokens": 60}
    sizes |= {"num_decoder_tokens": 75, "training_rows": 640, "validation_rows": 160}
    shown = [{"source": "It is red.", "references": ["C'est rouge."]}]
    made = Recording.create(path, plan, {"sha256": "0" * 64, "sizes": sizes, "shown": shown})
    made.machine["cores"] = 2
    rng = np.random.default_rng(seed)
    for cell in plan.rows if certified else ():
        made.append(certificate(cell.backend, lane=cell.lane, batches=cell.batches))
    for cell in plan.models:
        for k in range(size.seeds):
            reached = (10.0, 20.0, 28.0, 30.0) if cell.bucketed else (10.0, 20.0, 30.0)
            made.append(quality(cell.backend, k, reached, cell.batches))
    for number in range(1, rounds + 1):
        measured = [cell_record(cell, seconds[cell.backend], noise, rng) for cell in plan.of_round(number)]
        made.append({"kind": "round", "round": number, "seconds": 60.0, "cells": measured})
    return Recording.read(path)


def certificate(
    name: str, passed: bool = True, version: str = VERSION, lane: str = "matched", batches: str = "shuffled"
) -> dict[str, Any]:
    rungs = {"forward": {"error": 1e-7, "tolerance": 1e-6, "passed": passed}}
    return {
        "kind": "certificate",
        "backend": name,
        "python": "",
        "lane": lane,
        "batches": batches,
        "version": version,
        "passed": passed,
        "rungs": rungs,
    }


def quality(
    name: str, seed: int, chrf: tuple[float, ...] = (10.0, 20.0, 30.0), batches: str = "shuffled"
) -> dict[str, Any]:
    """Two seconds an epoch, one where batches are bucketed."""
    seconds = 2.0 if batches == "shuffled" else 1.0
    figures = {"samples": 640, "loss": 1.0, "val_loss": 1.1, "val_accuracy": 0.8, "val_accuracy_real": 0.6}
    scores = {"exact_match": 0.1, "character_error_rate": 0.5, "chrf_signature": "nrefs:var"}
    epochs = [
        {"epoch": epoch, "seconds": seconds, "chrf": reached} | figures | scores
        for epoch, reached in enumerate(chrf, 1)
    ]
    return {
        "kind": "quality",
        "backend": name,
        "python": "",
        "batches": batches,
        "seed": seed,
        "epochs": epochs,
        "peak": 7e8,
        "strings": None,
        "longest": 0,
        "translations": ["C'est rouge."],
    }


def cell_record(cell: Cell, seconds: float, noise: float, rng: np.random.Generator) -> dict[str, Any]:
    """An epoch of 20 steps of 64 pairs, or bucketed of 19.5."""
    process = seconds / (1 + cell.bucketed) * np.exp(noise * rng.standard_normal())
    steps = process * np.exp(2 * noise * rng.standard_normal(20))
    decoding = {"seconds": [process, process], "sentences": 100, "characters": 2000}
    libraries = ["openblas"]
    precision = "bfloat16" if cell.reduced else "float32"
    facts = {"version": VERSION, "precision": precision, "threads": 2, "libraries": libraries}
    facts |= {"import_seconds": 2.0, "build_seconds": 0.1, "settings": {"threads": 2}}
    facts |= {"resident_after_import": 3e8, "resident_after_build": 3.1e8}
    return {
        "backend": cell.backend,
        "lane": cell.lane,
        "python": cell.python,
        "control": cell.control,
        "batches": cell.batches,
        "facts": facts,
        "start_seconds": 2.5,
        "seconds": 20.0,
        "load": 0.1,
        "others": 0.01,
        "parent": 0.001,
        "first_step_seconds": 1.0,
        "training": {
            "step_seconds": steps.tolist(),
            "loop_seconds": float(steps.sum()),
            "samples": 1248 if cell.bucketed else 1280,
            "batch_size": 64,
            "data_seconds": 0.002 * float(steps.sum()),
            "losses": np.linspace(3, 2, 20).tolist(),
            "threads": {"all": 8, "busy": 2},
        },
        "memory": {"peak": 6e8},
        "evaluation": {"seconds": [process * 3], "samples": 128},
        "decoding": None if cell.backend == BASELINE or cell.bucketed else decoding,
        "singles": None if cell.bucketed else {"seconds": [process] * 120, "characters": [20] * 120},
        "longest": None if cell.bucketed else {"seconds": [process] * 20, "characters": 40},
        "kernels": [
            {"name": "mkldnn_rnn_layer", "calls": 6, "seconds": 0.1, "part": "LSTM"},
            {"name": "mm", "calls": 3, "seconds": 0.05, "part": "products"},
        ],
        "profiled": {"steps": 3, "seconds": 0.2, "busy_seconds": 0.15},
    } | ({} if cell.reduced else {"products": {"large": {"shape": [2048, 2048, 2048], "flops": 2e11}}})


def swept(made: Recording, seconds: dict[str, float], overhead: float = 0.0) -> Recording:
    """The recording with a sweep: a step takes its backend's `seconds` per TFLOP, and `overhead` besides."""
    sweep = Sweep()
    sizes = {name: made.corpus["sizes"][name] for name in Sizes.__dataclass_fields__ if name in made.corpus["sizes"]}
    example = Sizes(batch_size=made.plan.settings.batch_size, latent_dim=made.plan.latent_dim, **sizes)
    plan = replace(made.plan, sweep=sweep)
    for point in points(plan):
        step = overhead + seconds[point.cell.backend] * step_flop(example.at(point.axis, point.value)) / 1e12
        made.records.append(
            {
                "kind": "sweep",
                "axis": point.axis,
                "value": point.value,
                "backend": point.cell.backend,
                "lane": point.cell.lane,
                "python": "",
                "facts": {"version": VERSION, "precision": "float32", "threads": 2, "libraries": ["openblas"]}
                | {"settings": {}},
                "step_seconds": [step] * 3,
                "peak": 7e8 + (100 * point.value if point.axis == "num_samples" else 0),
                "products": {"large": {"shape": [2048] * 3, "flops": 2e11}},
            }
        )
    for count in sweep.num_samples:
        made.records.append(
            {"kind": "data", "num_samples": count, "encode_seconds": [1e-6 * count], "epoch_seconds": [2e-6 * count]}
        )
    return replace(made, plan=plan)


def changed(made: Recording, kind: str, change: Callable[[Any], object]) -> Recording:
    """The recording with `change` done to each record of a kind."""
    records = [json.loads(json.dumps(record)) for record in made.records]
    for record in records:
        if record["kind"] == kind:
            change(record)
    return replace(made, records=records)


def each_cell(change: Callable[[Any], object]) -> Callable[[Any], object]:
    """What does `change` to every cell of a round that it is given."""
    return lambda record: [change(cell) for cell in record["cells"]]
