"""A made-up comparison, sweep, change and join, from which tests render: no number in them was measured."""

from dataclasses import replace
from itertools import combinations
from typing import get_args

import msgspec
import numpy as np

from benchmarks.measure.plan import Cell
from benchmarks.parity.certificate import Certificate, Rung
from benchmarks.parity.ladder import QUICK
from benchmarks.results.changes import Change, Comparison
from benchmarks.results.intervals import Estimate
from benchmarks.results.joined import Joined, join
from benchmarks.results.scaling import Curve, DataCost, Scaling, SizePoint
from benchmarks.results.values import (
    Decoding,
    Pair,
    Peak,
    Resources,
    Results,
    Roofline,
    Row,
    ScoredEpoch,
    Sentence,
    Speed,
    Training,
)
from common.config import DataConfig, TrainConfig
from common.evidence import Kernel, Part
from common.interface import BackendFacts
from tests.recordings import on_machine, plan_of, recording, slowed

SEED = 3
STEPS_AN_EPOCH = 125
PEAK = 203e9
VERSIONS = {
    "torch": "2.13.0+cpu",
    "paddle": "3.3.1",
    "keras": "3.15.1, tf 2.21.0",
    "keras:example": "3.15.1, tf 2.21.0",
}
# Of a matched row: seconds of a warm step, and the factor by which it is slower as installed.
STEP = {"torch": 0.0488, "paddle": 0.0715, "keras": 0.0895, "keras:example": 0.0992}
INSTALLED = {"torch": 1.004, "keras": 1.01, "paddle": 3.83}
# process, import, build, first step.
START = {
    "keras:example": (0.12, 3.21, 0.31, 1.43),
    "keras": (0.12, 3.19, 0.22, 6.35),
    "torch": (0.12, 1.34, 0.02, 0.09),
    "paddle": (0.12, 2.47, 0.08, 0.19),
}
CHARACTER = {"keras:example": None, "keras": 7.1e-6, "torch": 5.2e-6, "paddle": 17.9e-6}
ALONE = {"keras:example": 48.6e-3, "keras": 22e-6, "torch": 55e-6, "paddle": 63e-6}
# Shares of a step, in the order of Part.
SHARES = {
    "keras": (0.0, 0.62, 0.27, 0.01, 0.015, 0.08, 0.005),
    "torch": (0.86, 0.03, 0.05, 0.02, 0.02, 0.02, 0.0),
    "paddle": (0.8, 0.05, 0.05, 0.02, 0.02, 0.06, 0.0),
}
MEMORY = {"keras:example": (540, 1690), "keras": (540, 1410), "torch": (290, 720), "paddle": (410, 980)}

LONG = "Je t'aurais dit hier que la vieille gare avait été fermée pendant tout l'hiver."
HOSTILE = "</script><img src=x onerror=alert(1)> \u2028[bold]\"'&| \x1b[31m"
HOSTILE_KERNEL = "while/body|<svg onload=alert(2)>"
RAW = '{"kind": "plan", "text": "é </script> & \\u003c"}\n{"kind": "round", "spaces": "\u2028 \u00a0"}\r\n\n'


def estimate(value: float, spread: float = 0.02) -> Estimate:
    return Estimate(value, value * (1 - spread), value * (1 + 1.3 * spread))


def trainings(name: str, factor: float) -> list[Training]:
    """Three trainings of ten epochs."""
    random = np.random.default_rng([SEED, list(STEP).index(name)])
    found = []
    for seed in range(3):
        epochs = [
            ScoredEpoch(
                seconds=factor * STEP[name] * STEPS_AN_EPOCH * float(random.normal(1, 0.01)),
                loss=0.35 + 1.5 * float(np.exp(-number / 3.3)) + float(random.normal(0, 0.01)),
                val_loss=0.55 + 1.2 * float(np.exp(-number / 2.9)) + float(random.normal(0, 0.015)),
                val_accuracy=0.87 - 0.33 * float(np.exp(-number / 3)),
                val_accuracy_real=0.72 - 0.35 * float(np.exp(-number / 3)),
                chrf=52 * (1 - float(np.exp(-number / 3.8))) + float(random.normal(0, 0.7)),
                exact_match=0.24 * (1 - float(np.exp(-number / 5))),
                character_error_rate=0.42 + 0.5 * float(np.exp(-number / 3.6)),
            )
            for number in range(1, 11)
        ]
        found.append(Training(seed, epochs))
    return found


