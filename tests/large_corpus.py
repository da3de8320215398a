"""Measures what training costs on corpora of any size: python -m tests.large_corpus 10000 5000000 --backend torch

For each number of pairs, a corpus is generated, and a new process begins a run of it and stops after some seconds of
training. A line tells the time of a step, the seconds before the first, and the peak memory in MiB of that process
and of its backend's; `anonymous` is without the pages of files, which the system takes back when it needs them.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import pairwise, product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psutil

from backends.commands import training
from backends.process.parent import Runtime
from common.config import DataConfig, TrainConfig

MOST = 5_000_000  # pairs that the generator has: 50 openings times 1,000 x 100 ends
SECONDS = 10.0  # of training that are watched
STRIDE = 2_654_435_761  # shares no divisor with MOST: its multiples reach each pair once, long and short mixed


def pairs(count: int) -> Iterator[tuple[str, str]]:
    """So many different pairs, of sentences of up to 19 and 32 characters."""
    syllables = [consonant + vowel for consonant in "bdfglmnprt" for vowel in "aeiou"]
    words = ["".join(made) for length in (1, 2, 3) for made in product(syllables, repeat=length)]
    for number in range(count):
        rest, opening = divmod(number * STRIDE % MOST, 50)
        last, first = divmod(rest, 1000)
        one, two, three = words[opening] * (1 + opening % 3), words[first * 7], words[last * 11 + 40]
        yield f"{one.title()} {two} {three}.", f"{three.title()}é {two}la {one} {two[:4]}s {three[:2]} !"


def write(path: Path, count: int) -> None:
    """Write a corpus of so many pairs."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{source}\t{target}\n" for source, target in pairs(count))


class EnoughError(Exception):
    """Training has been watched for long enough."""


def measure(data: Path, backend: str, batches: str) -> dict[str, Any]:
    """Train on a corpus for some seconds in this process and its backend's."""
    stamps: list[tuple[int, float]] = []
    found: dict[str, Any] = {}
    began = perf_counter()

    def watch(event: Mapping[str, Any]) -> None:
        if "step" not in event:
            return
        stamps.append((event["step"], perf_counter()))
        for name, process in (("parent", psutil.Process()), ("child", psutil.Process().children()[0])):
            status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            found[name] = int(status["VmHWM"].split()[0]) // 1024
            now = int(status["RssAnon"].split()[0]) // 1024
            found[f"{name}_anonymous"] = max(now, found.get(f"{name}_anonymous", 0))
        if stamps[-1][1] - stamps[0][1] > SECONDS:
            raise EnoughError

    with tempfile.TemporaryDirectory() as folder, suppress(EnoughError):
        settings, padding = TrainConfig(batches=batches), "mask" if batches == "bucketed" else "space"
        config, out = DataConfig(str(data), MOST), Path(folder) / "run"
        training.train(backend, config, settings, 64, "float32", padding, 99, out, Runtime(threads=1), watch)
    steps = [(t1 - t0) / (s1 - s0) for (s0, t0), (s1, t1) in pairwise(stamps) if s1 > s0 > 0]
    return {"ms_a_step": round(1000 * median(steps), 3), "before_s": round(stamps[0][1] - began, 1)} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=int, nargs="*", default=[10_000, MOST])
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--batches", default="shuffled")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    spawn = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as processes:
        for count in options.pairs:
            write(Path(folder, str(count)), count)
        for _, count in product(range(options.rounds), options.pairs):
            measured = processes.submit(measure, Path(folder, str(count)), options.backend, options.batches)
            print(f"{count:>9,} pairs", json.dumps(measured.result()), flush=True)


if __name__ == "__main__":
    main()
