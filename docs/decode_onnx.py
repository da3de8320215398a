"""Translates by ONNX Runtime: `python decode_onnx.py FOLDER SENTENCE`,
of what `convert RUN --to onnx` wrote."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder, sentence = Path(sys.argv[1]), sys.argv[2]
about = json.loads((folder / "vocabulary.json").read_text("utf-8"))
if unknown := set(sentence) - set(about["encoder"]):
    sys.exit(f"the vocabulary has no {', '.join(map(repr, sorted(unknown)))}")
encoder, decoder = (
    onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("encoder", "decoder")
)
sources, targets = (np.eye(len(about[side]), dtype=np.float32) for side in ("encoder", "decoder"))
ids = [about["encoder"].index(character) for character in sentence.ljust(about["padded_to"] or 0)]
states, text = encoder.run(None, {"encoder_input_data": sources[None, ids]}), "\t"
while text[-1] != "\n" and len(text) < 200:
    last = targets[None, about["decoder"].index(text[-1])]
    logits, *states = decoder.run(
        None, dict(zip(("decoder_input_data", "state_h", "state_c"), (last, *states), strict=True))
    )
    text += about["decoder"][logits.argmax()]
print(text.strip())
