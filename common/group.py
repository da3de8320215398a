"""The workers that train one model together, as each of them sees the group."""

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from common.errors import CannotBeginError

Sum = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Group:
    """A worker's place among the workers, and how their framework adds up what they count."""

    rank: int  # of this worker, counted from 0; the first worker writes the run
    size: int  # number of workers
    sum: Sum  # takes each worker's array, all of one shape, and gives every worker their sum

    def agree(self, *parts: bytes) -> None:
        """Raise CannotBeginError in every worker unless all of them call this with the same bytes."""
        digest = 0
        for part in parts:
            digest = crc32(part, digest)
        digests = np.zeros(self.size)
        digests[self.rank] = digest
        if len(found := set(self.sum(digests))) > 1:
            raise CannotBeginError(
                f"the {self.size} workers were started with {len(found)} different states or settings; give all of "
                "them the same options, the same corpus and, with --resume, the same run"
            )


ALONE = Group(rank=0, size=1, sum=lambda array: array)
