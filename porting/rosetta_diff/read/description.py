"""Contents of record.json, which anybody may have written: names,
sizes and kinds are checked before use."""

from typing import Annotated, Any, Literal

import msgspec

MOST_LAYERS = 100_000
LONGEST_NAME = 1000  # characters

Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
Settings = dict[Name, Any]
Counter = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
File = Literal["inputs", "weights", "layers", "outputs", "gradients", "step-1"]


class RecordedFramework(msgspec.Struct, frozen=True):
    name: Literal["torch", "paddle", "keras", "flax", "onnx", "arrays"]
    version: Name = ""
    backend: Name | None = None  # of Keras


class RecordedLayer(msgspec.Struct, frozen=True):
    """A layer with its own weights; those of layers inside it belong to these."""

    path: Name
    classes: list[Name]  # its class and the framework's classes that this comes from, nearest first
    settings: Settings = {}
    training: bool | None = None
    # The layer's name for a weight -> its name in weights.safetensors.
    parameters: dict[Name, Name] = {}
    buffers: dict[Name, Name] = {}

    @property
    def own(self) -> dict[str, str]:
        """The layer's names for all its arrays, and the record's."""
        return {**self.parameters, **self.buffers}


class RecordedCall(msgspec.Struct, frozen=True):
    layer: Name
    parts: list[Name] = []  # of its output: names in layers.safetensors
    names: list[Name] = []  # of the parts, where the output has keys or fields
    dtypes: list[Name] = []  # of the parts; bfloat16 is written as float32
    # Parts of a coarser type than the weights', of which no weight or gradient is known.
    outside: list[Counter] = []
    # The arrays in its arguments, by the arguments' names: names in layers.safetensors.
    inputs: dict[Name, Name] = {}
    line: Name = ""  # of the program that called it, FILE:NUMBER, and what it says
    code: Name = ""
    number: Counter = 0  # in a replay: which of its layer's calls it is, from 0
    fed_outputs: list[Name] = []  # which arrays of its output became the feed's


class RecordedWeight(msgspec.Struct, frozen=True):
    trainable: bool = True
    # Whether the framework saves and loads it, as it does not a constant that it makes anew.
    saved: bool = True
    tied_to: Name | None = None  # the name under which the same tensor stands first


class RecordedTypes(msgspec.Struct, frozen=True):
    """Types in which a framework had what the model gave."""

    loss: Name | None = None


class RecordedOptimizer(msgspec.Struct, frozen=True):
    class_name: Name = msgspec.field(name="class", default="")
    # It and those that it comes from, nearest first; a framework's own without a module.
    classes: list[Name] = []
    settings: Settings = {}
    groups: list[Settings] = []  # of weights with settings of their own
    outside: Counter = 0  # tensors that it trains and that are no weights of the model


Loss = float | Literal["nan", "inf", "-inf"] | None  # JSON has no number for what is not finite


class RecordedStep(msgspec.Struct, frozen=True):
    step: int
    loss: Loss = None
    rate: float | None = None  # the learning rate of this step


class Description(msgspec.Struct, frozen=True):
    """Contents of record.json. Fields that are not listed here are not looked at."""

    format: Literal["rosetta-record"]
    version: Literal[1]
    framework: RecordedFramework
    python: Name | None = None  # its version, as that of NumPy
    numpy: Name | None = None
    precision: Name | None = None
    autocast: Name | None = None  # the type in which automatic mixed precision had layers compute
    # The coarser types to which lines of the model round, by FILE:NUMBER.
    casts: dict[Name, Name] = {}
    dtypes: RecordedTypes = RecordedTypes()
    layers: Annotated[list[RecordedLayer], msgspec.Meta(max_length=MOST_LAYERS)] = []
    calls: Annotated[list[RecordedCall], msgspec.Meta(max_length=MOST_LAYERS)] = []
    weights: dict[Name, RecordedWeight] = {}
    # Weights in the order of Keras's loader: the model's own, then those of each layer.
    loaded: list[list[Name]] = []
    optimizer: RecordedOptimizer | None = None
    loss: Loss = None
    # How many arrays each file has; None in records of before this was written.
    files: dict[File, int] | None = None
    steps: Annotated[list[RecordedStep], msgspec.Meta(max_length=MOST_LAYERS)] = []
    # Of a replay: what tells the record whose numbers its layers were given.
    fed: Name | None = None
    finished: bool = True  # whether Record.training came to its end, where it was called