def certificate(name: str, passed: bool = True) -> Certificate:
    rungs = {
        "tensors": Rung(0.0, 0.0, True),
        "weights": Rung(0.0, 0.0, True),
        "forward": Rung(2.1e-7, 9.4e-7, True),
        "loss": Rung(4.4e-8, 1e-6, True),
        "gradients": Rung(1.6e-6, 1e-5, True),
        "step": Rung(3.1e-6, 2e-5, True) if passed else Rung(None, 2e-5, False),
    }
    if passed:
        rungs |= {"trajectory": Rung(8.2e-4, 6e-3, True), "strings": Rung(0.0, 0.01, True)}
    return Certificate(
        backend=name,
        version=VERSIONS[name],
        device="cpu",
        dtype="float32",
        precision="float32",
        latent_dim=256,
        padding="space",
        corpus_sha256="9f2c" * 16,
        size=QUICK,
        referee="numpy 2.4.6 float64",
        machine={},
        passed=passed,
        rungs=rungs,
    )


def row(name: str, lane: str = "matched", bucketed: bool = False) -> Row:
    installed = lane == "default"
    cell = Cell(name, lane, batches="bucketed" if bucketed else "shuffled")
    factor = INSTALLED[name] if installed else 0.6 if bucketed else 1.0
    step = STEP[name] * factor
    backend = name.partition(":")[0]
    after_import, peak = (size * 1e6 for size in MEMORY[name])
    kernels = [
        Kernel(*found)
        for found in (
            ("MatMul", 384, 0.101, "products") if backend == "keras" else ("mkldnn_rnn_layer", 384, 0.101, "LSTM"),
            (HOSTILE_KERNEL, 3, 0.0312, "other"),
            ("elementwise_add", 1152, 0.0084, "gates"),
        )
    ]
    one_thread = name == "paddle" and installed
    character = CHARACTER[name]
    return Row(
        cell=cell,
        label=cell.label,
        group="bucketed" if bucketed else "main",
        facts=BackendFacts(
            version=VERSIONS[name],
            device="cpu",
            threads=1 if one_thread else 2,
            precision="float32",
            settings={"intra_op_threads": 1 if one_thread else 2, "denormals": "kept", "one_hot_products": True},
            import_seconds=START[name][1],
            build_seconds=START[name][2],
            resident_before_import=90_000_000,
            resident_after_import=int(after_import),
            resident_after_build=int(after_import * 1.05),
            python="/usr/bin/python3",
            python_version="3.11.9",
            libraries=["openblas 0.3.30", "libgomp"],
            os_threads=14,
        ),
        certificate=certificate(name),
        why_not="",
        speed=Speed(estimate(step), step * STEPS_AN_EPOCH, 8000 / (step * STEPS_AN_EPOCH), 0.004),
        decoding=None
        if bucketed
        else Decoding(
            estimate(character * factor, 0.04) if character else None,
            1000 if character else 0,
            estimate(ALONE[name] * factor) if character else None,
            57 if character else 0,
            None if character else ALONE[name],
        ),
        resources=Resources(
            *START[name],
            after_import=after_import,
            after_build=after_import * 1.05,
            peak=peak,
            threads=14,
            busy_threads=1 if one_thread else 2,
            data_share=None if name == "keras:example" else 0.0021,
            roofline=None if bucketed else Roofline(8.1e9, 8.1e9 / step, 8.1e9 / step / PEAK),
            kernels=kernels,
            step_parts={}
            if bucketed
            else {p: step * s for p, s in zip(get_args(Part), SHARES[backend], strict=True)},
        ),
        learning=[] if installed else trainings(name, factor),
    )


