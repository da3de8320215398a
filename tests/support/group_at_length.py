"""The tests of tests/frameworks/test_group.py at length: `python -m tests.support.group_at_length
[CORPUS]`.

For each framework the mistakes that groups invite are planted, and the ladder catches each; two hosts train by the
commands of docs/parallel.md; and two and four workers climb the ladder on CORPUS. Besides, a run goes from two
workers to four, to one and to other frameworks, and ends as NumPy alone. It prints what it did.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from backends.process.group import GROUP_BACKENDS
from backends.process.parent import PROJECT
from common.run import RunDirectory
from tests.frameworks.test_group import SMALL, catch_planted_mistakes, trained_alone
from tests.support.hosts import two_hosts
from tests.support.planted_in_groups import MISTAKES
from tests.support.program import answer


def elastic(folder: Path) -> None:
    """Go on with another number of workers and in another framework after each epoch."""
    run = folder / "elastic"
    steps = [("torch", 2), ("torch", 4), ("paddle", 4), ("keras", 2), ("paddle", 1), ("keras", 4), ("torch", 1)]
    for epoch, (name, workers) in enumerate(steps, 1):
        settings = ["--resume"] if epoch > 1 else SMALL
        answer("train", "--backend", name, "--workers", workers, "--epochs", epoch, "--out", run, *settings)
    directory = RunDirectory.open(run)
    state, alone = directory.read_state("last")[0], trained_alone(directory, len(steps))
    largest = max(float(np.abs(state.weights[name] - weight).max()) for name, weight in alone.weights.items())
    assert largest < 1e-11
    print(f"elastic: {', '.join(f'{name} × {workers}' for name, workers in steps)}: off by {largest:.0e} at most")


def commands(name: str, folder: Path) -> None:
    """Train on two hosts by the commands of docs/parallel.md, which are written for such addresses."""
    blocks = re.findall(r"```\n(.*?)```", (PROJECT / "docs" / "parallel.md").read_text(), re.DOTALL)
    by_hand, *launchers = (block for block in blocks if "10.0.0.1" in block)
    everywhere = by_hand.replace("--backend torch", f"--backend {name}")
    tried = [everywhere, *(block for block in launchers if f"--backend {name}" in block)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with two_hosts() as hosts:
        if hosts[0] == hosts[1]:
            return print(f"{name}: no network namespaces here, so the commands for two hosts are not tried")
        for number, block in enumerate(tried):
            run = folder / "runs" / str(number)
            options = " ".join(["--epochs 2 --threads 1", *map(str, SMALL), "--out", str(run)])
            smaller = block.replace("--out runs/one", options)
            programs = [
                host.start("timeout", 300, "bash", "-ec", smaller, cwd=folder, PATH=path, NUMBER=str(rank))
                for rank, host in enumerate(hosts)
            ]
            said = ["\n".join(program.communicate()) for program in programs]
            # Paddle's launcher keeps what workers say in files.
            said += [f"{log}:\n{log.read_text()}" for log in sorted(folder.glob("log/*")) if log.is_file()]
            assert [program.returncode for program in programs] == [0, 0], "\n".join([block, *said])
            assert RunDirectory.open(run).history()[-1].epoch == 2
    print(f"{name}: two hosts trained by {len(tried)} ways of starting them")


def parity(name: str, corpus: str) -> None:
    for workers in (2, 4):
        for padding in ("space", "mask"):
            options = ["--quick", "--padding", padding, "--data", corpus, "--threads", 1, "--latent-dim", 64]
            parity = answer("parity", "--backends", name, "--workers", workers, *options)
            checks = [check for check in parity["checks"] if "workers" in check["tensor"]]
            assert parity["passed"]
            assert checks
            print(f"{name}: {workers} workers, padding {padding}: {len(checks)} checks passed")


def main() -> None:
    corpus = sys.argv[1] if len(sys.argv) > 1 else "phrasebook"
    with tempfile.TemporaryDirectory() as temporary:
        elastic(Path(temporary))
        for name in GROUP_BACKENDS:
            folder = Path(temporary, name)
            folder.mkdir()
            catch_planted_mistakes(name)
            print(f"{name}: {', '.join(MISTAKES)} are caught")
            commands(name, folder)
            parity(name, corpus)


if __name__ == "__main__":
    main()
