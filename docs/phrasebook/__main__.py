"""Write common/phrasebook/phrasebook.txt from its phrases: python -m docs.phrasebook [--check].

With --check the file is only compared with what the phrases make; the exit status is 1 where they differ.
"""

import argparse
import sys

from common.corpus import PHRASEBOOK
from common.files import write_atomically
from docs.phrasebook.grammar import pairs

ATTRIBUTION = "CC0 1.0 Rosetta phrasebook"


def text() -> str:
    """The whole file: English, French and attribution on each line, the short English sentences first."""
    in_order = sorted(pairs(), key=lambda pair: (len(pair[0]), pair))
    return "".join(f"{source}\t{translation}\t{ATTRIBUTION}\n" for source, translation in in_order)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.phrasebook", description="Write the phrasebook.")
    parser.add_argument("--check", action="store_true", help="compare the file with the phrases, write nothing")
    if not parser.parse_args(arguments).check:
        write_atomically(PHRASEBOOK, text())
        return 0
    if PHRASEBOOK.is_file() and PHRASEBOOK.read_bytes() == text().encode():
        return 0
    print(f"{PHRASEBOOK} is not what the phrases make: run python -m docs.phrasebook", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
