"""Records the worked taggers of Keras and Paddle in float32, and exports them into tests/frameworks/exported.

`python -m tests.support.exported_others keras` needs tf2onnx, `... paddle` needs paddle2onnx, in places of their own.
"""

import sys
from pathlib import Path

import numpy as np

from backends.process.parent import PROJECT
from rosetta_record import Record

FOLDER = PROJECT / "tests" / "frameworks" / "exported"
IDS = np.random.default_rng(0).integers(1, 20, (2, 5))


def moved(array: np.ndarray) -> np.ndarray:
    """Weights of which none is as it is at first."""
    return array + 0.1 * np.random.default_rng(array.size).random(array.shape).astype(array.dtype)


def keras(folder: Path) -> None:
    import keras
    from tagger_keras import tagger

    keras.utils.set_random_seed(0)
    model = tagger()
    model.set_weights([moved(array) for array in model.get_weights()])
    Record(folder / "record").inference(model, [keras.ops.convert_to_tensor(IDS)])
    model.export(folder / "model.onnx", format="onnx", verbose=False)


def paddle(folder: Path) -> None:
    import paddle
    from tagger_paddle import Tagger

    paddle.seed(0)
    model = Tagger()
    model.eval()
    for weight in model.parameters():
        weight.set_value(moved(weight.numpy()))
    Record(folder / "record").inference(model, [paddle.to_tensor(IDS)])
    ids = paddle.static.InputSpec([None, None], "int64")
    paddle.onnx.export(model, str(folder / "model"), input_spec=[ids], opset_version=17)


if __name__ == "__main__":
    sys.path.append(str(PROJECT / "docs" / "porting"))
    to = FOLDER / sys.argv[1]
    to.mkdir(parents=True, exist_ok=True)
    {"keras": keras, "paddle": paddle}[sys.argv[1]](to)
