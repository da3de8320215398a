"""The table of pairs: what is compared, and the differences that a comparison is expected to show.

A difference is a pattern of the place and one of the cause that `rosetta-diff` prints, with the
change that mends it. A pair is expected to be equal after its differences are mended. Imports no
framework.
"""

import re
from dataclasses import dataclass, replace

from wild.job import ADAMW, EVAL, SGD, TRAINING, WARMED

# Where a mend is made. PLANTED leaves out a mistake of ours in the right side.
LEFT, RIGHT, PLANTED = "left", "right", "planted"


@dataclass(frozen=True)
class Difference:
    """A way in which a model of one project computes otherwise than its counterpart."""

    place: str  # pattern of a stage's or a layer's line
    cause: str  # pattern of a cause
    told: str  # what differs, in Markdown
    mended: str  # what mends it, in Markdown
    side: str = RIGHT  # whose MENDS have a change of this difference's name
    fault: str = ""  # project to tell of it; "" where it is nobody's fault
    source: str = ""  # FILE::TEXT of the line that differs, within the installed packages; or words
    script: str = ""  # program in finds/ that shows it alone

    def fits(self, line: str) -> bool:
        return bool(re.search(self.place, line))

    def is_named_by(self, cause: str) -> bool:
        return bool(re.search(self.cause, cause))


@dataclass(frozen=True)
class Pair:
    """Two models that are meant to be the same. The left one is what is expected."""

    model: str
    left: str  # module of this folder that records the left side
    right: str
    # That `rosetta-carry` writes; "" where the right project's own converter loads the weights.
    file: str
    modes: tuple[str, ...]
    differences: tuple[str, ...]  # names in DIFFERENCES
    mapping: str = ""  # mapping file of this folder
    mended: tuple[str, ...] = ()  # names in DIFFERENCES that are mended from the start
    optimizer: str = SGD

    @property
    def planted(self) -> str:
        """Name of the mistake that is planted into the right side;
        "" where both are as they are shipped."""
        return next((name for name in self.differences if DIFFERENCES[name].side == PLANTED), "")

    @property
    def name(self) -> str:
        planted = f" with {self.planted}" if self.planted else ""
        return f"{self.model}: {PROJECTS[self.left]} and {PROJECTS[self.right]}{planted}"


PROJECTS = {
    "torchvision_side": "torchvision",
    "paddle_side": "paddle.vision",
    "applications_side": "keras.applications",
    "transformers_side": "transformers",
    "keras_hub_side": "keras-hub",
    "mamba2_jax_side": "mamba2-jax",
}

