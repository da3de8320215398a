"""A side's job, and the numbers that both sides of a pair share. Imports no framework."""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta_record import Record

SEED, CLASSES, STEPS = 3, 5, 2
NARROW = 32  # units in place of the 4096 of a classifier, for memory
# Height and width of images.
PIXELS = {"alexnet": 224, "inception_v3": 128, "squeezenet1_0": 66, "squeezenet1_1": 66}
# Paddle has them in float32
RATE, MOMENTUM, DECAY = (float(np.float32(number)) for number in (0.001, 0.9, 0.1))
# Of AdamW; factors of the rate in the first steps.
BETAS, EPSILON, WARMUP = (0.875, 1 - 2**-10), 2.0**-20, (0.5, 1.0)
EVAL, TRAINING = "eval", "training"  # modes
# optimizers
SGD, ADAMW, WARMED = "SGD", "AdamW without decay of biases and norms", "SGD with a warm-up"
CONVNEXT = (1, 1, 2, 1), (8, 16, 24, 32)  # blocks and channels of each stage
EFFICIENTNET = [  # stages, in Keras's words; conv_type 1 is a fused block
    dict(
        zip(
            "kernel_size num_repeat input_filters output_filters expand_ratio se_ratio strides "
            "conv_type".split(),
            stage,
            strict=True,
        )
    )
    for stage in [
        (3, 1, 8, 8, 1, 0.0, 1, 1),
        (3, 2, 8, 16, 4, 0.0, 2, 1),
        (3, 2, 16, 24, 4, 0.25, 2, 0),
    ]
]


@dataclass(frozen=True)
class Job:
    """One recording of one side, as the parent process asks for it."""

    model: str
    folder: str  # of the record
    mode: str  # EVAL records a forward pass; TRAINING, STEPS steps of SGD
    weights: str = ""  # file or folder to load before recording
    feed: str = ""  # folder that `rosetta-diff --feed` wrote
    mends: tuple[str, ...] = ()  # names of changes to the model as it is shipped
    planted: str = ""  # name of a mistake to make
    optimizer: str = SGD

    def arguments(self) -> list[str]:
        return [json.dumps(asdict(self))]

    def record(self) -> Record:
        return Record(self.folder, feed=self.feed or None)


def job() -> Job:
    """Return the job in this process's argument."""
    content = json.loads(sys.argv[1])
    return Job(**{**content, "mends": tuple(content["mends"])})


def images(model: str) -> list[dict[str, NDArray[Any]]]:
    """Batches of images (N, 3, H, W) in float64 and labels (N,)."""
    rng = np.random.default_rng(SEED)
    pixels = PIXELS.get(model, 64)
    rows = 2 if pixels > 200 else 4
    return [
        {
            "images": rng.normal(size=(rows, 3, pixels, pixels)),
            "labels": rng.integers(0, CLASSES, rows),
        }
        for _ in range(STEPS)
    ]


class SavedAs:
    """Checkpoint of transformers' side, and the sizes of its models."""

    folder = "left-weights"
    width, words, longest = 32, 50, 12


def texts(model: str) -> list[dict[str, NDArray[Any]]]:
    """Batches of token ids (N, T) without padding, or of images (N, 3, H, W),
    and factors of the hidden states."""
    rng = np.random.default_rng(SEED)
    rows, time = 3, 10

    def batch() -> dict[str, NDArray[Any]]:
        if model == "vit":
            patches = (32 // 8) ** 2 + 1
            factors = rng.normal(size=(rows, patches, SavedAs.width))
            return {"images": rng.normal(size=(rows, 3, 32, 32)), "factors": factors}
        ids = rng.integers(1, SavedAs.words, (rows, time))
        found = {"ids": ids, "mask": np.ones_like(ids)}
        if model == "bert":
            found["segments"] = (np.arange(time) >= time // 2).astype(ids.dtype) + np.zeros_like(
                ids
            )
            found["factors"] = rng.normal(size=(rows, time, SavedAs.width))
        return found

    return [batch() for _ in range(STEPS)]
