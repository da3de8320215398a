"""Paddle's batch norm in float64: epsilon is rounded to float32."""

import paddle

zeros, ones = (paddle.full([1], value, dtype="float64") for value in (0.0, 1.0))
x = paddle.ones([1, 1, 1, 1], dtype="float64")
y = paddle.nn.functional.batch_norm(x, zeros, zeros, ones, zeros, epsilon=1e-5)
print(f"paddle {paddle.__version__}: epsilon is {y.item() ** -2!r}, expected 1e-05")
