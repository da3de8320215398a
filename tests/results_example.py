"""A made-up comparison, for tests of what is rendered from one: no number in it was measured."""

from dataclasses import asdict, replace
from itertools import pairwise, permutations
from math import inf, isfinite
from typing import Any, get_args

import numpy as np

from benchmarks.intervals import Estimate, Verdict, overtakes, verdict
from benchmarks.plan import Sweep
from benchmarks.results import (
    Curve,
    DataCost,
    Decoded,
    Overtaking,
    Point,
    Quality,
    Results,
    Roofline,
    Row,
    Scaling,
    seconds_to_target,
)
from common.config import DataConfig, TrainConfig
from common.interface import Part

SEED = 3
STEPS_AN_EPOCH = 125
ROWS_AN_EPOCH = 8000
FLOP_A_STEP = {"keras:example": 9.8e9, "keras": 8.1e9, "torch": 8.1e9, "paddle": 8.1e9}
PEAK = 203e9
FLOOR = 0.028
ROUNDS = 6
VERSIONS = {
    "keras:example": "3.15.1, tf 2.21.0",
    "keras": "3.15.1, tf 2.21.0",
    "torch": "2.13.0+cpu",
    "paddle": "3.3.1",
}
# Of a plain row: seconds a warm step, an epoch's multiple in the lane `default`; process, import, build, first step.
STEP = {"keras:example": 0.0792, "keras": 0.0564, "torch": 0.0488, "paddle": 0.0731}
DEFAULT = {"keras:example": 1.02, "keras": 1.01, "torch": 1.004, "paddle": 3.83}
START = {
    "keras:example": (0.12, 3.21, 0.31, 1.43),
    "keras": (0.12, 3.19, 0.22, 6.35),
    "torch": (0.12, 1.34, 0.02, 0.09),
    "paddle": (0.12, 2.47, 0.08, 0.19),
}
CHARACTER = {"keras:example": 48.6e-3, "keras": 7.1e-6, "torch": 5.2e-6, "paddle": 17.9e-6}
ALONE = {"keras:example": 48.6e-3, "keras": 22e-6, "torch": 55e-6, "paddle": 63e-6}
LATENCY = {"keras": 1.21e-3, "torch": 3.04e-3, "paddle": 3.52e-3}
# Shares of a step, in the order of Part.
SHARES = {
    "keras": (0.0, 0.62, 0.27, 0.01, 0.015, 0.08, 0.005),
    "torch": (0.86, 0.03, 0.05, 0.02, 0.02, 0.02, 0.0),
    "paddle": (0.8, 0.05, 0.05, 0.02, 0.02, 0.06, 0.0),
}
MEMORY = {"keras:example": (540, 1690), "keras": (540, 1410), "torch": (290, 720), "paddle": (410, 980)}

LONG = "Je t'aurais dit hier que la vieille gare avait été fermée pendant tout l'hiver."
HOSTILE = "</script><img src=x onerror=alert(1)>"
HOSTILE_KERNEL = "while/body|<svg onload=alert(2)>"


def estimate(value: float, spread: float = 0.02) -> Estimate:
    return Estimate(value, value * (1 - spread), value * (1 + 1.3 * spread))


def ratio_of(value: float, spread: float = 0.025) -> Verdict:
    return verdict(estimate(value, spread), FLOOR, ROUNDS)


def quality(name: str, factor: float) -> list[Quality]:
    """Three trainings of ten epochs, which take `factor` of what they mostly do."""
    random = np.random.default_rng([SEED, list(STEP).index(name)])
    found = []
    for seed in range(3):
        epochs: list[dict[str, float]] = []
        reached, clock = None, 0.0
        for number in range(1, 11):
            seconds = factor * STEP[name] * STEPS_AN_EPOCH * float(random.normal(1, 0.01))
            clock += seconds
            chrf = 52 * (1 - np.exp(-number / 3.8)) + float(random.normal(0, 0.7))
            if reached is None and chrf >= 47:
                reached = clock
            epochs.append(
                {
                    "epoch": number,
                    "seconds": seconds,
                    "samples": ROWS_AN_EPOCH,
                    "loss": 0.35 + 1.5 * np.exp(-number / 3.3) + float(random.normal(0, 0.01)),
                    "val_loss": 0.55 + 1.2 * np.exp(-number / 2.9) + float(random.normal(0, 0.015)),
                    "val_accuracy": 0.87 - 0.33 * np.exp(-number / 3),
                    "val_accuracy_real": 0.72 - 0.35 * np.exp(-number / 3),
                    "chrf": chrf,
                    "exact_match": 0.24 * (1 - np.exp(-number / 5)),
                    "character_error_rate": 0.42 + 0.5 * np.exp(-number / 3.6),
                }
            )
        found.append(Quality(seed, epochs, None if (name, seed) == ("paddle", 2) else reached))
    return found