DIFFERENCES = {
    "hardsigmoid's slope": Difference(
        r"scale_activation|mid_se (output|gives)|\.block\.\d (output|gives)",
        "hard_sigmoid with a slope of 1/6 on the left|as small as the rounding of float32",
        "Paddle's `hardsigmoid` has a slope of 0.1666667, kept in float32, where torch divides by "
        "6. In float64 outputs of the gates of MobileNetV3 differ by 2e-8 to 8e-8.",
        "`relu6(x + 3) / 6` in place of `nn.Hardsigmoid`",
        fault="Paddle",
        source="paddle/nn/functional/activation.py::slope: float = 0.1666667",
        script="paddle_hardsigmoid.py",
    ),
    "hardsigmoid's gradient": Difference(
        "gradients",
        "multiplies the gradients of Hardsigmoid",
        "torch's kernel on the CPU multiplies gradients of `hardsigmoid` by 1/6 in float32, also "
        "in float64. Its outputs are right.",
        "`relu6(x + 3) / 6` in place of `nn.Hardsigmoid`",
        side=LEFT,
        fault="PyTorch",
        source="`one_sixth(1.0f / 6.0f)` in `hardsigmoid_backward_kernel` of "
        "`aten/src/ATen/native/cpu/Activation.cpp`, which is compiled into the wheel",
        script="torch_hardsigmoid_gradient.py",
    ),
    "SqueezeNet's padding": Difference(
        r"^_conv |features\.0 ",
        r"^padding is \[0, 0\] on the left and 1 on the right",
        "The first convolution of SqueezeNet 1.1 pads by 1 in Paddle and not at all in "
        "torchvision.",
        "`nn.Conv2D(3, 64, 3, stride=2)`",
        fault="Paddle",
        source="paddle/vision/models/squeezenet.py::stride=2,\n                padding=1,",
        script="paddle_squeezenet.py",
    ),
    "SqueezeNet's pools": Difference(
        r"_pool |features\.2 |features\.3\.squeeze |_conv\._conv is given",
        "ceil_mode is True on the left and False on the right",
        "The pools of SqueezeNet round the size of their output down in Paddle and up in "
        "torchvision. With images of 224 by 224 all windows fit and nothing differs; these images "
        "are 66 by 66.",
        "`nn.MaxPool2D(3, 2, ceil_mode=True)`",
        fault="Paddle",
        source="paddle/vision/models/squeezenet.py::MaxPool2D(kernel_size=3, stride=2, padding=0)",
        script="paddle_squeezenet.py",
    ),
    "dropout's mode": Difference(
        r"_?drop|classifier.0 |classifier.1 |_conv9 is given|\b_?fc\d* (output|is given)",
        r"mode is upscale_in_train on the left and downscale_in_infer on|takes is 0\.[58]\d* times "
        r"as large",
        "Dropout of several models of `paddle.vision` is in the mode `downscale_in_infer`. In "
        "evaluation it gives 1 - p of what torchvision's gives: half of it, in Inception v3 0.8.",
        '`nn.Dropout(p)`, whose mode is `"upscale_in_train"`',
        fault="Paddle",
        source='paddle/vision/models/squeezenet.py::Dropout(p=0.5, mode="downscale_in_infer")',
        script="paddle_squeezenet.py",
    ),
    "norms' epsilon": Difference(
        r"(\.1|\.bn\d) (output|gives)",
        "Paddle rounds epsilon to float32",
        "Paddle's batch norms take epsilon in float32, also in float64, so 1e-5 is "
        "9.999999747378752e-06. Where the variances of a batch are small, outputs differ by more "
        "than 1e-9. `rosetta-diff` says so in a remark.",
        "`layer.eps = float(np.float32(layer.eps))` in each `BatchNorm2d`, as the remark says",
        side=LEFT,
        fault="Paddle",
        source="paddle/include/paddle/phi/kernels/batch_norm_kernel.h::float epsilon",
        script="paddle_batch_norm_epsilon.py",
    ),
    "Llama 3's epsilon": Difference(
        "norm",
        "epsilon is 1e-05 on the left and 1e-06 on the right",
        "keras-hub's converter of Llama 3 does not read `rms_norm_eps`. Checkpoints have 1e-5, the "
        "backbone's default is 1e-6. [Issue "
        "1993](https://github.com/keras-team/keras-hub/issues/1993) of keras-hub reports that "
        "outputs of a Llama differ from transformers'; that this is its cause is our reading.",
        '`"layer_norm_epsilon": transformers_config["rms_norm_eps"]`, as the converter of Mistral '
        "has it",
        fault="keras-hub",
        source="keras_hub/src/utils/transformers/convert_llama3.py::backbone_config = {",
        script="keras_hub_llama3_epsilon.py",
    ),
    "Llama 3.1's rotations": Difference(
        "self_attn.o_proj |attention_output ",
        "rotation|rope",
        "keras-hub's converter looks for `rope_scaling`, which transformers 5 saves as "
        "`rope_parameters`. A checkpoint of Llama 3.1 that transformers 5 saved is loaded without "
        "the scaling of its rotary embedding, and nothing is said.",
        "reading the scaling from `rope_parameters` where that is given, as the converter does for "
        "`rope_theta`",
        fault="keras-hub",
        source="keras_hub/src/utils/transformers/convert_llama3.py::if "
        'transformers_config.get("rope_scaling", None)',
        script="keras_hub_llama31_rotations.py",
    ),
    "Qwen3's epsilon": Difference(
        "norm",
        "epsilon is 1e-06 on the left and 1e-05 on the right",
        "`layer_norm_epsilon` of keras-hub's Qwen3 does not reach the norms of queries and keys, "
        "which keep their default of 1e-5. Checkpoints have 1e-6.",
        "`layer_norm_epsilon=self.layer_norm_epsilon` for `Qwen3Attention`",
        fault="keras-hub",
        source="keras_hub/src/models/qwen3/qwen3_decoder.py::self._self_attention_layer = "
        "Qwen3Attention(",
        script="keras_hub_qwen3_epsilon.py",
    ),
    "Mistral's float16": Difference(
        ".",
        "the numbers of the left one rounded to float16",
        "keras-hub's converter of Mistral rounds every weight to float16, also into a model of "
        "float32. Small weights become 0 and large ones infinite.",
        "`hf_tensor` in place of `hf_tensor.astype(np.float16)`: `assign` casts to the variable's "
        "type",
        fault="keras-hub",
        source="keras_hub/src/utils/transformers/convert_mistral.py::hf_tensor.astype(np.float16)",
        script="keras_hub_mistral_float16.py",
    ),
    "BERT's GELU": Difference(
        "output.dense |feedforward_output_dense ",
        "gelu on the left and gelu by tanh on the right",
        "keras-hub's BERT approximates GELU by tanh. Checkpoints of transformers say "
        '`"hidden_act": "gelu"`, '
        "the exact one; the converter does not read it.",
        "an activation that the converter gives to the backbone",
        fault="keras-hub",
        source="keras_hub/src/models/bert/bert_backbone.py::activation=gelu_approximate",
        script="keras_hub_bert_gelu.py",
    ),
    "ViT's epsilon": Difference(
        "norm|ln",
        "epsilon is 1e-12 on the left and 1e-06 on the right",
        "keras-hub's converter of ViT does not read `layer_norm_eps`, which is 1e-12 in "
        "transformers' configuration. The backbone's default is 1e-6.",
        '`"layer_norm_epsilon": transformers_config["layer_norm_eps"]`',
        fault="keras-hub",
        source="keras_hub/src/utils/transformers/convert_vit.py::return {",
        script="keras_hub_vit_epsilon.py",
    ),
    "Inception's epsilon": Difference(
        r"\.bn |\.1 ",
        "epsilon is",
        "The norms of Inception v3 have an epsilon of 1e-3 in torchvision and Paddle's default of "
        "1e-5 in `paddle.vision`. Each project's published weights were trained with its own.",
        "`epsilon=1e-3` in each `BatchNorm2D`",
    ),
    "MobileNet's epsilon": Difference(
        r"(?i)bn\d* |norm|\.1 ",
        "epsilon is 1e-05 on the left and 0.001 on the right",
        "Norms of MobileNet have an epsilon of 1e-3 in `keras.applications` and the default of "
        "1e-5 in torchvision and Paddle, but for torchvision's MobileNetV3. Each project's "
        "published weights were trained with its own.",
        "`epsilon=1e-5` in each `BatchNormalization`",
        source="keras/src/applications/mobilenet_v2.py::epsilon=1e-3",
    ),
    "DenseNet's epsilon": Difference(
        r"(?i)bn\d* |norm|\.1 ",
        "epsilon is 1e-05 on the left and 1.001e-05 on the right",
        "Norms of DenseNet and ResNet have an epsilon of 1.001e-5 in `keras.applications`, in "
        "torchvision of 1e-5.",
        "`epsilon=1e-5` in each `BatchNormalization`",
        source="keras/src/applications/densenet.py::epsilon=1.001e-5",
    ),
    "norms' momentum": Difference(
        "moving_",
        "is 0.99 on the left and 0.999 on the right",
        "Norms of MobileNetV3 keep 0.99 of their statistics at each step in torchvision and 0.999 "
        "in Keras.",
        "`momentum=0.99` in each `BatchNormalization`",
        source="keras/src/applications/mobilenet_v3.py::momentum=0.999",
    ),
    "padding of strides": Difference(
        r"(?i)conv\w* |depthwise |\.0 ",
        r"^padding is (\[1, 1\]|1) on the left and same on the right",
        "Where a convolution with a stride of 2 covers an even image, Keras pads at the bottom and "
        "the right alone, as TensorFlow does, and torch on all sides. Each project's published "
        "weights were trained with its own.",
        '`ZeroPadding2D(1)` and a convolution with `padding="valid"`; or images of an odd size, '
        "such as 65 by 65",
        source="keras/src/applications/imagenet_utils.py::def correct_pad(",
    ),
    "MobileNet's ReLU6": Difference(
        r"(?i)relu\w* |\.2 |conv_dw_1 is given",
        "relu",
        "Activations of MobileNet are `ReLU` in `paddle.vision` and `ReLU6` in "
        "`keras.applications`, as in the authors' own model.",
        "`ReLU()` in place of `ReLU(6.0)`",
        source="keras/src/applications/mobilenet.py::layers.ReLU(6.0",
    ),
    "ResNet's strides": Difference(
        r"conv[345]_block1_[12]_conv |layer[234]\.0\.conv",
        "stride",
        "Blocks of ResNet 50 have their stride in the first convolution in Keras, as in the paper, "
        "and in the second one in torchvision, whose model is known as version 1.5.",
        "a stride of 1 in the first convolution and of 2 in the second, which pads by 1 on each "
        "side",
        source="keras/src/applications/resnet.py::layers.Conv2D(filters, 1, strides=stride",
    ),
}

