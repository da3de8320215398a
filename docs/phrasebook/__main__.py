"""Write common/phrasebook/phrasebook.txt from its phrases: python -m docs.phrasebook."""

from common.corpus import PHRASEBOOK
from common.files import write_atomically
from docs.phrasebook.grammar import pairs

ATTRIBUTION = "CC0 1.0 Rosetta phrasebook"


def text() -> str:
    """The whole file: English, French and attribution on each line,
    the short English sentences first."""
    in_order = sorted(pairs(), key=lambda pair: (len(pair[0]), pair))
    return "".join(f"{source}\t{translation}\t{ATTRIBUTION}\n" for source, translation in in_order)


if __name__ == "__main__":
    write_atomically(PHRASEBOOK, text())
