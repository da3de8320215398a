"""paddle.vision's side of a pair: `python -m tests.wild.paddle_side JOB` records a model with the weights carried."""

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.vision import models

from tests.wild.job import CLASSES, EVAL, MOMENTUM, NARROW, RATE, SEED, STEPS, TRAINING, images, job

MODELS = {
    "resnet50": lambda: models.resnet50(width=4, num_classes=CLASSES),
    "resnext50": lambda: models.ResNet(models.resnet.BottleneckBlock, 50, 1, CLASSES, groups=32),
    "vgg11_bn": lambda: models.vgg11(batch_norm=True, num_classes=CLASSES),
}


class Hardsigmoid(nn.Layer):
    def forward(self, x):
        return F.relu6(x + 3) / 6


class Mean(nn.Layer):
    """Average of each channel."""

    def forward(self, x):
        return x.mean([2, 3], keepdim=True)


def exchange(model: nn.Layer, kind: type[nn.Layer], make) -> None:
    """Put `make(layer)` in the place of each layer of this class."""
    for parent in model.sublayers(include_self=True):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, kind):
                setattr(parent, name, make(layer))


def narrowed(layer: nn.Linear) -> nn.Linear:
    return nn.Linear(*(NARROW if size == 4096 else size for size in layer.weight.shape))


def set_all(model: nn.Layer, kind: type[nn.Layer], **settings) -> None:
    for layer in model.sublayers():
        if isinstance(layer, kind):
            for name, value in settings.items():
                setattr(layer, name, value)


MENDS = {
    "SqueezeNet's padding": lambda model: setattr(model, "_conv", nn.Conv2D(3, 64, 3, stride=2)),
    "SqueezeNet's pools": lambda model: setattr(model, "_pool", nn.MaxPool2D(3, 2, ceil_mode=True)),
    "dropout's mode": lambda model: set_all(model, nn.Dropout, mode="upscale_in_train"),
    "average pools' gradient": lambda model: exchange(model, nn.AdaptiveAvgPool2D, lambda _: Mean()),
    "hardsigmoid's slope": lambda model: exchange(model, nn.Hardsigmoid, lambda _: Hardsigmoid()),
    "Inception's epsilon": lambda model: set_all(model, nn.BatchNorm2D, _epsilon=1e-3),
}


def loss_of(model, batch):
    logits = model(paddle.to_tensor(batch["images"]))
    return F.cross_entropy(logits, paddle.to_tensor(batch["labels"])), {"logits": logits}


def main() -> None:
    task = job()
    paddle.set_device("cpu")
    paddle.set_default_dtype("float64")
    paddle.seed(SEED + 1)
    batches = images(task.model)
    make = MODELS.get(task.model) or (lambda: getattr(models, task.model)(num_classes=CLASSES))
    model = make()
    model.to(dtype="float64")  # DenseNet's BatchNorm makes weights of float32 whatever the default is
    if task.model.startswith(("alexnet", "vgg")):
        exchange(model, nn.Linear, narrowed)
    for mend in task.mends:
        MENDS[mend](model)
    if task.weights:
        model.set_state_dict(paddle.load(task.weights))
    if task.mode == TRAINING:
        model.train()
        set_all(model, nn.Dropout, p=0.0)
    else:
        model.eval()
    record = task.record()
    if task.mode == EVAL:
        record.inputs(**batches[0])
        record.model(model)
        with paddle.no_grad():
            record.forward(logits=model(paddle.to_tensor(batches[0]["images"])))
    else:
        record.training(model, batches, loss_of, lambda w: paddle.optimizer.Momentum(RATE, MOMENTUM, w), STEPS)


if __name__ == "__main__":
    main()
