"""SqueezeNet 1.1 of paddle.vision: three settings that torchvision's
and the authors' own model do not have."""

import paddle

model = paddle.vision.models.squeezenet1_1()
model.eval()
print(f"paddle {paddle.__version__}")
print("padding of the first convolution:", model._conv._padding, "in torchvision 0")
print("ceil_mode of the pools:", model._pool.ceil_mode, "in torchvision True")
print(
    "dropout in evaluation gives",
    model._drop(paddle.ones([1, 1])).item(),
    "of 1.0, in torchvision 1.0",
)
