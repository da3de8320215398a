"""Count how often a race is right: `python -m tests.support.races --races 20 --budget 5m --within 3%`.

A script is raced against itself, whose interval has to contain 1 about 19 times in 20, and against one that does 5 %
more work in each step, which has to be found slower. The script multiplies matrices in NumPy; with --network gru or
lstm it trains this network of torch. With --neighbour a process works two seconds in six meanwhile.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from backends.process.parent import PROJECT
from benchmarks.commands import share

SCRIPT = """
import sys
sys.path.insert(0, {project!r})
import numpy as np
from rosetta_record import take_turns
matrix = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
def step():
    for _ in range(int(sys.argv[1])):
        matrix @ matrix
take_turns(step)
"""
PRODUCTS = 400  # some 5 ms
RECURRENT, LENGTH = PROJECT / "docs" / "racing" / "recurrent.py", 60
NEIGHBOUR = """
import time
while True:
    began = time.monotonic()
    while time.monotonic() - began < 2: pass
    time.sleep(4)
"""


def race(options: list[str], out: Path, **scripts: str) -> dict:
    """Run a race of `scripts`, by name, and return what --json prints."""
    named = [f"{name}={script}" for name, script in scripts.items()]
    command = [sys.executable, "-P", "rosetta.py", "race", *named, *options, "--json", "--out", str(out)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    printed: dict = json.loads(done.stdout)
    return printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=20)
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--within", default="3%")
    parser.add_argument("--more", type=float, default=5.0, help="per cent of more work in the slower script")
    parser.add_argument("--network", choices=("gru", "lstm"))
    parser.add_argument("--threads", type=int, help="of each script; all cores unless given")
    parser.add_argument("--neighbour", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder for the recordings")
    given = parser.parse_args()
    options = ["--budget", given.budget, "--within", given.within]
    for name in ("one", "same", "more") if given.threads else ():
        options += ["--env", f"{name}:OMP_NUM_THREADS={given.threads}"]
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) if given.neighbour else None
    equal = narrow = slower = 0
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder, script = given.keep or Path(temporary), Path(temporary, "products.py")
            folder.mkdir(parents=True, exist_ok=True)
            script.write_text(SCRIPT.format(project=str(PROJECT)))
            program, work = (f"{RECURRENT} {given.network}", LENGTH) if given.network else (str(script), PRODUCTS)
            base, more = f"{program} {work}", f"{program} {round(work * (1 + given.more / 100))}"
            for number in range(1, given.races + 1):
                raced = race(options, folder / f"{number}.jsonl", one=base, same=base, more=more)
                unknown = {"low": 0.0, "value": math.nan, "high": math.inf}
                same, slow = (row["ratio"] or unknown for row in raced["rows"][1:])
                equal += same["low"] <= 1 <= same["high"]
                narrow += (same["high"] - same["low"]) / 2 <= share(given.within)
                slower += slow["low"] > 1
                intervals = [
                    f"{ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})" for ratio in (same, slow)
                ]
                print(
                    f"race {number}: the same script {intervals[0]}, with {given.more:g} % more work {intervals[1]}; "
                    f"{raced['rounds']} rounds, {raced['dropped']} cycles left out, {raced['seconds']:.0f} s",
                    flush=True,
                )
        print(
            f"of {given.races} races the interval of the same script contains 1 in {equal} and has a half-width of "
            f"at most {given.within} in {narrow}; {given.more:g} % more work is found in {slower}"
        )
    finally:
        if neighbour:
            neighbour.kill()


if __name__ == "__main__":
    main()
