"""Run an attack, and print its outcomes as a line of JSON: `python -m tests.fuzz.attack NAME COUNT [SEED]`.

An attack ends at the first outcome that must not be, whose folder it leaves and names; the exit status is then 1.
"""

import importlib
import json
import resource
import sys
import time
import warnings

from tests.fuzz.attack import limits

CASE_SECONDS = 20.0  # timeout of one case; the machine may be busy with other things
ATTACKS = {  # module and function
    "files": "damaged_files.files",
    "recordings": "damaged_files.recordings",
    "torch files": "damaged_files.torch_files",
    "keras files": "damaged_files.keras_files",
    "requests": "visitors.requests",
    "command lines": "command_lines.command_lines",
    "exits": "exits.exits",
}


def main(name: str, count: str, seed: str = "0") -> None:
    module, _, function = ATTACKS[name].partition(".")  # imported now, since one of them imports torch
    attack = getattr(importlib.import_module(f"tests.fuzz.attack.{module}"), function)
    begun = time.monotonic()
    outcomes = limits.judged(attack, int(count), CASE_SECONDS, int(seed))
    seconds, peak = round(time.monotonic() - begun), limits.most_memory()
    print(json.dumps({"attack": name, "count": int(count), "seconds": seconds, "bytes": peak, "outcomes": outcomes}))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"{__doc__}\nNAME is one of {', '.join(ATTACKS)}.")
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core is large
    main(*sys.argv[1:])
