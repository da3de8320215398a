"""What is expected of more workers than there are, in cases that can be computed by hand."""

from math import inf

import pytest

from benchmarks.results.scaling_workers import (
    Network,
    all_reduce_seconds,
    fitted_network,
    gradient_bytes,
    project,
    slowest_of,
)
from common.config import ModelConfig
from common.errors import CannotBeginError

INSTANT = Network("instant", inf, 0.0)


@pytest.mark.parametrize(
    ("steps", "workers", "expected"),
    [
        ([0.05] * 10, 512, 0.05),
        ([3.0, 1.0, 2.0], 1, 2.0),
        ([1.0, 2.0], 2, 0.25 * 1 + 0.75 * 2),
        ([1.0, 2.0], 8, 2 - 2.0**-8),
        ([1.0, 2.0, 5.0], 100_000, 5.0),
    ],
    ids=["no straggler", "one alone", "three in four wait", "nearly all wait", "none slower than measured"],
)
def test_the_slowest_of_workers_whose_steps_are_known(steps: list[float], workers: int, expected: float) -> None:
    assert slowest_of(steps, workers) == pytest.approx(expected)


def test_a_ring_sends_twice_what_the_others_have_and_waits_for_each_message() -> None:
    network = Network("made up", bandwidth=100.0, latency=0.5)
    assert all_reduce_seconds(400, 1, network) == 0
    assert all_reduce_seconds(400, 2, network) == pytest.approx(2 * 200 / 100 + 2 * 0.5)
    assert all_reduce_seconds(400, 4, network) == pytest.approx(2 * 3 / 4 * 400 / 100 + 6 * 0.5)


def test_a_step_is_the_slowest_worker_and_then_the_communication() -> None:
    network = Network("made up", bandwidth=100.0, latency=0.25)
    one, two = project([1.0, 3.0], 64, 100, network, workers=(1, 2))
    assert (one.step, one.global_batch, one.efficiency, one.pairs_per_second) == (2.0, 64, 1.0, 32.0)
    assert two.slowest == pytest.approx(2.5)
    assert two.communication == pytest.approx(1.0 + 0.5)
    assert two.step == pytest.approx(4.0)
    assert two.pairs_per_second == pytest.approx(128 / 4)
    assert two.efficiency == pytest.approx(2 / 4), "as many pairs a second as one worker: half of each is lost"


def test_without_stragglers_and_communication_nothing_is_lost() -> None:
    assert [p.efficiency for p in project([0.1], 64, 10**6, INSTANT)] == pytest.approx([1, 1, 1])
    assert [p.global_batch for p in project([0.1], 64, 10**6, INSTANT)] == [512, 4096, 32768]


def test_a_network_is_found_from_the_times_that_it_took() -> None:
    network = Network("planted", bandwidth=1e9, latency=2e-5)
    found = fitted_network("planted", 4, {size: all_reduce_seconds(size, 4, network) for size in (1000, 10**6)})
    assert (found.bandwidth, found.latency) == (pytest.approx(1e9), pytest.approx(2e-5))


def test_a_network_has_no_latency_below_zero() -> None:
    found = fitted_network("odd", 2, {1000: 1e-6, 10**6: 2e-3})
    assert found.latency == 0.0
    assert found.bandwidth > 0
    only_latency = fitted_network("odd", 2, {1000: 2e-3, 10**6: 1e-3})
    assert only_latency.bandwidth == inf


@pytest.mark.parametrize("measured", [{}, {1000: 1e-4}])
def test_one_size_does_not_tell_bandwidth_from_latency(measured: dict[int, float]) -> None:
    with pytest.raises(CannotBeginError, match="of gloo cannot be told apart; measure all-reduce with arrays of sev"):
        fitted_network("gloo", 2, measured)


def test_gradients_are_as_large_as_the_weights() -> None:
    config = ModelConfig(num_encoder_tokens=2, num_decoder_tokens=3, start_token=0, stop_token=1, latent_dim=1)
    encoder, decoder, dense = 4 * (2 + 1 + 1), 4 * (3 + 1 + 1), 3 + 3
    assert gradient_bytes(config) == 4 * (encoder + decoder + dense)