def in_bfloat16(plain: Row) -> Row:
    """The same, in two thirds of the time."""
    cell = Cell("torch:bfloat16")
    step = STEP["torch"] / 1.5
    speed = Speed(estimate(step), step * STEPS_AN_EPOCH, 8000 / (step * STEPS_AN_EPOCH), 0.002)
    resources = replace(plain.resources, roofline=None, step_parts={}, kernels=[])
    facts = replace(plain.facts, precision="bfloat16")
    changed = {"speed": speed, "resources": resources, "facts": facts, "learning": []}
    return replace(plain, cell=cell, label=cell.label, group="reduced", **changed)


def pair(kind: str, left: str, right: str, value: float, why: str = "", spread: float = 0.03) -> Pair:
    found = estimate(value, spread)
    word = "not told apart" if found.holds(1.0) else "faster" if value > 1 else "slower"
    return Pair(kind, left, right, found, estimate(value, 2 * spread), word, why)


def between(times: dict[str, float]) -> list[Pair]:
    """Each of these against each slower one."""
    labels = sorted(times, key=lambda label: times[label])
    return [pair("frameworks", one, other, times[other] / times[one]) for one, other in combinations(labels, 2)]


def sentences() -> list[Sentence]:
    names = list(STEP)
    return [
        Sentence("Go.", ["Va !", "Marche."], False, dict.fromkeys(names, "Va !")),
        Sentence("I'm cold.", ["J'ai froid."], False, dict.fromkeys(names, "J'ai froid.")),
        Sentence(
            "Look at the skirt!",
            ["Regardez la jupe !", "Regarde la jupe !"],
            True,
            {
                "torch": "Regardez la jue!",
                "paddle": "Regrdez les chaises !",
                "keras": "Regardez la jupe !",
                "keras:example": "Regardez la jupe !",
            },
        ),
        Sentence(
            f"Is it {HOSTILE}?",
            ["Est-ce à l'été | *ça* ?"],
            True,
            {
                "torch": "Est-ce à l'été | *ça* ?",
                "paddle": "",
                "keras": "Est-ce a l'ete | *ca* ?",
                "keras:example": HOSTILE,
            },
        ),
        Sentence(
            "I would have told you yesterday that the old station had been closed for the whole winter.",
            [LONG],
            True,
            dict.fromkeys(names, "Je t'aurais dit que la vieille gare était fermée pendant l'hivers."),
        ),
    ]


