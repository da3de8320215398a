"""`python -m benchmarks` is `rosetta bench`."""

import sys

from rosetta import main

if __name__ == "__main__":
    sys.argv = ["rosetta", "bench", *sys.argv[1:]]
    main()
