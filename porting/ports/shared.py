"""Shared by both sides of the ports: the numbers of their optimizers,
and a few made-up sentences."""

import numpy as np
from numpy.typing import NDArray

# Paddle keeps some of these in float32, so they are numbers that float32 has.
FAST, RATE, MOMENTUM, BETA_2, RHO, DECAY, EPSILON = (
    float(np.float32(number)) for number in (0.1, 0.01, 0.9, 0.999, 0.9, 0.004, 1e-7)
)
WORDS, TAGS = 20, 5  # a word is a number from 1 to 19; 0 is padding
SENTENCES, LONGEST = 4, 6  # of a batch


def batches(number: int = 3) -> list[dict[str, NDArray[np.int64]]]:
    """Batches of sentences of different lengths, with a tag for each word,
    and the tag of the word before."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(number):
        lengths = rng.permutation([LONGEST, *rng.integers(2, LONGEST + 1, SENTENCES - 1)])
        ids = rng.integers(1, WORDS, (SENTENCES, LONGEST)) * (np.arange(LONGEST) < lengths[:, None])
        tags = rng.integers(0, TAGS, (SENTENCES, LONGEST))
        found.append({"ids": ids, "tags": tags, "before": np.pad(tags[:, :-1], ((0, 0), (1, 0)))})
    return found