PLANTS = {  # pattern of the place, pattern of the cause, and what is wrong
    "ReLU after a shortcut": (
        r"layer3\.[01] ",
        r"the activation before or in layer3\.0 is relu on the left and linear on the right",
        "a residual block without the ReLU of its sum",
    ),
    "a convolution's padding": (
        r"features\.0\.0 ",
        r"^padding is \[1, 1\] on the left and \[0, 1, 0, 1\] on the right",
        "padding of the first convolution at the bottom and the right alone",
    ),
    "a norm's momentum": (
        "moving_",
        r"is 0\.9 on the left and 0\.99",
        "a momentum of 0.99 in place of 0.9 in all norms",
    ),
    "a norm's epsilon": (
        "norm|bn|conv",
        r"epsilon is 1e-05 on the left and 0\.001 on the right",
        "an epsilon of 1e-3 in place of 1e-5 in the last norm",
    ),
    "label smoothing": ("loss", r"smoothed by 0 on the left and 0\.1", "labels smoothed by 0.1"),
    "decay of all weights": (
        "^step .*(gamma|beta|bias)|the optimizer's step of .*(gamma|beta|bias)",
        "weight_decay is 0 on the left and 0.1 on the right",
        "AdamW's decay of norms and biases, too",
    ),
    "a warm-up left out": (
        "^step |the optimizer's step",
        "learning rate of the first step is 0.0005 on the left and 0.001 on the right",
        "no warm-up of the learning rate",
    ),
    "causal mask left out": (
        "self_attn|attention_output",
        "mask is causal on the left and none on the right",
        "an attention without its causal mask",
    ),
    "an attention's scale": (
        "self_attn|attention_output",
        "scores are multiplied by one over the root of a head's size on the left and one over the "
        "root of all heads'",
        "scores divided by the root of all heads' width",
    ),
    "number of heads": (
        "attn|attention_output",
        "heads",
        "half as many heads, each twice as large",
    ),
}
DIFFERENCES |= {
    name: Difference(place, cause, told, "leaving it out", side=PLANTED)
    for name, (place, cause, told) in PLANTS.items()
}
# Sentences that a run prints and should not, by part of them, and why they are known.
WITHIN = (
    "GELU stands inside of this layer in Keras and after it in torch, which is told where the "
    "model's outputs differ"
)
MISSES: dict[str, str] = {
    "feedforward_intermediate_dense gives": WITHIN,
    "feedforward_output_dense is given another inputs": WITHIN,
}


