"""A made-up comparison, sweep, change and join, from which tests render: no number in them was measured."""

from dataclasses import replace

import msgspec

from benchmarks.measure.plan import Cell
from benchmarks.measure.recording import Evidence
from benchmarks.results.changes import Change, Comparison
from benchmarks.results.intervals import Estimate
from benchmarks.results.joined import Joined, join
from benchmarks.results.rows import results_of
from benchmarks.results.scaling import Scaling, scaling_of
from benchmarks.results.values import Results, Sentence
from common.evidence import Kernel
from tests.recordings import (
    KERNELS,
    SECONDS,
    certificate,
    changed,
    on_machine,
    plan_of,
    recording,
    slowed,
    swept,
    trained,
)

LONG = "Je t'aurais dit hier que la vieille gare avait été fermée pendant tout l'hiver."
HOSTILE = "</script><img src=x onerror=alert(1)> \u2028[bold]\"'&| \x1b[31m"
HOSTILE_KERNEL = "while/body|<svg onload=alert(2)>"
RAW = '{"kind": "plan", "text": "é </script> & \\u003c"}\n{"kind": "round", "spaces": "\u2028 \u00a0"}\r\n\n'


def sentences() -> list[Sentence]:
    names = list(SECONDS)
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
    plan = plan_of([*SECONDS, "torch:bfloat16"], "standard", lanes=("matched", "default"))
    made = recording(plan, SECONDS | {"torch:bfloat16": 0.04}, installed=1.5)
    made.lines += [trained(cell, seed) for cell in plan.trained for seed in range(3)]
    hostile = [*KERNELS, Kernel(HOSTILE_KERNEL, 3, 0.0312, "other")]
    made = changed(
        made,
        Evidence,
        lambda line: msgspec.structs.replace(line, profile=line.profile and replace(line.profile, kernels=hostile)),
    )
    results = results_of(made)
    broken = Cell("paddle", "default")
    rows = [
        replace(row, why_not="parity is broken at the rung `step`", certificate=certificate(row.cell, False))
        if row.cell == broken
        else row
        for row in results.rows
    ]
    pairs = [
        replace(pair, why=f"{pair.why} {HOSTILE}") if (pair.left, pair.right) == ("torch", "keras") else pair
        for pair in results.pairs
        if pair.kind != "frameworks" or broken.label not in (pair.left, pair.right)
    ]
    warnings = [
        "paddle, as installed is not compared: its parity is broken; `rosetta parity` explains where",
        "The widest interval reaches 4.1 % to a side, and 3 % were asked for; --resume goes on measuring.",
        f"Other processes used 0.4 cores in 2 of 36 cycles. {HOSTILE}",
    ]
    return replace(
        results,
        rows=sorted(rows, key=lambda row: (not row.compared, row.group != "main")),
        pairs=pairs,
        sentences=sentences(),
        warnings=warnings,
        advice=["paddle, as installed, uses one thread. To use both cores, type: export FLAGS_paddle_num_threads=2"],
    )


def scaling() -> Scaling:
    """Of three frameworks along four axes, with steps that cost something at any size."""
    return scaling_of(swept({"torch": 10.0, "keras": 12.0, "paddle": 11.0}, overhead=0.01))


def comparison() -> Comparison:
    """A row that became faster, one that became slower."""
    return Comparison(
        [f"torch was 2.12.0, is 2.13.0 {HOSTILE}"],
        [
            Change("torch, as installed", "training step", 0.0615, 0.0552, Estimate(1.11, 1.09, 1.13), "faster"),
            Change("keras", "character decoded in a batch", 7.1e-6, 7.9e-6, Estimate(0.9, 0.88, 0.92), "slower"),
        ],
    )


def several_machines() -> Joined:
    """Two machines with the same hardware, and a third where torch is slower, whose name is long."""
    plan = plan_of(lanes=("matched", "default"))
    parts = [msgspec.structs.replace(plan, named=(row,)) for row in ("torch", "keras")]
    first, second = (recording(part, seed=seed) for seed, part in enumerate(parts))
    third = slowed(on_machine(recording(plan, seed=2), processor=f"AMD {LONG}"), "torch", 1.5)
    return join([("node-1", first), ("node-2", second), (LONG.replace(" ", "-"), third)])
