"""torchvision's side of a pair: `python -m wild.torchvision_side JOB` records a model
with random weights."""

from functools import partial

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import convnext, efficientnet

from wild.job import (
    ADAMW,
    BETAS,
    CLASSES,
    CONVNEXT,
    DECAY,
    EFFICIENTNET,
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


def efficientnet_v2() -> nn.Module:
    """Return the model of torchvision's `efficientnet_v2_s` with fewer and smaller stages."""
    kinds = (efficientnet.MBConvConfig, efficientnet.FusedMBConvConfig)
    stages = [
        kinds[of["conv_type"]](
            *(
                of[name]
                for name in (
                    "expand_ratio",
                    "kernel_size",
                    "strides",
                    "input_filters",
                    "output_filters",
                )
            ),
            of["num_repeat"],
        )
        for of in EFFICIENTNET
    ]
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    return efficientnet.EfficientNet(stages, 0.0, 0.0, CLASSES, norm_layer=norm, last_channel=1280)


MODELS = {
    "resnet50": lambda: torchvision.models.resnet50(width_per_group=4, num_classes=CLASSES),
    "resnext50": lambda: torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [3, 4, 6, 3], CLASSES, groups=32, width_per_group=1
    ),
    "inception_v3": lambda: torchvision.models.inception_v3(
        num_classes=CLASSES, aux_logits=False, init_weights=False, transform_input=False
    ),
    "vgg16_features": lambda: torchvision.models.vgg16(num_classes=CLASSES).features,
    "resnet50_v1": lambda: torchvision.models.resnet50(num_classes=CLASSES),
    "convnext": lambda: convnext.ConvNeXt(
        [
            convnext.CNBlockConfig(*stage)
            for stage in zip(CONVNEXT[1], (*CONVNEXT[1][1:], None), CONVNEXT[0], strict=True)
        ],
        num_classes=CLASSES,
    ),
    "efficientnet_v2": efficientnet_v2,
}


class Hardsigmoid(nn.Module):
    def forward(self, x):
        return F.relu6(x + 3) / 6


def exchange(model: nn.Module, kind: type[nn.Module], make) -> None:
    """Put `make(layer)` in the place of each layer of this class."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, kind):
                setattr(parent, name, make(layer))


def narrowed(layer: nn.Linear) -> nn.Linear:
    sizes = (NARROW if size == 4096 else size for size in (layer.in_features, layer.out_features))
    return nn.Linear(*sizes)


def round_epsilons(model: nn.Module) -> None:
    """Give norms the epsilon in float32 that Paddle's have."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = float(np.float32(layer.eps))


MENDS = {
    "hardsigmoid's gradient": lambda model: exchange(
        model, nn.Hardsigmoid, lambda _: Hardsigmoid()
    ),
    "norms' epsilon": round_epsilons,
}


def build(name: str) -> nn.Module:
    """Return the model with weights of the seed,
    and with statistics of its norms as if it had been trained."""
    torch.manual_seed(SEED)
    make = MODELS.get(name) or (lambda: getattr(torchvision.models, name)(num_classes=CLASSES))
    model = make()
    if name.startswith(("alexnet", "vgg")):
        exchange(model, nn.Linear, narrowed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, std=0.2)
            layer.running_mean.normal_(std=0.2)
            layer.running_var.uniform_(0.6, 1.5)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, std=0.2)
        elif isinstance(layer, convnext.CNBlock):
            nn.init.uniform_(layer.layer_scale, 0.7, 1.3)
    return model


def loss_of(model, batch):
    logits = model(torch.from_numpy(batch["images"]))
    if logits.ndim > 2:  # feature maps
        return logits.square().mean(), {"logits": logits}
    return F.cross_entropy(logits, torch.from_numpy(batch["labels"])), {"logits": logits}


def optimizer(task: Job, weights):
    if task.optimizer == ADAMW:
        matrices, vectors = (
            [weight for weight in weights if (weight.ndim > 1) == many] for many in (True, False)
        )
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, RATE, BETAS, EPSILON, DECAY)
    sgd = torch.optim.SGD(weights, RATE, MOMENTUM)
    if task.optimizer == WARMED:
        schedule = torch.optim.lr_scheduler.LambdaLR(
            sgd, lambda step: WARMUP[min(step, len(WARMUP) - 1)]
        )
        sgd.register_step_post_hook(lambda *_: schedule.step())
    return sgd


def main() -> None:
    task = job()
    torch.set_default_dtype(torch.float64)
    model, batches = build(task.model), images(task.model)
    for mend in task.mends:
        MENDS[mend](model)
    model.train(task.mode == TRAINING)
    for layer in model.modules():
        if task.mode == TRAINING and isinstance(layer, nn.Dropout):
            layer.p = 0.0
    record = task.record()
    if task.mode == EVAL:
        record.inputs(**batches[0])
        record.model(model)
        with torch.no_grad():
            record.forward(logits=model(torch.from_numpy(batches[0]["images"])))
    else:
        record.training(model, batches, loss_of, lambda weights: optimizer(task, weights), STEPS)


if __name__ == "__main__":
    main()
