"""Whether two decodings differ only where the referee itself hardly decides."""

from collections.abc import Sequence

import numpy as np

from backends.numpy_backend import NumpyBackend
from backends.session import Material
from common.config import TrainConfig
from common.run_directory import RunDirectory
from common.tensors import START, STOP, Batch

NEAR = 1e-5  # between the two best probabilities


def differences(run: RunDirectory, material: Material, sources: Sequence[str], a: Sequence[str], b: Sequence[str]):
    """How many of two lists of translations differ, all of them at a near-tie. Asserts that each is one."""
    count = 0
    for source, one, other in zip(sources, a, b, strict=True):
        if one != other:
            count += 1
            gap = margin(run, material, source, one, other)
            assert gap <= NEAR, f"{source!r}: {one!r} and {other!r}; the referee's margin there is {gap:.1e}"
    return count


def margin(run: RunDirectory, material: Material, source: str, one: str, other: str) -> float:
    """The referee's margin between its two best characters where two translations first part."""
    one, other = one + STOP, other + STOP
    step = next(i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y)
    state, _ = run.read_state("last", "float64")
    model = run.model_config.__class__(**{**vars(run.model_config), "dtype": "float64"})
    backend = NumpyBackend(model, TrainConfig())
    backend.load(state)
    encoder_ids, lengths = material.encoder_vocabulary.encode([source], material.max_encoder_seq_length)
    decoder_ids, decoder_lengths = material.decoder_vocabulary.encode([START + one[:step] + " "])
    sizes = model.num_encoder_tokens, model.num_decoder_tokens
    batch = Batch(encoder_ids, lengths, decoder_ids, decoder_lengths, *sizes, "float64")
    second, first = np.sort(backend.forward(batch).probabilities[0, step])[-2:]
    return float(first - second)
