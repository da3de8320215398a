"""Gradients of Paddle's average pools in float64 on the CPU: shares of 1/9 are 1/9 in float32. Outputs are right."""

import paddle

for pool in (paddle.nn.AdaptiveAvgPool2D(1), paddle.nn.AvgPool2D(3)):
    x = paddle.ones([1, 1, 3, 3], dtype="float64")
    x.stop_gradient = False
    y = pool(x)
    y.sum().backward()
    told = f"{type(pool).__name__} gives {y.item()!r}, gradient {float(x.grad[0, 0, 0, 0])!r}, expected {1 / 9!r}"
    print(f"paddle {paddle.__version__}: {told}")
