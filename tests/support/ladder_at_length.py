"""The mistakes of tests/frameworks/test_ladder.py at length: `python -m tests.support.ladder_at_length [WORDS]`.

Every mistake in torch and JAX, or those whose names have the words, climbs the ladder in both precisions, and the
rung and the error on which it falls are printed.
"""

import os
import sys

from backends import TABLE
from backends.process.parent import Runtime
from benchmarks.ladder.parity.climb import Parity, climb
from benchmarks.ladder.parity.course import QUICK
from common.settings import DataConfig
from tests.frameworks.test_ladder import PLANTED, padding_of
from tests.support.planted import entry_of
from tests.support.sharing import COURSE_SETTINGS, SharingCourse, shared_processes

LATENT_DIM = 256  # the example's


def main() -> None:
    words = " ".join(sys.argv[1:])
    os.environ["PYTEST_CURRENT_TEST"] = __name__  # a backend's process then takes classes of the tests
    chosen = [name for name in PLANTED if not name.startswith("numpy:") and words in name]
    missed = 0
    with shared_processes() as processes:
        for padding in ("space", "mask"):
            names = [name for name in chosen if padding_of(name) == padding]
            settings = DataConfig(), COURSE_SETTINGS, LATENT_DIM, QUICK, Runtime(threads=1), padding
            with SharingCourse(*settings, processes=processes) as course:
                for name in names:
                    TABLE[name] = entry_of(name)
                    for dtype in ("float64", "float32"):
                        found = climb(course, [name], [dtype], Parity())
                        caught = {check.rung for check in found.checks if not check.passed} == {PLANTED[name][0]}
                        missed += not caught
                        print("caught" if caught else "MISSED", *found.explanations, flush=True)
    print(f"{missed} missed")


if __name__ == "__main__":
    main()
