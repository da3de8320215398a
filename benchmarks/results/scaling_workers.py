"""What data-parallel training would do on more workers than there are, from measured steps and communication.

Nothing is measured here, and nothing is drawn at random: the mean of the slowest of N workers is computed exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod

import numpy as np

from common.config import ModelConfig
from common.errors import CannotBeginError
from common.weights import weight_shapes

WORKERS = (8, 64, 512)
ASSUMPTIONS = (
    "Each worker's step takes as long as one that was measured, drawn at random and independently of other workers "
    "and of other steps. So no worker is always slower than the others, and none is slow because another one is.",
    "No step takes longer than the longest one that was measured. With more workers than measured steps the slowest "
    "worker is nearly always as slow as that one, and in truth would be slower.",
    "Each worker's batch has as many pairs as in the measured steps, so a global batch grows with the workers.",
    "All workers wait for the slowest one in each step. Only then are gradients sent, so no communication is hidden "
    "behind the backward pass.",
    "Gradients are summed in a ring: 2 (N - 1) messages one after another between neighbours that all send at once, "
    "each with an N-th of the gradients.",
    "A message takes the network's latency, and its bytes over the bandwidth, however many workers send at once.",
    "Gradients are sent once a step, whole and in the model's precision.",
    "Reading sentences, evaluating and saving take no time.",
)


@dataclass(frozen=True)
class Network:
    """A connection between two neighbours of the ring."""

    name: str
    bandwidth: float  # bytes a second in each direction; may be infinite
    latency: float  # seconds that a message takes besides its bytes


@dataclass(frozen=True)
class Projection:
    """What is expected of a number of workers."""

    workers: int
    batch_size: int  # pairs of one worker's batch
    alone: float  # mean seconds of a step of one worker that waits for nobody
    slowest: float  # mean seconds until the slowest worker has its gradients
    communication: float  # seconds until all workers have the sum of the gradients

    @property
    def global_batch(self) -> int:
        """Pairs in a step of all workers."""
        return self.workers * self.batch_size

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self.slowest + self.communication

    @property
    def pairs_per_second(self) -> float:
        return self.global_batch / self.step

    @property
    def efficiency(self) -> float:
        """Pairs a second, as a share of those of as many workers that wait for nobody."""
        return self.alone / self.step


def project(
    step_seconds: Sequence[float], batch_size: int, size: int, network: Network, workers: Sequence[int] = WORKERS
) -> list[Projection]:
    """What to expect of each number of workers.

    `step_seconds` are steps of one worker on `batch_size` pairs, without communication. `size` is the bytes of the
    gradients; see `gradient_bytes`. ASSUMPTIONS says what else is taken for granted.
    """
    alone = float(np.mean(step_seconds))
    return [
        Projection(n, batch_size, alone, slowest_of(step_seconds, n), all_reduce_seconds(size, n, network))
        for n in workers
    ]


def slowest_of(seconds: Sequence[float], workers: int) -> float:
    """The mean of the longest of so many independent draws from these times, each as likely as the others.

    The longest draw is at most the i-th of n ordered times with the probability (i / n) ** workers.
    """
    ordered = np.sort(seconds)
    at_most = (np.arange(len(ordered) + 1) / len(ordered)) ** workers
    return float(ordered @ np.diff(at_most))


def all_reduce_seconds(size: int, workers: int, network: Network) -> float:
    """How long a ring takes to sum `size` bytes of each worker: 2 (N - 1) / N · bytes / bandwidth, and latencies."""
    return 2 * (workers - 1) * (size / workers / network.bandwidth + network.latency)


def fitted_network(name: str, workers: int, sums: Mapping[int, float]) -> Network:
    """The network whose ring takes times closest to those measured, relative to each; neither part is below zero.

    `sums` has the seconds in which so many workers summed arrays, by the bytes of one worker's array. Raises
    CannotBeginError unless there are at least two sizes.
    """
    from scipy.optimize import nnls

    # A line for each measurement: its bytes and its messages on the way, as shares of its seconds.
    ring = np.array([[size / workers, 1.0] for size in sums]).reshape(-1, 2)
    ring *= np.array([2 * (workers - 1) / seconds for seconds in sums.values()])[:, None]
    if np.linalg.matrix_rank(ring) < 2:
        raise CannotBeginError(
            f"bandwidth and latency of {name} cannot be told apart; measure all-reduce with arrays of several sizes"
        )
    per_byte, latency = map(float, nnls(ring, np.ones(len(sums)))[0])
    return Network(name, 1 / per_byte if per_byte else inf, latency)


def gradient_bytes(config: ModelConfig) -> int:
    """The size of the model's gradients, which is that of its weights."""
    return sum(map(prod, weight_shapes(config).values())) * np.dtype(config.dtype).itemsize
