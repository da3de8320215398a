"""Paddle's Hardsigmoid in float64: the slope should be 1/6, and is 0.1666667 in float32."""

import paddle

x = paddle.to_tensor([1.0, 3.0], dtype="float64")
slope = (paddle.nn.Hardsigmoid()(x) - 0.5) / x
print(f"paddle {paddle.__version__}: slope at 1.0 is {float(slope[0])!r}, expected {1 / 6!r}")