def certificate(name: str, passed: bool) -> dict[str, Any]:
    rungs: dict[str, dict[str, Any]] = {
        "tensors": {"error": 0.0, "tolerance": 0.0, "passed": True},
        "weights": {"error": 0.0, "tolerance": 0.0, "passed": True},
        "forward": {"error": 2.1e-7, "tolerance": 9.4e-7, "passed": True},
        "loss": {"error": 4.4e-8, "tolerance": 1e-6, "passed": True},
        "gradients": {"error": 1.6e-6, "tolerance": 1e-5, "passed": True},
        "step": {"error": 3.1e-6, "tolerance": 2e-5, "passed": True},
    }
    if passed:
        rungs["trajectory"] = {"error": 8.2e-4, "tolerance": 6e-3, "passed": True}
        rungs["strings"] = {"error": 0.0, "tolerance": 0.01, "passed": True}
    else:
        rungs["step"] = {"error": None, "tolerance": 2e-5, "passed": False}
    return {
        "backend": name,
        "version": VERSIONS[name],
        "device": "cpu",
        "dtype": "float32",
        "latent_dim": 256,
        "padding": "space",
        "corpus_sha256": "9f2c" * 16,
        "referee": "numpy 2.4.6 float64",
        "machine": {},
        "passed": passed,
        "rungs": rungs,
    }


def row(name: str, lane: str, ranked: bool = True, bucketed: bool = False) -> Row:
    backend, _, variant = name.partition(":")
    installed = lane == "default"
    factor = DEFAULT[name] if installed else 1.0
    step = STEP[name] * factor * (0.6 if bucketed else 1)
    flops = FLOP_A_STEP[name] / step
    one_thread = name == "paddle" and installed
    floor = 0.013 + 0.004 * list(STEP).index(name)
    baseline = STEP["keras:example"] * (DEFAULT["keras:example"] if installed else 1.0)
    is_baseline = name == "keras:example"
    scored = [] if installed else quality(name, 0.6 if bucketed else 1)
    arrival = seconds_to_target(scored) if scored else inf
    last = scored[0].epochs[-1] if scored else {}
    return Row(
        backend=backend,
        variant=variant,
        lane=lane,
        python="",
        precision="float32",
        batches="bucketed" if bucketed else "shuffled",
        label=name + (", as installed" if installed else "") + (", masked and bucketed" if bucketed else ""),
        version=VERSIONS[name],
        threads=1 if one_thread else 2,
        ranked=ranked,
        why_not="" if ranked else "parity failed at rung `step`",
        start=dict(zip(("process", "import", "build", "first_step"), START[name], strict=True)),
        step=estimate(step),
        steps_an_epoch=STEPS_AN_EPOCH,
        ratio=None if is_baseline else ratio_of(baseline / step),
        bucketing=ratio_of(1 / 0.6) if bucketed else None,
        reducing=None,
        default_cost=ratio_of(1 / factor, 0.012) if installed else None,
        control=None if installed or bucketed else Estimate(1.002, 1 - floor, 1 + floor / 2),
        floor=None if installed or bucketed else floor,
        evaluate=estimate(step * 9),
        decode_character=None if bucketed else estimate(CHARACTER[name] * factor, 0.04),
        decode_ratio=None if is_baseline or bucketed else ratio_of(CHARACTER["keras:example"] / CHARACTER[name]),
        decode_sentences=0 if bucketed else 3 if is_baseline else 1000,
        latency={}
        if is_baseline or bucketed
        else {
            percentile: estimate(LATENCY[name] * factor * more, 0.03)
            for percentile, more in ((50, 1.0), (95, 1.18), (99, 1.46))
        },
        longest_output=None if bucketed else 57,
        longest_character=None if bucketed else estimate(ALONE[name] * factor),
        longest_ratio=None if is_baseline or bucketed else ratio_of(ALONE["keras:example"] / ALONE[name]),
        memory={
            "after_import": MEMORY[name][0] * 1e6,
            "after_build": MEMORY[name][0] * 1.05e6,
            "peak": MEMORY[name][1] * 1e6,
        },
        roofline=None if bucketed else Roofline(FLOP_A_STEP[name], flops, flops / PEAK),
        data_share=0.0021,
        settings={"intra_op_threads": 1 if one_thread else 2, "flush_denormals": backend == "keras", "tf32": None},
        os_threads={"all": 14 + len(name), "busy": 1 if one_thread else 2},
        kernels=[
            {"name": name, "calls": calls, "seconds": seconds, "part": part}
            for name, calls, seconds, part in (
                ("MatMul", 384, 0.101, "products")
                if backend == "keras"
                else ("aten::mkldnn_rnn_layer", 384, 0.101, "LSTM"),
                (HOSTILE_KERNEL, 3, 0.0312, "other"),
                ("elementwise_add", 1152, 0.0084, "gates"),
            )
        ],
        time_parts={} if bucketed else {p: step * s for p, s in zip(get_args(Part), SHARES[backend], strict=True)},
        gates=[
            "1.4% of the loop's time lies outside its steps; the device was not done when they ended (2 of 6 rounds)"
        ]
        if one_thread
        else [],
        quality=scored,
        target_ratio=STEP["keras:example"] * STEPS_AN_EPOCH * 10 / arrival if isfinite(arrival) else None,
        facts={"version": VERSIONS[name], "device": "cpu", "precision": "float32"},
        certificate=certificate(name, ranked),
        train_seconds_per_epoch=step * STEPS_AN_EPOCH,
        train_samples_per_second=ROWS_AN_EPOCH / (step * STEPS_AN_EPOCH),
        decode_sentences_per_second=None if bucketed else 1 / (CHARACTER[name] * 20),
        loss=last.get("loss"),
        val_loss=last.get("val_loss"),
        val_accuracy=last.get("val_accuracy"),
        val_accuracy_real=last.get("val_accuracy_real"),
        epochs=scored[0].epochs if scored else [],
    )


