"""Whether two decodings of a run differ only where the referee itself hardly decides."""

from collections.abc import Sequence
from dataclasses import replace

from backends.numpy_backend import NumpyBackend
from benchmarks.parity.ladder import first_margin
from common.comparison import NEAR_TIE
from common.config import TrainConfig
from common.material import Material
from common.run_directory import RunDirectory


def differences(run: RunDirectory, material: Material, sources: Sequence[str], a: Sequence[str], b: Sequence[str]):
    """How many of two lists of translations differ, all of them at a near-tie. Asserts that each is one."""
    referee = NumpyBackend(replace(run.model_config, dtype="float64"), TrainConfig())
    referee.load(run.read_state("last", "float64")[0])
    count = 0
    for source, one, other in zip(sources, a, b, strict=True):
        if one != other:
            count += 1
            gap = first_margin(lambda batch: referee.forward(batch).probabilities, material, source, one, other)
            assert gap <= NEAR_TIE["float32"], (
                f"{source!r}: {one!r} and {other!r}; the referee's margin there is {gap:.1e}"
            )
    return count
