"""The formula of a step's operations, against figures known by hand and PyTorch's own counter."""

import pytest

from benchmarks.measure.recording import Sizes
from benchmarks.report.roofline import forward_flop, step_flop
from tests import child
from tests.conftest import LATENT_DIM, batch_of


def test_the_smallest_model_is_counted_by_hand() -> None:
    """One row, one step each, one of everything: four gates of an input and a state each, in both, and one logit."""
    one = Sizes(1, 1, 1, 1, 1, 1), 1, 1
    assert forward_flop(*one) == 2 * (4 * 2 + 4 * 2 + 1)
    assert step_flop(*one) == 2 * forward_flop(*one) + 2 * (4 + 4 + 1)


def test_the_examples_step_takes_ten_gigaflop_and_eight_with_rows_looked_up() -> None:
    example = Sizes(8000, 2000, 16, 59, 71, 92), 64, 256
    assert step_flop(*example) == pytest.approx(9.8e9, rel=0.01)
    assert step_flop(*example, one_hot=False) == pytest.approx(8.1e9, rel=0.01)


def test_a_framework_counts_the_same(backend_of) -> None:
    batch = batch_of(32, "float32")
    counted = backend_of("torch", "float32").call(child.flop_of_step, batch=batch)
    lengths = batch.encoder_ids.shape[1], batch.decoder_input_ids.shape[1]
    sizes = Sizes(32, 1, *lengths, batch.num_encoder_tokens, batch.num_decoder_tokens)
    assert counted == pytest.approx(step_flop(sizes, 32, LATENT_DIM), rel=0.01)
