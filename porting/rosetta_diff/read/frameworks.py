"""The frameworks whose records can be read, by their names in a record;
each has a file of its own."""

from rosetta_diff.read.base import Framework
from rosetta_diff.read.flax import Flax
from rosetta_diff.read.keras import Keras, NoFramework
from rosetta_diff.read.onnx import Onnx
from rosetta_diff.read.paddle import Paddle
from rosetta_diff.read.torch import Torch

FRAMEWORKS: dict[str, Framework] = {
    framework.name: framework
    for framework in (Torch(), Paddle(), Keras(), Flax(), Onnx(), NoFramework())
}
