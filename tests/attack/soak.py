"""Trains, translates and benchmarks in turns for long, and finds whether memory, descriptors or processes grow.

    python -m tests.attack.soak SECONDS OUT

One program calls the functions of the commands. A process of each backend translates from the beginning to the end.
Each round starts others, which train a run, go on with it in the next backend, and are benchmarked; then it adds a
line of JSON to OUT. It ends with an error where the second half of the rounds has more than the first.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from backends.commands import training
from backends.commands.translating import Opener
from backends.process.parent import Runtime
from common.config import DataConfig, TrainConfig
from common.run_directory import BUNDLED_RUN, RunDirectory
from rosetta import app
from tests.short_bench import make_short

BACKENDS = ("numpy", "torch", "paddle", "keras")
EPOCHS = 12  # of each training
SENTENCES = 60
BENCH = ["bench", "--num-samples", "200", "--latent-dim", "32", "--budget", "1m"]
MOST_GROWTH = 16 << 20  # bytes by which the median of the second half's rounds may be above that of the first's
HERE = psutil.Process()


def memory(process: psutil.Process) -> int:
    """Bytes of memory that a process shares with no other."""
    return int(process.memory_full_info().uss)


def state_of(process: psutil.Process) -> dict[str, int]:
    """What must not grow in a process that lives on."""
    return {"bytes": memory(process), "descriptors": process.num_fds(), "threads": process.num_threads()}


def train(path: Path, first: str, second: str) -> list[int]:
    """Train a run in one backend and on in another; by how many bytes each one's process grew in its second half."""
    known = {child.pid for child in HERE.children()}
    sizes: list[int] = []

    def on_event(event: Mapping[str, Any]) -> None:
        if "epoch_done" in event:
            sizes.extend(memory(child) for child in HERE.children() if child.pid not in known)

    data, settings = DataConfig(num_samples=300), TrainConfig()
    training.train(first, data, settings, 64, "float32", "space", EPOCHS, path, Runtime(), on_event)
    training.resume(RunDirectory.open(path), second, 2 * EPOCHS, Runtime(), on_event)
    return [sizes[i + EPOCHS - 1] - sizes[i + EPOCHS // 2] for i in (0, EPOCHS)]


def soak(seconds: float, out: Path) -> list[dict[str, Any]]:
    """The figures of each round until the time is over, which are written to `out`, too."""
    end = time.monotonic() + seconds
    rounds: list[dict[str, Any]] = []
    run = RunDirectory.open(BUNDLED_RUN)
    sources = [source for source, _ in run.pairs()[:SENTENCES]]
    first_translations: dict[str, list[str]] = {}
    with ExitStack() as stack:
        lines = stack.enter_context(out.open("w", encoding="utf-8"))
        stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        translators = [stack.enter_context(Opener(run, "last", None, Runtime()).open(name)) for name in BACKENDS]
        while time.monotonic() < end:
            begun, number = time.monotonic(), len(rounds)
            for translator in translators:
                translations = translator(sources)
                if translations != first_translations.setdefault(translator.process.name, translations):
                    raise AssertionError(
                        f"round {number}: {translator.process.name} translates otherwise than before"
                    )
            trained = [BACKENDS[(number + place) % len(BACKENDS)] for place in range(2)]
            with TemporaryDirectory() as folder:
                grown = train(Path(folder, "run"), *trained)
                app([*BENCH, "--backends", ",".join(trained), "--out", f"{folder}/b.jsonl"], standalone_mode=False)
            rounds.append(
                {
                    "seconds": round(time.monotonic() - begun, 1),
                    "trained": trained,
                    "grown": grown,
                    "processes": len(HERE.children(recursive=True)),
                    "rosetta": state_of(HERE),
                    **{of.process.name: state_of(psutil.Process(of.process.pid)) for of in translators},
                }
            )
            lines.write(json.dumps(rounds[-1]) + "\n")
            lines.flush()
    return rounds


def grown(rounds: list[dict[str, Any]]) -> list[str]:
    """What the second half of the rounds has more of than the first, but for those while memory is first taken."""
    warm = rounds[max(len(BACKENDS), len(rounds) // 10) :]
    halves = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    found = []
    for name in ("rosetta", *BACKENDS):
        for kind, most in {"bytes": MOST_GROWTH, "descriptors": 0, "threads": 0}.items():
            before, after = (median(each[name][kind] for each in half) for half in halves)
            if after - before > most:
                found.append(f"{name}: {before:,.0f} {kind} in the first half, {after:,.0f} in the second")
    before, after = (max(each["processes"] for each in half) for half in halves)
    if after > before:
        found.append(f"{before} processes in the first half, {after} in the second")
    for backend in BACKENDS:
        trained = [dict(zip(each["trained"], each["grown"], strict=True)) for each in warm]
        growth = median(each[backend] for each in trained if backend in each)
        if growth > MOST_GROWTH:
            found.append(f"{backend}: {growth:,.0f} bytes in {EPOCHS // 2} epochs of a training")
    return found


if __name__ == "__main__":
    make_short(rounds=2)
    if found := grown(soak(float(sys.argv[1]), Path(sys.argv[2]))):
        sys.exit("\n".join(found))