def in_bfloat16(row: Row) -> Row:
    """The same, less exactly and in two thirds of the time."""
    rungs = row.certificate["rungs"] if row.certificate else {}
    coarse = {name: rung | {"error": 3e-3, "tolerance": 3e-2} for name, rung in rungs.items()}
    return replace(
        row,
        variant="bfloat16",
        label=f"{row.name}:bfloat16",
        precision="bfloat16",
        step=estimate(STEP[row.name] / 1.5),
        ratio=ratio_of(1.5 * STEP["keras:example"] / STEP[row.name]),
        reducing=ratio_of(1.5),
        roofline=None,
        train_seconds_per_epoch=row.train_seconds_per_epoch / 1.5,
        train_samples_per_second=row.train_samples_per_second * 1.5,
        certificate=(row.certificate or {}) | {"precision": "bfloat16", "rungs": coarse},
    )


def curve(axis: str, name: str, sizes: tuple[int, ...]) -> Curve:
    """Steps that grow with the size, on top of what a step costs at least; memory that does not."""
    points = []
    for place, size in enumerate(sizes):
        ideal = 0.02 * 8.0**place
        seconds = ideal + STEP[name]
        points.append(Point(size, seconds, ideal * PEAK, ideal, ideal / seconds, (900 + 5 * place) * 1e6))
    best = points[-1].share or 0.0
    departs = next((p.value for p in reversed(points) if p.share and p.share < best / 2), None)
    return Curve(axis, name, name, name != "paddle", points, best, departs)


def scaling() -> Scaling:
    names = [name for name in STEP if name != "keras:example"]
    curves = [curve(axis, name, sizes) for axis, sizes in asdict(Sweep()).items() for name in names]
    return Scaling(curves, [DataCost(count, 9e-7 * count, 2e-6 * count) for count in Sweep().num_samples])


def overtakings(rows: list[Row]) -> list[Overtaking]:
    found = []
    for slow, fast in permutations(rows, 2):
        cold, other_cold = sum(slow.start.values()), sum(fast.start.values())
        if slow.lane == fast.lane and cold > other_cold and slow.step and fast.step:
            steps = overtakes(cold, slow.step.value, other_cold, fast.step.value)
            found += [Overtaking(slow.label, fast.label, steps)] if steps is not None else []
    return found


