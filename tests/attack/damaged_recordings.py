"""Damages the committed recordings at random and makes of each pages and a comparison, or one line.

It ends at the first input that has any other outcome, and shows the smallest such input that hypothesis finds.
"""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import one_of

from benchmarks.measure.recording import Recording
from tests import damage

NAMES = ("intel.jsonl", "scaling.jsonl", "workers.jsonl")


def attack(count: int, start: int = 0) -> Counter[str]:
    """Damage recordings `count` times, at random from the seed `start`; returns how often it came to what."""
    outcomes: Counter[str] = Counter()
    whole = Recording.read(damage.COMMITTED / NAMES[0])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.jsonl"

        @seed(start)
        @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(raw=one_of(map(damage.damaged, NAMES)))
        def each(raw: bytes) -> None:
            path.write_bytes(raw)
            page = "<!doctype html>" in damage.reported(path, charts=True)
            damage.compared_with(path, whole)
            damage.beside_another(path)
            outcomes["pages" if page else "refused in one line"] += 1

        each()
    return outcomes
