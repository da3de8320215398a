"""The frameworks whose records can be read, by their names in a record; each has a file of its own."""

from benchmarks.ladder.read.flax import Flax
from benchmarks.ladder.read.framework import Framework
from benchmarks.ladder.read.keras import Keras, NoFramework
from benchmarks.ladder.read.onnx import Onnx
from benchmarks.ladder.read.paddle import Paddle
from benchmarks.ladder.read.torch import Torch

FRAMEWORKS: dict[str, Framework] = {
    framework.name: framework for framework in (Torch(), Paddle(), Keras(), Flax(), Onnx(), NoFramework())
}
