"""keras.applications' side of a pair: `python -m wild.applications_side JOB` records a model."""

import re

import keras
import numpy as np
from keras import layers, ops
from keras.src.applications import convnext, efficientnet_v2
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv

from wild.job import (
    CLASSES,
    CONVNEXT,
    EFFICIENTNET,
    EVAL,
    MOMENTUM,
    RATE,
    SEED,
    STEPS,
    TRAINING,
    images,
    job,
)

TOP = {"weights": None, "classes": CLASSES, "classifier_activation": None}
RAW = {**TOP, "include_preprocessing": False}  # images are given as they are
NO_DROPOUT = {"dropout_rate": 0.0}
# carry pairs layers with the same weights:
# Keras's ResNet is made without biases of convolutions, as torchvision's.
MODELS = {
    "vgg16_features": lambda shape: keras.applications.VGG16(False, None, input_shape=shape),
    "densenet121": lambda shape: keras.applications.DenseNet121(input_shape=shape, **TOP),
    "resnet50_v1": lambda shape: rebuilt(
        keras.applications.ResNet50(input_shape=shape, **TOP), layers.Conv2D, use_bias=False
    ),
    "mobilenet_v1": lambda shape: keras.applications.MobileNet(
        input_shape=shape, dropout=0.0, **TOP
    ),
    "mobilenet_v2": lambda shape: keras.applications.MobileNetV2(shape, **TOP),
    "mobilenet_v3_small": lambda shape: keras.applications.MobileNetV3Small(
        shape, **NO_DROPOUT, **RAW
    ),
    "convnext": lambda shape: convnext.ConvNeXt(*CONVNEXT, input_shape=shape, **RAW),
    "efficientnet_v2": lambda shape: efficientnet_v2.EfficientNetV2(
        1.0,
        1.0,
        shape[0],
        drop_connect_rate=0.0,
        blocks_args=EFFICIENTNET,
        input_shape=shape,
        **NO_DROPOUT,
        **RAW,
    ),
}


def set_all(model, kind, **settings) -> None:
    for layer in model._flatten_layers():
        if isinstance(layer, kind):
            for name, value in settings.items():
                setattr(layer, name, value)


def rebuilt(model, kind, **settings):
    """Return the model with layers of this class made anew with these settings."""

    def clone(layer):
        changed = settings if isinstance(layer, kind) else {}
        return type(layer).from_config({**layer.get_config(), **changed})

    return keras.models.clone_model(model, clone_function=clone)


def strides_in_the_middle(model):
    """Return a ResNet whose blocks have their strides in the second convolution,
    as torchvision's."""

    def clone(layer):
        first_of_stage = re.fullmatch(r"conv[345]_block1_([12])_conv", layer.name)
        strides = {"strides": int(first_of_stage[1])} if first_of_stage else {}
        return type(layer).from_config({**layer.get_config(), **strides})

    made = keras.models.clone_model(model, clone_function=clone)
    pad_evenly(made)
    return made


def pad_evenly(model) -> None:
    """Pad as torch does: by half of the kernel on each side,
    where Keras pads more at the bottom and the right."""
    for layer in model._flatten_layers():
        if isinstance(layer, layers.ZeroPadding2D):
            most = max(size for sides in layer.padding for size in sides)
            layer.padding = ((most, most), (most, most))
        elif isinstance(layer, BaseConv | BaseDepthwiseConv) and (
            layer.padding,
            max(layer.strides),
        ) == ("same", 2):
            pad_before(layer, layer.kernel_size[0] // 2)


def pad_before(layer, size: int) -> None:
    """Have a layer compute what `size` zeros on each side of its input give,
    and pad nothing itself."""
    call, layer.padding = layer.call, "valid"
    layer.call = lambda x: call(ops.pad(x, [(0, 0), (size, size), (size, size), (0, 0)]))


MENDS = {  # each changes the model, or returns another one
    "MobileNet's epsilon": lambda model: set_all(model, layers.BatchNormalization, epsilon=1e-5),
    "DenseNet's epsilon": lambda model: set_all(model, layers.BatchNormalization, epsilon=1e-5),
    "norms' momentum": lambda model: set_all(model, layers.BatchNormalization, momentum=0.99),
    "MobileNet's ReLU6": lambda model: set_all(model, layers.ReLU, max_value=None),
    "padding of strides": pad_evenly,
    "ResNet's strides": strides_in_the_middle,
}


def loss_of(model, batch, training):
    logits = model(np.moveaxis(batch["images"], 1, -1), training=training)
    if logits.shape[1:] == (CLASSES,):
        loss = ops.mean(
            ops.sparse_categorical_crossentropy(batch["labels"], logits, from_logits=True)
        )
    else:  # feature maps, which are compared with their channels first
        logits = ops.moveaxis(logits, -1, 1)
        loss = ops.mean(ops.square(logits))
    return loss, {"logits": logits}


def main() -> None:
    task = job()
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(SEED + 1)
    batches = images(task.model)
    height, width = batches[0]["images"].shape[2:]
    model = MODELS[task.model]((height, width, 3))
    for mend in task.mends:
        model = MENDS[mend](model) or model
    if task.weights:
        model.load_weights(task.weights)
    record = task.record()
    if task.mode == EVAL:
        record.inputs(**batches[0])
        record.model(model)
        record.forward(**loss_of(model, batches[0], training=False)[1])
    else:
        record.training(
            model,
            batches,
            lambda model, batch: loss_of(model, batch, training=task.mode == TRAINING),
            lambda weights: keras.optimizers.SGD(RATE, MOMENTUM),
            STEPS,
        )


if __name__ == "__main__":
    main()
