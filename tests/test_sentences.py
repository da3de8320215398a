"""Which sentences a benchmark shows, and what it says of them."""

import pytest

from benchmarks.measure.sentences import SHOWN, Sentences, weights_for
from common.config import DataConfig
from common.material import prepare
from common.tensors import model_config


@pytest.mark.parametrize(("num_samples", "trained"), [(10_000, SHOWN), (300, 0)], ids=["bundled", "fresh"])
def test_a_sentence_is_called_trained_on_only_where_the_weights_were(num_samples: int, trained: int) -> None:
    material, _ = prepare(DataConfig(num_samples=num_samples, split="grouped"), 0, "float32")
    model = model_config(material.batch, material.decoder_vocabulary, 256, "float32")
    weights = weights_for(material, model, "", 0)
    shown = Sentences(material, weights).shown
    assert [sentence.held_out for sentence in shown] == [False] * trained + [True] * SHOWN
    assert all((sentence.source in weights.trained) != sentence.held_out for sentence in shown)
