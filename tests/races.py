"""How often a race is right: `python -m tests.races --races 20 --budget 5m --within 3%`.

A script is raced against itself, whose interval has to contain 1 about 19 times in 20, and then against one that
does 5 % more work in each step, which has to be found slower. With --busy other programs are not minded, as on a
machine that is never idle; with --neighbour a process works two seconds in six meanwhile.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from backends.process.parent import PROJECT

SCRIPT = """
import sys
sys.path.insert(0, {project!r})
import numpy as np
from rosetta_record import take_turns
matrix = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
def step():
    for _ in range({products}):
        matrix @ matrix
take_turns(step)
"""
PRODUCTS = 400  # some 5 ms
NEIGHBOUR = """
import time
while True:
    began = time.monotonic()
    while time.monotonic() - began < 2: pass
    time.sleep(4)
"""
BUSY = """
from benchmarks.measure import machine
machine.MOST_OTHERS = float("inf")
machine.wait_until_fit = lambda note: None
"""
MAIN = "import sys; sys.argv[0] = 'rosetta'; from rosetta import main; main()"


def race(left: Path, right: Path, options: list[str], busy: bool) -> dict:
    """What --json prints of a race."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", BUSY * busy + MAIN, "race", f"left={left}", f"right={right}"]
        command += [*options, "--json", "--out", f"{folder}/race.jsonl"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=20)
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--within", default="3%")
    parser.add_argument("--more", type=float, default=5.0, help="per cent of more work in the slower script")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--neighbour", action="store_true")
    given = parser.parse_args()
    options = ["--budget", given.budget, "--within", given.within]
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) if given.neighbour else None
    try:
        with tempfile.TemporaryDirectory() as folder:
            sides = {0.0: Path(folder, "itself.py"), given.more: Path(folder, "more.py")}
            for more, path in sides.items():
                products = round(PRODUCTS * (1 + more / 100))
                path.write_text(SCRIPT.format(project=str(PROJECT), products=products))
            for more, path in sides.items():
                right = 0
                for number in range(given.races):
                    found = race(sides[0.0], path, options, given.busy)
                    ratio = found["rows"][1]["ratio"] or {"low": 0.0, "value": math.nan, "high": math.inf}
                    right += ratio["low"] <= 1 <= ratio["high"] if more == 0 else ratio["low"] > 1
                    interval = f"{ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
                    spent = f"{found['rounds']} rounds, {found['dropped']} cycles left out, {found['seconds']:.0f} s"
                    print(f"{more:g} % more work, race {number + 1}: {interval}; {spent}", flush=True)
                what = "the interval contains 1" if more == 0 else "the slower script is found"
                print(f"{more:g} % more work: {what} in {right} of {given.races} races", flush=True)
    finally:
        if neighbour:
            neighbour.kill()


if __name__ == "__main__":
    main()