def example() -> Results:
    """Four backends in two lanes, one row of them not ranked; hostile text wherever text is free."""
    names = list(STEP)
    rows = [row(name, lane) for lane in ("matched", "default") for name in names]
    rows = sorted(rows, key=lambda row: row.train_seconds_per_epoch)
    grey = next(row for row in rows if row.label == "paddle, as installed")
    rows = [row for row in rows if row is not grey] + [
        replace(
            grey,
            ranked=False,
            why_not="parity is broken; see `rosetta parity`",
            certificate=certificate("paddle", False),
        )
    ]
    ranked = [row for row in rows if row.ranked and row.lane == "matched"]
    pairs = [
        {
            "first": one.label,
            "second": other.label,
            "verdict": ratio_of(other.train_seconds_per_epoch / one.train_seconds_per_epoch, 0.03),
        }
        for one, other in pairwise(ranked)
    ]
    return Results(
        command="rosetta bench --preset standard",
        headline="torch trains fastest, at 1,311 pairs a second. Against keras:example: torch 1.62x as fast; "
        "keras 1.40x as fast; paddle 1.08x as fast.",
        machine={
            "processor": "AMD EPYC 9R14",
            "instructions": "X86_V2 X86_V3 X86_V4",
            "cores": 2,
            "memory": 8_200_000_000,
            "system": "Linux-6.1.0-x86_64-with-glibc2.36",
            "python": "3.11.9",
            "versions": {"numpy": "2.4.6", "tensorflow": "2.21.0", "torch": "2.13.0+cpu", "paddlepaddle": "3.3.1"},
        },
        sha256="9f2c" * 16,
        data=DataConfig(split="grouped"),
        settings=TrainConfig(),
        latent_dim=256,
        preset="standard",
        started="2025-11-25T14:03:11Z",
        rounds=ROUNDS,
        planned_rounds=7,
        num_epochs=10,
        floor=FLOOR,
        peak={
            "flops": PEAK,
            "backend": "torch",
            "shape": [2048, 2048, 2048],
            "rates": [
                {"backend": "torch", "name": "large", "shape": [2048, 2048, 2048], "flops": PEAK},
                {"backend": "torch", "name": "inputs", "shape": [3840, 90, 1024], "flops": 151e9},
                {"backend": "paddle", "name": "large", "shape": [2048] * 3, "flops": 196e9},
                {"backend": "paddle", "name": "states", "shape": [64, 256, 1024], "flops": 88e9},
                {"backend": "numpy", "name": "large", "shape": [2048] * 3, "flops": 167e9},
            ],
        },
        target_chrf=47.2,
        chrf_signature="nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0",
        warnings=[
            "6 of 7 rounds were measured; --resume goes on",
            "paddle, as installed: 1.4% of the loop's time lies outside its steps; the device was not done when they "
            "ended (2 of 6 rounds)",
        ],
        rows=rows,
        bucketed=[row(name, "matched", bucketed=True) for name in ("torch", "keras", "paddle")],
        reduced=[in_bfloat16(row("torch", "matched"))],
        pairs=pairs,
        overtakings=overtakings(rows),
        decoded=[
            Decoded(
                "Look at the skirt!",
                ["Regardez la jupe !", "Regarde la jupe !"],
                {
                    "keras:example": "Regardez la jupe !",
                    "keras": "Regardez la jupe !",
                    "torch": "Regardez la jue!",
                    "paddle": "Regrdez les chaises !",
                },
            ),
            Decoded(
                f"Is it {HOSTILE}?",
                ["Est-ce à l'été | *ça* ?"],
                {
                    "keras:example": HOSTILE,
                    "keras": "Est-ce a l'ete | *ca* ?",
                    "torch": "Est-ce à l'été | *ça* ?",
                    "paddle": "",
                },
            ),
            Decoded(
                "I would have told you yesterday that the old station had been closed for the whole winter.",
                [LONG],
                {
                    "keras:example": LONG,
                    "keras": "Je t'aurais dit que la vieille gare était fermée pendant l'hivers.",
                    "torch": "Je t'aurais dit hier que la vielle garre avait été fermé pendant toute l'hiver.",
                    "paddle": "Je t'aurais hier dit que la vieille gare avait été fermée tout l'hiver.",
                },
            ),
            Decoded("Go.", ["Va !", "Marche."], dict.fromkeys(names, "Va !")),
        ],
        scaling=scaling(),
    )


RAW = '{"kind": "plan", "text": "é </script> & \\u003c"}\n{"kind": "round", "spaces": "\u2028 \u00a0"}\r\n\n'
