"""paddle.vision's side of a pair: `python -m wild.paddle_side JOB` records a model
with the weights carried."""

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.vision import models

from wild.job import (
    ADAMW,
    BETAS,
    CLASSES,
    DECAY,
    EPSILON,
    EVAL,
    MOMENTUM,
    NARROW,
    RATE,
    SEED,
    STEPS,
    TRAINING,
    WARMED,
    WARMUP,
    Job,
    images,
    job,
)

MODELS = {
    "resnet50": lambda: models.resnet50(width=4, num_classes=CLASSES),
    "resnext50": lambda: models.ResNet(models.resnet.BottleneckBlock, 50, 1, CLASSES, groups=32),
    "vgg11_bn": lambda: models.vgg11(batch_norm=True, num_classes=CLASSES),
}


class Hardsigmoid(nn.Layer):
    def forward(self, x):
        return F.relu6(x + 3) / 6


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
    "hardsigmoid's slope": lambda model: exchange(model, nn.Hardsigmoid, lambda _: Hardsigmoid()),
    "Inception's epsilon": lambda model: set_all(model, nn.BatchNorm2D, _epsilon=1e-3),
}


def vary(model: nn.Layer) -> None:
    """Give norms such weights and statistics as if the model had been trained."""
    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer.weight.set_value(paddle.uniform(layer.weight.shape, min=0.7, max=1.3))
            layer.bias.set_value(paddle.normal(0.0, 0.2, layer.bias.shape))
            layer._mean.set_value(paddle.normal(0.0, 0.2, layer._mean.shape))
            layer._variance.set_value(paddle.uniform(layer._variance.shape, min=0.6, max=1.5))


def without_last_relu(block: nn.Layer) -> None:
    """Have a residual block of ResNet give the sum itself."""

    def forward(x):
        computed = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
        return computed + (x if block.downsample is None else block.downsample(x))

    block.forward = forward


def padded_unevenly(model: nn.Layer) -> None:
    """Pad the first convolution of MobileNetV2 as TensorFlow does:
    at the bottom and the right alone."""
    model.features[0][0] = nn.Conv2D(3, 32, 3, stride=2, padding=[0, 1, 0, 1], bias_attr=False)


# Changes of the model before its weights are loaded.
# Those of the loss and the optimizer stand where these are made.
PLANTS = {
    "ReLU after a shortcut": lambda model: without_last_relu(model.layer3[0]),
    "a convolution's padding": padded_unevenly,
    "a norm's momentum": lambda model: set_all(model, nn.BatchNorm2D, _momentum=0.99),
    "a norm's epsilon": lambda model: setattr(model.batch_norm, "_epsilon", 1e-3),
}


def loss_of(model, batch, smoothing):
    logits = model(paddle.to_tensor(batch["images"]))
    labels = paddle.to_tensor(batch["labels"])
    if smoothing:  # cross_entropy's own smoothing is in float32
        labels = (
            F.one_hot(labels, CLASSES).astype("float64") * (1 - smoothing) + smoothing / CLASSES
        )
    return F.cross_entropy(logits, labels, soft_label=smoothing > 0), {"logits": logits}


def optimizer(task: Job, weights):
    if task.optimizer == ADAMW:
        decayed = {
            weight.name
            for weight in weights
            if weight.ndim > 1 or task.planted == "decay of all weights"
        }
        return paddle.optimizer.AdamW(
            RATE, *BETAS, EPSILON, weights, DECAY, apply_decay_param_fun=decayed.__contains__
        )
    if task.optimizer != WARMED or task.planted == "a warm-up left out":
        return paddle.optimizer.Momentum(RATE, MOMENTUM, weights)
    schedule = paddle.optimizer.lr.LambdaDecay(
        RATE, lambda step: WARMUP[min(step, len(WARMUP) - 1)]
    )
    sgd = paddle.optimizer.Momentum(schedule, MOMENTUM, weights)
    step = sgd.step
    sgd.step = lambda: (step(), schedule.step())
    return sgd


def main() -> None:
    task = job()
    paddle.set_device("cpu")
    paddle.set_default_dtype("float64")
    paddle.seed(SEED + 1)
    batches = images(task.model)
    make = MODELS.get(task.model) or (lambda: getattr(models, task.model)(num_classes=CLASSES))
    model = make()
    # DenseNet's BatchNorm makes weights of float32 whatever the default is
    model.to(dtype="float64")
    if task.model.startswith(("alexnet", "vgg")):
        exchange(model, nn.Linear, narrowed)
    for mend in task.mends:
        MENDS[mend](model)
    PLANTS.get(task.planted, str)(model)
    if task.weights:
        model.set_state_dict(paddle.load(task.weights))
    else:
        vary(model)
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
        smoothing = 0.1 if task.planted == "label smoothing" else 0.0
        record.training(
            model,
            batches,
            lambda model, batch: loss_of(model, batch, smoothing),
            lambda weights: optimizer(task, weights),
            STEPS,
        )


if __name__ == "__main__":
    main()
