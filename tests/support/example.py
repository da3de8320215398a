"""The official example's tensors, filled as it fills them."""

import numpy as np

from common.corpus import Pair


def by_loops(pairs: list[Pair], dtype: str = "float32") -> dict[str, np.ndarray]:
    """The example's three tensors, a position at a time."""
    inputs = [source for source, _ in pairs]
    targets = ["\t" + target + "\n" for _, target in pairs]
    input_tokens = sorted({c for text in inputs for c in text} | {" "})
    target_tokens = sorted({c for text in targets for c in text} | {" "})
    encoder_length, decoder_length = max(len(t) for t in inputs), max(len(t) for t in targets)
    tensors = {
        "encoder_input_data": np.zeros((len(pairs), encoder_length, len(input_tokens)), dtype),
        "decoder_input_data": np.zeros((len(pairs), decoder_length, len(target_tokens)), dtype),
        "decoder_target_data": np.zeros((len(pairs), decoder_length, len(target_tokens)), dtype),
    }
    for i, (source, target) in enumerate(zip(inputs, targets, strict=True)):
        for t in range(encoder_length):
            character = source[t] if t < len(source) else " "
            tensors["encoder_input_data"][i, t, input_tokens.index(character)] = 1.0
        for t in range(decoder_length):
            character = target[t] if t < len(target) else " "
            tensors["decoder_input_data"][i, t, target_tokens.index(character)] = 1.0
            ahead = target[t + 1] if t + 1 < len(target) else " "
            tensors["decoder_target_data"][i, t, target_tokens.index(ahead)] = 1.0
    return tensors