def example() -> Results:
    """Four frameworks, three as installed of which one is not compared, bucketed and reduced rows, and a control;
    hostile text wherever text is free."""
    main = [row(name) for name in STEP] + [row("torch", "default"), row("keras", "default")]
    main.sort(key=lambda row: row.speed.epoch_seconds)
    broken = replace(
        row("paddle", "default"),
        why_not="parity is broken at the rung `step`",
        certificate=certificate("paddle", False),
    )
    bucketed = [row(name, bucketed=True) for name in ("torch", "paddle", "keras")]
    pairs = between(STEP)
    pairs[0] = replace(
        pairs[0], why="torch spends 42.0 ms of a step in its LSTM, paddle 57.2 ms; the rest takes as long in both."
    )
    pairs[3] = replace(pairs[3], why=f"keras has no fused LSTM on a processor. {HOSTILE}")
    pairs.append(pair("frameworks", "torch, as installed", "keras, as installed", 1.85))
    pairs += [pair("frameworks", bucketed[0].label, other.label, 1.4) for other in bucketed[1:]]
    pairs += [pair("installed", f"{name}, as installed", name, 1 / factor) for name, factor in INSTALLED.items()]
    pairs += [pair("bucketed", row.label, row.cell.backend, 1 / 0.6) for row in bucketed]
    pairs += [
        pair("reduced", "torch:bfloat16", "torch", 1.5),
        pair("control", "torch, again", "torch", 1.002, "", 0.01),
    ]
    return Results(
        headline="torch trains 1.47 times as fast as paddle (1.42 to 1.52), 1.83 times as keras (1.78 to 1.90).",
        command="rosetta bench \\\n    --preset standard \\\n    --backends torch,paddle,keras,keras:example",
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
        within=0.03,
        reached=0.041,
        generations=6,
        cycles=36,
        dropped=2,
        others=0.031,
        waited=7.4,
        seconds=1764.0,
        weights="the weights of the bundled run",
        chrf=47.23,
        chrf_signature="nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0",
        baseline="keras:example",
        rows=[*main, *bucketed, in_bfloat16(row("torch")), broken],
        pairs=pairs,
        decoding=between({name: value for name, value in CHARACTER.items() if value}),
        alone=between({name: ALONE[name] for name, value in CHARACTER.items() if value}),
        sentences=sentences(),
        peaks=[
            Peak("torch", "large", (2048, 2048, 2048), PEAK),
            Peak("paddle", "large", (2048, 2048, 2048), 196e9),
            Peak("torch", "inputs", (3840, 90, 1024), 151e9),
            Peak("numpy", "large", (2048, 2048, 2048), 167e9),
            Peak("paddle", "states", (64, 256, 1024), 88e9),
        ],
        warnings=[
            "paddle, as installed is not compared: its parity is broken; `rosetta parity` explains where",
            "The widest interval reaches 4.1 % to a side, and 3 % were asked for; --resume goes on measuring.",
            f"Other processes used 0.4 cores in 2 of 36 cycles. {HOSTILE}",
        ],
        advice=["paddle, as installed, uses one thread. To use both cores, type: export FLAGS_paddle_num_threads=2"],
    )


def curve(axis: str, name: str, sizes: tuple[int, ...]) -> Curve:
    """Steps that grow with the size, on top of what a step costs at least; memory that does not."""
    points = []
    for place, size in enumerate(sizes):
        ideal = 0.02 * 8.0**place
        points.append(SizePoint(size, ideal + STEP[name], ideal * PEAK, ideal, (900 + 5 * place) * 1e6))
    return Curve(axis, Cell(name), points)


def scaling() -> Scaling:
    """Of three frameworks along four axes."""
    axes = {
        "seq_length": (10, 20, 40, 80),
        "latent_dim": (128, 256, 512, 1024),
        "batch_size": (16, 64, 256),
        "num_samples": (10_000, 40_000, 160_000),
    }
    full = example()
    return Scaling(
        command="rosetta sweep --backends torch,keras,paddle",
        machine=full.machine,
        started=full.started,
        data=full.data,
        latent_dim=256,
        batch_size=64,
        flops=PEAK,
        curves=[curve(axis, name, sizes) for axis, sizes in axes.items() for name in ("torch", "keras", "paddle")],
        costs=[DataCost(count, 9e-7 * count, 2e-6 * count) for count in axes["num_samples"]],
    )


def comparison() -> Comparison:
    """A row that became faster, one that became slower."""
    return Comparison(
        [f"torch was 2.12.0, is 2.13.0 {HOSTILE}"],
        [
            Change("torch, as installed", "training step", 0.0615, 0.0552, estimate(0.0615 / 0.0552), "faster"),
            Change("keras", "character decoded in a batch", 7.1e-6, 7.9e-6, estimate(7.1 / 7.9), "slower"),
            Change("paddle", "character decoded alone", 6.3e-5, 6.3e-5, estimate(1.0), "same"),
        ],
    )


def several_machines() -> Joined:
    """Two machines with the same hardware, and a third where torch is slower, whose name is long."""
    plan = plan_of(lanes=("matched", "default"))
    parts = [msgspec.structs.replace(plan, named=(row,)) for row in ("torch", "keras")]
    first, second = (recording(part, seed=seed) for seed, part in enumerate(parts))
    third = slowed(on_machine(recording(plan, seed=2), f"AMD {LONG}"), "torch", 1.5)
    return join([("node-1", first), ("node-2", second), (LONG.replace(" ", "-"), third)])
