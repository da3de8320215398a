"""The planted mistakes of parity at length: `python -m tests.support.parity_at_length [WORDS]`.

Every mistake in torch and JAX, or those whose names have the words, is compared in both precisions, and the
stage and the error at which it falls are printed.
"""

import os
import sys

from backends import TABLE
from backends.process.parent import Runtime
from benchmarks.parity.cases import QUICK
from benchmarks.parity.comparison import Parity, compare_backends
from common.settings import DataConfig
from tests.frameworks.test_parity_mistakes import PLANTED, padding_of
from tests.support.planted import entry_of
from tests.support.sharing import CASE_SETTINGS, SharingCases, shared_processes

LATENT_DIM = 256  # the example's


def main() -> None:
    words = " ".join(sys.argv[1:])
    os.environ["PYTEST_CURRENT_TEST"] = __name__  # a backend's process then takes classes of the tests
    chosen = [name for name in PLANTED if not name.startswith("numpy:") and words in name]
    missed = 0
    with shared_processes() as processes:
        for padding in ("space", "mask"):
            names = [name for name in chosen if padding_of(name) == padding]
            settings = DataConfig(), CASE_SETTINGS, LATENT_DIM, QUICK, Runtime(threads=1), padding
            with SharingCases(*settings, processes=processes) as cases:
                for name in names:
                    TABLE[name] = entry_of(name)
                    for dtype in ("float64", "float32"):
                        found = compare_backends(cases, [name], [dtype], Parity())
                        caught = {check.stage for check in found.checks if not check.passed} == {PLANTED[name][0]}
                        missed += not caught
                        print("caught" if caught else "MISSED", *found.explanations, flush=True)
    print(f"{missed} missed")


if __name__ == "__main__":
    main()