def to_paddle(model: str, *differences: str, modes: tuple[str, ...] = (EVAL, TRAINING)) -> Pair:
    return Pair(model, "torchvision_side", "paddle_side", "model.pdparams", modes, differences)


def to_keras_hub(model: str, *differences: str) -> Pair:
    return Pair(model, "transformers_side", "keras_hub_side", "", (TRAINING,), differences)


def to_keras(
    model: str,
    *differences: str,
    left: str = "torchvision_side",
    modes: tuple[str, ...] = (EVAL, TRAINING),
) -> Pair:
    return Pair(model, left, "applications_side", "model.h5", modes, differences)


def planted(pair: Pair, name: str, mode: str, optimizer: str = SGD) -> Pair:
    """Return an equal pair, with what differs in it mended, and a mistake planted."""
    return replace(
        pair, modes=(mode,), differences=(name,), mended=pair.differences, optimizer=optimizer
    )


SHIPPED = (
    to_keras_hub("llama", "Llama 3's epsilon"),
    to_keras_hub("llama_scaled", "Llama 3.1's rotations"),
    to_keras_hub("mistral", "Mistral's float16"),
    to_keras_hub("qwen2"),
    to_keras_hub("qwen3", "Qwen3's epsilon"),
    to_keras_hub("gpt2"),
    to_keras_hub("bert", "BERT's GELU"),
    to_keras_hub("vit", "ViT's epsilon"),
    to_paddle("squeezenet1_0", "SqueezeNet's pools", "dropout's mode"),
    to_paddle("squeezenet1_1", "SqueezeNet's padding", "SqueezeNet's pools", "dropout's mode"),
    to_paddle("alexnet", "dropout's mode"),
    to_paddle(
        "mobilenet_v3_small", "hardsigmoid's slope", "hardsigmoid's gradient", "norms' epsilon"
    ),
    to_paddle("shufflenet_v2_x0_5"),
    to_paddle("inception_v3", "Inception's epsilon", "dropout's mode", modes=(EVAL,)),
    to_paddle("mobilenet_v2", "norms' epsilon"),
    to_paddle("resnext50"),
    to_paddle("resnet50", "norms' epsilon"),
    to_paddle("densenet121"),
    to_paddle("vgg11_bn"),
    to_paddle("resnet18"),
    Pair("mamba2", "transformers_side", "mamba2_jax_side", "model.safetensors", (TRAINING,), ()),
    to_keras("vgg16_features", modes=(EVAL,)),
    replace(to_keras("convnext"), mapping="convnext.toml"),
    to_keras("efficientnet_v2", "padding of strides"),
    to_keras("densenet121", "DenseNet's epsilon", modes=(EVAL,)),
    to_keras("mobilenet_v2", "MobileNet's epsilon", "padding of strides", modes=(EVAL,)),
    to_keras(
        "mobilenet_v3_small",
        "padding of strides",
        "norms' momentum",
        "hardsigmoid's gradient",
    ),
    to_keras(
        "mobilenet_v1",
        "MobileNet's epsilon",
        "MobileNet's ReLU6",
        "padding of strides",
        left="paddle_side",
        modes=(EVAL,),
    ),
    replace(
        to_keras("resnet50_v1", "ResNet's strides", "DenseNet's epsilon", modes=(EVAL,)),
        mapping="resnet50_v1.toml",
    ),
)
PAIRS = (
    *SHIPPED,
    planted(to_paddle("resnet18"), "ReLU after a shortcut", EVAL),
    planted(to_paddle("mobilenet_v2"), "a convolution's padding", EVAL),
    planted(to_paddle("shufflenet_v2_x0_5"), "a norm's momentum", TRAINING),
    planted(to_paddle("densenet121"), "a norm's epsilon", EVAL),
    planted(to_paddle("alexnet"), "label smoothing", TRAINING),
    planted(to_paddle("shufflenet_v2_x0_5"), "decay of all weights", TRAINING, ADAMW),
    planted(to_paddle("alexnet"), "a warm-up left out", TRAINING, WARMED),
    planted(to_keras_hub("qwen2"), "causal mask left out", TRAINING),
    planted(to_keras_hub("qwen2"), "an attention's scale", TRAINING),
    planted(to_keras_hub("gpt2"), "number of heads", TRAINING),
)
