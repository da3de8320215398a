"""Keras on torch, which computes in float32 where the model's weights are of float64."""

from collections.abc import Callable
from pathlib import Path

import pytest

from porting_tests.support.pairs import DENSE, NORM, computed, pair_of, record_pairs
from porting_tests.support.program import rosetta
from porting_tests.support.side import Side


@pytest.mark.at_length
def test_float64_in_keras_on_torch_has_the_bounds_of_float32(
    side_of: Callable[[str], Side], tmp_path: Path
) -> None:
    blocks = {**DENSE, "activation": "tanh"}, NORM
    started = {name: side_of(name) for name in ("torch", "keras:torch")}
    for status, wrong in enumerate(([], [{}, computed(epsilon=1e-2)])):
        pair = pair_of("keras:torch", "torch", *blocks, wrong=wrong)
        ((keras, torch),) = record_pairs([pair], started, tmp_path / f"{status}")
        ended, printed, _ = rosetta("diff", torch.path, keras.path)
        assert ended == status, printed
        assert "left computes in float32, though its weights are of float64" in printed
        assert ("left breaks at forward" in printed) == bool(status)
