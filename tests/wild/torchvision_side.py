"""torchvision's side of a pair: `python -m tests.wild.torchvision_side JOB` records a model with random weights."""

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from tests.wild.job import CLASSES, EVAL, MOMENTUM, NARROW, RATE, SEED, STEPS, TRAINING, images, job

MODELS = {
    "resnet50": lambda: torchvision.models.resnet50(width_per_group=4, num_classes=CLASSES),
    "resnext50": lambda: torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [3, 4, 6, 3], CLASSES, groups=32, width_per_group=1
    ),
    "inception_v3": lambda: torchvision.models.inception_v3(
        num_classes=CLASSES, aux_logits=False, init_weights=False, transform_input=False
    ),
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


MENDS = {
    "hardsigmoid's gradient": lambda model: exchange(model, nn.Hardsigmoid, lambda _: Hardsigmoid()),
}


def build(name: str) -> nn.Module:
    """Return the model with weights of the seed, and with statistics of its norms as if it had been trained."""
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
    return model


def loss_of(model, batch):
    logits = model(torch.from_numpy(batch["images"]))
    return F.cross_entropy(logits, torch.from_numpy(batch["labels"])), {"logits": logits}


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
        record.training(model, batches, loss_of, lambda weights: torch.optim.SGD(weights, RATE, MOMENTUM), STEPS)


if __name__ == "__main__":
    main()
